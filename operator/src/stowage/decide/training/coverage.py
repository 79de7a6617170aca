"""Whether a PackingPolicy places the pods of a job: only then may they wait behind a gate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stowage.api.names import JOB_LABEL
from stowage.api.packing_policy import PackingPolicy
from stowage.api.training_job import TrainingJob
from stowage.decide.coverage import covers


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
    return covers(policies, scheduler, labels, namespace_labels, paused=paused)
