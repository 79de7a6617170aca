"""Children of roles and variants that are gone from a service's spec: they drain, and are deleted when they have.

A Deployment of several replicas shrinks as they end, for what takes their place may wait for their room.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from stowage.decide.serving.children import deployment_name, groups_budget_name, groups_name, role_name
from stowage.decide.serving.service_facts import ChildRef, DeploymentFact, PodFact


@dataclass(frozen=True, slots=True)
class LeftOver:
    """What becomes of them now: children to delete, and Deployments that ask for fewer replicas than they do."""

    delete: tuple[ChildRef, ...] = ()
    lower: Mapping[ChildRef, int] = field(default_factory=dict)


def left_over(
    service: str,
    deployments: Mapping[str, DeploymentFact],
    others: Sequence[ChildRef],
    pods: Sequence[PodFact],
    kept: Collection[tuple[str, str]],
    leave: Callable[[Sequence[PodFact]], int],
) -> LeftOver:
    """Which children can be deleted now, and which can shrink.

    A Service and a disruption budget of a role stay as long as it has a pod.

    Args:
        service: its name.
        deployments: by name, all that the service owns.
        others: its Services and PodDisruptionBudgets.
        pods: of the service.
        kept: (kind, name) of the children that the spec asks for.
        leave: lets the pods of one Deployment go, and says how many of them it still needs.
    """
    delete: list[ChildRef] = []
    lower: dict[ChildRef, int] = {}
    for name, fact in sorted(deployments.items()):
        if ("Deployment", name) in kept:
            continue
        single = [one for one in pods if one.ordinal is None]
        own = [one for one in single if deployment_name(service, one.role, one.variant) == name]
        child, needed = ChildRef("Deployment", name, fact.uid), leave([one for one in own if not one.is_terminating])
        if needed == 0:
            delete.append(child)
        elif needed < fact.replicas and fact.is_settled and not fact.replicas_manager:
            lower[child] = needed
    there = [one for one in pods if not one.is_terminating]
    still = {role_name(service, one.role) for one in there}
    still |= {groups_budget_name(service, one.role) for one in there if one.ordinal is not None}
    still |= {groups_name(service) for one in there if one.ordinal is not None}
    delete += [one for one in others if (one.kind, one.name) not in kept and one.name not in still]
    return LeftOver(tuple(delete), lower)
