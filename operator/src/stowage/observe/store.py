"""The store of facts: what the cluster looks like, as far as deciding needs it.

It holds facts, not bodies (about a tenth of the size), and only what reflectors tell it: it never asks.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple, cast

import msgspec

from stowage.observe.reflector import Absent, Event, Present, Reflector, Refused
from stowage.transport import Api, paths
from stowage_scheduler.cluster import DisruptionBudget, Node, Pod, PriorityClass, Rejected, Snapshot, Workload
from stowage_scheduler.kube import snapshot
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import Fact, Namespace, fact_of

logger = logging.getLogger(__name__)

Callback = Callable[[str, str], None]
"""Told the kind of the object that changed, like `Pod`, and its key, `namespace/name` or `name`."""


class Collection(NamedTuple):
    """One kind that is followed, and where it is."""

    kind: str
    path: str


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
)


class Store:
    """Facts by kind and key, kept fresh by reflectors.

    Args:
        now: wall clock, seconds since the epoch: notes when `replicas` of a workload was seen to change.
    """

    def __init__(self, *, now: Callable[[], float]) -> None:
        self._now = now
        self._facts: dict[str, dict[str, Fact]] = {collection.kind: {} for collection in COLLECTIONS}
        self._rejected: dict[tuple[str, str], Rejected] = {}
        self._callbacks: list[Callback] = []
        self._reflectors: dict[str, Reflector[Fact]] = {}

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Nodes by name."""
        return cast("Mapping[str, Node]", self._facts["Node"])

    @property
    def pods(self) -> Mapping[str, Pod]:
        """Pods by `namespace/name`, finished ones included."""
        return cast("Mapping[str, Pod]", self._facts["Pod"])

    @property
    def budgets(self) -> Mapping[str, DisruptionBudget]:
        """PodDisruptionBudgets by `namespace/name`."""
        return cast("Mapping[str, DisruptionBudget]", self._facts["PodDisruptionBudget"])

    @property
    def namespaces(self) -> Mapping[str, Namespace]:
        """Namespaces by name."""
        return cast("Mapping[str, Namespace]", self._facts["Namespace"])

    def workload(self, kind: str, namespace: str, name: str) -> Workload | None:
        """A controller of pods, if it exists and its kind is followed."""
        fact = self._facts.get(kind, {}).get(f"{namespace}/{name}")
        return fact if isinstance(fact, Workload) else None

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """Objects that exist but make no sense, in order."""
        return tuple(sorted(self._rejected.values()))

    def rejected_count(self, kind: str) -> int:
        """Number of objects of a kind that make no sense."""
        return sum(1 for rejected_kind, _ in self._rejected if rejected_kind == kind)

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
            )
            for collection in COLLECTIONS
        }
        return self._reflectors

    def handle(self, kind: str, event: Event[Fact]) -> None:
        """Take one change."""
        key = str(event.key)
        facts = self._facts[kind]
        match event:
            case Present(fact=fact):
                facts[key] = self._with_history(facts.get(key), fact)
                self._rejected.pop((kind, key), None)
            case Refused(rejected=rejected):
                facts.pop(key, None)
                if self._rejected.get((kind, key)) != rejected:
                    logger.warning("%s %s is left out: %s: %s", kind, key, rejected.field, rejected.rule)
                self._rejected[kind, key] = rejected
            case Absent():
                facts.pop(key, None)
                self._rejected.pop((kind, key), None)
        for callback in self._callbacks:
            callback(kind, key)

    def snapshot(self, now: float) -> Snapshot:
        """The cluster at this instant, frozen. `now` is seconds since the epoch."""
        return snapshot.assemble(
            now,
            nodes=self.nodes.values(),
            pods=self.pods.values(),
            workloads=self._workloads(),
            budgets=self.budgets.values(),
            priority_classes=cast("Mapping[str, PriorityClass]", self._facts["PriorityClass"]).values(),
            namespace_labels={name: namespace.labels for name, namespace in self.namespaces.items()},
            rejected=self.rejected,
        )

    def _workloads(self) -> Iterator[Workload]:
        for facts in self._facts.values():
            yield from (fact for fact in facts.values() if isinstance(fact, Workload))

    def _with_history(self, known: Fact | None, fact: Fact) -> Fact:
        """Carry over, or note, when a workload's `replicas` changed; its creation and its first list do not count."""
        if not isinstance(fact, Workload) or not isinstance(known, Workload) or known.uid != fact.uid:
            return fact
        changed_at = known.replicas_changed_at if known.replicas == fact.replicas else self._now()
        return msgspec.structs.replace(fact, replicas_changed_at=changed_at)


def _decoder(kind: str) -> Callable[[bytes], Fact]:
    return lambda raw: fact_of(decode_object(kind, raw))
