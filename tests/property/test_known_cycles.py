"""What is known of cycles while moves go: no swap off all cycles, and the plan is that of a look at all moves."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from harness.facts import OPTIONS, node, pod, snapshot
from stowage_scheduler import known_cycles, sequence
from stowage_scheduler.assign import changes
from stowage_scheduler.build import build
from stowage_scheduler.cycles import Cycle, Moving, cycles
from stowage_scheduler.known_cycles import KnownCycles
from stowage_scheduler.moves import order
from stowage_scheduler.placement import Placement


class Edge(Struct, frozen=True):
    """A move."""

    source: int
    target: int


class Going(Struct):
    """Moves, some of which have gone; `helpful` are those whose going helps somebody."""

    moves: dict[int, Edge]
    left: dict[int, None]
    helpful: set[int]
    parked: tuple[int, ...] = ()
    picks: tuple[int, ...] = ()
    options: list[int] = []

    def makes_room(self, move: Edge) -> bool:
        return any(self.moves[number] is move for number in self.helpful)


@given(seed=st.integers(0, 2**32))
def test_a_known_swap_is_the_best_that_is_on_a_cycle_by_now(seed: int) -> None:
    chance = Random(seed)
    nodes = chance.randint(2, 8)
    pairs = [chance.sample(range(nodes), 2) for _ in range(chance.randint(2, 24))]
    moves = {number: Edge(*pair) for number, pair in enumerate(pairs)}
    on_cycles = [one for cycle in cycles(moves) for one in cycle.moves]
    ranked = chance.sample(on_cycles, len(on_cycles))
    going = Going(moves, dict.fromkeys(moves), {one for one in moves if chance.random() < 0.5})
    with pytest.MonkeyPatch.context() as few:
        few.setattr(known_cycles, "_MANY", 0)
        few.setattr(known_cycles, "_GONE_SHARE", 1.0)
        known = KnownCycles(moves, ranked)
        while True:
            waiting = {number: moves[number] for number in going.left}
            still = {one for cycle in cycles(waiting) for one in cycle.moves}
            candidates = [one for one in ranked if one in still]
            helpful = [one for one in candidates if one in going.helpful]
            best = known.swap(going)
            assert best == next(iter([*helpful, *candidates]), None)
            if best is None:
                return
            for one in {best, *chance.sample(sorted(going.left), chance.randint(0, len(going.left) // 3))}:
                del going.left[one]


@pytest.mark.parametrize(
    ("moves", "left", "picks", "expected"),
    [
        pytest.param(300, 300, (), 0, id="many-wait"),
        pytest.param(256, 256, (), None, id="few-are-looked-at-each-time"),
        pytest.param(300, 269, (), None, id="too-many-have-gone"),
        pytest.param(300, 300, (0,), 0, id="the-best-option-is-asked-for"),
        pytest.param(300, 300, (1,), None, id="another-option-is-asked-for"),
    ],
)
def test_when_all_moves_are_looked_at(moves: int, left: int, picks: tuple[int, ...], expected: int | None) -> None:
    ring = {number: Edge(number // 2 * 2 + number % 2, number // 2 * 2 + 1 - number % 2) for number in range(moves)}
    going = Going(ring, dict.fromkeys(range(left)), set(), picks=picks)
    assert KnownCycles(ring, list(ring)).swap(going) == expected
    assert going.options == ([] if expected is None else [1])


def test_of_many_moves_cycles_are_looked_for_a_few_times_and_the_order_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pods of nearly one size change places on full nodes: 2,000 moves, of which many dozens are swaps."""
    chance = Random(1)
    room = [chance.randint(0, 40) for _ in range(300)]
    sizes = [chance.randint(100, 1000) for _ in range(2400)]
    by_size = sorted(range(2400), key=sizes.__getitem__)
    start = [number // 8 for number in range(2400)]
    facts = [node(f"n{number:03}", sum(sizes[8 * number : 8 * number + 8]) + free) for number, free in enumerate(room)]
    cluster = snapshot(*facts, *(pod(f"p{one}-1", sizes[one], on=f"n{start[one]:03}") for one in range(2400)))
    built = build(cluster, OPTIONS)
    now = list(start)
    for _ in range(20_000):
        place = chance.randrange(2400 - 6)
        one, other = by_size[place], by_size[place + chance.randint(1, 6)]
        more = sizes[other] - sizes[one]
        if now[one] != now[other] and room[now[one]] >= more:
            room[now[one]] -= more
            room[now[other]] += more
            now[one], now[other] = now[other], now[one]
    placement = Placement(built.problem)
    classes = {c.name: c for c in built.problem.classes}
    for one, (before, after) in enumerate(zip(start, now, strict=True)):
        if before != after:
            placement.add(classes[f"default/p{one}"], before, -1)
            placement.add(classes[f"default/p{one}"], after, 1)
    made = changes(built, placement)
    looks: list[int] = []

    def looked(moves: dict[int, Moving]) -> list[Cycle]:
        looks.append(len(moves))
        return cycles(moves)

    monkeypatch.setattr(sequence, "cycles", looked)
    quick = order(built, made)
    swaps = sum(step.swap for step in quick[0])
    many = [count for count in looks if count > 256]
    assert len(made) > 900
    assert swaps > 70
    assert len(many) < swaps / 4, "each look takes as long as there are moves: it must not be one for each swap"
    monkeypatch.setattr(known_cycles, "_MANY", len(made))
    assert order(built, made) == quick
