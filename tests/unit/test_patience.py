"""How much work looking for orders takes, counted in changes looked at, however many cycles have no order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from harness.facts import OPTIONS, node, pod, snapshot
from stowage_scheduler import attempts, detours, moves, pack
from stowage_scheduler.assign import Change, changes
from stowage_scheduler.build import Build, build
from stowage_scheduler.cluster import DisruptionBudget, LabelSelector
from stowage_scheduler.moves import UnorderableError, order
from stowage_scheduler.options import Budget
from stowage_scheduler.patience import Patience, work_of
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass
from stowage_scheduler.sequence import part_of


def rings(count: int, spare: int) -> tuple[Build, tuple[Change, ...]]:
    """Pairs of pods that change places, each pair under a budget of its own with one disruption left.

    Each needs a temporary place; so many nodes have room for one.
    """
    facts = [node(f"n{number:03}", 7 - number % 2) for number in range(2 * count)]
    facts += [node(f"spare{number:03}", 7) for number in range(spare)]
    budgets, pods = [], []
    for ring in range(count):
        labels = {"ring": str(ring)}
        budgets.append(DisruptionBudget("default", f"b{ring}", f"b{ring}", LabelSelector((("ring", str(ring)),)), 1))
        pods.append(pod(f"a{ring}-0", 6, on=f"n{2 * ring:03}", labels=labels))
        pods.append(pod(f"b{ring}-0", 5, on=f"n{2 * ring + 1:03}", labels=labels))
    built = build(snapshot(*facts, *pods, budgets=tuple(budgets)), OPTIONS)
    placement = Placement(built.problem)
    for pod_class in built.problem.classes:
        source = next(iter(pod_class.running))
        placement.add(pod_class, source, -1)
        placement.add(pod_class, source + 1 if source % 2 == 0 else source - 1, 1)
    return built, changes(built, placement)


def test_all_placements_of_a_plan_share_the_work() -> None:
    """Two hundred stuck moves took eight seconds for each of up to seventeen placements."""
    built, made = rings(30, spare=0)
    one = work_of(len(made), 32)
    patience = Patience(40_000)
    for _ in range(5):
        before = patience.left
        with pytest.raises(UnorderableError):
            order(built, made, patience=patience)
        assert before // 2 - one < patience.left < before
    assert patience.left > -one


@pytest.mark.parametrize("patience", [Patience(0), Patience(in_time=lambda: False)], ids=["no-work-left", "no-time"])
def test_one_attempt_is_made_in_any_case(monkeypatch: pytest.MonkeyPatch, patience: Patience) -> None:
    made_of: list[int] = []
    monkeypatch.setattr(attempts, "work_of", lambda count, _: made_of.append(count) or 1)
    with pytest.raises(UnorderableError):
        order(*rings(2, spare=2), patience=patience)
    assert made_of == [4]
    steps, _ = order(*rings(2, spare=2), patience=Patience(5_000))
    assert sum(bool(step.replacement_of) for step in steps) == 2, "with patience there is an order"


def test_a_detour_is_looked_for_only_when_it_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 60 moves and 500 nodes a look at all would be 60,000 looks for each detour."""
    built, made = rings(30, spare=500)
    looks: list[int] = []
    short = detours.short

    def counted(room: Sequence[int], pod_class: PodClass) -> bool:
        looks.append(1)
        return short(room, pod_class)

    parts = [part_of(change, built.problem.classes) for change in made]
    stuck = attempts.best_attempt(lambda picks: moves.Simulation(built.problem, parts, picks), 1, Patience())
    monkeypatch.setattr(detours, "short", counted)
    taken = detours._taken(parts, lambda part: part.uid)
    worth = detours._worth_trying(parts, stuck, (), taken, lambda part: part.uid, 256)
    first = next(worth)
    assert parts[first.move].uid.startswith("uid-")
    assert len(looks) <= len(built.problem.nodes)
    assert next(worth).move != first.move, "one node for each move comes first"


def test_simpler_placements_have_what_the_first_one_left(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Patience] = []

    def never(built: Build, made: tuple[Change, ...], *limits: Mapping[str, int], **more: Any) -> object:
        given.append(more["patience"])
        if made:
            raise UnorderableError("no safe order", made[:1])
        return order(built, made, *limits, **more)

    monkeypatch.setattr(pack, "order", never)
    cluster = snapshot(node("a", 200), pod("x-0", 60), pod("y-0", 60), pod("z-0", 60))
    pack.pack(cluster, OPTIONS, Budget(deterministic_units=1.0, workers=1), 1, lambda: 0.0)
    assert len(given) > 2
    assert len({id(one) for one in given}) == 1
