"""FGD's measure against its definition, written out, and devices that never hold more than they have."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stowage_scheduler.gpu.devices import DEVICE_MILLI, Demand, best_fit, options, place, remove
from stowage_scheduler.gpu.fragmentation import INFEASIBLE, Meter, room_of, stranded_milli
from stowage_scheduler.gpu.workload import Workload

MODELS = ("T4", "A100")
WIDEST = 3
amounts = st.integers(0, 6)
milli = st.sampled_from((100, 250, 500, 700, DEVICE_MILLI))


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    size = draw(st.sampled_from((0, 1, 1, 1, 2, 3)))
    each = DEVICE_MILLI if size > 1 else draw(milli)
    models = frozenset(draw(st.sets(st.sampled_from(MODELS), max_size=1)))
    return Demand(draw(amounts), draw(amounts), each if size else 0, size, models if size else frozenset())


Node = tuple[int, int, str, tuple[int, ...]]
nodes = st.tuples(
    amounts,
    amounts,
    st.sampled_from((*MODELS, "another")),
    st.lists(st.sampled_from((0, 100, 300, 500, 999, DEVICE_MILLI)), max_size=WIDEST).map(tuple),
)
workloads = st.lists(st.tuples(demands(), st.integers(1, 5)), min_size=1, max_size=5).map(
    lambda pairs: Workload(tuple(d for d, _ in pairs), tuple(w for _, w in pairs))
)


def by_definition(node: Node, workload: Workload) -> int:
    """Section 3 of the paper, kind by kind."""
    cpu, memory, model, free = node
    total = 0
    for demand, weight in zip(workload.demands, workload.weights, strict=True):
        enough = sum(amount >= demand.gpu_milli for amount in free) >= demand.gpu_count
        runs = enough and cpu >= demand.cpu_milli and memory >= demand.memory_mib
        runs = runs and (not demand.models or model in demand.models)
        useless = sum(amount for amount in free if amount < demand.gpu_milli)
        total += weight * (useless if runs and demand.gpu_count else sum(free))
    return total


@given(st.lists(nodes, min_size=1, max_size=4), workloads)
def test_the_measure_is_what_the_paper_defines(given_nodes: list[Node], workload: Workload) -> None:
    room, meter = room_of(given_nodes, MODELS), Meter(workload, MODELS)
    assert meter.weighted(room).tolist() == [by_definition(node, workload) for node in given_nodes]
    assert np.allclose(meter.gpus(room) * meter.total * DEVICE_MILLI, meter.weighted(room))


@pytest.mark.parametrize(
    "given_nodes", [pytest.param([(5, 5, "", ())], id="a node without GPUs"), pytest.param([], id="no nodes")]
)
def test_where_there_are_no_gpus_there_are_no_fragments_and_no_place(given_nodes: list[Node]) -> None:
    meter = Meter(Workload((Demand(gpu_milli=1000, gpu_count=2),), (4,)), MODELS)
    room = room_of(given_nodes, MODELS)
    assert meter.weighted(room).tolist() == [0] * len(given_nodes)
    added, _ = meter.gradient(room, Demand(gpu_milli=100, gpu_count=1))
    assert added.tolist() == [INFEASIBLE] * len(given_nodes)


@given(amounts, workloads)
def test_a_full_node_has_no_fragments_and_an_empty_one_none_for_pods_that_fit(cpu: int, workload: Workload) -> None:
    full = room_of([(cpu, cpu, MODELS[0], (0, 0, 0))], MODELS)
    assert Meter(workload, MODELS).weighted(full).tolist() == [0]
    fitting = Workload(
        tuple(Demand(0, 0, d.gpu_milli or 100, d.gpu_count or 1) for d in workload.demands), workload.weights
    )
    empty = room_of([(cpu, cpu, MODELS[0], (DEVICE_MILLI,) * WIDEST)], MODELS)
    assert Meter(fitting, MODELS).weighted(empty).tolist() == [0]


@given(st.lists(nodes, min_size=1, max_size=4), workloads, demands())
def test_the_gradient_is_the_least_difference_that_a_choice_makes(
    given_nodes: list[Node], workload: Workload, demand: Demand
) -> None:
    meter = Meter(workload, MODELS)
    added, device = meter.gradient(room_of(given_nodes, MODELS), demand)
    for number, (cpu, memory, model, free) in enumerate(given_nodes):
        choices = options(free, demand) if cpu >= demand.cpu_milli and memory >= demand.memory_mib else []
        before = by_definition(given_nodes[number], workload)
        grown = {
            devices: by_definition(
                (cpu - demand.cpu_milli, memory - demand.memory_mib, model, place(free, demand, devices)), workload
            )
            - before
            for devices in choices
        }
        assert added[number] == min(grown.values(), default=INFEASIBLE)
        if demand.shared and grown:
            assert grown[int(device[number]),] == added[number]


@pytest.mark.parametrize(
    ("free", "device"),
    [
        pytest.param((1000, 500, 0), 1, id="the device that it fills"),
        pytest.param((500, 1000, 600), 0, id="also when it is the first"),
        pytest.param((1000, 600, 600), 1, id="of equal ones the first"),
    ],
)
def test_a_share_goes_where_most_stays_useful(free: tuple[int, ...], device: int) -> None:
    workload = Workload((Demand(gpu_milli=1000, gpu_count=1), Demand(gpu_milli=500, gpu_count=1)), (1, 1))
    _, chosen = Meter(workload, MODELS).gradient(
        room_of([(1, 1, MODELS[0], free)], MODELS), Demand(gpu_milli=500, gpu_count=1)
    )
    assert chosen.tolist() == [device]


@given(st.integers(1, WIDEST), st.lists(st.tuples(demands(), st.booleans()), max_size=12))
def test_devices_never_hold_more_than_they_have(count: int, pods: list[tuple[Demand, bool]]) -> None:
    free: tuple[int, ...] = (DEVICE_MILLI,) * count
    held: list[tuple[Demand, tuple[int, ...]]] = []
    for demand, leaves in pods:
        if leaves and held:
            free = remove(free, *held.pop(0))
        elif (devices := best_fit(free, demand)) is not None:
            free = place(free, demand, devices)
            held.append((demand, devices))
        on_device = Counter(dict.fromkeys(range(count), 0))
        for one, devices in held:
            for index in devices:
                on_device[index] += one.gpu_milli
        assert all(0 <= on_device[index] == DEVICE_MILLI - free[index] <= DEVICE_MILLI for index in range(count))


def test_cpu_that_does_not_reach_all_gpus_strands_the_rest() -> None:
    cpu, gpu = np.array([20_000, 40_000, 0]), np.array([3000, 3000, 1000])
    assert stranded_milli(cpu, gpu, 10_000).tolist() == [1000, 0, 1000]
    assert stranded_milli(cpu, gpu, 0).tolist() == [0, 0, 0]
