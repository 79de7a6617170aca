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


_Label = tuple[str, tuple[str, str] | None]
"""A namespace, and a label with its value; None for budgets that demand no label with one certain value."""


class Budgets:
    """PodDisruptionBudgets, found by namespace; for whoever asks about many pods.

    Pods that are equal in the labels that the selectors of their namespace speak of have the same budgets, so
    each different set of those labels is looked at once.

    Args:
        budgets: those of a snapshot.
    """

    def __init__(self, budgets: Iterable[DisruptionBudget]) -> None:
        self._keys: dict[str, set[str]] = defaultdict(set)  # the labels that decide, by namespace
        self._by_label: dict[_Label, list[tuple[int, DisruptionBudget]]] = defaultdict(list)  # one that each demands
        self._found: dict[object, tuple[DisruptionBudget, ...]] = {}
        for number, budget in enumerate(budgets):
            if budget.selector is None:
                continue
            demanded = budget.selector.labels[0] if budget.selector.labels else None
            self._by_label[budget.namespace, demanded].append((number, budget))
            self._keys[budget.namespace].update(key for key, _ in budget.selector.labels)
            self._keys[budget.namespace].update(one.key for one in budget.selector.expressions)

    def of(self, pod: Pod) -> tuple[DisruptionBudget, ...]:
        """The budgets that cover a pod, as `budgets_of` tells them."""
        keys = self._keys.get(pod.namespace)
        if keys is None:
            return ()
        alike = pod.namespace, tuple([pod.labels.get(key) for key in keys])
        found = self._found.get(alike)
        if found is None:
            found = self._found[alike] = self._look_for(pod)
        return found

    def _look_for(self, pod: Pod) -> tuple[DisruptionBudget, ...]:
        labels: list[tuple[str, str] | None] = [None, *pod.labels.items()]
        maybe = [one for label in labels for one in self._by_label.get((pod.namespace, label), ())]
        return budgets_of(pod, [budget for _, budget in sorted(maybe, key=lambda one: one[0])])
