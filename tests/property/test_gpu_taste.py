"""The policy's tail where pods ask for GPUs: FGD's measure never grows, and says what it should on small cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.facts import OPTIONS, packed, places, snapshot
from harness.facts import node as make_node
from harness.facts import pod as make_pod
from property.test_gpu_shares import clusters as shared_clusters
from stowage_scheduler.build import build
from stowage_scheduler.cluster import GPU_MILLI, GpuShare, Node, Pod, Snapshot
from stowage_scheduler.devices.limits import with_gpu_milli
from stowage_scheduler.greedy import greedy
from stowage_scheduler.options import Tail
from stowage_scheduler.placement import Placement
from stowage_scheduler.solve.arrange import arranged
from stowage_scheduler.solve.gpu_taste import GpuTaste, gpu_taste

GPU = "nvidia.com/gpu"


@st.composite
def whole_clusters(draw: st.DrawFn) -> Snapshot:
    """Nodes with and without GPUs; pods that wait for whole ones, and for CPU alone."""
    nodes = [
        make_node(f"n{number}", draw(st.integers(2, 8)) * 100, extra={GPU: draw(st.sampled_from([0, 2, 4]))})
        for number in range(draw(st.integers(2, 4)))
    ]
    pods = []
    for number in range(draw(st.integers(1, 6))):
        extra = {GPU: draw(st.sampled_from([0, 1, 1, 2, 4]))}
        pods.append(
            make_pod(f"p{number}-0", draw(st.integers(1, 4)) * 100, extra={k: v for k, v in extra.items() if v})
        )
    return snapshot(*nodes, *pods)


def measured(placement: Placement) -> int:
    return GpuTaste(placement).total()


@settings(max_examples=150)
@given(st.one_of(whole_clusters(), shared_clusters()))
def test_the_tail_never_adds_fragments(cluster: Snapshot) -> None:
    problem = build(with_gpu_milli(cluster), OPTIONS).problem
    start = greedy(problem)
    end = arranged(start, Tail.LEAST_FRAGMENTATION)
    assert measured(end) <= measured(start)
    assert end.within_limits()
    assert end.score() >= start.score()


@settings(max_examples=150)
@given(st.one_of(whole_clusters(), shared_clusters()))
def test_a_change_is_the_difference(cluster: Snapshot) -> None:
    """What one more pod is said to add is what the measure grows by when it comes."""
    problem = build(with_gpu_milli(cluster), OPTIONS).problem
    placement = Placement(problem)
    taste = gpu_taste(placement)
    if taste is None:
        return
    for pod_class in problem.classes:
        for node in sorted(pod_class.eligible):
            if any(a > b for a, b in zip(pod_class.requests, placement.room[node], strict=True)):
                continue
            if not placement.unplaced(pod_class) or placement.clashes(pod_class, node):
                continue
            room = np.array([placement.room[node]], dtype=np.int64)
            said = int(taste.change(np.array([node]), room, pod_class)[0])
            before = measured(placement)
            placement.add(pod_class, node, 1)
            taste.moved(node)
            assert measured(placement) - before == said
            assert taste.total() == measured(placement)


def share(name: str, milli: int, on: str | None = None, device: int | None = None) -> Pod:
    return make_pod(name, on=on, gpu_share=GpuShare(((GPU_MILLI, milli),), device))


CASES: dict[str, tuple[tuple[Node | Pod, ...], dict[str, str]]] = {
    "a pod without GPUs leaves the CPU of free GPUs alone": (
        (
            make_node("b", 2000),
            make_node("c", 1000, extra={GPU: 4}),
            make_pod("train-1", 900, extra={GPU: 4}, on="c"),
            make_node("d", 1000, extra={GPU: 4}),
            make_pod("web-1", 500),
        ),
        {"web-1": "b"},
    ),
    "one GPU is taken where another pod has left an odd one": (
        (
            make_node("a", 9000, extra={GPU: 4}),
            make_node("b", 9000, extra={GPU: 4}),
            make_pod("odd-1", extra={GPU: 3}, on="b"),
            make_pod("four-1", extra={GPU: 4}, on="a2"),
            make_node("a2", 9000, extra={GPU: 4}),
            make_pod("one-1", extra={GPU: 1}),
        ),
        {"one-1": "b"},
    ),
    "half a GPU goes beside the other half": (
        (
            make_node("a", 9000, extra={GPU: 2}),
            make_node("b", 9000, extra={GPU: 2}),
            share("half-1", 500, "b", 1),
            make_pod("two-1", extra={GPU: 2}, on="c"),
            make_node("c", 9000, extra={GPU: 2}),
            share("half-2", 500),
        ),
        {"half-2": "b"},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_where_the_fragments_are_fewest(case: tuple[tuple[Node | Pod, ...], dict[str, str]]) -> None:
    facts, ends = case
    found = places(packed(snapshot(*facts)))
    assert {name: found[name] for name in ends} == ends
