"""Required pod anti-affinity, that of the pod and that of others (plugin InterPodAffinity)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stowage_scheduler.kube.between_pods import anti_affinity_admits
from stowage_scheduler.relations import Apart, Role
from stowage_scheduler.rules.rule import Outcome, Rule, Violation
from stowage_scheduler.solve.domains import Domain, domains

if TYPE_CHECKING:
    from stowage_scheduler.solve.model import CountModel


class AntiAffinity(Rule):
    """Nobody comes to a domain of somebody whom one of both must not meet."""

    name = "PodAntiAffinity"

    def constrain(self, model: CountModel) -> None:
        """Per domain at most one pod that must meet nobody like itself, or pods of one side alone."""
        for number, relation in model.relations:
            if isinstance(relation, Apart):
                for domain in domains(model, number):
                    _keep_apart(model, domain)

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Arrivals in domains that are closed for them."""
        for pod, node in outcome.arrivals:
            if node is not None and not anti_affinity_admits(pod, node, outcome.standing):
                yield Violation(self.name, pod.key, f"anti-affinity closes node {node.name}")


def _keep_apart(model: CountModel, domain: Domain) -> None:
    # what pods that stay close is no longer eligible; here it is between pods that may come and go
    subjects, both, objects = (now - fixed for now, fixed in zip(domain.outside, domain.standing, strict=True))
    sides = ((Role.SUBJECT, subjects), (Role.OBJECT, objects))
    if not any(domain.of(role) or there for role, there in sides):
        model.at_most([(1, variable) for variable in domain.of(Role.BOTH)], 1 - both)
        return
    present = []
    for role, there in (*sides, (Role.BOTH, both)):
        most = 1 if role is Role.BOTH else domain.most
        side = model.cp.new_bool_var("")
        present.append(side)
        if there:
            model.cp.add(side == 1)
        terms = [(1, variable) for variable in domain.of(role)]
        model.at_most([*terms, (-most, side)], -there if role is Role.BOTH else 0)
    model.cp.add_at_most_one(present)
