"""What a job waits for, in words: its status says it for as long as its ranks do not run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from stowage.api.durations import instant
from stowage.api.fields import MAX_MESSAGE
from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import Seat, TrainingJobStatus
from stowage.api.training_reasons import JobReason
from stowage.api.training_words import JobPhase
from stowage.decide.training.children import coordinator_name
from stowage.decide.training.evidence_of_pods import IMAGE_PATIENCE_SECONDS, NOT_PULLED
from stowage.decide.training.seats import members_of, number
from stowage.decide.training.size import SizeReason
from stowage_scheduler.cluster import Pod

WAITS: Final = frozenset({JobPhase.PENDING, JobPhase.STARTING, JobPhase.RECOVERING, JobPhase.RESIZING})
"""Phases in which ranks are to run, and do not yet."""
_MOST_IMAGE: Final = 256
_START: Final = "Every pod has a node; every rank starts once all supervisors are connected."
_NOT_HEARD: Final = "Every pod has a node; the operator does not hear the coordinator, pod {}, yet."


def waiting_message(
    job: TrainingJob,
    status: TrainingJobStatus,
    current: Mapping[str, Pod],
    *,
    heard: bool = True,
    refused: str = "",
    queued: bool = False,
) -> str:
    """The message of a status in one of the phases `WAITS`: why the job is in it, then what it waits for.

    It follows from the status and from what pods wait for, never from the time: it changes when something does.

    Args:
        job: whose.
        status: as it is about to be written.
        current: the pod that counts for each seat.
        heard: whether the coordinator is connected.
        refused: the API server's words about a child that it did not take.
        queued: whether Kueue holds pods of the job.
    """
    if status.reason == JobReason.SUSPENDED:
        return status.message
    why = _why(status)
    words = (
        f"The API server refuses a part of the job: {refused}"
        if refused
        else _waits(job, status, current, queued=queued)
    )
    if not words and not heard:
        words = _NOT_HEARD.format(coordinator_name(job.name))
    elif not words and not why:
        words = _START
    kept = why[: max(0, MAX_MESSAGE - len(words) - 1)]
    return " ".join(part for part in (kept, words) if part)[:MAX_MESSAGE]


def image_words(job: TrainingJob, pod: Pod) -> Iterator[str]:
    """For each container that waits for an image which a registry did not give: which one, why, and for how long."""
    for container, reason in pod.health.waiting if pod.health is not None else ():
        if reason in NOT_PULLED:
            by = instant((pod.bound_at or pod.created_at) + IMAGE_PATIENCE_SECONDS)
            image = _image(job, container)
            yield (
                f"container {container} waits for image{f' {image}' if image else ''}: {reason}; it counts as a "
                f"failure at {by:%H:%M:%S} UTC, {IMAGE_PATIENCE_SECONDS:.0f} s after the pod got its node"
            )


def _why(status: TrainingJobStatus) -> str:
    """What the decision said that led here: each of these has its own place in the status."""
    sizing = status.sizing
    if status.phase is JobPhase.RECOVERING and status.last_failure is not None:
        return status.last_failure.message
    if status.phase is JobPhase.RESIZING and sizing is not None and sizing.message:
        return f"{sizing.message}."
    if status.phase is JobPhase.PENDING and sizing is not None and sizing.reason == SizeReason.NODES_MISSING:
        return f"{sizing.message}."
    return ""


def _waits(job: TrainingJob, status: TrainingJobStatus, current: Mapping[str, Pod], *, queued: bool) -> str:
    members = sorted(members_of(status.seats), key=lambda seat: number(seat.seat))
    without = [seat for seat in members if seat.node is None]
    for seat in members:
        pod = current.get(seat.seat)
        words = next(image_words(job, pod), "") if pod is not None and not pod.terminating else ""
        if words:
            return f"Seat {seat.seat}: {words}."
    if without and queued:
        return f"Kueue holds the pods until queue {job.spec.queue_name} has quota for all of them."
    return _nodes(job, without, len(members)) if without else ""


def _nodes(job: TrainingJob, without: list[Seat], members: int) -> str:
    why = f"kubectl stowage why tj/{job.name} -n {job.namespace}"
    return f"{len(without)} of {members} pods have no node yet, the first is that of seat {without[0].seat}: see {why}."


def _image(job: TrainingJob, container: str) -> str:
    spec = job.spec.template.spec
    found = (one for one in (*spec.containers, *(spec.init_containers or ())) if one.name == container)
    extra = next((one.model_extra for one in found), None) or {}
    return str(extra.get("image") or "")[:_MOST_IMAGE]
