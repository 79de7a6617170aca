"""What the coordinator tells whoever commands: a phase, seats, evidence and progress, from its state alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import median

from stowage_worker.membership_state import (
    BEYOND_THE_BARRIER,
    FAILED,
    FINISHED,
    PREPARING,
    RUNNING,
    WAITING,
    YIELDED,
    Membership,
    Now,
    SeatRecord,
)
from stowage_worker.messages import Progress, RankProgress, Report, SeatState, Straggling


def report_of(state: Membership, now: Now, stragglers: tuple[Straggling, ...] = ()) -> Report:
    """All that is known.

    Args:
        state: of the coordinator.
        now: both clocks.
        stragglers: statistics of steps, which are kept apart.
    """
    begin = state.begin
    return Report(
        epoch=state.epoch,
        attempt=0 if begin is None else begin.attempt,
        phase=phase_of(state),
        seats=tuple(_seat_state(record, now) for record in state.seats.values()),
        evidence=tuple(state.evidence.entries.values()),
        progress=progress_of(state, now),
        stragglers=stragglers,
        started_at=state.started_at,
        first_step_at=state.first_step_at,
    )


def phase_of(state: Membership) -> str:
    """One of `Waiting`, `Preparing`, `Running`, `Failed`, `Yielded` and `Finished`."""
    if state.begin is None:
        return WAITING
    if not state.members:
        is_empty = all(not one.link or one.state not in (RUNNING, PREPARING) for one in state.seats.values())
        return YIELDED if is_empty else PREPARING
    states = [_state_in_epoch(state, seat) for seat in state.members]
    if all(one == FINISHED for one in states):
        return FINISHED
    if all(one in (FINISHED, YIELDED) for one in states):
        return YIELDED
    if state.evidence.has_failed:
        return FAILED
    return RUNNING if state.started_at is not None else PREPARING


def progress_of(state: Membership, now: Now) -> Progress:
    """The job's progress, from what ranks of the current epoch have told last.

    The step is the least of all ranks; loss and phase are those of the lowest rank that stands at it.
    """
    told = [(max(now.steady - record.heard_at, 0.0), rank) for record, rank in _ranks(state)]
    stepping = [one for one in told if one[1].step >= 0]
    saved = state.saved
    checkpoint = Progress()
    if saved is not None:
        checkpoint = Progress(
            checkpoint_step=saved.step,
            checkpoint_uri=saved.uri,
            checkpoint_seconds=saved.seconds,
            checkpoint_at=saved.at,
        )
    if not stepping:
        phases = [rank.phase for _, rank in told if rank.phase]
        return replace(checkpoint, phase=phases[0] if phases else "")
    age, least = min(stepping, key=lambda one: (one[1].step, one[1].rank))
    step_seconds = [rank.step_seconds for _, rank in told if rank.step_seconds is not None]
    losses = [rank.loss for _, rank in stepping if rank.loss is not None]
    return replace(
        checkpoint,
        step=least.step,
        tokens=sum(rank.tokens for _, rank in told),
        loss=losses[0] if losses and least.loss is None else least.loss,
        step_seconds=median(step_seconds) if step_seconds else None,
        phase=least.phase,
        since_step_seconds=age + least.since_step_seconds,
    )


def _ranks(state: Membership) -> Iterator[tuple[SeatRecord, RankProgress]]:
    for seat in state.members:
        record = state.seats.get(seat)
        if record is not None and record.epoch == state.epoch:
            for rank in record.progress:
                yield record, rank


def _state_in_epoch(state: Membership, seat: str) -> str:
    record = state.seats.get(seat)
    if record is None or (record.state in BEYOND_THE_BARRIER and record.epoch != state.epoch):
        return ""
    return record.state


def _seat_state(record: SeatRecord, now: Now) -> SeatState:
    return SeatState(
        seat=record.seat,
        pod=record.pod,
        connected=record.link > 0,
        state=record.state,
        address=record.address,
        node=record.node,
        silent_seconds=round(max(now.steady - record.heard_at, 0.0), 3),
    )
