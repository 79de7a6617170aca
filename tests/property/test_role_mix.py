"""The mix of a role: never dearer than cheapest first by its own count, always enough, never more than there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from stowage.decide.serving.capacity import Shape, Targets
from stowage.decide.serving.performance import Performance, line
from stowage.decide.serving.plan_serving import Role
from stowage.decide.serving.role_mix import (
    MixAnswer,
    MixOutcome,
    MixQuestion,
    Option,
    answer,
    replicas_of,
    staying,
    worth_of,
)
from stowage.decide.serving.split import VariantShare, split

QUICK = Performance(line(0.01, 0.00003), line(0.01, 0.0001), kv_capacity_tokens=400_000)
MIDDLE = Performance(line(0.02, 0.0001), line(0.025, 0.0003), kv_capacity_tokens=100_000)
SLOW = Performance(line(0.05, 0.0004), line(0.04, 0.0006), kv_capacity_tokens=40_000)
HOPELESS = Performance(line(3.0, 0.001), line(0.5, 0.001), kv_capacity_tokens=40_000)
BEARS = {QUICK: 14.0, MIDDLE: 3.0, SLOW: 0.8, HOPELESS: 0.0}


@st.composite
def questions(draw: st.DrawFn) -> MixQuestion:
    kinds = draw(st.permutations([QUICK, MIDDLE, SLOW, HOPELESS]))[: draw(st.integers(2, 4))]
    options = tuple(
        Option(
            name=f"v{number}",
            performance=kind,
            cost_micro=draw(st.integers(1, 9)) * 500_000,
            bears=BEARS[kind],
            present=draw(st.integers(0, 4)),
            most=draw(st.integers(0, 8)),
            uses={"gpus": draw(st.integers(1, 3))},
            start_seconds=draw(st.sampled_from([0.0, 120.0])),
        )
        for number, kind in enumerate(kinds)
    )
    in_use = [one for one in options if one.present] or list(options)
    return MixQuestion(
        role=Role.UNIFIED,
        targets=Targets(2.0, 0.1, 0.99),
        shape=Shape(800.0, 200.0, 1.0, 1.0),
        options=options,
        replicas=draw(st.integers(1, 12)),
        reference=min(in_use, key=lambda one: one.bears).name,
        peak=draw(st.sampled_from([1.0, 1.4])),
        least=draw(st.integers(1, 3)),
        most=draw(st.integers(3, 12)),
        stock=draw(st.sampled_from([{}, {"gpus": 6}, {"gpus": 14}])),
        favoured=(),
    )


def counts_of(found: MixAnswer) -> dict[str, int]:
    return {one.name: one.replicas for one in found.parts}


def cost(question: MixQuestion, counts: Mapping[str, int]) -> float:
    """For an hour, starts included, as the question's own fields say."""
    total = 0.0
    for one in question.options:
        started = max(0, counts[one.name] - one.present)
        total += one.cost_micro * (counts[one.name] + started * one.start_seconds / 3600.0)
    return total


def fits(question: MixQuestion, counts: Mapping[str, int]) -> bool:
    gpus = sum(one.uses["gpus"] * counts[one.name] for one in question.options)
    return gpus <= question.stock.get("gpus", gpus) and sum(counts.values()) <= question.most


@settings(deadline=None, max_examples=60)
@given(question=questions())
def test_a_mix_bears_the_load_within_stock_bounds_and_budget(question: MixQuestion) -> None:
    found = answer(question)
    counts = counts_of(found)
    if found.outcome not in {MixOutcome.CHOSEN, MixOutcome.KEPT}:
        assert not any(counts.values())
        return
    worth = worth_of(question)
    slowest = min(worth[name] for name, count in counts.items() if count)
    assert slowest > 0
    assert sum(counts.values()) >= replicas_of(question, slowest)
    assert fits(question, counts)
    assert all(counts[one.name] <= one.most for one in question.options)


@settings(deadline=None, max_examples=60)
@given(question=questions())
def test_a_mix_is_never_dearer_than_cheapest_first(question: MixQuestion) -> None:
    """From nothing: filled up in order of price for speed, and counted by the slowest that is in use, as it must be."""
    question = replace(question, options=tuple(replace(one, present=0) for one in question.options))
    worth = worth_of(question)
    able = [one for one in question.options if worth[one.name] > 0]
    shares = [VariantShare(one.name, one.cost_micro, worth[one.name], 0, one.most) for one in able]
    found = answer(question)
    for count in range(1, question.most + 1):
        counts = {**{one.name: 0 for one in question.options}, **split(count, shares)}
        used = [worth[name] for name, number in counts.items() if number]
        if used and sum(counts.values()) >= replicas_of(question, min(used)) and fits(question, counts):
            assert found.parts
            assert cost(question, counts_of(found)) <= cost(question, counts) + 1
            break


@settings(deadline=None, max_examples=60)
@given(question=questions())
def test_nothing_moves_for_a_small_gain(question: MixQuestion) -> None:
    found, stays = answer(question), staying(question, worth_of(question))
    if stays is None:
        return
    if found.outcome is MixOutcome.CHOSEN:
        assert cost(question, counts_of(found)) <= 0.9 * cost(question, stays.counts) + 1
    elif found.outcome is MixOutcome.KEPT:
        assert counts_of(found) == dict(stays.counts)


@settings(deadline=None, max_examples=60)
@given(question=questions())
def test_what_was_chosen_stays_chosen(question: MixQuestion) -> None:
    """Once there, the same load asks for no further move."""
    found = answer(question)
    if found.outcome is not MixOutcome.CHOSEN:
        return
    counts, worth = counts_of(found), worth_of(question)
    reference = min((name for name, count in counts.items() if count), key=lambda name: worth[name])
    there = replace(
        question,
        options=tuple(replace(one, present=counts[one.name]) for one in question.options),
        replicas=max(1, round(sum(counts.values()) / question.peak - 0.49)),
        reference=reference,
        favoured=tuple(name for name, count in counts.items() if count),
    )
    again = answer(there)
    assert again.outcome is MixOutcome.KEPT or cost(there, counts_of(again)) <= 0.9 * cost(there, counts) + 1


@given(questions(), st.sampled_from([10**3, 10**8]))
@settings(deadline=None, max_examples=15)
def test_the_mix_is_the_same_in_any_currency(question: MixQuestion, factor: int) -> None:
    """An hour of 64 GPUs costs millions in some, and a budget may just pay for what is needed."""
    dear = [replace(one, uses={"cost": one.cost_micro}, start_seconds=0.0) for one in question.options]
    paid = replace(question, options=tuple(dear), stock={"cost": 4 * max(one.cost_micro for one in dear)})
    other = [replace(one, cost_micro=factor * one.cost_micro, uses={"cost": factor * one.cost_micro}) for one in dear]
    found = answer(replace(paid, options=tuple(other), stock={"cost": factor * paid.stock["cost"]}))
    assert found.outcome == answer(paid).outcome
    assert found.cost_micro == factor * answer(paid).cost_micro
