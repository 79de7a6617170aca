"""The next status of a TrainingJob from what is seen of it: one pure step, repeated until nothing changes.

The status is written before anything is done. What is done then follows from the status alone (`commands`, `seats`),
so a crash in between loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from stowage.api.durations import instant
from stowage.api.names import JOB_LABEL, SEAT_LABEL
from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import TrainingJobStatus
from stowage.api.training_reasons import JobReason
from stowage.api.training_words import JobPhase
from stowage.decide.training import mending
from stowage.decide.training.active_time import active_seconds
from stowage.decide.training.checkpoints import interval_of
from stowage.decide.training.children import QUEUE_GATE
from stowage.decide.training.commands import grace_of, is_suspending
from stowage.decide.training.evidence_of_queries import evidence_of_queries
from stowage.decide.training.facts import Decision, NodeRecord
from stowage.decide.training.heard import Heard
from stowage.decide.training.job_conditions import with_conditions, with_observed
from stowage.decide.training.job_progress import progress_of, with_checkpoint
from stowage.decide.training.promql_rules import Queried
from stowage.decide.training.resizing import Around, resized
from stowage.decide.training.room import room_for
from stowage.decide.training.seat_summary import seat_summary
from stowage.decide.training.seats import current_pods, filled, fresh_attempt, spares_of, without_seats
from stowage.decide.training.size import first_size
from stowage.decide.training.spares import wanted_spares
from stowage.decide.training.stragglers_record import stragglers_of
from stowage.decide.training.time_accounts import accounted
from stowage.decide.training.waiting import WAITS, waiting_message
from stowage_scheduler.cluster import Node, Pod, Snapshot
from stowage_worker.membership_state import FINISHED, RUNNING, YIELDED
from stowage_worker.messages import Report

_STANDS: Final = frozenset({JobPhase.SUSPENDED, JobPhase.PAUSED})


class Seen(Struct, frozen=True):
    """What a step of a job is decided from beside the job itself.

    Attributes:
        pods: of the job's seats, as the store has them.
        nodes: of the cluster, by name.
        snapshot: the cluster.
        report: the coordinator's latest; None: none was received yet.
        connected: whether the coordinator is heard now.
        link_since: since when it is heard, or is not.
        gated: whether a PackingPolicy covers the pods.
        records: of nodes over all jobs.
        refused: the API server's words about a child that it did not take.
        now: seconds since 1970.
        heard: when the report's evidence was first heard.
        rung_at: when the cluster told something new of the job since it was last looked at.
        queried: what the PromQL rules that it names say of it.
    """

    pods: tuple[Pod, ...]
    nodes: Mapping[str, Node]
    snapshot: Snapshot
    now: float
    report: Report | None = None
    connected: bool = False
    link_since: float = 0.0
    gated: bool = False
    records: Mapping[str, NodeRecord] = {}
    refused: str = ""
    heard: tuple[Heard, ...] = ()
    rung_at: float | None = None
    queried: Queried = Queried()


class Step(Struct, frozen=True):
    """The next status, and when to look again, in seconds since 1970; None: when something changes."""

    status: TrainingJobStatus
    again_at: float | None = None
    decision: Decision | None = None


def next_step(job: TrainingJob, seen: Seen) -> Step:
    """One step of a job's life."""
    status = _begun(job, seen)
    if status.phase is not None and status.phase.ended:
        return Step(_told(job, status, seen), _ttl_at(job, status))
    status = mending.above_the_coordinator(status, _sight(seen))
    status = _suspended_or_resumed(job, status, seen)
    if status.phase in _STANDS:
        return Step(_told(job, status, seen))
    if is_suspending(_with(job, status)):
        yielded_by = _seconds(status.epoch_at) + 2 * grace_of(job)
        return Step(_told(job, _yielded(job, status, seen, yielded_by), seen), yielded_by)
    deadline, over = _deadline(job, status)
    if deadline is not None and seen.now >= deadline:
        return Step(_told(job, ended(status, JobPhase.FAILED, over, over_words(over), seen.now), seen))
    sight = _sight(seen)
    status = mending.adopted(_with(job, status), seen.pods)
    epoch = status.epoch
    further = evidence_of_queries(_with(job, status), seen.queried)
    status, decision = mending.after_failures(_with(job, status), sight, further)
    again = [deadline, decision.again_at if decision is not None else None]
    if status.phase not in _STANDS and not (status.phase is not None and status.phase.ended):
        if status.epoch == epoch:
            status, look_at = _sized(job, status, seen, sight)
            again.append(look_at)
        status, relief_at = mending.filled_up(_with(job, status), sight, wanted_spares(job, status))
        again.append(relief_at)
        status = _with_members(job, status, seen)
        status = _phase_of_report(status, seen)
    return Step(_told(job, status, seen), min((one for one in again if one is not None), default=None), decision)


