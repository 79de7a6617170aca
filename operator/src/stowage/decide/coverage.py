"""Whether a PackingPolicy plans for pods that are about to be made: only then may they wait behind a gate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stowage.api.packing_policy import PackingPolicy
from stowage.api.selectors import LabelSelector
from stowage_scheduler.kube.matching import matches_selector


def covers(
    policies: Iterable[PackingPolicy],
    scheduler: str,
    labels: Mapping[str, str],
    namespace_labels: Mapping[str, str],
    *,
    paused: bool = False,
) -> bool:
    """Whether some policy plans for such pods.

    Args:
        policies: all of them.
        scheduler: `spec.schedulerName` of the pods.
        labels: of the pods.
        namespace_labels: of their namespace.
        paused: whether those count too that are paused, and will go on some day.
    """
    return any(
        (paused or not policy.spec.paused)
        and scheduler in policy.spec.scheduler_names
        and _selects(policy.spec.pod_selector, labels)
        and _selects(policy.spec.namespace_selector, namespace_labels)
        for policy in policies
    )


def _selects(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    return selector is None or matches_selector(selector.to_fact(), labels)
