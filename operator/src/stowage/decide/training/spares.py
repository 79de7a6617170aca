"""Spares: seats whose pod holds a node and waits, to take the place of one that is lost without any scheduling.

A spare is a seat like the others, so nothing has to be told to its pod when it takes over: the next epoch names it as
a member. The seat that was lost becomes the one that waits, and so the next spare is made by the same change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import Seat, TrainingJobStatus
from stowage.api.training_words import Action
from stowage.decide.training.facts import Recovery, SeatFacts
from stowage.decide.training.seats import fresh_attempt, members_of, number, spares_of
from stowage_scheduler.cluster import Node, Pod

MOST_LOST: Final = 5
"""Spares that may be lost within the budget's window; then no more are made until it is over."""


def wanted_spares(job: TrainingJob, status: TrainingJobStatus) -> int:
    """How many seats shall hold a node and wait: the job's spares, and those that are to train beside the others."""
    return job.spec.recovery.spares + max(0, status.nodes.desired - len(members_of(status.seats)))


def ready_spares(seats: Iterable[SeatFacts], usable: Collection[str]) -> tuple[str, ...]:
    """Spares that could begin now, those of the lowest numbers first.

    Args:
        seats: of the job.
        usable: nodes that a pod may run on.
    """
    found = (
        seat.seat
        for seat in seats
        if seat.spare and seat.ready and seat.connected and not seat.terminating and seat.node in usable
    )
    return tuple(sorted(found, key=number))


def claimed(seats: Iterable[Seat], names: Sequence[str], attempt: int) -> tuple[Seat, ...]:
    """The seats after spares took over: each one swaps its part with a member's seat that has no node.

    Args:
        seats: of the job.
        names: of the spares, as many as there are vacant members or fewer.
        attempt: that no pod of the job has; the seats that wait now get pods of it.
    """
    seats = tuple(seats)
    vacant = [seat.seat for seat in sorted(members_of(seats), key=lambda seat: number(seat.seat)) if seat.node is None]
    gone = set(vacant[: len(names)])

    def after(seat: Seat) -> Seat:
        if seat.seat in names:
            return seat.model_copy(update={"spare": False})
        return vacated(seat, attempt, spare=True) if seat.seat in gone else seat

    return tuple(map(after, seats))


def vacated(seat: Seat, attempt: int, *, spare: bool | None = None) -> Seat:
    """A seat that gives its pod up and gets one of another name."""
    part = seat.spare if spare is None else spare
    return seat.model_copy(update={"attempt": attempt, "pod_uid": None, "node": None, "spare": part})


def promoted(status: TrainingJobStatus, ready: Sequence[str], pods: Iterable[Pod]) -> TrainingJobStatus:
    """The status where spares that became ready take the place of members that still wait for a node.

    Those that go on waiting are asked for anew: they were a gang together with the ones that need no pod any more, and
    a gang that waits for more than it needs may wait for ever.

    Args:
        status: without an order of members: its epoch has not begun.
        ready: names of spares, see `ready_spares`.
        pods: of the job.
    """
    waiting = [seat for seat in members_of(status.seats) if seat.node is None]
    names = ready[: len(waiting)]
    if status.members or not names:
        return status
    attempt = fresh_attempt(status, pods)
    seats = claimed(status.seats, names, attempt)
    again = (vacated(seat, attempt) if not seat.spare and seat.node is None else seat for seat in seats)
    return status.model_copy(update={"seats": tuple(again)})


def in_domains(
    status: TrainingJobStatus, domains: Sequence[tuple[str, str]], nodes: Mapping[str, Node], pods: Iterable[Pod]
) -> TrainingJobStatus:
    """The status where spares leave nodes on which they could never take a member's place.

    Args:
        status: of the job.
        domains: labels that the nodes of all members have to have.
        nodes: of the cluster, by name.
        pods: of the job.
    """

    def is_outside(seat: Seat) -> bool:
        node = nodes.get(seat.node or "")
        return node is not None and any(node.labels.get(key) != value for key, value in domains)

    gone = {seat.seat for seat in spares_of(status.seats) if is_outside(seat)}
    if not gone:
        return status
    attempt = fresh_attempt(status, pods)
    seats = tuple(vacated(seat, attempt) if seat.seat in gone else seat for seat in status.seats)
    return status.model_copy(update={"seats": seats})


def with_spares(status: TrainingJobStatus, wanted: int, pods: Iterable[Pod]) -> TrainingJobStatus:
    """The status with so many spares: too many lose those that are of least use, too few get more.

    New ones come once every member has a node: they never take the room of a member.
    """
    spares = spares_of(status.seats)
    if len(spares) == wanted:
        return status
    if len(spares) > wanted:
        by_use = sorted(spares, key=lambda seat: (seat.node is None, seat.pod_uid is None, number(seat.seat)))
        gone = {seat.seat for seat in by_use[wanted:]}
        return status.model_copy(update={"seats": tuple(one for one in status.seats if one.seat not in gone)})
    members = members_of(status.seats)
    if not members or any(seat.node is None for seat in members):
        return status
    attempt = fresh_attempt(status, pods)
    taken = {seat.seat for seat in status.seats}
    free = (name for name in (f"s{one}" for one in range(len(taken) + wanted)) if name not in taken)
    new = [Seat(seat=next(free), attempt=attempt, spare=True) for _ in range(wanted - len(spares))]
    seats = sorted((*status.seats, *new), key=lambda seat: number(seat.seat))
    return status.model_copy(update={"seats": tuple(seats)})


def lost_too_often(recoveries: Iterable[Recovery], since: float) -> bool:
    """Whether spares were lost so often that making more of them helps nobody; evictions do not count."""
    lost = [one for one in recoveries if one.action is Action.IGNORE and one.at > since and not one.blameless]
    return len(lost) >= MOST_LOST
