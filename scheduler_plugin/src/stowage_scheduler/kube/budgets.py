"""Which PodDisruptionBudgets cover a pod."""

from __future__ import annotations

from collections.abc import Iterable

from stowage_scheduler.cluster import DisruptionBudget, Pod
from stowage_scheduler.kube.matching import matches_selector


def budgets_of(pod: Pod, budgets: Iterable[DisruptionBudget]) -> tuple[DisruptionBudget, ...]:
    """The budgets of the pod's namespace whose selector selects it, in the order given.

    A budget without a selector covers nothing, one with an empty selector its whole namespace, as the
    Eviction API of policy/v1 decides it.
    """
    return tuple(
        budget
        for budget in budgets
        if budget.namespace == pod.namespace and matches_selector(budget.selector, pod.labels)
    )
