"""Seats of a TrainingJob and their pods: which pod counts, and what has to be made, to go, or to be let go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import Struct

from stowage.api.names import ATTEMPT_LABEL, JOB_LABEL, SEAT_LABEL
from stowage.api.training_job import Pack, TrainingJob
from stowage.api.training_job_status import Seat, TrainingJobStatus
from stowage.api.training_words import JobPhase
from stowage.decide.training.active_time import active_seconds
from stowage.decide.training.children import SeatPod, seat_pod_name
from stowage.decide.training.facts import SeatFacts
from stowage_scheduler.cluster import Node, Pod
from stowage_worker.membership_state import FINISHED
from stowage_worker.messages import Report, SeatState

STANDING_STILL = frozenset({JobPhase.SUSPENDED, JobPhase.PAUSED, JobPhase.SUCCEEDED, JobPhase.FAILED})
"""Phases in which no pod is made."""
LEAVE_SECONDS = 60.0
"""Supervisors that were told to end have so long; what runs on then is deleted, for it holds nodes."""

_DIGITS = 9
"""Of an attempt in a label: who edits it shall not make the numbers of the status overflow."""


class Deletion(Struct, frozen=True):
    """A pod that has to go; `force`: without waiting for its kubelet, whose node is dead."""

    pod: Pod
    force: bool = False


class Work(Struct, frozen=True):
    """What has to be done about the pods of a job, from its status and the pods that are there.

    `release` are pods whose end is counted: the tracking finalizer has nothing to wait for any more.
    """

    create: tuple[SeatPod, ...] = ()
    delete: tuple[Deletion, ...] = ()
    release: tuple[Pod, ...] = ()


def seat_pods(pods: Iterable[Pod], job: TrainingJob) -> tuple[Pod, ...]:
    """The pods of the job's seats, whatever their attempt, by name; pods of others with its labels are left out."""
    uid = job.metadata.uid
    return tuple(sorted((pod for pod in pods if is_seat_of(pod, job) and _owner(pod) == uid), key=lambda pod: pod.name))


def is_seat_of(pod: Pod, job: TrainingJob) -> bool:
    """Whether labels and namespace say that a pod is a seat of a job of this name."""
    return pod.namespace == job.namespace and pod.labels.get(JOB_LABEL) == job.name and SEAT_LABEL in pod.labels


def current_pods(job: TrainingJob, pods: Iterable[Pod]) -> dict[str, Pod]:
    """The pod that counts for each seat that has one, by seat."""
    by_uid = {pod.uid: pod for pod in pods}
    by_name = {pod.name: pod for pod in by_uid.values()}
    found = {}
    for seat in job.status.seats:
        name = seat_pod_name(job.name, seat.seat, seat.attempt)
        pod = by_uid.get(seat.pod_uid) if seat.pod_uid is not None else by_name.get(name)
        if pod is not None:
            found[seat.seat] = pod
    return found


def seat_facts(job: TrainingJob, current: Mapping[str, Pod], report: Report | None) -> tuple[SeatFacts, ...]:
    """The seats as recovery is told of them."""
    said = {one.seat: one for one in report.seats} if report is not None else {}
    found = []
    for seat in job.status.seats:
        pod = current.get(seat.seat)
        heard = said.get(seat.seat)
        connected = heard is not None and heard.connected and heard.pod == seat.pod_uid
        found.append(
            SeatFacts(
                seat=seat.seat,
                pod_uid=seat.pod_uid,
                pod_name=seat_pod_name(job.name, seat.seat, seat.attempt),
                node=seat.node,
                ready=pod is not None and pod.ready,
                terminating=pod is not None and pod.terminating,
                finished=_has_finished(seat, pod, heard, epoch=job.status.epoch, report=report),
                connected=connected,
                member=seat.seat in job.status.members,
                spare=seat.spare,
                started_at=(pod.bound_at or pod.created_at) if pod is not None else None,
                ready_since=pod.health.ready_since if pod is not None and pod.health is not None else None,
            )
        )
    return tuple(found)


def _has_finished(seat: Seat, pod: Pod | None, heard: SeatState | None, *, epoch: int, report: Report | None) -> bool:
    """Whether all ranks of a seat ended well: what becomes of its pod or node then is no failure of the epoch."""
    if pod is not None and pod.phase == "Succeeded":
        return True
    if heard is None or report is None or report.epoch != epoch:
        return False
    return heard.state == FINISHED and heard.pod == seat.pod_uid


def filled(size: int, attempt: int, seats: Iterable[Seat] = ()) -> tuple[Seat, ...]:
    """So many seats: those that there are, the lowest numbers first, and new ones for this attempt."""
    kept = {seat.seat: seat for seat in seats}
    names = sorted(kept, key=number)[:size]
    free = (f"s{one}" for one in range(size + len(kept)) if f"s{one}" not in kept)
    names += [next(free) for _ in range(size - len(names))]
    return tuple(kept.get(name) or Seat(seat=name, attempt=attempt) for name in sorted(names, key=number))


def members_of(seats: Iterable[Seat]) -> tuple[Seat, ...]:
    """Those that train, or shall."""
    return tuple(seat for seat in seats if not seat.spare)


