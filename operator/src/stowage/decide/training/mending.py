"""What failures and missing pods do to the status of a job: the part of its step that is about recovery."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, structs

from stowage.api.durations import instant
from stowage.api.fields import MAX_COUNT
from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import Seat, TrainingJobStatus
from stowage.decide.training.avoided_nodes import relieved
from stowage.decide.training.evidence_of_coordinators import evidence_of_barrier, evidence_of_coordinator
from stowage.decide.training.evidence_of_nodes import evidence_of_nodes
from stowage.decide.training.evidence_of_pods import evidence_of_pods
from stowage.decide.training.evidence_of_reports import evidence_of_report
from stowage.decide.training.facts import Decision, Evidence, History, JobFacts, NodeRecord, SeatFacts
from stowage.decide.training.heard import Heard
from stowage.decide.training.job_facts import job_facts, recoveries_of
from stowage.decide.training.recovered import recovered
from stowage.decide.training.recovery import decide_recovery
from stowage.decide.training.seats import (
    current_pods,
    fresh_attempt,
    has_stateful_storage,
    members_of,
    number,
    required_domains,
    seat_facts,
)
from stowage.decide.training.spares import in_domains, lost_too_often, promoted, ready_spares, with_spares
from stowage_scheduler.cluster import Node, Pod, Snapshot
from stowage_worker.membership_state import FINISHED
from stowage_worker.messages import Report


class Sight(Struct, frozen=True):
    """What recovery looks at; see `stowage.decide.training.job_status.Seen`."""

    pods: tuple[Pod, ...]
    nodes: Mapping[str, Node]
    snapshot: Snapshot
    report: Report | None
    heard: bool
    heard_since: float
    records: Mapping[str, NodeRecord]
    now: float
    first_heard: tuple[Heard, ...] = ()


def above_the_coordinator(status: TrainingJobStatus, sight: Sight) -> TrainingJobStatus:
    """The status with an epoch that is not below what the coordinator knows of, whatever became of the status.

    A status that was lost or put back, from a backup of the cluster, would else begin epochs that the coordinator and
    the supervisors refuse, or take for ones that are over.
    """
    report = sight.report
    if report is None or report.epoch <= status.epoch or report.epoch >= MAX_COUNT:
        return status
    attempt = max(fresh_attempt(status, sight.pods), min(report.attempt, MAX_COUNT - 1) + 1)
    return status.model_copy(update={"epoch": report.epoch + 1, "epoch_at": instant(sight.now), "attempt": attempt})


def adopted(job: TrainingJob, pods: Iterable[Pod]) -> TrainingJobStatus:
    """The status with UIDs and nodes of pods that have come up."""
    current = current_pods(job, pods)

    def after(seat: Seat) -> Seat:
        pod = current.get(seat.seat)
        if pod is None or (seat.pod_uid == pod.uid and seat.node == (pod.node or seat.node)):
            return seat
        return seat.model_copy(update={"pod_uid": pod.uid, "node": pod.node or seat.node})

    return job.status.model_copy(update={"seats": tuple(map(after, job.status.seats))})


def facts_of(job: TrainingJob, sight: Sight) -> JobFacts:
    """The job as recovery is told of it."""
    seats = seat_facts(job, current_pods(job, sight.pods), sight.report)
    facts = job_facts(job, seats, stateful_storage=has_stateful_storage(job))
    return structs.replace(facts, heard=sight.heard, heard_since=sight.heard_since)


def after_failures(
    job: TrainingJob, sight: Sight, further: tuple[Evidence, ...] = ()
) -> tuple[TrainingJobStatus, Decision | None]:
    """The status with the one decision that all evidence asks for; None: the ranks have ended well.

    Args:
        job: with the status as it is so far.
        sight: what is seen.
        further: evidence of other sources.
    """
    report = sight.report if sight.report is not None and sight.report.epoch == job.status.epoch else None
    if report is not None and report.phase == FINISHED:
        return job.status, None  # whoever leaves now has ended well
    facts = facts_of(job, sight)
    late, again_at = evidence_of_barrier(facts, report, sight.now)
    evidence = (
        *(evidence_of_report(report, sight.first_heard) if report is not None else ()),
        *evidence_of_pods(facts, sight.pods, sight.now),
        *evidence_of_nodes(facts, sight.nodes, sight.now),
        *evidence_of_coordinator(facts, sight.now),
        *late,
        *further,
    )
    history = History(recoveries_of(job), sight.records)
    decision = decide_recovery(facts, evidence, history, sight.snapshot, sight.now)
    if again_at is not None:
        decision = structs.replace(decision, again_at=min(again_at, decision.again_at or again_at))
    return recovered(job, decision, sight.now, nodes=sight.nodes, pods=sight.pods), decision


def filled_up(job: TrainingJob, sight: Sight, wanted_spares: int) -> tuple[TrainingJobStatus, float | None]:
    """The status where spares stand in for whom they can, and where there are as many as wanted; when to look again."""
    status = in_domains(job.status, required_domains(job, sight.nodes), sight.nodes, sight.pods)
    if not status.members:
        status = promoted(status, _ready(_with(job, status), sight), sight.pods)
    status, again_at = relieved(status, current_pods(_with(job, status), sight.pods), sight.now)
    window = job.spec.recovery.budget.window.seconds
    has = len(status.seats) - len(members_of(status.seats))
    if wanted_spares > has and lost_too_often(recoveries_of(job), sight.now - window):
        wanted_spares = has
    return with_spares(status, wanted_spares, sight.pods), again_at


def with_members(job: TrainingJob, nodes: Mapping[str, Node]) -> tuple[str, ...]:
    """The order of node ranks, once every member has a node: neighbours in the topology follow each other."""
    status, members = job.status, members_of(job.status.seats)
    if status.members or not all(seat.pod_uid and seat.node for seat in members):
        return status.members
    keys = job.spec.topology.keys if job.spec.topology is not None else ()

    def place(seat: Seat) -> tuple[Any, ...]:
        node = nodes.get(seat.node or "")
        labels = node.labels if node is not None else {}
        return (*(labels.get(key, "") for key in reversed(keys)), number(seat.seat))

    return tuple(seat.seat for seat in sorted(members, key=place))


def _ready(job: TrainingJob, sight: Sight) -> tuple[str, ...]:
    if not sight.heard or not any(seat.spare for seat in job.status.seats):
        return ()
    seats: tuple[SeatFacts, ...] = seat_facts(job, current_pods(job, sight.pods), sight.report)
    avoided = {one.node for one in job.status.avoided_nodes}
    usable = {name for name, node in sight.nodes.items() if node.ready and not node.unschedulable}
    return ready_spares(seats, usable - avoided)


def _with(job: TrainingJob, status: TrainingJobStatus) -> TrainingJob:
    return job.model_copy(update={"status": status})
