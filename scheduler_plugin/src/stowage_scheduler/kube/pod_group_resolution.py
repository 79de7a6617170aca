"""PodGroups looked up: how many pods start together, and where, becomes a fact of the pods.

Whoever plans knows nothing of PodGroups after that: pods have a gang, or none when their group asks for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from stowage_scheduler.cluster import Gang, Pod
from stowage_scheduler.gangs import GangKey, gang_key, rank_of
from stowage_scheduler.kube.pod_group_facts import GroupFact


class PodGroupResolution:
    """Looks PodGroups up; what it answers depends on the arguments alone, but pods that stay the same stay shared."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Pod, Gang | None, Pod]] = {}  # by UID: before, what was found, after

    def resolve(self, groups: Iterable[GroupFact], pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
        """Pods with their gangs, in the order given; the same tuple where no pod names a PodGroup."""
        places = [place for place, pod in enumerate(pods) if pod.gang is not None and pod.gang.unknown]
        if not places:
            self._known = {}
            return pods
        by_name = {(group.namespace, group.gang): group for group in groups}
        written = list(pods)
        known: dict[str, tuple[Pod, Gang | None, Pod]] = {}
        for place in places:
            pod = pods[place]
            gang = _gang(pod, by_name)
            before = self._known.get(pod.uid)
            same = before is not None and before[0] is pod and before[1] == gang
            known[pod.uid] = before if before is not None and same else (pod, gang, replace(pod, gang=gang))
            written[place] = known[pod.uid][2]
        self._known = known
        return tuple(written)


def _gang(pod: Pod, groups: Mapping[GangKey, GroupFact]) -> Gang | None:
    """The gang of a pod that names a PodGroup: unknown as before when there is none of that name."""
    key = gang_key(pod)
    group = groups.get(key) if key is not None else None
    if pod.gang is None or group is None:
        return pod.gang
    required = tuple(sorted({*pod.gang.required, *group.required}))
    if not group.binds_pods and not required and rank_of(pod) is None:
        return None  # they come and go one by one; ranks still ask to be neighbours
    return Gang(pod.gang.name, group.size, required, pod.gang.preferred, elastic=True)
