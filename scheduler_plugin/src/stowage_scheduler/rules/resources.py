"""All resource requests, extended resources and the number of pods (plugin NodeResourcesFit)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stowage_scheduler.cluster import ATTACHMENTS, CPU, FREE_VOLUMES, MEMORY, PODS, Node, Pod
from stowage_scheduler.packing import Reason
from stowage_scheduler.rules.rule import Outcome, Rule, Violation

if TYPE_CHECKING:
    from stowage_scheduler.solve.model import CountModel

_REASONS = {
    CPU: Reason.INSUFFICIENT_CPU,
    MEMORY: Reason.INSUFFICIENT_MEMORY,
    PODS: Reason.INSUFFICIENT_PODS,
}


def insufficient(resource: str) -> Reason:
    """The reason that goes with too little of a resource."""
    if resource.startswith(ATTACHMENTS):
        return Reason.VOLUME_LIMIT
    if resource.startswith(FREE_VOLUMES):  # whatever its class is called
        return Reason.INSUFFICIENT_RESOURCE
    if resource in _REASONS:
        return _REASONS[resource]
    return Reason.INSUFFICIENT_GPU if "gpu" in resource else Reason.INSUFFICIENT_RESOURCE


class Resources(Rule):
    """On each node and for each resource, requests fit into what is allocatable."""

    name = "Resources"

    def refuses(self, pod: Pod, node: Node) -> Reason | None:
        """The first resource of which even the empty node has too little."""
        for resource, amount in pod.requests.items():
            if amount > node.allocatable.get(resource, 0):
                return insufficient(resource)
        return None

    def constrain(self, model: CountModel) -> None:
        """One row per node and resource."""
        problem = model.problem
        for node in model.nodes:
            here = model.on_node(node)
            for resource in range(len(problem.resources)):
                terms = [(problem.classes[c].requests[resource], variable) for c, variable in here]
                terms = [(amount, variable) for amount, variable in terms if amount]
                if terms:
                    model.at_most(terms, problem.free[node][resource])

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Nodes that end with more requested than allocatable of a resource that an arrival asks for."""
        asked: dict[str, set[str]] = defaultdict(set)
        for pod, node in outcome.arrivals:
            if node is not None:
                asked[node.name].update(name for name, amount in pod.requests.items() if amount)
        for name, resources in sorted(asked.items()):
            used: Counter[str] = Counter()
            for pod in outcome.residents[name]:
                used.update(pod.requests)
            for resource in sorted(resources):
                have = outcome.nodes[name].allocatable.get(resource, 0)
                if used[resource] > have:
                    yield Violation(self.name, name, f"{used[resource]} of {resource} requested, {have} allocatable")
