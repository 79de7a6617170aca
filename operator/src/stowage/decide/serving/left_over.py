"""Children of roles and variants that are gone from a service's spec: they drain, and are deleted when they have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from stowage.decide.serving.children import deployment_name
from stowage.decide.serving.drain import Change
from stowage.decide.serving.service_facts import ChildRef, DeploymentFact, PodFact


def left_over(
    service: str,
    deployments: Mapping[str, DeploymentFact],
    others: Sequence[ChildRef],
    pods: Sequence[PodFact],
    kept: Collection[tuple[str, str]],
    leave: Callable[[Sequence[PodFact]], Change],
) -> tuple[tuple[Change, ...], tuple[ChildRef, ...]]:
    """What becomes of pods, and which children can be deleted now.

    Args:
        service: its name.
        deployments: by name, all that the service owns.
        others: its Services and PodDisruptionBudgets.
        pods: of the service.
        kept: (kind, name) of the children that the spec asks for.
        leave: how the pods of one Deployment go.
    """
    changes: list[Change] = []
    delete: list[ChildRef] = []
    for name, fact in sorted(deployments.items()):
        if ("Deployment", name) in kept:
            continue
        step = leave(
            [one for one in pods if not one.is_terminating and deployment_name(service, one.role, one.variant) == name]
        )
        changes.append(step)
        if step.replicas == 0:
            delete.append(ChildRef("Deployment", name, fact.uid))
    delete += [one for one in others if (one.kind, one.name) not in kept]
    return tuple(changes), tuple(delete)
