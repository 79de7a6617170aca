"""Which PodDisruptionBudgets cover a pod."""

from __future__ import annotations

from collections import defaultdict
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


class Budgets:
    """PodDisruptionBudgets, found by namespace; for whoever asks about many pods.

    Args:
        budgets: those of a snapshot.
    """

    def __init__(self, budgets: Iterable[DisruptionBudget]) -> None:
        self._by_namespace: dict[str, list[DisruptionBudget]] = defaultdict(list)
        for budget in budgets:
            self._by_namespace[budget.namespace].append(budget)

    def of(self, pod: Pod) -> tuple[DisruptionBudget, ...]:
        """The budgets that cover a pod, as `budgets_of` tells them."""
        return budgets_of(pod, self._by_namespace.get(pod.namespace, ()))
