"""How many free GPUs are of no use to the pods that a cluster has."""

from __future__ import annotations

import pytest

from harness.facts import node, pod, snapshot
from stowage.decide.gpu_use import GPU, shared_gpus, unusable_gpus
from stowage_scheduler.cluster import GPU_MILLI, GpuShare, Pod, Snapshot

EIGHT = {"extra": {GPU: 8}}


def gpus(count: int) -> dict[str, object]:
    return {"extra": {GPU: count}}


def share(name: str, milli: int, on: str, device: int | None = None) -> Pod:
    return pod(name, on=on, gpu_share=GpuShare(((GPU_MILLI, milli),), device))


@pytest.mark.parametrize(
    ("cluster", "unusable"),
    [
        pytest.param(snapshot(node("a", **EIGHT)), {"a": 0.0}, id="no pod asks for GPUs"),
        pytest.param(
            snapshot(node("a", **EIGHT), pod("new-0", **gpus(8))), {"a": 0.0}, id="a whole node for a whole node"
        ),
        pytest.param(
            snapshot(node("a", **EIGHT), pod("one-0", on="a", **gpus(2)), pod("new-0", **gpus(8))),
            {"a": 3.0},
            id="six are free: of use to the small pod, of none to the large one",
        ),
        pytest.param(
            snapshot(node("a", 100, **EIGHT), node("b", **EIGHT), pod("one-0", 100, on="a", **gpus(2))),
            {"a": 6.0, "b": 0.0},
            id="GPUs without CPU",
        ),
        pytest.param(
            snapshot(node("a", **EIGHT), share("half-0", 500, "a", 3), pod("new-0", **gpus(8))),
            {"a": 3.75},
            id="a share: half a device is free beside it, of use to shares; the large pod finds no node",
        ),
    ],
)
def test_unusable_gpus(cluster: Snapshot, unusable: dict[str, float]) -> None:
    assert unusable_gpus(cluster) == unusable


def test_shared_gpus() -> None:
    cluster = snapshot(
        node("a", **EIGHT), node("b", **EIGHT), node("c", **gpus(2)),
        share("x-0", 500, "a", 0), share("y-0", 300, "a", 7), pod("w-0", on="a", **gpus(2)),
        pod("w-1", on="b", **gpus(2)), share("z-0", 300, "c"), share("z-1", 300, "c"),
    )  # fmt: skip
    assert shared_gpus(cluster) == {"a": (800, 4), "c": (600, 1)}


def test_no_shares() -> None:
    assert shared_gpus(snapshot(node("a", **EIGHT), pod("w-1", on="a", **gpus(2)))) == {}
