"""What nodes draw, by their labels, and where pods land for it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from harness.facts import OPTIONS, node, packed, places, pod, snapshot
from stowage_scheduler.build import build
from stowage_scheduler.cluster import Node, OwnerRef, Pod, Snapshot
from stowage_scheduler.options import Tail
from stowage_scheduler.power import IDLE_WATTS, PEAK_WATTS, Draw, draw_of, has_figures, power_of

LEAST = replace(OPTIONS, tail=Tail.LEAST_POWER)


def draws(name: str, idle: str, peak: str, cpu: int = 1000, **more: Any) -> Node:
    return node(name, cpu, labels={IDLE_WATTS: idle, PEAK_WATTS: peak}, **more)


@pytest.mark.parametrize(
    ("idle", "peak", "says"),
    [
        pytest.param("100", "300", Draw(100_000, 300_000), id="watts"),
        pytest.param("99.5", "100.25", Draw(99_500, 100_250), id="parts of a watt"),
        pytest.param("100", "100", Draw(100_000, 100_000), id="always the same"),
        pytest.param("300", "100", None, id="less when busy"),
        pytest.param("", "100", None, id="half of it"),
        pytest.param("-1", "100", None, id="negative"),
        pytest.param("1e3", "2e3", None, id="no plain number"),
        pytest.param("100W", "300W", None, id="a unit"),
        pytest.param("1", "9999999", None, id="more than any node draws"),
    ],
)
def test_labels_of_a_node(idle: str, peak: str, says: Draw | None) -> None:
    assert draw_of(draws("n", idle, peak)) == says
    assert has_figures([node("other"), draws("n", idle, peak)]) == (says is not None)


def test_a_node_that_does_not_tell_counts_as_the_mean() -> None:
    cluster = snapshot(draws("a", "100", "200"), node("b"), draws("c", "300", "600"))
    power = power_of(build(cluster, LEAST), cluster)
    assert power is not None
    assert [int(watts) // 1000 for watts in power.idle_milliwatts] == [100, 200, 300]
    assert [int(watts) // 1000 for watts in power.span_milliwatts] == [100, 200, 300]


@pytest.mark.parametrize(
    ("resident", "held"),
    [
        pytest.param(pod("x-0", on="n"), False, id="may move"),
        pytest.param(pod("x-0", on="n", annotations={"stowage.dev/do-not-disrupt": "true"}), True, id="stays"),
        pytest.param(pod("x-0", on="n", terminating=True), False, id="goes"),
        pytest.param(pod("x-0", on="n", owner=OwnerRef("DaemonSet", "x", "ds")), False, id="on every node"),
        pytest.param(pod("x-0", on="n", owner=OwnerRef("Node", "n", "n"), mirror=True), False, id="static"),
    ],
)
def test_who_keeps_a_node_in_use_whatever_the_plan(resident: Pod, held: bool) -> None:
    cluster = snapshot(draws("n", "100", "200"), resident)
    power = power_of(build(cluster, LEAST), cluster)
    assert power is not None
    assert power.held.tolist() == [held]


DAEMON = pod("agent-0", 300, on="b", owner=OwnerRef("DaemonSet", "agent", "ds"))
KEPT = {"annotations": {"stowage.dev/do-not-disrupt": "true"}}


@pytest.mark.parametrize(
    ("cluster", "lands"),
    [
        pytest.param(snapshot(draws("a", "200", "300"), draws("b", "100", "200"), pod("new-0")), "b", id="idle less"),
        pytest.param(
            snapshot(draws("a", "100", "900"), draws("b", "100", "200"), pod("new-0")), "b", id="draw less at work"
        ),
        pytest.param(
            snapshot(draws("a", "200", "500"), draws("b", "100", "200"), pod("x-0", on="a", **KEPT), pod("new-0")),
            "a",
            id="a node in use, though it draws more",
        ),
        pytest.param(
            snapshot(draws("a", "200", "2300"), draws("b", "100", "200"), pod("x-0", on="a", **KEPT), pod("new-0")),
            "b",
            id="unless it draws more than another idle one would",
        ),
        pytest.param(
            snapshot(draws("a", "100", "200"), draws("b", "110", "200"), DAEMON, pod("new-0")),
            "a",
            id="what is on every node keeps none in use",
        ),
        pytest.param(
            snapshot(
                *(draws(name, "100", "200", extra={"nvidia.com/gpu": 8}) for name in "a"),
                draws("b", "90", "300"),
                pod("x-0", on="a", **KEPT),
                pod("y-0", on="b", **KEPT),
                pod("new-0"),
            ),
            "a",
            id="a node with GPUs draws by GPUs",
        ),
        pytest.param(
            snapshot(node("a"), node("b"), pod("x-0", on="b", **KEPT), pod("new-0")),
            "b",
            id="nobody tells: the fuller one",
        ),
    ],
)
def test_where_a_pod_lands(cluster: Snapshot, lands: str) -> None:
    packing = packed(cluster, LEAST)
    assert packing.faults == ()
    assert places(packing)["new-0"] == lands


def test_pods_leave_a_node_together_that_none_gains_by_leaving() -> None:
    """Greedy fills `a` first, which fits best; `b` draws a little more for each pod but far less for being in use."""
    cluster = snapshot(draws("a", "500", "600", 300), draws("b", "100", "450", 1000), pod("x-0"), pod("y-0"))
    assert set(places(packed(cluster, LEAST)).values()) == {"b"}
