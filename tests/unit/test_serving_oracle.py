"""The best fixed size, the thresholds and perfect foresight: against all schedules of small traces, and by hand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.small_traces import setup, trace
from stowage.simulate.serving.baselines.oracle import Effort, _cheapest_plan, perfect_foresight
from stowage.simulate.serving.baselines.oracle_runs import Stage
from stowage.simulate.serving.baselines.oracle_search import Search
from stowage.simulate.serving.baselines.serving_plan import Planned, Shift, Terms, shifts
from stowage.simulate.serving.baselines.static_best import best_fixed, first_size, fixed
from stowage.simulate.serving.baselines.targets import derive
from stowage.simulate.serving.fleet import run
from stowage.simulate.serving.outcome import Outcome
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.setup import ColdStart, Setup

SLOT = 30.0
EFFORT = Effort(most_runs=100, slot_seconds=SLOT)


def foresight(requests: Requests, given_setup: Setup, attainment: float = 0.97) -> tuple[Outcome, Outcome]:
    static = best_fixed(requests, given_setup, attainment, per_replica_per_second=3.0)
    return perfect_foresight(requests, given_setup, attainment, static, effort=EFFORT), static


@pytest.mark.parametrize(
    ("rates", "cold_start_seconds", "initial", "attainment"),
    [
        # one replica does 4 requests a second, two do 8, three more than 10
        pytest.param([2, 2, 8, 8, 2, 2], 30.0, 1, 0.97, id="one peak"),
        pytest.param([2, 2, 8, 2, 8, 2], 30.0, 1, 0.97, id="two peaks a start apart: the replica stays"),
        pytest.param([8, 2, 2, 2, 2, 8], 60.0, 3, 0.97, id="a long valley, and one too many at the beginning"),
        pytest.param([2, 2, 5, 8, 11, 5], 45.0, 1, 0.97, id="a hill in steps"),
        pytest.param([2, 2, 2, 2, 8, 2], 90.0, 1, 0.97, id="a short peak whose start takes longer than it"),
        pytest.param([2, 2, 5, 2, 8, 2], 20.0, 1, 0.75, id="the lower of two peaks may miss"),
    ],
)
def test_no_schedule_of_a_small_trace_is_cheaper(
    rates: list[float], cold_start_seconds: float, initial: int, attainment: float
) -> None:
    requests = trace(rates, slot_seconds=SLOT, seed=3)
    here = setup(cold_start_seconds=cold_start_seconds, initial=initial)
    found, static = foresight(requests, here, attainment)
    most = 3 if max(rates) > 8 else 2
    terms = Terms(SLOT, cold_start_seconds, initial, 1, most)
    plans = {terms.normal(plan) for plan in itertools.product(range(1, most + 1), repeat=len(rates))}
    runs = [run(requests, lambda plan=plan: Planned("any", terms.steps(plan)), here) for plan in plans]  # type: ignore[misc]
    cheapest = min(one.gpu_hours for one in runs if one.attainment >= attainment)
    assert cheapest < static.gpu_hours, "there is something to find"
    assert found.attainment >= attainment
    assert found.gpu_hours <= cheapest * (1 + 1e-9)


def test_it_never_costs_more_than_the_best_fixed_size_or_than_a_run_it_is_shown() -> None:
    requests = trace([2, 9, 2, 9, 2, 9], seed=5)
    here = setup(initial=2)
    static = best_fixed(requests, here, 0.97, per_replica_per_second=3.0)
    shown = run(requests, lambda: Planned("shown", [(0.0, 2), (20.0, 3), (120.0, 2)]), here)
    assert shown.attainment >= 0.9
    lazy = Effort(requests=0, least_runs=0, slot_seconds=SLOT)
    found = perfect_foresight(requests, here, 0.9, static, [shown], lazy)
    assert found.policy == "oracle"
    assert found.attainment >= 0.9
    assert found.gpu_hours <= min(shown.gpu_hours, static.gpu_hours)


def test_starts_that_vary_are_asked_for_early_enough() -> None:
    requests = trace([1, 1, 1, 1, 12, 12], seed=1)
    here = replace(setup(), cold_start_seconds=ColdStart(45.0, 5.0))
    found, static = foresight(requests, here)
    assert static.attainment >= 0.97
    assert found.attainment >= 0.97
    assert found.gpu_hours < static.gpu_hours


def test_the_best_fixed_size_is_the_smallest_that_attains() -> None:
    requests = trace([3, 9, 9, 3], seed=2)
    sizes = {count: fixed(requests, setup(), count).attainment for count in range(1, 7)}
    smallest = min(count for count, share in sizes.items() if share >= 0.99)
    for guess in (0.5, 3.0, 100.0):
        assert len(best_fixed(requests, setup(), 0.99, per_replica_per_second=guess).lives) == smallest
    assert 1 < smallest < 6


def test_where_no_size_attains_the_best_one_is_taken() -> None:
    requests = trace([3, 3], prompt=3_000, seed=2)  # 3.1 s for a prompt: none has its first token within a second
    found = best_fixed(requests, setup(), 0.99, per_replica_per_second=1.0)
    assert found.attainment == 0.0
    assert perfect_foresight(requests, setup(), 0.99, found, effort=EFFORT).gpu_hours <= found.gpu_hours


def test_the_first_size_looks_at_five_minutes_alone() -> None:
    requests = trace([1] * 10 + [30] * 5, seed=4)
    assert first_size(requests, setup(), 0.99, per_replica_per_second=3.0) == 1
    assert len(best_fixed(requests, setup(), 0.99, per_replica_per_second=3.0).lives) > 3
    assert first_size(requests.until(0.0), setup(), 0.99, per_replica_per_second=3.0) == 1


def test_thresholds_are_the_largest_at_which_the_targets_hold() -> None:
    requests = trace([5] * 20, seed=6)
    targets = derive(requests, setup(), 0.99)
    at_rate = trace([targets.requests_per_second] * 20, seed=7)
    above = trace([1.3 * targets.requests_per_second] * 20, seed=7)
    assert fixed(at_rate, setup(), 1).attainment > 0.97
    assert fixed(above, setup(), 1).attainment < 0.97
    # Little's law: in flight = rate * time in the system, which is at least what a request takes alone
    assert targets.in_flight >= targets.requests_per_second * (0.2 + 19 * 0.022)
    assert targets.waiting >= 1
    tighter = derive(requests, replace(setup(), slo_ttft_seconds=0.5), 0.99)
    assert tighter.requests_per_second < targets.requests_per_second
    assert tighter.waiting < targets.waiting


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 20), min_size=3, max_size=3), min_size=1, max_size=5),
    st.sampled_from([0.5, 3.0, 20.0]),
    st.sampled_from([0.0, 45.0, 90.0]),
    st.integers(1, 3),
)
def test_the_programme_finds_the_cheapest_of_all_plans(
    misses: list[list[int]], price: float, lead: float, initial: int
) -> None:
    table = np.minimum.accumulate(np.array(misses), axis=1)
    terms = Terms(30.0, lead, initial, 1, 3)

    def cost(plan: Sequence[int]) -> float:
        starts = sum(max(0, after - before) for before, after in itertools.pairwise((initial, *plan)))
        missed = sum(int(table[slot, count - 1]) for slot, count in enumerate(plan))
        return 30.0 * sum(plan) + lead * starts + price * missed

    possible = [
        plan
        for plan in itertools.product((1, 2, 3), repeat=len(table))
        if all(count <= terms.open_at(slot) for slot, count in enumerate(plan))
    ]
    assert cost(_cheapest_plan(table, terms, price, 1)) == pytest.approx(min(map(cost, possible)))


class Blind(Stage):
    """Sees no miss in a stretch."""

    def misses_between(self, serving: Sequence[int], first: int, end: int) -> int:  # noqa: ARG002
        return 0


def test_the_search_trusts_runs_of_the_whole_trace_alone() -> None:
    requests = trace([2, 2, 8, 8, 2, 2], seed=3)
    stage = Blind(requests, setup(), Terms(SLOT, 30.0, 1, 1, 3), "blind")
    plan = (1, 1, 3, 3, 3, 3)
    found = Search(stage, 10, 100 * len(requests)).improved(plan)
    assert stage.misses(found) <= 10
    assert stage.terms.replica_seconds(found) <= stage.terms.replica_seconds(plan)


def test_shifts_of_a_plan() -> None:
    assert shifts([1, 2, 2, 1, 0, 1]) == [Shift(1, 0, 4), Shift(1, 5, 6), Shift(2, 1, 3)]


PLANS = st.lists(st.integers(0, 5), min_size=1, max_size=30)
TERMS = st.builds(
    Terms, st.just(30.0), st.sampled_from([0.0, 20.0, 60.0, 100.0, 240.0]), st.integers(1, 4), st.just(1), st.just(5)
)


@settings(deadline=None)
@given(PLANS, TERMS)
def test_a_normal_plan_is_within_the_bounds_and_comes_true(plan: list[int], terms: Terms) -> None:
    normal = terms.normal(plan)
    assert terms.normal(normal) == normal
    for slot, (count, wanted) in enumerate(zip(normal, plan, strict=True)):
        assert terms.least <= count <= terms.most
        assert count >= min(wanted, terms.open_at(slot)), "never less than what was planned and possible"
    steps = terms.steps(normal)
    assert steps[0][0] == 0.0
    asked = Planned("plan", steps)
    ready = [0.0] * terms.initial  # when each replica is there; the newest that starts goes first
    view_of = dict(enumerate(normal))
    for tick in range(1, int(len(normal) * 30.0 / 5.0) + 1):
        now = tick * 5.0
        wanted = asked._replicas[max(index for index, at in enumerate(asked._at) if at <= now)]
        while len(ready) < wanted:
            ready.append(now + terms.lead_seconds)
        for _ in range(len(ready) - wanted):
            assert max(ready) <= now, "nothing is taken back while it starts"
            ready.remove(max(ready))
        slot = int(now // 30.0)
        if now % 30.0 >= 10.0 and slot in view_of:  # the first decision is at second 5, ticks are 5 s apart
            assert sum(at <= now for at in ready) >= view_of[slot]


@settings(deadline=None)
@given(PLANS, TERMS)
def test_a_plan_costs_service_and_starts(plan: list[int], terms: Terms) -> None:
    normal = terms.normal(plan)
    paid = 0.0
    steps = [*terms.steps(normal), (len(normal) * 30.0, 0)]
    for (at, count), (until, _) in itertools.pairwise(steps):
        paid += count * (min(until, len(normal) * 30.0) - at)
    # asking is rounded down to a tick: at most 5 s more per start
    assert terms.replica_seconds(normal) - 1e-6 <= paid <= terms.replica_seconds(normal) + 5.0 * len(shifts(normal))
