"""Pods of TrainingJobs that nobody counts any more: the finalizer `stowage.dev/tracking` would keep them for ever."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from msgspec import Struct

from stowage.act.training import release_tracked
from stowage.api.names import SEAT_LABEL, TRACKING_FINALIZER
from stowage.cli.cluster import Document
from stowage.cli.leftovers import Result
from stowage.transport.api import Api

_ENDED = frozenset({"Succeeded", "Failed"})
_MOST_NAMED = 10


class HeldPod(Struct, frozen=True, order=True):
    """One pod, by name and UID."""

    namespace: str
    name: str
    uid: str

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


class HeldPods(Struct, frozen=True):
    """Pods that have the finalizer though nobody counts them: their job is gone, or no operator leads."""

    without_job: tuple[HeldPod, ...] = ()
    without_operator: tuple[HeldPod, ...] = ()

    @property
    def all(self) -> tuple[HeldPod, ...]:
        """Both."""
        return (*self.without_job, *self.without_operator)


def held_pods(pods: Iterable[Document], jobs: Collection[str], *, operator_leads: bool) -> HeldPods:
    """Find pods that wait for somebody to count them, where nobody will.

    Args:
        pods: as they were before the jobs were read: a pod is never older than its job.
        jobs: UIDs of all TrainingJobs.
        operator_leads: it lets pods go by itself, also those of jobs that are gone.
    """
    if operator_leads:
        return HeldPods()
    without_job, without_operator = [], []
    for pod in pods:
        metadata = pod["metadata"]
        labels, finalizers = metadata.get("labels") or {}, metadata.get("finalizers") or ()
        if SEAT_LABEL not in labels or TRACKING_FINALIZER not in finalizers:
            continue
        held = HeldPod(metadata["namespace"], metadata["name"], metadata["uid"])
        if not any(owner.get("uid") in jobs for owner in metadata.get("ownerReferences") or ()):
            without_job.append(held)
        elif "deletionTimestamp" in metadata or (pod.get("status") or {}).get("phase") in _ENDED:
            without_operator.append(held)
    return HeldPods(tuple(sorted(without_job)), tuple(sorted(without_operator)))


async def let_go(api: Api, found: HeldPods) -> tuple[HeldPod, ...]:
    """Take the finalizer off exactly these pods, and off no other; what is deleted goes then."""
    for pod in found.all:
        await release_tracked(api, pod.namespace, pod.name, pod.uid)
    return found.all


def told(found: HeldPods, released: Sequence[HeldPod]) -> tuple[Result, str]:
    """What to say about them."""
    if released:
        return Result.PASSED, f"let go: {_some(released)}"
    words = []
    if found.without_job:
        words.append(f"of jobs that are gone: {_some(found.without_job)}")
    if found.without_operator:
        words.append(f"ended, and no operator counts them: {_some(found.without_operator)}")
    if not words:
        return Result.PASSED, "none is held"
    return Result.WARNING, f"{'; '.join(words)}; stowage doctor --fix lets them go"


def _some(pods: Sequence[HeldPod]) -> str:
    more = " …" if len(pods) > _MOST_NAMED else ""
    return ", ".join(pod.key for pod in pods[:_MOST_NAMED]) + more
