"""How many free GPUs are of no use to the pods that a cluster has."""

from __future__ import annotations

import pytest

from harness.facts import node, pod, snapshot
from stowage.decide.gpu_use import GPU, unusable_gpus
from stowage_scheduler.cluster import Snapshot

EIGHT = {"extra": {GPU: 8}}


def gpus(count: int) -> dict[str, object]:
    return {"extra": {GPU: count}}


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
    ],
)
def test_unusable_gpus(cluster: Snapshot, unusable: dict[str, float]) -> None:
    assert unusable_gpus(cluster) == unusable
