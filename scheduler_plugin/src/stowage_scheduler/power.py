"""What nodes draw: as much as when idle, and more in proportion to what is in use.

The model is linear in utilisation, which Fan, Weber and Barroso ("Power Provisioning for a Warehouse-sized Computer",
ISCA 2007) found to follow what servers draw closely. That an idle server draws about half of its peak (Barroso and
Hölzle, "The Case for Energy-Proportional Computing", IEEE Computer 40(12), 2007) is why empty nodes count most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from stowage_scheduler.build import Build
from stowage_scheduler.cluster import CPU, Node, Snapshot

IDLE_WATTS = "stowage.dev/idle-watts"
PEAK_WATTS = "stowage.dev/peak-watts"
"""Labels of nodes, like `350` or `5600.5`: what a node draws when nothing runs on it, and when all of it is in use."""

_MILLI = 1000
_MOST_WATTS = 1_000_000.0  # what says more is no figure of a node
_NUMBER = re.compile(r"[0-9]{1,7}(\.[0-9]{1,3})?")
_Ints = npt.NDArray[np.int64]


class Draw(Struct, frozen=True):
    """What one node draws, in thousandths of a watt."""

    idle_milliwatts: int
    peak_milliwatts: int


class Power(Struct, frozen=True, eq=False):
    """What the nodes of a problem draw, in its order.

    `idle_milliwatts[n]` and `span_milliwatts[n]` (from idle to peak). What is in use of the span is the share of the
    resources `gpus` on nodes that `has_gpus`, for GPUs draw most of what such a node does, and elsewhere of `cpus`.
    `held[n]`: pods run there that stay whatever the plan, other than those that every node has, so the node is never
    empty. An empty node may be switched off, and draws nothing.
    """

    idle_milliwatts: _Ints
    span_milliwatts: _Ints
    held: npt.NDArray[np.bool_]
    has_gpus: npt.NDArray[np.bool_]
    gpus: tuple[int, ...]  # of the problem's resources
    cpus: tuple[int, ...]


def draw_of(node: Node) -> Draw | None:
    """What the labels of a node say; None where one is missing, no number, or the peak is below idle."""
    idle, peak = (_milliwatts(node.labels.get(key, "")) for key in (IDLE_WATTS, PEAK_WATTS))
    if idle is None or peak is None or peak < idle:
        return None
    return Draw(idle, peak)


def has_figures(nodes: Iterable[Node]) -> bool:
    """Whether it is known of any node what it draws."""
    return any(draw_of(node) is not None for node in nodes)


def _milliwatts(text: str) -> int | None:
    if _NUMBER.fullmatch(text) is None or float(text) > _MOST_WATTS:
        return None
    return round(float(text) * _MILLI)


def power_of(built: Build, snapshot: Snapshot) -> Power | None:
    """What the nodes of a problem draw; None where no node tells.

    A node that does not tell counts as the mean of those that do.
    """
    draws = [draw_of(node) for node in built.node_facts]
    known = [draw for draw in draws if draw is not None]
    if not known:
        return None
    usual = Draw(_mean([d.idle_milliwatts for d in known]), _mean([d.peak_milliwatts for d in known]))
    each = [draw or usual for draw in draws]
    idle = np.array([draw.idle_milliwatts for draw in each], dtype=np.int64)
    peak = np.array([draw.peak_milliwatts for draw in each], dtype=np.int64)
    resources = list(enumerate(built.problem.resources))
    return Power(
        idle_milliwatts=idle,
        span_milliwatts=peak - idle,
        held=_held(built, snapshot),
        has_gpus=np.array([any(map(_is_gpu, node.allocatable)) for node in built.node_facts], dtype=np.bool_),
        gpus=tuple(number for number, name in resources if _is_gpu(name)),
        cpus=tuple(number for number, name in resources if name == CPU),
    )


def _is_gpu(resource: str) -> bool:
    vendor, slash, name = resource.partition("/")
    return bool(slash) and ("gpu" in name or "gpu" in vendor)


def _held(built: Build, snapshot: Snapshot) -> npt.NDArray[np.bool_]:
    """Nodes with pods that stay, other than those of DaemonSets and static ones, which are on every node."""
    planned = {uid for c in built.problem.classes for uids in c.running_uids.values() for uid in uids}
    place = {node.name: number for number, node in enumerate(built.node_facts)}
    held = np.zeros(len(place), dtype=np.bool_)
    for pod in snapshot.pods:
        everywhere = pod.mirror or (pod.owner is not None and pod.owner.kind in {"DaemonSet", "Node"})
        gone = pod.finished or pod.leaving or everywhere or pod.uid in planned
        if pod.node in place and not gone:
            held[place[pod.node]] = True
    return held


def _mean(figures: Sequence[int]) -> int:
    return round(sum(figures) / len(figures))
