"""Room for one more pod: capacities hold, nobody loses a place, and no fewer moves would have done."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stowage_scheduler.gpu.devices import DEVICE_MILLI, Demand, best_fit, options, place, remove
from stowage_scheduler.gpu.exchange import Exchange, Running, find_exchange, would_help
from stowage_scheduler.gpu.fragmentation import Room
from stowage_scheduler.gpu.repack import Held, Node, Repacking, make_room

CPU, MEMORY, DEVICES = 6, 6, 2
MODELS = ("T4", "A100")
models = st.sampled_from(MODELS)


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    count = draw(st.sampled_from((0, 1, 1, 1, 2)))
    each = DEVICE_MILLI if count > 1 else draw(st.sampled_from((200, 300, 500, 700, DEVICE_MILLI)))
    only = frozenset(draw(st.sets(models, max_size=1))) if count else frozenset()
    return Demand(draw(st.integers(0, 3)), draw(st.integers(0, 3)), each if count else 0, count, only)


@st.composite
def shares(draw: st.DrawFn) -> Demand:
    only = frozenset(draw(st.sets(models, max_size=1)))
    return Demand(
        draw(st.integers(0, 3)), draw(st.integers(0, 1)), draw(st.sampled_from((200, 300, 500, 700))), 1, only
    )


@st.composite
def filled(draw: st.DrawFn, pods: st.SearchStrategy[list[Demand]]) -> list[Node]:
    """Two nodes, with pods put there one by one."""
    found = []
    for _ in range(2):
        node = Node(CPU, MEMORY, (DEVICE_MILLI,) * DEVICES, draw(models), ())
        for demand in draw(pods):
            devices = best_fit(node.free_milli, demand)
            if devices is not None and can_run(node, demand):
                node = with_pod(node, Held(demand, devices))
        found.append(node)
    return found


few = filled(st.lists(demands(), max_size=3))
many_shares = filled(st.lists(shares(), min_size=3, max_size=5))


def can_run(node: Node, demand: Demand) -> bool:
    allowed = not demand.models or node.model in demand.models
    return allowed and node.cpu_milli >= demand.cpu_milli and node.memory_mib >= demand.memory_mib


def with_pod(node: Node, pod: Held) -> Node:
    """Raises where it does not fit: what the product answers is checked by this."""
    assert can_run(node, pod.demand)
    free = place(node.free_milli, pod.demand, pod.devices)
    cpu, memory = node.cpu_milli - pod.demand.cpu_milli, node.memory_mib - pod.demand.memory_mib
    return Node(cpu, memory, free, node.model, (*node.held, pod))


def emptied(node: Node) -> Node:
    free = node.free_milli
    for pod in node.held:
        free = remove(free, pod.demand, pod.devices)
    return Node(CPU, MEMORY, free, node.model, ())


def carried_out(nodes: list[Node], demand: Demand, answer: Repacking) -> list[Node]:
    """The nodes after the moves, built up from nothing."""
    moved = {(move.node, move.pod): move.target for move in answer.moves}
    after = [emptied(node) for node in nodes]
    for number, node in enumerate(nodes):
        for index, pod in enumerate(node.held):
            target = moved.get((number, index))
            where, devices = (number, pod.devices) if target is None else (target.node, target.devices)
            after[where] = with_pod(after[where], Held(pod.demand, devices))
    after[answer.place.node] = with_pod(after[answer.place.node], Held(demand, answer.place.devices))
    return after


def fewest_moves(nodes: list[Node], demand: Demand) -> int | None:
    """By trying every place for every pod."""
    pods = [(number, pod) for number, node in enumerate(nodes) for pod in node.held]
    best: int | None = None
    empty = [emptied(node) for node in nodes]
    stays = [(0, 1)] * len(pods)
    for chosen in product(*stays):
        moves = sum(chosen)
        if best is not None and moves >= best:
            continue
        after = list(empty)
        for (number, pod), moving in zip(pods, chosen, strict=True):
            if not moving:
                after[number] = with_pod(after[number], pod)
        rest = [pod.demand for (_, pod), moving in zip(pods, chosen, strict=True) if moving]
        if any(True for _ in ways(after, [demand, *rest])):
            best = moves
    return best


def ways(nodes: list[Node], pods: list[Demand]) -> Iterator[list[Node]]:
    if not pods:
        yield nodes
        return
    for number, node in enumerate(nodes):
        if can_run(node, pods[0]):
            for devices in options(node.free_milli, pods[0]):
                after = [*nodes[:number], with_pod(node, Held(pods[0], devices)), *nodes[number + 1 :]]
                yield from ways(after, pods[1:])


@settings(max_examples=60, deadline=None)
@given(few, demands(), st.integers(0, 3))
def test_room_is_made_by_the_fewest_moves_and_within_all_capacities(
    nodes: list[Node], demand: Demand, most_moves: int
) -> None:
    answer = make_room(nodes, demand, most_moves=most_moves, units=5)
    fewest = fewest_moves(nodes, demand)
    if fewest is None or fewest > most_moves:
        assert answer is None
        return
    assert answer is not None
    assert answer.fewest
    assert len(answer.moves) == fewest
    after = carried_out(nodes, demand, answer)
    assert sum(len(node.held) for node in after) == sum(len(node.held) for node in nodes) + 1


def test_a_share_that_blocks_two_whole_devices_moves_to_the_other_node() -> None:
    small, large = Demand(gpu_milli=300, gpu_count=1), Demand(gpu_milli=500, gpu_count=1)
    nodes = [
        Node(CPU, MEMORY, (700, 1000), "T4", (Held(small, (0,)),)),
        Node(CPU, MEMORY, (500, 0), "T4", (Held(large, (0,)),)),
    ]
    answer = make_room(nodes, Demand(gpu_milli=1000, gpu_count=2), most_moves=1)
    assert answer is not None
    assert answer.place.devices == (0, 1)
    assert [(move.pod, move.target.node, move.target.devices) for move in answer.moves] == [(0, 1, (0,))]
    assert make_room(nodes, Demand(gpu_milli=1000, gpu_count=2), most_moves=0) is None


def test_what_nobody_may_move_stays() -> None:
    nodes = [Node(CPU, MEMORY, (700, 1000), "T4", ()), Node(CPU, MEMORY, (1000, 1000), "A100", ())]
    demand = Demand(gpu_milli=1000, gpu_count=2, models=frozenset({"T4"}))
    assert make_room(nodes, demand, most_moves=9) is None


def as_arrays(nodes: list[Node]) -> tuple[Room, Running, list[tuple[int, Held]]]:
    pods = [(number, pod) for number, node in enumerate(nodes) for pod in node.held]
    room = Room(
        cpu_milli=np.array([node.cpu_milli for node in nodes]),
        memory_mib=np.array([node.memory_mib for node in nodes]),
        model=np.array([MODELS.index(node.model) for node in nodes]),
        devices=np.array([len(node.free_milli) for node in nodes]),
        free_milli=np.array([node.free_milli for node in nodes]),
    )
    running = Running(
        node=np.array([number for number, _ in pods], np.int64),
        device=np.array([p.devices[0] if p.demand.shared else -1 for _, p in pods], np.int64),
        share_milli=np.array([p.demand.gpu_milli if p.demand.shared else 0 for _, p in pods], np.int64),
        whole=np.array([0 if p.demand.shared else p.demand.gpu_count for _, p in pods], np.int64),
        cpu_milli=np.array([p.demand.cpu_milli for _, p in pods], np.int64),
        memory_mib=np.array([p.demand.memory_mib for _, p in pods], np.int64),
        accepts=np.array([[not p.demand.models or m in p.demand.models for m in MODELS] for _, p in pods], np.bool_),
    )
    return room, running, pods


def runs_somewhere(node: Node, demand: Demand) -> bool:
    return can_run(node, demand) and bool(options(node.free_milli, demand))


def without(node: Node, *pods: Held) -> Node:
    kept = list(node.held)
    for pod in pods:
        kept.remove(pod)
    after = emptied(node)
    for pod in kept:
        after = with_pod(after, pod)
    return after


@settings(deadline=None)
@given(few, demands())
def test_those_whose_leaving_helps_are_found(nodes: list[Node], demand: Demand) -> None:
    assume(not any(runs_somewhere(node, demand) for node in nodes))
    room, running, pods = as_arrays(nodes)
    allowed = np.array([not demand.models or node.model in demand.models for node in nodes])
    found = would_help(room, running, demand, allowed).tolist()
    helps = [index for index, (number, pod) in enumerate(pods) if runs_somewhere(without(nodes[number], pod), demand)]
    assert found == helps


@pytest.mark.parametrize(
    ("cpu_of_the_larger", "expected"),
    [
        pytest.param(4, None, id="the larger one's CPU is not there on the other node"),
        pytest.param(3, Exchange(out=0, into=2), id="it is there"),
    ],
)
def test_an_exchange_needs_cpu_on_both_nodes(cpu_of_the_larger: int, expected: Exchange | None) -> None:
    empty = Node(CPU, MEMORY, (DEVICE_MILLI,), "T4", ())
    one = with_pod(empty, Held(Demand(cpu_of_the_larger, 0, 500, 1), (0,)))
    one = with_pod(one, Held(Demand(0, 0, 100, 1), (0,)))
    other = with_pod(empty, Held(Demand(3, 0, 300, 1), (0,)))
    other = with_pod(other, Held(Demand(3, 0, 500, 1), (0,)))
    room, running, _ = as_arrays([one, other])
    assert find_exchange(room, running, Demand(0, 0, 600, 1), np.ones(2, np.bool_)) == expected


@settings(deadline=None, max_examples=200)
@given(many_shares, st.sampled_from((200, 300, 500, 700)), st.integers(0, 2))
def test_an_exchange_makes_room_and_breaks_nothing(nodes: list[Node], milli: int, cpu: int) -> None:
    demand = Demand(cpu_milli=cpu, gpu_milli=milli, gpu_count=1)
    room, running, pods = as_arrays(nodes)
    found = find_exchange(room, running, demand, np.ones(len(nodes), np.bool_))
    assert (found is not None) is any_exchange(nodes, pods, demand)
    if found is not None:
        exchanged(nodes, pods[found.out], pods[found.into], demand)


def any_exchange(nodes: list[Node], pods: list[tuple[int, Held]], demand: Demand) -> bool:
    for out, into in product(pods, pods):
        room_as_it_is = nodes[out[0]].free_milli[out[1].devices[0]]
        if out is into or room_as_it_is >= demand.gpu_milli:
            continue
        try:
            exchanged(nodes, out, into, demand)
        except (AssertionError, ValueError):
            continue
        return True
    return False


def exchanged(nodes: list[Node], out: tuple[int, Held], into: tuple[int, Held], demand: Demand) -> None:
    """Raises where something does not fit."""
    (here, leaving), (there, coming) = out, into
    after = list(nodes)
    if here == there:
        after[here] = without(after[here], leaving, coming)
    else:
        after[here], after[there] = without(after[here], leaving), without(after[there], coming)
    after[there] = with_pod(after[there], Held(leaving.demand, coming.devices))
    after[here] = with_pod(after[here], Held(coming.demand, leaving.devices))
    with_pod(after[here], Held(demand, leaving.devices))
