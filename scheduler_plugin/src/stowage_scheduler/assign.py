"""From counts back to pods: who stays, who moves where, who loses its place, who gets one."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, structs

from stowage_scheduler.build import Build
from stowage_scheduler.cluster import Pod
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass


class Change(Struct, frozen=True):
    """One pod whose node changes: `source` None for a pending pod, `target` None for one that loses its place."""

    uid: str
    class_index: int
    source: int | None
    target: int | None


def changes(build: Build, placement: Placement) -> tuple[Change, ...]:
    """The fewest changes that lead from what runs to `placement`, in the order of classes."""
    result: list[Change] = []
    for pod_class in build.problem.classes:
        result += _of_class(pod_class, placement.counts[pod_class.index], build.pods)
    if build.displaced:  # they wait for a place, and still stand somewhere
        return tuple(structs.replace(one, source=build.displaced.get(one.uid, one.source)) for one in result)
    return tuple(result)


def _of_class(pod_class: PodClass, counts: dict[int, int], pods: Mapping[str, Pod]) -> list[Change]:
    leaving: list[tuple[str, int]] = []
    places: list[int] = []
    for node in sorted(set(counts) | set(pod_class.running)):
        gain = counts.get(node, 0) - pod_class.running.get(node, 0)
        if gain < 0:
            leaving += [(uid, node) for uid in pod_class.running_uids[node][:-gain]]
        places += [node] * gain
    lost = max(0, len(leaving) - len(places))
    leaving.sort(
        key=lambda one: (pods[one[0]].ready, -pods[one[0]].created_at, one[0])
    )  # who has run longest keeps a place
    movers, losers = leaving[lost:], leaving[:lost]
    found = [Change(uid, pod_class.index, source, None) for uid, source in losers]
    found += [
        Change(uid, pod_class.index, source, target) for (uid, source), target in zip(movers, places, strict=False)
    ]
    rest = places[len(movers) :]
    found += [
        Change(uid, pod_class.index, None, target) for uid, target in zip(pod_class.pending_uids, rest, strict=False)
    ]
    return found
