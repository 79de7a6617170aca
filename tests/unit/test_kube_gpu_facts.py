"""What pods and nodes say about shares of GPUs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stowage_scheduler.cluster import GPU_MILLI, GpuShare, Node, Pod
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import fact_of
from stowage_scheduler.kube.gpu_facts import NodeDevices, node_devices, whole_devices
from stowage_scheduler.kube.redact import redact

GPU = "nvidia.com/gpu"


def document(annotations: dict[str, str], requests: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": "x", "annotations": annotations},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "resources": {"requests": requests}}]},
    }


def read(annotations: dict[str, str], requests: dict[str, str]) -> Pod:
    pod = fact_of(decode_object("Pod", msgspec.json.encode(document(annotations, requests))))
    assert isinstance(pod, Pod)
    return pod


def milli(amount: int, device: int | None = None) -> GpuShare:
    return GpuShare(((GPU_MILLI, amount),), device)


SHARES: dict[str, tuple[dict[str, str], dict[str, str], GpuShare | None, int]] = {
    "no GPU": ({}, {"cpu": "1"}, None, 0),
    "whole devices": ({}, {GPU: "2"}, None, 2),
    "a share": ({GPU_MILLI: "500"}, {}, milli(500), 0),
    "a share that asks for a slot as well": ({GPU_MILLI: "1"}, {GPU: "1"}, milli(1), 0),
    "the whole of one, by thousandths": ({GPU_MILLI: "1000"}, {GPU: "1"}, None, 1),
    "the whole of one, without a request": ({GPU_MILLI: "1000"}, {}, milli(1000), 0),
    "two devices are no share": ({GPU_MILLI: "500"}, {GPU: "2"}, None, 2),
    "nothing": ({GPU_MILLI: "0"}, {}, None, 0),
    "nothing that can be read takes a device of its own": ({GPU_MILLI: "half"}, {}, milli(1000), 0),
    "no digits of other scripts": ({GPU_MILLI: "٣٠٠"}, {}, milli(1000), 0),
    "more than one device": ({GPU_MILLI: "1500"}, {}, milli(1000), 0),
    "nothing that can be read beside a whole device": ({GPU_MILLI: "-1"}, {GPU: "1"}, None, 1),
    "a share on a known device": ({GPU_MILLI: "300", "stowage.dev/gpu-index": "3"}, {}, milli(300, 3), 0),
    "an index that is none": ({GPU_MILLI: "300", "stowage.dev/gpu-index": "3,4"}, {}, milli(300), 0),
    "memory of Alibaba's plugin": (
        {"ALIYUN_COM_GPU_MEM_IDX": "1"},
        {"aliyun.com/gpu-mem": "8"},
        GpuShare((("aliyun.com/gpu-mem", 8),), 1),
        0,
    ),
    "memory of volcano's plugin": (
        {"volcano.sh/gpu-index": "0"},
        {"volcano.sh/gpu-memory": "1024"},
        GpuShare((("volcano.sh/gpu-memory", 1024),), 0),
        0,
    ),
    "cores and memory of Tencent's plugin": (
        {"tencent.com/predicate-gpu-idx-0": "2"},
        {"tencent.com/vcuda-core": "30", "tencent.com/vcuda-memory": "16"},
        GpuShare((("tencent.com/vcuda-core", 30), ("tencent.com/vcuda-memory", 16)), 2),
        0,
    ),
    "whole devices by hundred cores": ({}, {"tencent.com/vcuda-core": "200"}, None, 2),
    "MIG slices are counted by number": ({}, {"nvidia.com/mig-1g.5gb": "1"}, None, 0),
    "time slices are counted by number": ({}, {"nvidia.com/gpu.shared": "1"}, None, 0),
}


@pytest.mark.parametrize("case", SHARES.values(), ids=SHARES.keys())
def test_what_a_pod_takes(case: tuple[dict[str, str], dict[str, str], GpuShare | None, int]) -> None:
    annotations, requests, share, whole = case
    pod = read(annotations, requests)
    assert pod.gpu_share == share
    assert whole_devices(pod.gpu_share, pod.requests) == whole


@pytest.mark.parametrize("case", SHARES.values(), ids=SHARES.keys())
def test_a_dump_keeps_it(case: tuple[dict[str, str], dict[str, str], GpuShare | None, int]) -> None:
    redacted = redact(document(case[0], case[1]))
    pod = fact_of(decode_object("Pod", msgspec.json.encode(redacted)))
    assert isinstance(pod, Pod)
    assert pod.gpu_share == case[2]


NODES: dict[str, tuple[dict[str, int], dict[str, str], NodeDevices]] = {
    "none": ({"cpu": 1000}, {}, NodeDevices(0, {})),
    "whole devices": ({GPU: 8}, {}, NodeDevices(8, {GPU_MILLI: 1000})),
    "a device that failed": ({GPU: 7}, {"nvidia.com/gpu.count": "8"}, NodeDevices(7, {GPU_MILLI: 1000})),
    "time slices": (
        {GPU: 32},
        {"nvidia.com/gpu.count": "8", "nvidia.com/gpu.replicas": "4"},
        NodeDevices(8, {GPU_MILLI: 1000}, sliced=True),
    ),
    "time slices by another name": (
        {"nvidia.com/gpu.shared": 8},
        {"nvidia.com/gpu.replicas": "4"},
        NodeDevices(2, {GPU_MILLI: 1000}),
    ),
    "parts of memory": (
        {"aliyun.com/gpu-mem": 62, "aliyun.com/gpu-count": 4},
        {},
        NodeDevices(4, {"aliyun.com/gpu-mem": 15, GPU_MILLI: 1000}),
    ),
    "volcano": (
        {"volcano.sh/gpu-memory": 89424, "volcano.sh/gpu-number": 8},
        {},
        NodeDevices(8, {"volcano.sh/gpu-memory": 11178, GPU_MILLI: 1000}),
    ),
    "hundred cores a device": (
        {"tencent.com/vcuda-core": 400, "tencent.com/vcuda-memory": 256},
        {},
        NodeDevices(4, {"tencent.com/vcuda-core": 100, "tencent.com/vcuda-memory": 64, GPU_MILLI: 1000}),
    ),
    "a plugin that publishes thousandths": ({GPU_MILLI: 4000}, {}, NodeDevices(4, {GPU_MILLI: 1000})),
    "a label alone": ({}, {"nvidia.com/gpu.count": "2"}, NodeDevices(2, {GPU_MILLI: 1000})),
    "a label that is no number": ({}, {"nvidia.com/gpu.count": "many"}, NodeDevices(0, {})),
}


@pytest.mark.parametrize("case", NODES.values(), ids=NODES.keys())
def test_the_devices_of_a_node(case: tuple[dict[str, int], dict[str, str], NodeDevices]) -> None:
    allocatable, labels, devices = case
    assert node_devices(Node("n1", allocatable, labels)) == devices
