"""A change of the number of nodes, written into the status of its job.

Fewer: the seats that help least go in a new epoch, and the others yield at a step boundary. More: further seats are
made beside the epoch that runs on; when they can begin, one new epoch takes them in. So nobody waits for images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import Struct, structs

from stowage.api.durations import instant
from stowage.api.training_job import Elastic, TrainingJob
from stowage.api.training_job_status import Seat, Sizing, TrainingJobStatus
from stowage.api.training_reasons import JobReason
from stowage.api.training_words import Action, JobPhase
from stowage.decide.training.active_time import active_seconds
from stowage.decide.training.checkpoints import interruptions
from stowage.decide.training.facts import SeatFacts
from stowage.decide.training.seats import fresh_attempt, members_of, number, spares_of
from stowage.decide.training.size import (
    PRIOR_RESTART_SECONDS,
    Limits,
    Size,
    SizeFacts,
    SizeReason,
    decide_size,
    shrink_wait,
)
from stowage.decide.training.spares import ready_spares, vacated
from stowage.decide.training.victims import Standing, victims
from stowage_scheduler.cluster import Node, Pod
from stowage_worker.intervals import between_failures

_STILL: Final = frozenset({JobPhase.SUSPENDED, JobPhase.PAUSED, JobPhase.SUCCEEDED, JobPhase.FAILED})


class Around(Struct, frozen=True):
    """What a change of size depends on beside the job.

    Attributes:
        seats: of the job, as recovery is told of them.
        pods: of the job, whatever their attempt.
        nodes: of the cluster, by name.
        room: tells how many further nodes could take a pod; asked only where it matters.
        now: seconds since 1970.
    """

    seats: tuple[SeatFacts, ...]
    pods: tuple[Pod, ...]
    nodes: Mapping[str, Node]
    room: Callable[[], int]
    now: float


def resized(job: TrainingJob, status: TrainingJobStatus, around: Around) -> tuple[TrainingJobStatus, float | None]:
    """The status with the size that the job shall have now, and when to look again; see `decide_size`."""
    members = members_of(status.seats)
    fixed = len(job.spec.nodes.sizes) == 1 and job.spec.nodes.sizes[0] == len(members) == status.nodes.desired
    if status.phase is None or status.phase in _STILL or not members or fixed:
        return status, None
    limits = limits_of(job.spec.elastic)
    facts = size_facts(job, status, around, limits)
    decided = decide_size(facts, limits, around.now)
    sizing = _sizing(status.sizing or Sizing(), facts, decided, around)
    update: dict[str, Any] = {"sizing": sizing, "nodes": status.nodes.model_copy(update={"desired": decided.heading})}
    if decided.size < len(members):
        update |= _smaller(job, status, around, decided.size)
    elif decided.size > len(members):
        update |= _larger(status, around, decided.size)
    else:
        return status.model_copy(update=update), decided.again_at
    if status.members:
        update |= _planned_epoch(status, around, sizing.message)
    elif decided.reason is SizeReason.NODES_MISSING:
        update |= {"message": sizing.message}
    return status.model_copy(update=update), decided.again_at


def limits_of(elastic: Elastic | None) -> Limits:
    """`spec.elastic` in seconds; absent is as with its defaults."""
    given = elastic or Elastic()
    return Limits(given.shrink_after.seconds, given.grow_after.seconds, given.cooldown.seconds)


def size_facts(job: TrainingJob, status: TrainingJobStatus, around: Around, limits: Limits) -> SizeFacts:
    """What the size is decided from."""
    now, nodes = around.now, job.spec.nodes
    members = members_of(status.seats)
    size, placed = len(members), sum(seat.node is not None for seat in members)
    spares = job.spec.recovery.spares if nodes.target is None else 0  # what people ask for comes before what waits
    before = status.sizing or Sizing()
    running = status.phase is JobPhase.RUNNING
    facts = SizeFacts(
        sizes=nodes.sizes,
        size=size,
        heading=max(size, status.nodes.desired),
        placed=placed,
        joining=max(0, len(ready_spares(around.seats, _usable(status, around.nodes))) - spares),
        coming=max(0, sum(seat.node is not None for seat in spares_of(status.seats)) - spares),
        running=running,
        target=nodes.target,
        missing_since=(_seconds(before.missing_since) or now) if placed < size else None,
        resized_at=_seconds(before.resized_at),
        asked_at=_seconds(before.asked_at),
        held_until=_held_until(job, status),
        resumable=status.progress.last_checkpoint is not None,
        restart_seconds=restart_seconds(status),
        horizon_seconds=_horizon_seconds(job, status, size, now),
    )
    waits = facts.missing_since is not None and now >= facts.missing_since + shrink_wait(facts, limits)
    may = nodes.target is None and job.spec.queue_name is None  # of the quota of a queue only Kueue knows
    grows = running and may and facts.resumable and size < nodes.sizes[-1]
    room = around.room() if waits or grows else 0
    more = any(size < one <= size + max(room, facts.joining) for one in nodes.sizes)
    since = (_seconds(before.room_since) or now) if more else None
    return structs.replace(facts, room=room, room_since=since)


def restart_seconds(status: TrainingJobStatus) -> float:
    """From the end of the processes to the next step, as it was last time."""
    failure = status.last_failure
    if failure is None or failure.recovery.start is None or failure.recovery.restore is None:
        return PRIOR_RESTART_SECONDS
    return failure.recovery.start.seconds + failure.recovery.restore.seconds


def _horizon_seconds(job: TrainingJob, status: TrainingJobStatus, size: int, now: float) -> float:
    """How long the job is expected to run undisturbed: to its next failure, or to its deadline."""
    active = active_seconds(status, now)
    horizon = between_failures(size, interruptions(status), active)
    deadline = job.spec.active_deadline
    return horizon if deadline is None else min(horizon, max(0.0, deadline.seconds - active))


def _held_until(job: TrainingJob, status: TrainingJobStatus) -> float:
    """A job that was made smaller because nothing else helped stays so while that counts in its budget."""
    window = job.spec.recovery.budget.window.seconds
    shrinks = (one.at.timestamp() for one in status.recoveries if one.action is Action.SHRINK)
    return max((at + window for at in shrinks), default=0.0)


def _usable(status: TrainingJobStatus, nodes: Mapping[str, Node]) -> set[str]:
    avoided = {one.node for one in status.avoided_nodes}
    return {name for name, node in nodes.items() if node.ready and not node.unschedulable} - avoided


def _sizing(before: Sizing, facts: SizeFacts, decided: Size, around: Around) -> Sizing:
    """Times, and why; a look that changes nothing leaves them as they are."""
    update: dict[str, Any] = {
        "missing_since": _instant(facts.missing_since),
        "room_since": _instant(facts.room_since),
    }
    if decided.size != facts.size:
        update |= {"resized_at": instant(around.now), "missing_since": None, "room_since": None}
    if decided.heading != facts.heading:
        update["asked_at"] = instant(around.now)
    if decided.size != facts.size or decided.heading != facts.heading:
        update |= {"reason": decided.reason.value, "message": _words(facts, decided, around.now)}
    return before.model_copy(update=update)


def _words(facts: SizeFacts, decided: Size, now: float) -> str:
    change = f"from {facts.size} to {decided.size} nodes"
    match decided.reason:
        case SizeReason.NODES_MISSING:
            seconds = now - (facts.missing_since or now)
            lacking = (
                f"{facts.size - facts.placed} had no node for {seconds:.0f} s, and there was room for {facts.room}"
            )
            return f"{change}: {lacking}; a start costs {facts.restart_seconds:.0f} s"
        case SizeReason.JOINED:
            return f"{change}: {decided.size - facts.size} more can begin"
        case SizeReason.GIVEN_UP:
            return f"{facts.heading} nodes were asked for, and {facts.size + facts.coming} were to be had"
        case SizeReason.ROOM_FOR_MORE:
            return f"there is room for {facts.room} more nodes: {decided.heading - facts.size} are asked for"
        case _ if decided.size == facts.size:
            return f"{decided.heading} nodes are asked for; {facts.size} go on until the others can begin"
        case _:
            return f"{change}, as asked"


def _smaller(job: TrainingJob, status: TrainingJobStatus, around: Around, size: int) -> dict[str, Any]:
    """Without the seats that help least."""
    members = members_of(status.seats)
    gone = set(victims(_standings(job, status, around, members), len(members) - size))
    kept = (seat for seat in status.seats if seat.seat not in gone)
    attempt = fresh_attempt(status, around.pods)
    # those that wait are asked for anew: as a gang they would wait for the ones that are not wanted any more
    return {"seats": tuple(vacated(seat, attempt) if _waits(seat) else seat for seat in kept)}


def _waits(seat: Seat) -> bool:
    return not seat.spare and seat.node is None


def _larger(status: TrainingJobStatus, around: Around, size: int) -> dict[str, Any]:
    """With those that wait beside the others and could begin."""
    ready = ready_spares(around.seats, _usable(status, around.nodes))
    joined = set(ready[: size - len(members_of(status.seats))])
    return {
        "seats": tuple(
            seat.model_copy(update={"spare": False}) if seat.seat in joined else seat for seat in status.seats
        )
    }


def _planned_epoch(status: TrainingJobStatus, around: Around, words: str) -> dict[str, Any]:
    at = instant(around.now)
    return {
        "phase": JobPhase.RESIZING,
        "phase_since": at,
        "reason": JobReason.RESIZING.value,
        "message": words,
        "epoch": status.epoch + 1,
        "epoch_at": at,
        "attempt": fresh_attempt(status, around.pods),
        "members": (),
    }


def _standings(
    job: TrainingJob, status: TrainingJobStatus, around: Around, members: Sequence[Seat]
) -> tuple[Standing, ...]:
    usable = _usable(status, around.nodes)
    facts = {one.seat: one for one in around.seats}
    slow = {one.seat for one in status.stragglers}
    topology = job.spec.topology
    keys = tuple(reversed(topology.keys)) if topology is not None else ()

    def standing(seat: Seat) -> Standing:
        fact = facts.get(seat.seat) or SeatFacts(seat.seat)
        node = around.nodes.get(seat.node or "")
        return Standing(
            seat=seat.seat,
            number=number(seat.seat),
            placed=seat.node is not None,
            sound=seat.node in usable,
            ready=fact.ready and not fact.terminating,
            connected=fact.connected,
            slow=seat.seat in slow,
            domains=tuple(node.labels.get(key, "") if node is not None else "" for key in keys),
        )

    return tuple(map(standing, members))


def _instant(at: float | None) -> datetime | None:
    return instant(at) if at is not None else None


def _seconds(at: datetime | None) -> float | None:
    return at.timestamp() if at is not None else None
