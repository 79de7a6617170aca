"""Whether a PackingPolicy places the pods of a job: only then may they wait behind a gate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stowage.api.names import JOB_LABEL
from stowage.api.packing_policy import PackingPolicy
from stowage.api.selectors import LabelSelector
from stowage.api.training_job import TrainingJob
from stowage_scheduler.kube.matching import matches_selector


def is_covered(
    job: TrainingJob, policies: Iterable[PackingPolicy], namespace_labels: Mapping[str, str], *, paused: bool = False
) -> bool:
    """Whether some policy plans for the pods that the job's template makes.

    Args:
        job: whose pods.
        policies: all of them.
        namespace_labels: of the job's namespace.
        paused: whether those count too that are paused, and will go on some day.
    """
    scheduler = job.spec.template.spec.scheduler_name
    labels = {**job.spec.template.metadata.labels, JOB_LABEL: job.name}
    return any(
        (paused or not policy.spec.paused)
        and scheduler in policy.spec.scheduler_names
        and _selects(policy.spec.pod_selector, labels)
        and _selects(policy.spec.namespace_selector, namespace_labels)
        for policy in policies
    )


def _selects(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    return selector is None or matches_selector(selector.to_fact(), labels)
