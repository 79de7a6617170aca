"""A cluster state that is changed as help would change it; the rules' own checks say who finds a place then.

Nothing of the table that conflicts are read from is used here, so help that passes is true whatever the table says.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Sequence
from functools import cached_property

from msgspec.structs import replace

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.kube.standing import Standing
from stowage_scheduler.rules import RULES, Outcome

# these speak of a plan as a whole: who may move, how many, at what cost, who goes together
_OF_PLANS = frozenset({"NeverMoves", "Evictions", "Budgets", "MoveLimit", "Gangs"})
_OF_NODES = tuple(rule for rule in RULES if rule.name not in _OF_PLANS)


class Trial:
    """What would be if some pods went, others moved, and nodes came.

    Args:
        outcome: the end of a plan, to start from.
        apart: whether any pod that stands has required anti-affinity. Where none has, pods without rules between pods
            are told at once.
    """

    def __init__(self, outcome: Outcome, *, apart: bool = True) -> None:
        self._outcome = outcome
        self._apart = apart
        self._nodes: ChainMap[str, Node] = ChainMap({}, outcome.nodes)
        self._residents: ChainMap[str, list[Pod]] = ChainMap({}, outcome.residents)
        self._standing: Standing | None = outcome.standing

    @property
    def standing(self) -> Standing:
        """Who stands where by now."""
        if self._standing is None:
            labels = self._outcome.snapshot.namespace_labels
            self._standing = Standing(self._nodes, self._residents, labels)
        return self._standing

    def add_node(self, node: Node, residents: Iterable[Pod] = ()) -> None:
        """A node comes, or takes the place of the one of its name, with pods that stand there."""
        self._nodes[node.name] = node
        self._residents[node.name] = list(residents)
        self._standing = None

    def change_node(self, node: Node) -> None:
        """A node of this name is now as told; its pods stay."""
        self._nodes[node.name] = node
        self._standing = None

    def remove(self, pods: Iterable[tuple[str, Pod]]) -> None:
        """Pods go, each told with the name of its node."""
        for name, gone in pods:
            self._residents[name] = [pod for pod in self._residents[name] if pod.uid != gone.uid]
            self._standing = None

    def put(self, pod: Pod, name: str) -> None:
        """A pod comes to a node."""
        self._residents[name] = [*self._residents[name], pod]
        self._standing = None

    def takes(self, pod: Pod, name: str) -> bool:
        """Whether a node takes a pod by every rule that looks at nodes and at who stands there."""
        node = self._nodes[name]
        newcomer = replace(pod, node=None, nominated_node=None)
        if any(rule.refuses(newcomer, node) for rule in RULES):
            return False
        outcome = Outcome(self._outcome.snapshot, self._outcome.options, {newcomer.uid: name})
        outcome.__dict__.update(
            nodes=self._nodes,
            residents=ChainMap({name: [*self._residents[name], newcomer]}, self._residents),
            arrivals=[(newcomer, node)],
            departures=[],
            evicted=[],
            staying=[],
            standing=self.standing if self._meets_others(newcomer) else self._outcome.standing,
            standing_before=self._outcome.standing,
        )
        return not any(True for rule in _OF_NODES for _ in rule.check(outcome))

    def keeps(self, pod: Pod, name: str) -> bool:
        """Whether a node would take a pod that was put there, now that others have come."""
        self.remove([(name, pod)])
        taken = self.takes(pod, name)
        self.put(pod, name)
        return taken

    def _meets_others(self, pod: Pod) -> bool:
        return self._apart or bool(pod.affinity_terms or pod.anti_affinity_terms or pod.spread)

    def deserts_nobody(self) -> bool:
        """Whether nobody who stays loses all that its required affinity asks for; plans keep to that."""
        if not self._dependent:
            return True
        outcome = Outcome(self._outcome.snapshot, self._outcome.options, {})
        outcome.__dict__.update(
            nodes=self._nodes,
            residents=self._residents,
            arrivals=[],
            departures=[],
            evicted=[],
            staying=self._dependent,
            standing=self.standing,
            standing_before=self._outcome.standing,
        )
        return not any(True for rule in _OF_NODES for _ in rule.check(outcome))

    @cached_property
    def _dependent(self) -> Sequence[Pod]:
        """Pods that stand and want company, on the nodes where they are."""
        return [
            replace(pod, node=name)
            for name, pods in self._residents.items()
            for pod in pods
            if pod.affinity_terms and not pod.leaving
        ]
