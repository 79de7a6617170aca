"""Topology spread constraints that must hold (plugin PodTopologySpread, KEP-895, KEP-3022, KEP-3094)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.kube.between_pods import spread_admits
from stowage_scheduler.packing import Reason
from stowage_scheduler.relations import Role, Spread
from stowage_scheduler.rules.rule import Outcome, Rule, Violation
from stowage_scheduler.solve.domains import Domain, domains

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

    from stowage_scheduler.solve.model import CountModel


class TopologySpread(Rule):
    """Nobody comes to a domain that is ahead of the smallest by more than the allowed skew."""

    name = "TopologySpread"

    def refuses(self, pod: Pod, node: Node) -> Reason | None:
        """TopologySpread on a node without the label that tells its domain."""
        absent = any(constraint.topology_key not in node.labels for constraint in pod.spread)
        return Reason.TOPOLOGY_SPREAD if absent else None

    def constrain(self, model: CountModel) -> None:
        """Per constraint a variable below all counts; where pods come, counts are close to it."""
        for number, relation in model.relations:
            if isinstance(relation, Spread):
                _keep_level(model, number, relation)

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Arrivals in domains that are too far ahead."""
        for pod, node in outcome.arrivals:
            if node is not None and not spread_admits(pod, node, outcome.standing):
                yield Violation(self.name, pod.key, f"the domain of node {node.name} is ahead by more than the skew")


def _keep_level(model: CountModel, number: int, relation: Spread) -> None:
    here = list(domains(model, number))
    if not here:
        return
    decided = {domain.number for domain in here}
    elsewhere = {
        domain: sum(tally[Role.BOTH :])
        for domain, tally in model.placement.tallies.of[number].items()
        if domain not in decided
    }
    least = _least(model, relation, here, elsewhere)
    for domain in model.placement.arrivals(relation):
        if domain in elsewhere:
            model.cp.add(least >= elsewhere[domain] - relation.max_skew)
    for one in here:
        total = sum(one.of(Role.BOTH, Role.OBJECT)) + sum(one.outside[Role.BOTH :])
        model.cp.add(total >= least)
        coming, staying = one.of(Role.SUBJECT, Role.BOTH), one.staying(Role.SUBJECT, Role.BOTH)
        arrives = model.cp.new_bool_var("")
        model.at_most([*((1, v) for v in coming), *((-1, v) for v in staying), (-one.most, arrives)], 0)
        if any(one.arriving):
            model.cp.add(arrives == 1)
        model.cp.add(total <= least + relation.max_skew).only_enforce_if(arrives)


def _least(
    model: CountModel, relation: Spread, here: Sequence[Domain], elsewhere: Mapping[int, int]
) -> cp_model.LinearExprT:
    """What is not above the count of any eligible domain; the solver makes it as large as it needs."""
    untouched = relation.domains - len(here)
    if relation.domains < relation.min_domains or untouched > len(elsewhere):
        return 0  # too few domains, or one that nobody stands in
    most = sum(one.most + sum(one.outside[Role.BOTH :]) for one in here)
    return model.cp.new_int_var(0, min([most, *elsewhere.values()]), "")
