"""Children of roles and variants that are gone from a service's spec: they drain, and are deleted when they have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from stowage.decide.serving.children import deployment_name, groups_budget_name, groups_name, role_name
from stowage.decide.serving.service_facts import ChildRef, DeploymentFact, PodFact


def left_over(
    service: str,
    deployments: Mapping[str, DeploymentFact],
    others: Sequence[ChildRef],
    pods: Sequence[PodFact],
    kept: Collection[tuple[str, str]],
    leave: Callable[[Sequence[PodFact]], int],
) -> tuple[ChildRef, ...]:
    """Which children can be deleted now.

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
    for name, fact in sorted(deployments.items()):
        if ("Deployment", name) in kept:
            continue
        single = [one for one in pods if one.ordinal is None]
        own = [one for one in single if deployment_name(service, one.role, one.variant) == name]
        if leave([one for one in own if not one.is_terminating]) == 0:
            delete.append(ChildRef("Deployment", name, fact.uid))
    there = [one for one in pods if not one.is_terminating]
    still = {role_name(service, one.role) for one in there}
    still |= {groups_budget_name(service, one.role) for one in there if one.ordinal is not None}
    still |= {groups_name(service) for one in there if one.ordinal is not None}
    delete += [one for one in others if (one.kind, one.name) not in kept and one.name not in still]
    return tuple(delete)
