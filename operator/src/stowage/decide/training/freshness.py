"""Which evidence still asks for something: decided once, the same facts ask for nothing more."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Final

from msgspec import structs

from stowage.api.training_words import Event
from stowage.decide.training.causes import OF_RANKS
from stowage.decide.training.facts import Evidence, History, JobFacts, Recovery, SeatFacts
from stowage_scheduler.cluster import Snapshot

LASTING: Final = frozenset({Event.NODE_LOST, Event.NODE_CONDITION, Event.NODE_TAINT, Event.DEVICE_UNHEALTHY})
"""Of nodes: not bound to an epoch, they last until the node is well or used no more."""

UNHEARD_SECONDS: Final = 20.0
"""A coordinator that is away has so long to be heard before a node that is not Ready counts as lost without it."""
RETURN_SECONDS: Final = 15.0
"""Supervisors have so long to find a coordinator that was started again."""
TAINT_SECONDS: Final = 3600.0
"""A taint of a node is answered at most once in so long."""


def fresh_evidence(
    job: JobFacts, evidence: Iterable[Evidence], history: History, snapshot: Snapshot
) -> tuple[Evidence, ...]:
    """What is not answered yet, in an order that does not depend on how it came in, without doubles.

    Stale is: another epoch; a pod that the seat has no more; a node that no seat stands on; a seat that has finished;
    what is bound to no epoch and not younger than the current one; ranks of spares, which run none; a condition of a
    node that was answered, though the seat stays there. A node that is not Ready is no reason either while its
    supervisors are heard: the kubelet may be gone, the training is not. A supervisor that is back without its
    processes says that its container has ended.
    """
    seats = {seat.seat: seat for seat in job.seats}
    used = {seat.node: _is_heard(job, seat.node) for seat in job.seats}
    present = {node.name for node in snapshot.nodes}
    kept = {
        _understood(one, seats)
        for one in evidence
        if _is_of_now(one, job, seats, used) and not _is_answered(one, history) and not _is_alive(one, used, present)
    }
    return tuple(sorted(kept, key=_order))


def doubted_until(job: JobFacts, one: Evidence, snapshot: Snapshot) -> float:
    """Until when evidence is not believed, in seconds since 1970; 0: it is.

    A node that is not Ready is lost if its supervisors are silent too, and who listens anew knows nothing of silence:
    an operator that was started again, or one whose coordinator was, waits for supervisors to be heard.
    """
    if one.event is not Event.NODE_LOST or _is_heard(job, one.node):
        return 0.0
    if not _is_doubtful(one, {node.name for node in snapshot.nodes}):
        return 0.0
    return job.heard_since + (RETURN_SECONDS if job.heard else UNHEARD_SECONDS)


def _is_heard(job: JobFacts, node: str | None) -> bool:
    """Whether supervisors on a node are heard; what a coordinator said that is away by now is not known any more."""
    return job.heard and any(seat.connected for seat in job.seats if seat.node == node)


def _is_of_now(one: Evidence, job: JobFacts, seats: Mapping[str, SeatFacts], used: Mapping[str | None, bool]) -> bool:
    if one.epoch is not None and one.epoch != job.epoch:
        return False
    if one.seat is not None and not _is_of_seat(one, seats.get(one.seat)):
        return False
    if one.event in LASTING:
        return one.node in used or (one.node is None and one.seat is not None)
    return one.epoch is not None or one.at > job.epoch_at


def _is_of_seat(one: Evidence, seat: SeatFacts | None) -> bool:
    if seat is None or seat.finished or seat.pod_uid is None:
        return False
    if seat.spare and one.event in OF_RANKS:
        return False
    if one.pod is not None and one.pod != seat.pod_uid:
        return False
    return one.node is None or seat.node is None or one.node == seat.node


def _is_answered(one: Evidence, history: History) -> bool:
    """Whether what lasts beyond an epoch led to a decision before: a rule may have left the seat where it is."""
    if one.event not in LASTING and one.event is not Event.DISRUPTION:
        return False

    def answers(past: Recovery) -> bool:
        same_place = past.seat == one.seat if one.event is Event.DISRUPTION else past.node == one.node
        # taints carry no time: who tolerates one and comes back to its node shall not be moved for it again and again
        since = one.at - (TAINT_SECONDS if one.event is Event.NODE_TAINT else 0.0)
        return past.event is one.event and same_place and past.at >= since and past.name == one.name

    return any(answers(past) for past in history.recoveries)


def _is_alive(one: Evidence, used: Mapping[str | None, bool], present: set[str]) -> bool:
    return _is_doubtful(one, present) and used.get(one.node, False)


def _is_doubtful(one: Evidence, present: Container[str | None]) -> bool:
    return one.event is Event.NODE_LOST and one.name == "Ready" and one.node in present


def _understood(one: Evidence, seats: Mapping[str, SeatFacts]) -> Evidence:
    seat = seats.get(one.seat or "")
    node = one.node or (seat.node if seat is not None else None)
    if one.event is Event.SUPERVISOR_LOST and seat is not None and seat.connected:
        return structs.replace(one, event=Event.CONTAINER_EXITED, node=node)
    return structs.replace(one, node=node)


def _order(one: Evidence) -> tuple[object, ...]:
    return (one.at, one.event, one.seat or "", one.node or "", -1 if one.rank is None else one.rank, repr(one))