def ended(status: TrainingJobStatus, phase: JobPhase, reason: JobReason, message: str, now: float) -> TrainingJobStatus:
    """A status that nothing follows on."""
    seconds = round(active_seconds(status, now))
    return _in_phase(status, phase, reason, message, now, finished_at=_instant(now), active_seconds=seconds)


def over_words(reason: JobReason) -> str:
    """The sentence of a deadline."""
    if reason is JobReason.DEADLINE_EXCEEDED:
        return "the job was active for longer than spec.activeDeadline"
    return "not every rank was started within spec.startDeadline"


def _begun(job: TrainingJob, seen: Seen) -> TrainingJobStatus:
    known: dict[str, Any] = {
        "observed_generation": job.metadata.generation or 0,
        "selector": f"{JOB_LABEL}={job.name},{SEAT_LABEL}",
    }
    if seen.report is not None and seen.report.epoch == job.status.epoch:  # first: a failure ends how far it got
        known["progress"] = progress_of(job.status.progress, seen.report.progress, seen.now)
    status = job.status.model_copy(update=known)
    if status.phase is not None:
        return status
    if job.spec.suspend:
        return _in_phase(status, JobPhase.SUSPENDED, JobReason.SUSPENDED, "", seen.now)
    return _started(job, status, seen)


def _started(job: TrainingJob, status: TrainingJobStatus, seen: Seen) -> TrainingJobStatus:
    """A new epoch with new pods, from nothing."""
    attempt = fresh_attempt(status, seen.pods)
    nodes = job.spec.nodes
    chooses = nodes.target is None and len(nodes.sizes) > 1
    size = first_size(nodes.sizes, nodes.target, room_for(job, seen.snapshot) if chooses else 0)
    return _in_phase(
        status,
        JobPhase.PENDING,
        JobReason.AWAITING_NODES,
        "",
        seen.now,
        epoch=status.epoch + 1,
        epoch_at=_instant(seen.now),
        attempt=attempt,
        members=(),
        seats=filled(size, attempt),
        nodes=status.nodes.model_copy(update={"desired": size}),
        sizing=None,
        active_since=_instant(seen.now),
    )


def _suspended_or_resumed(job: TrainingJob, status: TrainingJobStatus, seen: Seen) -> TrainingJobStatus:
    suspending = is_suspending(_with(job, status))
    if job.spec.suspend and status.phase is JobPhase.PAUSED:
        return _in_phase(status, JobPhase.SUSPENDED, JobReason.SUSPENDED, "", seen.now)
    if job.spec.suspend and status.phase is not JobPhase.SUSPENDED and not suspending:
        return _in_phase(
            status,
            JobPhase.RESIZING,
            JobReason.SUSPENDED,
            "the ranks make a checkpoint where they can, and end",
            seen.now,
            epoch=status.epoch + 1,
            epoch_at=_instant(seen.now),
            members=(),
        )
    if not job.spec.suspend and (suspending or status.phase is JobPhase.SUSPENDED):
        return _started(job, without_seats(status, seen.pods, seen.now), seen)
    return status


def _yielded(job: TrainingJob, status: TrainingJobStatus, seen: Seen, by: float) -> TrainingJobStatus:
    report = seen.report
    heard = seen.connected and report is not None
    done = heard and report is not None and report.epoch == status.epoch and report.phase == YIELDED
    nobody = not any(pod.ready for pod in current_pods(_with(job, status), seen.pods).values())
    if not (done or nobody or seen.now >= by):
        return status
    left = without_seats(status, seen.pods, seen.now)
    return _in_phase(left, JobPhase.SUSPENDED, JobReason.SUSPENDED, "", seen.now)


def _deadline(job: TrainingJob, status: TrainingJobStatus) -> tuple[float | None, JobReason]:
    since = _seconds(status.active_since)
    found: list[tuple[float, JobReason]] = []
    if job.spec.active_deadline is not None:
        left = job.spec.active_deadline.seconds - status.active_seconds
        found.append((since + left, JobReason.DEADLINE_EXCEEDED))
    if job.spec.start_deadline is not None and status.started_at is None:
        found.append((since + job.spec.start_deadline.seconds, JobReason.START_DEADLINE_EXCEEDED))
    if not found:
        return None, JobReason.DEADLINE_EXCEEDED
    return min(found, key=lambda one: one[0])


def _sight(seen: Seen) -> mending.Sight:
    return mending.Sight(
        seen.pods,
        seen.nodes,
        seen.snapshot,
        seen.report,
        heard=seen.connected,
        heard_since=seen.link_since,
        records=seen.records,
        now=seen.now,
        first_heard=seen.heard,
    )


