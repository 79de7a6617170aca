"""Which pods would not be let in again: ResourceQuotas that refuse their replacement.

The replacement comes when the old pod is gone, or a moment before: then its controller tries again. So what the pod
itself uses is free for it, and a quota refuses it for good only when more is used than the quota allows, or when the
pod leaves open what the quota demands (it is older than the quota).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from stowage_scheduler.cluster import CPU, EPHEMERAL_STORAGE, MEMORY, LabelSelector, Pod, Requirement, ResourceQuota
from stowage_scheduler.kube.matching import matches_selector

_COUNTED_AS_THEY_ARE = frozenset({CPU, MEMORY, EPHEMERAL_STORAGE})
_HUGE_PAGES = "hugepages-"
_PRIORITY_CLASS = "PriorityClass"


class Quotas:
    """The ResourceQuotas of a snapshot, asked about many pods.

    Args:
        quotas: those of a snapshot.
    """

    def __init__(self, quotas: Iterable[ResourceQuota]) -> None:
        self._by_namespace: dict[str, list[ResourceQuota]] = defaultdict(list)
        for quota in quotas:
            self._by_namespace[quota.namespace].append(quota)

    def refusing(self, pod: Pod) -> ResourceQuota | None:
        """A quota that would refuse a pod like this one even with this one gone; None when there is none."""
        for quota in self._by_namespace.get(pod.namespace, ()):
            if not all(_in_scope(pod, scope) for scope in quota.scopes):
                continue
            if not set(pod.quota_marks.unset).isdisjoint(quota.tracked):
                return quota
            if quota.exceeded and not frozenset(counted(pod)).isdisjoint(quota.exceeded):
                return quota
        return None


def counted(pod: Pod) -> Iterator[str]:
    """The names by which quotas count a pod."""
    yield from ("pods", "count/pods")
    for name in pod.requests:
        if name in _COUNTED_AS_THEY_ARE or name.startswith(_HUGE_PAGES):
            yield name
        yield f"requests.{name}"
    yield from (f"limits.{name}" for name in pod.quota_marks.limits)


def _in_scope(pod: Pod, scope: Requirement) -> bool:
    """Whether a pod is in a scope. One that Stowage cannot judge counts as met: then the pod stays where it is."""
    marks = pod.quota_marks
    match scope.key:
        case "Terminating":
            return marks.deadline
        case "NotTerminating":
            return not marks.deadline
        case "BestEffort":
            return marks.best_effort
        case "NotBestEffort":
            return not marks.best_effort
        case "PriorityClass":
            labels = {_PRIORITY_CLASS: marks.priority_class} if marks.priority_class else {}
            return matches_selector(LabelSelector(expressions=(scope,)), labels)
        case _:
            return True
