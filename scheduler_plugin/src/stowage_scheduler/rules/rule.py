"""What a rule is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import Struct

from stowage_scheduler.cluster import Node, Pod, Snapshot
from stowage_scheduler.kube.standing import Standing
from stowage_scheduler.options import PackOptions
from stowage_scheduler.packing import Reason

if TYPE_CHECKING:
    from stowage_scheduler.solve.model import CountModel


class Violation(Struct, frozen=True):
    """A finished plan that breaks a rule."""

    rule: str
    subject: str
    detail: str


class Outcome(Struct, frozen=True, dict=True):
    """A finished plan, as facts: `after` maps the UID of each pod that runs or shall run to its node."""

    snapshot: Snapshot
    options: PackOptions
    after: Mapping[str, str]

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """Nodes by name."""
        return {node.name: node for node in self.snapshot.nodes}

    @cached_property
    def residents(self) -> dict[str, list[Pod]]:
        """Pods that stand on each node at the end; who is leaving or nominated holds its room."""
        residents: dict[str, list[Pod]] = {node.name: [] for node in self.snapshot.nodes}
        for pod in self.snapshot.pods:
            if pod.finished:
                continue
            nominated = pod.nominated_node if pod.node is None else None  # it outlives the binding
            node = pod.node if pod.leaving else self.after.get(pod.uid, nominated)
            if node is not None:
                residents.setdefault(node, []).append(pod)
        return residents

    @cached_property
    def arrivals(self) -> list[tuple[Pod, Node | None]]:
        """Pods that end on a node where they do not stand now, with that node."""
        return [
            (pod, self.nodes.get(self.after[pod.uid]))
            for pod in self.snapshot.pods
            if pod.uid in self.after and self.after[pod.uid] != pod.node
        ]

    @cached_property
    def departures(self) -> list[Pod]:
        """Running pods that do not stay where they are."""
        return [
            pod
            for pod in self.snapshot.pods
            if pod.node is not None and not pod.finished and not pod.leaving and self.after.get(pod.uid) != pod.node
        ]

    @cached_property
    def staying(self) -> list[Pod]:
        """Running pods that end where they are."""
        return [pod for pod in self.snapshot.pods if pod.node is not None and self.after.get(pod.uid) == pod.node]

    @cached_property
    def standing(self) -> Standing:
        """Who stands where at the end, for rules between pods."""
        return Standing(self.nodes, self.residents, self.snapshot.namespace_labels)

    @cached_property
    def standing_before(self) -> Standing:
        """Who stands where now."""
        residents: dict[str, list[Pod]] = {}
        for pod in self.snapshot.pods:
            if pod.node is not None and not pod.finished:
                residents.setdefault(pod.node, []).append(pod)
        return Standing(self.nodes, residents, self.snapshot.namespace_labels)

    @cached_property
    def evicted(self) -> list[Pod]:
        """Running pods that end without a place."""
        return [pod for pod in self.departures if pod.uid not in self.after]


class Rule:
    """A hard rule. The parts that a rule does not need keep their defaults.

    Attributes:
        name: for people.
        of_places: whether it speaks of pods on nodes, as they stand at any time, and not of the plan as a whole.
    """

    name: str
    of_places = True

    def refuses(self, pod: Pod, node: Node) -> Reason | None:  # noqa: ARG002 - rules that look at more than one pod
        """Why `node` may never receive `pod`, whatever else runs there; None when it may."""
        return None

    def constrain(self, model: CountModel) -> None:
        """Add the rule to a counting model."""

    def check(self, outcome: Outcome) -> Iterator[Violation]:  # noqa: ARG002 - rules without a check of their own
        """Every way in which a finished plan breaks the rule."""
        yield from ()
