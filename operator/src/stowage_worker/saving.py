"""When the ranks of an epoch make a checkpoint, and at which step: the coordinator's part, as rules without I/O.

A step ahead of the furthest rank is offered. It is confirmed when every rank that asks has seen it in time, and
another one, further ahead, is offered when a rank has not (see `agreement` for the ranks' part). Ranks that never ask
are not waited for. What is waited for, by a planned change or by pods that leave, ends with the commit, at its time, or
as soon as a rank is gone: then there will be none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from statistics import median
from typing import Protocol

from stowage_worker.agreement import HOLD_SECONDS
from stowage_worker.codec import ToSupervisor
from stowage_worker.membership_state import RUNNING, Now, SavedStep, Saving, SeatRecord
from stowage_worker.messages import MayLeave, RankProgress, SaveAt

LEAD_SECONDS = 1.0
"""So far ahead of the furthest rank the first offer is, and twice as far each next one: as old as beats are."""
MOST_OFFERS = 6
"""Beyond them ranks do not ask for the same steps."""
MOST_LEAD_STEPS = 1_000_000
LEAD_GROWTH = 8
"""In steps, where no rank tells how long one takes."""
UNCONFIRMED_SECONDS = 60.0
"""An offer that nobody waits for is given up after it; one that is confirmed stays until it is answered."""
UNANSWERED_SECONDS = 600.0
"""A rank that does not answer for a confirmed step for so long does not ask any more."""
AGAIN_SECONDS = 5.0
"""Between looks for ranks that ask, where none did."""


class Turn(Protocol):
    """What of an event at work is needed here; see `turns.Turn`."""

    now: Now
    seats: dict[str, SeatRecord]
    saving: Saving | None
    saved: SavedStep | None
    rested_at: float | None
    sends: list[tuple[int, ToSupervisor]]

    @property
    def checkpoint_seconds(self) -> float:
        """Between two checkpoints."""


def ask(turn: Turn, epoch: int, seconds: float, *, ends: bool = False, waiter: int = 0) -> bool:
    """Ask the ranks of an epoch for a checkpoint, or join what they are asked for already; False: nobody asks.

    Args:
        turn: the event at work.
        epoch: whose ranks.
        seconds: who waits for it waits so long.
        ends: the processes end after it.
        waiter: connection that is told `MayLeave`; 0: none.
    """
    by = turn.now.steady + seconds
    before = turn.saving
    if before is not None and before.epoch == epoch and not (before.is_over and _all_answered(turn, before)):
        waiters = (*before.waiters, *([waiter] if waiter else []))
        turn.saving = joined = replace(before, by=max(before.by, by), waiters=waiters, is_over=False, is_awaited=True)
        if ends and not before.ends and not before.confirmed:
            _offer(turn, replace(joined, ends=True))
        advance(turn)
        return True
    if not any(rank.asked_step >= 0 for _, rank in _ranks(turn, epoch)):
        return False
    _offer(turn, Saving(epoch, by=by, ends=ends, waiters=(waiter,) if waiter else (), is_awaited=True))
    return True


def tell(turn: Turn, record: SeatRecord) -> None:
    """Tell a supervisor that is connected again what its ranks are asked for."""
    if record.link and record.state == RUNNING:
        saving = turn.saving if turn.saving is not None and turn.saving.epoch == record.epoch else None
        turn.sends.append((record.link, _message(record.epoch, turn.checkpoint_seconds, saving)))


def tell_interval(turn: Turn, epoch: int) -> None:
    """Tell all that run an epoch its interval."""
    for record in list(turn.seats.values()):
        if record.epoch == epoch:
            tell(turn, record)


def heard(turn: Turn, seat: str, progress: tuple[RankProgress, ...], epoch: int) -> bool:
    """Take note of a beat; True: a checkpoint was committed."""
    newest = max(progress, key=lambda rank: rank.checkpoint_step, default=None)
    is_news = False
    if newest is not None and newest.checkpoint_step >= 0:
        is_news = _committed(turn, newest, epoch)
    if turn.saving is not None and turn.saving.epoch == epoch:
        advance(turn, seat)
    return is_news


def advance(turn: Turn, seat: str = "") -> None:
    """Confirm, offer again, or end what ranks are asked for.

    Args:
        turn: the event at work.
        seat: of which news has come; empty: time has passed, and all are looked at.
    """
    saving = turn.saving
    if saving is None or saving.is_over:
        return
    if not saving.confirmed:
        _gather(turn, saving, seat)
    saving = turn.saving
    assert saving is not None  # noqa: S101  it was offered again at the most
    if saving.confirmed and _is_committed(turn, saving):
        end(turn, step=turn.saved.step if turn.saved is not None else -1)
    elif not seat and any(not _runs(turn, one, saving.epoch) for one in saving.seats):
        end(turn, reason="a member is gone")
    elif turn.now.steady > saving.by and (saving.is_awaited or not saving.confirmed):
        end(turn, reason="not in time")
    elif not seat and not saving.is_awaited and _is_untold(turn, saving):
        end(turn, reason="not told")
        turn.rested_at = saving.confirmed_at


def end(turn: Turn, step: int = -1, reason: str = "") -> None:
    """Nobody waits any longer; a step that is confirmed stays what ranks agreed on."""
    saving = turn.saving
    if saving is None or saving.is_over:
        return
    turn.sends.extend((waiter, MayLeave(step, reason)) for waiter in saving.waiters)
    turn.saving = saving = replace(saving, is_over=True, waiters=(), is_awaited=False)
    turn.rested_at = turn.now.steady
    if not saving.confirmed:
        _tell_all(turn, saving)  # ranks wait no longer


def leave_out(turn: Turn, seat: str) -> None:
    """A supervisor whose processes ended well is not waited for."""
    if turn.saving is not None and seat in turn.saving.seats:
        turn.saving = replace(turn.saving, seats=tuple(one for one in turn.saving.seats if one != seat))


def keep_interval(turn: Turn, epoch: int) -> None:
    """Ask for a checkpoint where the interval since the last one, or since the first step, has passed."""
    seconds = turn.checkpoint_seconds
    if not seconds or (turn.saving is not None and not turn.saving.is_over):
        return
    if turn.rested_at is None:
        if any(rank.asked_step >= 0 for _, rank in _ranks(turn, epoch)):
            turn.rested_at = turn.now.steady
        return
    if turn.now.steady - turn.rested_at < seconds:
        return
    if ask(turn, epoch, UNCONFIRMED_SECONDS) and turn.saving is not None:
        turn.saving = replace(turn.saving, is_awaited=False)
    else:
        turn.rested_at = turn.now.steady - seconds + min(seconds, AGAIN_SECONDS)


def may_hold_ranks(saving: Saving | None, now: float) -> bool:
    """Whether ranks may stand still because they wait for a confirmation, which is no hang."""
    if saving is None or saving.is_over or saving.confirmed:
        return False
    return now - saving.offered_at < HOLD_SECONDS


def is_under_way(saving: Saving | None, epoch: int) -> bool:
    """Whether ranks of this epoch are being asked, and somebody waits for what comes of it."""
    return saving is not None and saving.epoch == epoch and not saving.is_over


def _offer(turn: Turn, saving: Saving) -> None:
    ranks = [rank for _, rank in _ranks(turn, saving.epoch) if rank.asked_step >= 0]
    furthest = max((rank.asked_step for rank in ranks), default=0)
    times = [rank.step_seconds for rank in ranks if rank.step_seconds]
    lead = int(LEAD_SECONDS * 2**saving.offers / median(times)) if times else LEAD_GROWTH**saving.offers - 1
    turn.saving = saving = replace(
        saving,
        request=max(saving.request + 1, int(turn.now.wall * 1000)),
        step=furthest + 1 + min(MOST_LEAD_STEPS, lead),
        offers=saving.offers + 1,
        offered_at=turn.now.steady,
        saved_before=turn.saved.step if turn.saved is not None and turn.saved.epoch == saving.epoch else -1,
        seats=tuple(seat for seat in turn.seats if _runs(turn, seat, saving.epoch)),
        waits_for="",
    )
    _tell_all(turn, saving)


def _gather(turn: Turn, saving: Saving, seat: str) -> None:
    """See who has seen the offer, and whether in time; who was missing the last time is asked first."""
    looked = (seat,) if seat in turn.seats else tuple(turn.seats)
    asking = [(one, rank) for one, rank in _ranks(turn, saving.epoch, looked) if rank.asked_step >= 0]
    if any(_is_late(rank, saving) for _, rank in asking):
        if saving.offers >= MOST_OFFERS:
            end(turn, reason="ranks do not ask for the same steps")
        else:
            _offer(turn, saving)
        return
    if saving.waits_for in turn.seats and _is_missing(turn, saving, saving.waits_for):
        return
    missing = _next_missing(turn, saving)
    turn.saving = saving = replace(
        saving, waits_for=missing, confirmed=not missing, confirmed_at=0.0 if missing else turn.now.steady
    )
    if saving.confirmed:
        _tell_all(turn, saving)


def _is_late(rank: RankProgress, saving: Saving) -> bool:
    """Whether a rank has answered for the step before it saw the offer, also where it does not get on to say so."""
    return rank.is_late if rank.request == saving.request else rank.asked_step >= saving.step


def _next_missing(turn: Turn, saving: Saving) -> str:
    """A seat that is missing; empty: none is. Those before the last one that was are looked at last, once for all."""
    seats = list(turn.seats)
    begin = seats.index(saving.waits_for) if saving.waits_for in turn.seats else 0
    return next((one for one in (*seats[begin:], *seats[:begin]) if _is_missing(turn, saving, one)), "")


def _is_missing(turn: Turn, saving: Saving, seat: str) -> bool:
    """Whether a rank of this seat that asks has not seen the offer, or too late."""
    ranks = _ranks(turn, saving.epoch, (seat,))
    return any(rank.asked_step >= 0 and (rank.request != saving.request or rank.is_late) for _, rank in ranks)


def _all_answered(turn: Turn, saving: Saving) -> bool:
    """Whether no rank is left that could answer yes to a step that was confirmed."""
    if not saving.confirmed or turn.now.steady - saving.confirmed_at > UNANSWERED_SECONDS:
        return True
    return all(rank.asked_step >= saving.step for _, rank in _ranks(turn, saving.epoch) if rank.asked_step >= 0)


def _is_untold(turn: Turn, saving: Saving) -> bool:
    """Whether the program does not tell of its checkpoints, and the next one is due."""
    is_due = turn.now.steady - saving.confirmed_at > turn.checkpoint_seconds
    return saving.confirmed and is_due and _all_answered(turn, saving)


def _is_committed(turn: Turn, saving: Saving) -> bool:
    """Whether the agreed checkpoint, or one so near that its steps are counted from another end, is committed."""
    saved = turn.saved
    if saved is None or saved.epoch != saving.epoch:
        return False
    return saved.step >= saving.step - 1 and saved.step > saving.saved_before


def _committed(turn: Turn, rank: RankProgress, epoch: int) -> bool:
    before = turn.saved
    if before is not None and (before.epoch, before.step) > (epoch, rank.checkpoint_step):
        return False
    if before is None or (before.epoch, before.step) != (epoch, rank.checkpoint_step):
        seconds = rank.checkpoint_seconds
        turn.saved = SavedStep(epoch, rank.checkpoint_step, rank.checkpoint_uri, seconds, turn.now.wall)
        turn.rested_at = turn.now.steady
        return True
    if before.seconds is not None or rank.checkpoint_seconds is None:
        return False
    turn.saved = replace(before, seconds=rank.checkpoint_seconds)  # known once training goes on
    return True


def _runs(turn: Turn, seat: str, epoch: int) -> bool:
    record = turn.seats.get(seat)
    return record is not None and record.epoch == epoch and record.state == RUNNING


def _ranks(turn: Turn, epoch: int, seats: tuple[str, ...] | None = None) -> Iterator[tuple[str, RankProgress]]:
    """Ranks that run an epoch, of all seats or of these."""
    records: Mapping[str, SeatRecord] = turn.seats
    for seat in records if seats is None else seats:
        record = records[seat]
        if record.epoch == epoch and record.state == RUNNING:
            for rank in record.progress:
                yield seat, rank


def _tell_all(turn: Turn, saving: Saving) -> None:
    message = _message(saving.epoch, turn.checkpoint_seconds, saving)
    for record in turn.seats.values():
        if record.link and record.epoch == saving.epoch and record.state == RUNNING:
            turn.sends.append((record.link, message))


def _message(epoch: int, checkpoint_seconds: float, saving: Saving | None) -> SaveAt:
    if saving is None or (saving.is_over and not saving.confirmed):
        return SaveAt(epoch, checkpoint_seconds)
    return SaveAt(epoch, checkpoint_seconds, saving.request, saving.step, saving.confirmed, saving.ends)
