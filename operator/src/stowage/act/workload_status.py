"""Writing the status of what Stowage runs itself: TrainingJobs and ModelServices."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from stowage.act.readable import read
from stowage.api.model_service import ModelService
from stowage.api.model_service_status import ModelServiceStatus
from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import TrainingJobStatus
from stowage.transport import Api, Conflict, NotFound, paths

_Workload = TypeVar("_Workload", TrainingJob, ModelService)


async def write_workload_status(
    api: Api, workload: _Workload, status: TrainingJobStatus | ModelServiceStatus, *, leads: Callable[[], bool]
) -> _Workload | None:
    """Write a status, based on exactly what was read.

    Args:
        api: the connection.
        workload: as it was read.
        status: of its kind.
        leads: whether this process still leads.

    Returns:
        The workload as written; as read when there was nothing to write; None when it has to be looked at again:
        somebody wrote meanwhile, it is gone, or this process leads no longer.
    """
    if status == workload.status:
        return workload
    if not leads():
        return None
    document = workload.model_copy(update={"status": status}).to_document()
    document["metadata"].pop("managedFields", None)  # absent means untouched
    of_kind = paths.training_job_status if isinstance(workload, TrainingJob) else paths.model_service_status
    try:
        return read(type(workload), await api.replace(of_kind(workload.namespace, workload.name), document))
    except (Conflict, NotFound):
        return None
