"""The store of facts: what the cluster looks like, as far as deciding needs it.

It holds facts, not bodies (about a tenth of the size), and only what reflectors tell it: it never asks.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from stowage.observe.reflector import Absent, Event, Present, Reflector, Refused
from stowage.transport import Api, paths
from stowage_scheduler.cluster import DisruptionBudget, Node, Pod, Rejected, Snapshot, Workload
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import Fact, Namespace, fact_of
from stowage_scheduler.kube.ledger import Ledger

logger = logging.getLogger(__name__)

Callback = Callable[[str, str], None]
"""Told the kind of the object that changed, like `Pod`, and its key, `namespace/name` or `name`."""


class Collection(NamedTuple):
    """One kind that is followed, and where it is; one that is `optional` not every cluster has."""

    kind: str
    path: str
    optional: bool = False


COLLECTIONS: Final = (
    Collection("Node", paths.NODES),
    Collection("Pod", paths.PODS),
    Collection("PodDisruptionBudget", paths.DISRUPTION_BUDGETS),
    Collection("PriorityClass", paths.PRIORITY_CLASSES),
    Collection("Namespace", paths.NAMESPACES),
    Collection("ReplicaSet", paths.REPLICA_SETS),
    Collection("Deployment", paths.DEPLOYMENTS),
    Collection("StatefulSet", paths.STATEFUL_SETS),
    Collection("DaemonSet", paths.DAEMON_SETS),
    Collection("Job", paths.JOBS),
    Collection("PersistentVolumeClaim", paths.PERSISTENT_VOLUME_CLAIMS),
    Collection("PersistentVolume", paths.PERSISTENT_VOLUMES),
    Collection("StorageClass", paths.STORAGE_CLASSES),
    Collection("CSINode", paths.CSI_NODES),
    Collection("CSIDriver", paths.CSI_DRIVERS),
    Collection("ResourceQuota", paths.RESOURCE_QUOTAS),
    Collection("PodGroup", paths.POD_GROUPS, optional=True),
    Collection("CoschedulingPodGroup", paths.COSCHEDULING_POD_GROUPS, optional=True),
)


class Store:
    """Facts by kind and key, kept fresh by reflectors.

    Args:
        now: wall clock, seconds since the epoch: notes when `replicas` of a workload was seen to change.
    """

    def __init__(self, *, now: Callable[[], float]) -> None:
        self._now = now
        self._ledger = Ledger()
        self._callbacks: list[Callback] = []
        self._reflectors: dict[str, Reflector[Fact]] = {}

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Nodes by name."""
        return self._ledger.nodes

    @property
    def pods(self) -> Mapping[str, Pod]:
        """Pods by `namespace/name`, finished ones included."""
        return self._ledger.pods

    @property
    def budgets(self) -> Mapping[str, DisruptionBudget]:
        """PodDisruptionBudgets by `namespace/name`."""
        return self._ledger.budgets

    @property
    def namespaces(self) -> Mapping[str, Namespace]:
        """Namespaces by name."""
        return self._ledger.namespaces

    def workload(self, kind: str, namespace: str, name: str) -> Workload | None:
        """A controller of pods, if it exists and its kind is followed."""
        return self._ledger.workload(kind, f"{namespace}/{name}")

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """Objects that exist but make no sense, in order."""
        return tuple(sorted(self._ledger.refused.values()))

    def rejected_count(self, kind: str) -> int:
        """Number of objects of a kind that make no sense."""
        return sum(1 for rejected_kind, _ in self._ledger.refused if rejected_kind == kind)

    @property
    def synced(self) -> bool:
        """Whether every collection has been listed once; False before `reflectors`."""
        return bool(self._reflectors) and all(reflector.synced for reflector in self._reflectors.values())

    async def wait_synced(self) -> None:
        """Return once every collection has been listed."""
        for reflector in self._reflectors.values():
            await reflector.wait_synced()

    def ages_seconds(self, monotonic_now: float) -> Mapping[str, float]:
        """Seconds since the last sign of life of each kind; `monotonic_now` is of the reflectors' clock."""
        return {kind: monotonic_now - reflector.last_event_at for kind, reflector in self._reflectors.items()}

    def lists(self) -> Mapping[str, int]:
        """Finished lists by kind."""
        return {kind: reflector.lists for kind, reflector in self._reflectors.items()}

    def subscribe(self, callback: Callback) -> None:
        """Call back after each change, in the event loop; the callback must not block."""
        self._callbacks.append(callback)

    def reflectors(
        self, api: Api, *, clock: Callable[[], float], generator: random.Random
    ) -> Mapping[str, Reflector[Fact]]:
        """One reflector for each kind, to be run by the caller; `clock` is monotonic."""

        def listener(kind: str) -> Callable[[Event[Fact]], None]:
            return lambda event: self.handle(kind, event)

        self._reflectors = {
            collection.kind: Reflector(
                api,
                collection.path,
                decode=_decoder(collection.kind),
                on_event=listener(collection.kind),
                clock=clock,
                generator=generator,
                optional=collection.optional,
            )
            for collection in COLLECTIONS
        }
        return self._reflectors

    def handle(self, kind: str, event: Event[Fact]) -> None:
        """Take one change; an event that changes no fact is passed over."""
        name = str(event.key)
        match event:
            case Present(fact=fact):
                changed = self._ledger.put(kind, name, self._with_history(kind, name, fact))
            case Refused(rejected=rejected):
                changed = self._ledger.refuse(kind, name, rejected)
                if changed:
                    logger.warning("%s %s is left out: %s: %s", kind, name, rejected.field, rejected.rule)
            case Absent():
                changed = self._ledger.drop(kind, name)
        if changed:
            for callback in self._callbacks:
                callback(kind, name)

    def snapshot(self, now: float) -> Snapshot:
        """The cluster at this instant, frozen; cheap when little has changed since the last one.

        Args:
            now: seconds since the epoch.
        """
        return self._ledger.snapshot(now)

    def _with_history(self, kind: str, name: str, fact: Fact) -> Fact:
        """Carry over, or note, when a workload's `replicas` changed; its creation and its first list do not count."""
        if not isinstance(fact, Workload):
            return fact
        known = self._ledger.workload(kind, name)
        if known is None or known.uid != fact.uid:
            return fact
        changed_at = known.replicas_changed_at if known.replicas == fact.replicas else self._now()
        return msgspec.structs.replace(fact, replicas_changed_at=changed_at)


def _decoder(kind: str) -> Callable[[bytes], Fact]:
    return lambda raw: fact_of(decode_object(kind, raw))
