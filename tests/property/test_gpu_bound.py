"""The bound of GPUs held against every placement of a few pods; wrong bounds are seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stowage_scheduler.gpu import bound
from stowage_scheduler.gpu.bound import Asked, NodeKind, Prices, held_bound, lagrangian
from stowage_scheduler.gpu.devices import DEVICE_MILLI, Demand, options, place

MODELS = ("T4", "A100")
kinds = st.lists(
    st.builds(
        NodeKind,
        cpu_milli=st.integers(1, 8),
        memory_mib=st.integers(1, 8),
        devices=st.integers(1, 2),
        model=st.sampled_from(MODELS),
        nodes=st.integers(1, 2),
    ),
    min_size=1,
    max_size=2,
)


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    count = draw(st.sampled_from((0, 1, 1, 1, 2)))
    each = DEVICE_MILLI if count > 1 else draw(st.sampled_from((200, 350, 500, 810, DEVICE_MILLI)))
    models = frozenset(draw(st.sets(st.sampled_from(MODELS), max_size=1)))
    cpu, memory = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    return Demand(cpu, memory, each if count else 0, count, models if count else frozenset())


asked = st.lists(st.tuples(demands(), st.integers(1, 2)), min_size=1, max_size=3)
Nodes = tuple[tuple[int, int, str, tuple[int, ...]], ...]


def placements(nodes: Nodes, pods: tuple[Demand, ...]) -> Iterator[Counter[Demand]]:
    """What every placement of some of the pods holds."""
    if not pods:
        yield Counter()
        return
    first, *rest = pods
    yield from placements(nodes, tuple(rest))
    for number, (cpu, memory, model, free) in enumerate(nodes):
        if cpu < first.cpu_milli or memory < first.memory_mib or (first.models and model not in first.models):
            continue
        for devices in options(free, first):
            left = (cpu - first.cpu_milli, memory - first.memory_mib, model, place(free, first, devices))
            for held in placements((*nodes[:number], left, *nodes[number + 1 :]), tuple(rest)):
                yield held + Counter([first])


def most_held(given_kinds: list[NodeKind], rows: list[Asked]) -> int | None:
    """The best of all placements that hold what they have to; None: there is none."""
    nodes = tuple(
        (kind.cpu_milli, kind.memory_mib, kind.model, (DEVICE_MILLI,) * kind.devices)
        for kind in given_kinds
        for _ in range(kind.nodes)
    )
    pods = tuple(row.demand for row in rows for _ in range(row.most))
    least: Counter[Demand] = Counter()
    for row in rows:
        least[row.demand] += row.least
    good = (held for held in placements(nodes, pods) if held >= least)
    return max((sum(d.total_milli * count for d, count in held.items()) for held in good), default=None)


def refute(given_kinds: list[NodeKind], rows: list[Asked], found: int) -> None:
    """Fails where a placement holds more than the bound says."""
    best = most_held(given_kinds, rows)
    assert best is None or found >= best


@settings(max_examples=60, deadline=None)
@given(kinds, asked, st.data())
def test_no_placement_holds_more_than_the_bound(
    given_kinds: list[NodeKind], pairs: list[tuple[Demand, int]], data: st.DataObject
) -> None:
    rows = [Asked(demand, most, data.draw(st.integers(0, most))) for demand, most in pairs]
    refute(given_kinds, rows, held_bound(given_kinds, rows))


price = st.integers(0, 2_000_000)


@settings(max_examples=60, deadline=None)
@given(kinds, asked, st.data())
def test_any_prices_give_a_bound(
    given_kinds: list[NodeKind], pairs: list[tuple[Demand, int]], data: st.DataObject
) -> None:
    rows = [Asked(demand, most, data.draw(st.integers(0, most))) for demand, most in pairs]

    def some(count: int) -> tuple[int, ...]:
        return tuple(data.draw(st.lists(price, min_size=count, max_size=count)))

    prices = Prices(some(len(given_kinds)), some(len(given_kinds)), some(len(rows)), some(len(rows)))
    refute(given_kinds, rows, lagrangian(given_kinds, rows, prices))


TWO_DEVICES = [NodeKind(cpu_milli=8, memory_mib=8, devices=2, model="T4", nodes=1)]


@pytest.mark.parametrize(
    ("given_kinds", "rows", "expected"),
    [
        pytest.param(TWO_DEVICES, [], 0, id="nobody asks"),
        pytest.param([], [Asked(Demand(gpu_milli=500, gpu_count=1), 3)], 0, id="no nodes"),
        pytest.param(TWO_DEVICES, [Asked(Demand(gpu_milli=600, gpu_count=1), 5)], 1200, id="one share of 600 each"),
        pytest.param(TWO_DEVICES, [Asked(Demand(gpu_milli=500, gpu_count=1), 3)], 1500, id="no more than asked for"),
        pytest.param(
            TWO_DEVICES,
            [Asked(Demand(gpu_milli=810, gpu_count=1), 2, 1), Asked(Demand(gpu_milli=1000, gpu_count=1), 2)],
            1810,
            id="a share that has to stay costs the rest of its device",
        ),
        pytest.param(
            TWO_DEVICES,
            [Asked(Demand(cpu_milli=8, gpu_milli=500, gpu_count=1), 4)],
            500,
            id="CPU for one pod only",
        ),
        pytest.param(
            TWO_DEVICES,
            [Asked(Demand(gpu_milli=500, gpu_count=1, models=frozenset({"A100"})), 4)],
            0,
            id="another model",
        ),
    ],
)
def test_bounds_that_are_exact(given_kinds: list[NodeKind], rows: list[Asked], expected: int) -> None:
    assert held_bound(given_kinds, rows) == expected


def test_a_wrong_bound_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Asked(Demand(cpu_milli=1, gpu_milli=500, gpu_count=1), 4)]
    refute(TWO_DEVICES, rows, held_bound(TWO_DEVICES, rows))
    monkeypatch.setattr(bound, "_fullest", lambda worth: (max(worth.values(), default=0), ((500, 1),)))
    with pytest.raises(AssertionError):
        refute(TWO_DEVICES, rows, held_bound(TWO_DEVICES, rows))