def _sized(
    job: TrainingJob, status: TrainingJobStatus, seen: Seen, sight: mending.Sight
) -> tuple[TrainingJobStatus, float | None]:
    """With as many nodes as the job shall have now, and when to look again; who is done needs no other number."""
    report = seen.report
    if report is not None and report.epoch == status.epoch and report.phase == FINISHED:
        return status, None
    now_job = _with(job, status)
    taken = [seat.node for seat in status.seats if seat.node is not None]
    seats = mending.facts_of(now_job, sight).seats
    around = Around(seats, seen.pods, seen.nodes, lambda: room_for(now_job, seen.snapshot, taken), seen.now)
    return resized(job, status, around)


def _with_members(job: TrainingJob, status: TrainingJobStatus, seen: Seen) -> TrainingJobStatus:
    """The order of node ranks, once every seat has a node: neighbours in the topology follow each other."""
    if status.members or status.phase is None or status.phase.ended or status.phase in _STANDS:
        return status
    members = mending.with_members(_with(job, status), seen.nodes)
    if not members:
        return status
    update: dict[str, Any] = {"members": members}
    if status.phase is JobPhase.PENDING:
        return _in_phase(status, JobPhase.STARTING, JobReason.AWAITING_PODS, "", seen.now, **update)
    return status.model_copy(update=update)


def _phase_of_report(status: TrainingJobStatus, seen: Seen) -> TrainingJobStatus:
    report = seen.report
    if report is None or report.epoch != status.epoch or not status.members:
        return status
    if report.phase == FINISHED:
        words = f"every rank of epoch {status.epoch} ended with code 0"
        return ended(status, JobPhase.SUCCEEDED, JobReason.ALL_RANKS_SUCCEEDED, words, seen.now)
    if report.phase == RUNNING and status.phase is not JobPhase.RUNNING:
        at = report.started_at or seen.now
        started = status.started_at or _instant(at)
        return _in_phase(status, JobPhase.RUNNING, JobReason.ALL_RANKS_RUNNING, "", seen.now, started_at=started)
    return status


def _told(job: TrainingJob, status: TrainingJobStatus, seen: Seen) -> TrainingJobStatus:
    """With what people want to know: numbers, progress and conditions, which decide nothing."""
    current = current_pods(_with(job, status), seen.pods)
    spares = {seat.seat for seat in spares_of(status.seats)}
    ready = [seat for seat, pod in current.items() if pod.ready and not pod.terminating]
    counts = {"ready": sum(seat not in spares for seat in ready), "spares": sum(seat in spares for seat in ready)}
    status = status.model_copy(update={"nodes": status.nodes.model_copy(update=counts)})
    ended = status.phase is not None and status.phase.ended
    told: dict[str, Any] = {"seat_summary": seat_summary(() if ended else status.seats, current, seen.report)}
    if seen.report is not None and seen.report.epoch == status.epoch:
        told["stragglers"] = stragglers_of(seen.report, status.seats)
    else:
        if status.epoch != job.status.epoch:
            told["stragglers"] = ()
        if seen.report is not None:  # the checkpoint before a change is told before the change
            told["progress"] = with_checkpoint(status.progress, seen.report.progress, seen.now)
    status = status.model_copy(update=told)
    if not ended:
        status = status.model_copy(update={"checkpoint_interval": interval_of(job, status, seen.now)})
    queued = any(QUEUE_GATE in pod.gates for pod in current.values())
    if status.phase in WAITS:
        words = waiting_message(job, status, current, heard=seen.connected, refused=seen.refused, queued=queued)
        status = status.model_copy(update={"message": words})
    status = with_conditions(
        job,
        status,
        gated=seen.gated,
        heard=seen.connected,
        refused=seen.refused,
        now=_instant(seen.now),
        queued=queued,
    )
    status = with_observed(job, status, seen.queried, _instant(seen.now))
    return accounted(job.status, status, seen.report, seen.now, seen.heard, seen.rung_at)


def _in_phase(
    status: TrainingJobStatus,
    phase: JobPhase,
    reason: JobReason,
    message: str,
    now: float,
    **update: Any,  # noqa: ANN401 - fields of the status
) -> TrainingJobStatus:
    since = status.phase_since if status.phase is phase and status.phase_since is not None else _instant(now)
    changed = {"phase": phase, "phase_since": since, "reason": reason.value, "message": message}
    return status.model_copy(update={**changed, **update})


def _ttl_at(job: TrainingJob, status: TrainingJobStatus) -> float | None:
    ttl = job.spec.ttl_after_finished
    return _seconds(status.finished_at) + ttl.seconds if ttl is not None else None


def _with(job: TrainingJob, status: TrainingJobStatus) -> TrainingJob:
    return job.model_copy(update={"status": status})


def _instant(now: float) -> datetime:
    return instant(now)


def _seconds(at: datetime | None) -> float:
    return at.timestamp() if at is not None else 0.0
