"""Amounts in words, and the reason that goes with too little of a resource."""

from __future__ import annotations

import pytest

from stowage_scheduler.cluster import ATTACHMENTS, FREE_VOLUMES, PODS
from stowage_scheduler.explain.words import amounts
from stowage_scheduler.packing import Reason
from stowage_scheduler.rules.resources import insufficient


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        pytest.param({"cpu": 2000, PODS: 1}, "2 cpu", id="the one place of a pod is not told"),
        pytest.param({PODS: 1}, "1 pod", id="unless it is all"),
        pytest.param({"cpu": 250, "memory": 3 << 30}, "250m cpu, 3Gi memory", id="parts of a core"),
        pytest.param({"memory": 65536 << 20}, "64Gi memory", id="bytes in the largest unit"),
        pytest.param({"nvidia.com/gpu": 1}, "1 nvidia.com/gpu", id="names of resources stay"),
        pytest.param({ATTACHMENTS + "disk.example.com": 2}, "2 volumes of disk.example.com", id="attachments"),
        pytest.param({FREE_VOLUMES + "gpu-local": 1}, "1 free volume of class gpu-local", id="free volumes"),
        pytest.param({FREE_VOLUMES + "local/pv-3": 2}, "2 free volumes of class local", id="one of several pools"),
        pytest.param({"nvidia.com/gpu": 0}, "", id="nothing"),
    ],
)
def test_amounts(resources: dict[str, int], words: str) -> None:
    assert amounts(resources) == words


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        ("cpu", Reason.INSUFFICIENT_CPU),
        ("nvidia.com/gpu", Reason.INSUFFICIENT_GPU),
        (FREE_VOLUMES + "gpu-local", Reason.INSUFFICIENT_RESOURCE),
        (ATTACHMENTS + "gpu.example.com", Reason.VOLUME_LIMIT),
        ("example.com/fpga", Reason.INSUFFICIENT_RESOURCE),
    ],
    ids=str,
)
def test_the_reason_goes_with_the_kind_of_resource_not_with_its_name(resource: str, reason: Reason) -> None:
    assert insufficient(resource) is reason
