"""Required pod affinity (plugin InterPodAffinity)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.kube.between_pods import affinity_admits
from stowage_scheduler.packing import Reason
from stowage_scheduler.relations import Near, Role
from stowage_scheduler.rules.rule import Outcome, Rule, Violation
from stowage_scheduler.solve.domains import Domain, domains

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

    from stowage_scheduler.solve.model import CountModel


class Affinity(Rule):
    """Who wants company comes only where it is, and nobody takes the last of it away."""

    name = "PodAffinity"

    def refuses(self, pod: Pod, node: Node) -> Reason | None:
        """PodAffinity on a node without the label that tells its domain."""
        absent = any(term.topology_key not in node.labels for term in pod.affinity_terms)
        return Reason.POD_AFFINITY if absent else None

    def constrain(self, model: CountModel) -> None:
        """Arrivals need company in their domain that was there before them, or begin in one domain alone."""
        for number, relation in model.relations:
            if not isinstance(relation, Near):
                continue
            views = list(domains(model, number))
            decided = {view.number for view in views}
            begun = [
                domain
                for domain, (_, both, objects) in model.placement.tallies.of[number].items()
                if both + objects and domain not in decided
            ]
            may_begin = relation.may_begin and not begun
            beginnings = [_find_company(model, view, may_begin=may_begin) for view in views]
            model.cp.add_at_most_one([begins for begins in beginnings if begins is not None])
            for view in views:
                _keep_company(model, view, accompanied=view.number in relation.accompanied)

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Arrivals without company, and pods that stay and lose all of it."""
        for pod, node in outcome.arrivals:
            if node is not None and not affinity_admits(pod, node, outcome.standing):
                yield Violation(self.name, pod.key, f"no pod that it wants to be with is in the domain of {node.name}")
        for pod in outcome.staying:
            node = outcome.nodes.get(pod.node or "")
            terms = pod.affinity_terms
            if not terms or node is None or outcome.standing.matches_all(terms, pod):
                continue  # who is company for others like itself may be the last of them
            before, after = outcome.standing_before, outcome.standing
            if affinity_admits(pod, node, before) and not affinity_admits(pod, node, after):
                yield Violation(self.name, pod.key, f"all that it wants to be with leave the domain of {node.name}")


def _find_company(model: CountModel, domain: Domain, *, may_begin: bool) -> cp_model.IntVar | None:
    """Who comes finds company that stays, or that does not wait for company itself, or begins.

    Returns:
        The variable that says that pods begin here, if they may.
    """
    coming = domain.of(Role.SUBJECT, Role.BOTH)
    if not coming:
        return None
    arrives = model.cp.new_bool_var("")
    stays = domain.staying(Role.SUBJECT, Role.BOTH)
    model.at_most([*_each(coming, 1), *_each(stays, -1), (-domain.most, arrives)], 0)
    if any(domain.arriving):
        model.cp.add(arrives == 1)
    company = _each([*domain.staying(Role.BOTH, Role.OBJECT), *domain.leading], 1)
    _, both, objects = domain.outside
    there = both + objects - domain.arriving[Role.BOTH]
    begins = model.cp.new_bool_var("") if may_begin else None
    model.at_least([*company, *_each([begins] if begins is not None else [], 1), (-1, arrives)], -there)
    return begins


def _keep_company(model: CountModel, domain: Domain, *, accompanied: bool) -> None:
    """Company is left for those that are no company for themselves."""
    subjects, both, objects = domain.outside
    dependent = domain.of(Role.SUBJECT)
    if not dependent and not subjects:
        return
    present = model.cp.new_bool_var("")
    model.at_most([*_each(dependent, 1), (-domain.most, present)], 0)
    if subjects > domain.standing[Role.SUBJECT] or (subjects and accompanied):
        model.cp.add(present == 1)
    model.at_least([*_each(domain.of(Role.BOTH, Role.OBJECT), 1), (-1, present)], -(both + objects))


def _each(variables: Sequence[cp_model.IntVar], factor: int) -> list[tuple[int, cp_model.IntVar]]:
    return [(factor, variable) for variable in variables]