def spares_of(seats: Iterable[Seat]) -> tuple[Seat, ...]:
    """Those that hold a node and wait."""
    return tuple(seat for seat in seats if seat.spare)


def fresh_attempt(status: TrainingJobStatus, pods: Iterable[Pod] = ()) -> int:
    """An attempt that no pod of the job has in its name, neither by its status nor among those that are there.

    Spares are replaced beside an epoch that runs on, so their attempts may be ahead of the job's.
    """
    found = (pod.labels.get(ATTEMPT_LABEL, "") for pod in pods)
    there = (int(one) for one in found if one.isascii() and one.isdecimal() and len(one) <= _DIGITS)
    return 1 + max((status.attempt, *(seat.attempt for seat in status.seats), *there))


def without_seats(status: TrainingJobStatus, pods: Iterable[Pod], now: float) -> TrainingJobStatus:
    """The status of a job that stands still: no pod counts any more, and its time does not go on.

    The attempt is the last that a pod of it had, be it a spare's: the next one begins above it.
    """
    update = {"attempt": fresh_attempt(status, pods) - 1, "active_seconds": round(active_seconds(status, now))}
    return status.model_copy(update={**update, "seats": (), "members": (), "active_since": None})


def number(seat: str) -> int:
    """The number of a seat: 3 of `s3`."""
    return int(seat[1:])


def work_of(
    job: TrainingJob, pods: Iterable[Pod], nodes: Mapping[str, Node], *, gated: bool, ended_seconds: float | None
) -> Work:
    """What to do about the pods of a job now.

    Args:
        job: with the status that was written last.
        pods: of its seats, see `seat_pods`.
        nodes: of the cluster, by name.
        gated: whether new pods wait behind a gate for their gang.
        ended_seconds: since the job has ended; None: it has not.
    """
    pods = tuple(pods)
    current = current_pods(job, pods)
    counted = {pod.uid for pod in current.values()}
    delete, release = [], []
    for pod in pods:
        over = ended_seconds is not None or pod.uid not in counted
        if not over:
            continue
        if pod.terminating or pod.finished:
            release.append(pod)
        leaves = pod.uid not in counted or (ended_seconds or 0.0) >= LEAVE_SECONDS
        if leaves and not pod.terminating and not (pod.finished and pod.uid in counted):
            delete.append(Deletion(pod))
        elif pod.terminating and may_be_forced(job) and _is_dead(pod, nodes):
            delete.append(Deletion(pod, force=True))
    return Work(_to_create(job, current, nodes, gated=gated), tuple(delete), tuple(release))


def may_be_forced(job: TrainingJob) -> bool:
    """Whether pods on dead nodes may be deleted without their kubelet: no data can suffer, or the user says so.

    Checkpoints are fenced by the attempt. Volumes that one node at a time may attach are not.
    """
    return job.spec.recovery.force_delete or not has_stateful_storage(job)


def has_stateful_storage(job: TrainingJob) -> bool:
    """Whether the template brings claims: they may be of the kind that one node at a time attaches."""
    volumes = job.spec.template.spec.volumes or ()
    return any(
        "persistentVolumeClaim" in (one.model_extra or {}) or "ephemeral" in (one.model_extra or {}) for one in volumes
    )


def required_domains(job: TrainingJob, nodes: Mapping[str, Node]) -> tuple[tuple[str, str], ...]:
    """Label and value of each domain that further pods have to be in: those in which all members stand already."""
    topology = job.spec.topology
    names = [seat.node for seat in members_of(job.status.seats) if seat.node is not None]
    standing = [nodes[name].labels for name in names if name in nodes]
    if topology is None or topology.pack is not Pack.REQUIRED or not standing:
        return ()
    values = ((key, {labels.get(key) for labels in standing}) for key in topology.keys)
    return tuple((key, value) for key, found in values if len(found) == 1 and (value := next(iter(found))) is not None)


def _to_create(
    job: TrainingJob, current: Mapping[str, Pod], nodes: Mapping[str, Node], *, gated: bool
) -> tuple[SeatPod, ...]:
    if job.status.phase in STANDING_STILL:
        return ()
    members = members_of(job.status.seats)
    together = Counter(seat.attempt for seat in members)
    avoid = tuple(one.node for one in job.status.avoided_nodes)
    domains = required_domains(job, nodes)
    placed = all(seat.node for seat in members)  # a spare takes no room that a member waits for
    return tuple(
        SeatPod(
            seat.seat,
            seat.attempt,
            1 if seat.spare else together[seat.attempt],
            gated,
            avoid,
            spare=seat.spare,
            domains=domains,
        )
        for seat in job.status.seats
        if seat.pod_uid is None and seat.seat not in current and (placed or not seat.spare)
    )


def _is_dead(pod: Pod, nodes: Mapping[str, Node]) -> bool:
    if pod.node is None:
        return False
    node = nodes.get(pod.node)
    return node is None or not node.ready


def _owner(pod: Pod) -> str | None:
    return pod.owner.uid if pod.owner is not None else None
