"""How many free GPUs are of no use to the pods that a cluster has."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from harness.facts import node, pod, snapshot
from stowage.decide.gpu_use import GPU, free_gpus, shared_gpus, unusable_gpus
from stowage_scheduler.cluster import GPU_MILLI, GpuShare, Pod, Snapshot

EIGHT = {"extra": {GPU: 8}}


def gpus(count: int) -> dict[str, object]:
    return {"extra": {GPU: count}}


def ended(name: str, **fields: Any) -> Pod:
    return structs.replace(pod(name, **fields), phase="Succeeded")


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


@pytest.mark.parametrize(
    ("cluster", "free"),
    [
        pytest.param(snapshot(node("a", **EIGHT), node("b")), {"a": 8}, id="nodes without GPUs are left out"),
        pytest.param(snapshot(node("a", **EIGHT), pod("one-0", on="a", **gpus(2))), {"a": 6}, id="beside a pod"),
        pytest.param(
            snapshot(node("a", extra={"amd.com/gpu": 4}), pod("one-0", on="a", extra={"amd.com/gpu": 1})),
            {"a": 3},
            id="of another maker",
        ),
        pytest.param(
            snapshot(node("a", **EIGHT), pod("one-0", on="a", **gpus(2)), share("half-0", 500, "a", 3)),
            {"a": 5},
            id="what a share stands on is in use",
        ),
        pytest.param(
            snapshot(node("a", **EIGHT), ended("one-0", on="a", **gpus(2))),
            {"a": 8},
            id="a pod that has ended holds none",
        ),
    ],
)
def test_free_gpus(cluster: Snapshot, free: dict[str, int]) -> None:
    assert free_gpus(cluster) == free


def test_shared_gpus() -> None:
    cluster = snapshot(
        node("a", **EIGHT), node("b", **EIGHT), node("c", **gpus(2)),
        share("x-0", 500, "a", 0), share("y-0", 300, "a", 7), pod("w-0", on="a", **gpus(2)),
        pod("w-1", on="b", **gpus(2)), share("z-0", 300, "c"), share("z-1", 300, "c"),
    )  # fmt: skip
    assert shared_gpus(cluster) == {"a": (800, 4), "c": (600, 1)}


def test_no_shares() -> None:
    assert shared_gpus(snapshot(node("a", **EIGHT), pod("w-1", on="a", **gpus(2)))) == {}
