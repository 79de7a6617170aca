"""GPU shares: which pods take part of one device, how much of it, and on which device they stand.

kube-scheduler knows of devices only how many a node has. Plugins that share devices publish a total by node, and keep
to single devices by themselves. These are the ones that are known here:

- annotation `stowage.dev/gpu-milli`, thousandths of a device as in FGD (Weng et al., USENIX ATC'23), with whatever
  resource the pod requests besides;
- `aliyun.com/gpu-mem` and `aliyun.com/gpu-core.percentage` (gpushare-scheduler-extender), `volcano.sh/gpu-memory`
  (volcano's device plugin), `tencent.com/vcuda-core` and `-memory` (gpu-manager), `koordinator.sh/gpu-core` and
  `-memory-ratio`.

MIG slices (`nvidia.com/mig-*`) and time slices (`nvidia.com/gpu.shared`, or replicas of `nvidia.com/gpu`) are all
alike, so their number says all.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from stowage_scheduler.cluster import GPU_MILLI, GpuShare, Node, Pod, Resources
from stowage_scheduler.kube.sharing import shared

DEVICE_MILLI = 1000
GPU_INDEX = "stowage.dev/gpu-index"
"""Annotation of a pod that runs: the index of the device that it has a share of."""

GPU_ISLAND = "stowage.dev/gpu-island"
"""Annotation of a pod: `Required` keeps its GPUs within one island of the node."""

GPU_ISLANDS = "stowage.dev/gpu-islands"
"""Label of a node: how many of its GPUs make an island, such as those that NVLink joins; they are counted by index."""

WHOLE = ("nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe", "volcano.sh/gpu-number")
"""Resources that are whole devices."""

_MOST_DEVICES = 1024
_COUNT_LABEL = "nvidia.com/gpu.count"
_REPLICAS_LABEL = "nvidia.com/gpu.replicas"
_SLICES = "nvidia.com/gpu.shared"
_COUNTS = ("aliyun.com/gpu-count",)  # what tells the number of devices and is asked for by nobody

DEVICE_LABELS = frozenset({_COUNT_LABEL, _REPLICAS_LABEL, GPU_ISLANDS})
"""Labels of a node that tell of its devices."""


class _Measure(Struct, frozen=True):
    """A resource of which each device of a node has the same part."""

    per_device: int = 0  # 0: the node's total, divided by its devices
    index: str = ""  # annotation that names the device of a pod


_MEASURES = {
    GPU_MILLI: _Measure(DEVICE_MILLI),
    "aliyun.com/gpu-mem": _Measure(index="ALIYUN_COM_GPU_MEM_IDX"),
    "aliyun.com/gpu-core.percentage": _Measure(100),
    "koordinator.sh/gpu-core": _Measure(100),
    "koordinator.sh/gpu-memory-ratio": _Measure(100),
    "tencent.com/vcuda-core": _Measure(100, "tencent.com/predicate-gpu-idx-0"),
    "tencent.com/vcuda-memory": _Measure(index="tencent.com/predicate-gpu-idx-0"),
    "volcano.sh/gpu-memory": _Measure(index="volcano.sh/gpu-index"),
}

INDEX_ANNOTATIONS = frozenset({GPU_INDEX, *(measure.index for measure in _MEASURES.values() if measure.index)})


class NodeDevices(Struct, frozen=True):
    """The GPUs of a node: how many, what one has in each measure, and whether it is handed out in time slices."""

    count: int
    capacity: Mapping[str, int]
    sliced: bool = False


def gpu_share(annotations: Mapping[str, str], requests: Resources) -> GpuShare | None:
    """What part of a GPU a pod takes; None for a pod with whole devices or none."""
    if GPU_MILLI not in annotations and _MEASURES.keys().isdisjoint(requests):
        return None
    amounts = {}
    for name, measure in _MEASURES.items():
        amount = requests.get(name, 0)
        if amount and not (measure.per_device and amount >= measure.per_device):
            amounts[name] = amount
    if GPU_MILLI in annotations and GPU_MILLI not in requests:
        milli = _milli(annotations[GPU_MILLI], _of_whole(requests))
        if milli:
            amounts[GPU_MILLI] = milli
    if not amounts:
        return None
    return shared(GpuShare(tuple(sorted(amounts.items())), _device(annotations, amounts)))


def _milli(text: str, whole: int) -> int:
    """Thousandths of a device; 0 where the devices that the pod requests by number are to count instead.

    What nobody can read takes a device of its own: too much rather than too little.
    """
    readable = text.isascii() and text.isdigit() and len(text) <= len(str(DEVICE_MILLI))
    if readable and 0 < int(text) < DEVICE_MILLI and whole <= 1:
        return int(text)
    return 0 if whole or (readable and not int(text)) else DEVICE_MILLI


def _device(annotations: Mapping[str, str], amounts: Mapping[str, int]) -> int | None:
    keys = (GPU_INDEX, *(_MEASURES[name].index for name in amounts))
    texts = (annotations[key] for key in keys if key in annotations)
    return next((int(t) for t in texts if t.isascii() and t.isdigit() and int(t) < _MOST_DEVICES), None)


def _of_whole(requests: Resources) -> int:
    return sum(requests.get(name, 0) for name in WHOLE)


def whole_devices(share: GpuShare | None, requests: Resources) -> int:
    """Devices that a pod has to itself."""
    if share is not None:
        return 0
    others = (-(-requests.get(name, 0) // m.per_device) for name, m in _MEASURES.items() if m.per_device)
    return _of_whole(requests) or max(others)


def node_devices(node: Node) -> NodeDevices:
    """The devices of a node, as far as what it offers and its labels tell."""
    offered, replicas = node.allocatable, max(1, _number(node.labels.get(_REPLICAS_LABEL)))
    whole = _of_whole(offered) or offered.get(_SLICES, 0) // replicas
    parts = (offered.get(name, 0) // m.per_device for name, m in _MEASURES.items() if m.per_device)
    told = [_number(node.labels.get(_COUNT_LABEL)), *(offered.get(name, 0) for name in _COUNTS)]
    count = next((number for number in told if number), 0)
    count = min(count, whole) if count and whole else count or whole or max(parts)
    count = min(count, _MOST_DEVICES)
    capacity = {
        name: measure.per_device or offered.get(name, 0) // count
        for name, measure in _MEASURES.items()
        if count and (name == GPU_MILLI or name in offered)
    }
    return NodeDevices(count, capacity, sliced=replicas > 1 and bool(_of_whole(offered)))


def island_size(node: Node) -> int:
    """GPUs of one island of a node; 0 where all of them are one, or nobody tells."""
    size = _number(node.labels.get(GPU_ISLANDS))
    return size if size < node_devices(node).count else 0


def keeps_to_island(pod: Pod) -> bool:
    """Whether all GPUs of a pod have to be of one island."""
    return island_need(pod) > 0


def island_need(pod: Pod) -> int:
    """How many GPUs of one island a pod has to have; 0 where it may have any."""
    if pod.annotations.get(GPU_ISLAND) != "Required":
        return 0
    gpus = whole_devices(pod.gpu_share, pod.requests)
    return gpus if gpus > 1 else 0


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= len("1024") else 0
