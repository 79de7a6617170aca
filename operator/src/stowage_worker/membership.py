"""Who is a member, what each is told, and what went wrong: (state, event, now) -> step, without I/O and clocks.

Rules that hold whatever comes in whatever order:

- A supervisor gets `Go` for an epoch once, after its `Prepared` for that epoch, and never for a lower one later.
- `Go` is sent only when every member stands at the start barrier and nothing has failed.
- Evidence of an epoch stays until a higher epoch begins.
- Members that run the epoch that is asked for are left alone: also by a coordinator that was started again.
"""

from __future__ import annotations

from dataclasses import replace

from stowage_worker import evidence, saving
from stowage_worker.codec import FromSupervisor
from stowage_worker.membership_state import (
    FINISHED,
    GONE_SECONDS,
    IDLE,
    LOST,
    PREPARED,
    PREPARING,
    RESTART_CODE,
    RUNNING,
    SILENT_SECONDS,
    STALL_SECONDS,
    YIELDED,
    CommandError,
    Membership,
    Now,
    SeatRecord,
    Step,
)
from stowage_worker.messages import (
    Attach,
    Beat,
    Begin,
    Checkpoint,
    End,
    Exited,
    Finished,
    Hello,
    Leave,
    Leaving,
    Matched,
    MayLeave,
    Prepared,
    Refused,
    Started,
    Stop,
    Yielded,
)
from stowage_worker.stragglers import STEPPING
from stowage_worker.turns import Turn, is_expected

MAX_SEATS = 4096
SAVE_SHARE = 0.8
"""Of the time to yield, for a checkpoint; the rest is for processes to end."""
_MAX_NAME = 253
_ORDER = {RUNNING: 1, YIELDED: 2, FINISHED: 3}
"""Later ones are not taken back: supervisors say again what is so after each connection."""


def joined(state: Membership, link: int, hello: Hello, job: str, now: Now) -> Step:
    """A supervisor has connected and its token was right.

    Args:
        state: before.
        link: number of its connection, never used before.
        hello: who it is and what it runs.
        job: what it is welcomed to.
        now: both clocks.
    """
    known = state.seats.get(hello.seat)
    reason = _refusal(state, known, hello)
    if reason:
        return Step(state, ((link, Refused(reason)),), (link,))
    turn = Turn(state, now)
    record = _registered(state, known, hello, link, now)
    turn.seats[hello.seat] = record
    if known is not None and known.link:
        turn.close(known.link)
    record = turn.welcome(record, job)
    if state.end is not None:
        turn.send(record, Stop(state.end.code, state.end.grace_seconds))
        return turn.done(is_news=True)
    if known is not None and known.is_leaving and _is_same(known, record):
        turn.send(record, Stop(RESTART_CODE))
        turn.seats[record.seat] = replace(record, is_leaving=True)
        return turn.done(is_news=True)
    if known is not None and _has_lost_processes(state, known, record):
        turn.lost(record.seat, "the supervisor was started again")
    turn.has_started = turn.is_beyond(record.seat)
    saving.tell(turn, record)
    turn.guide(record.seat)
    turn.settle()
    return turn.done(is_news=True)


def said(state: Membership, seat: str, link: int, message: FromSupervisor, now: Now) -> Step:
    """A supervisor says something; what comes over a connection that was replaced is passed over."""
    record = state.seats.get(seat)
    if record is None or record.link != link:
        return Step(state)
    turn = Turn(state, now)
    record = replace(record, heard_at=now.steady)
    turn.seats[seat] = record
    if isinstance(message, Beat):
        return turn.done(is_news=_beat(turn, record, message))
    before = (record.state, turn.evidence)
    if isinstance(message, Prepared):
        _prepared(turn, record, message)
    elif isinstance(message, Started):
        _reached(turn, record, message.epoch, RUNNING)
    elif isinstance(message, Finished):
        _reached(turn, record, message.epoch, FINISHED)
    elif isinstance(message, Yielded):
        _reached(turn, record, message.epoch, YIELDED)
    elif isinstance(message, (Exited, Matched)):
        _went_wrong(turn, record, message)
    elif isinstance(message, Leaving):
        _leave(turn, seat, record.pod, message.seconds, link)
    turn.settle()
    after = turn.seats.get(seat)
    return turn.done(is_news=after is None or before != (after.state, turn.evidence))


def left(state: Membership, seat: str, link: int, now: Now) -> Step:
    """A connection has ended."""
    record = state.seats.get(seat)
    if record is None or record.link != link:
        return Step(state)
    turn = Turn(state, now)
    turn.seats[seat] = replace(record, link=0, gone_at=now.steady)
    return turn.done(is_news=True)


def leaves(state: Membership, link: int, leave: Leave, now: Now) -> Step:
    """A pod is about to be stopped: the job makes a checkpoint first, where it can; then `link` is told `MayLeave`."""
    turn = Turn(state, now)
    _leave(turn, leave.seat, leave.pod, leave.seconds, link)
    return turn.done(is_news=True)


def attached(state: Membership, attach: Attach) -> Membership:
    """Somebody wants to command.

    Raises:
        CommandError: one with a higher leader epoch has commanded before.
    """
    if attach.leader_epoch < state.leader_epoch:
        raise CommandError(f"leader epoch {attach.leader_epoch} is over, {state.leader_epoch} has commanded here")
    return replace(state, leader_epoch=attach.leader_epoch)


def began(state: Membership, begin: Begin, job: str, now: Now) -> Step:
    """Be in this epoch; the same again changes nothing.

    Raises:
        CommandError: a lower epoch than is known, or one that no epoch can be.
    """
    if state.end is not None:
        return Step(state)
    turn = Turn(state, now)
    if begin.epoch == state.epoch:
        turn.change_interval(begin.checkpoint_seconds)
        return turn.done(is_news=False)
    _check(state, begin)
    if state.evidence.has_failed or not _is_whole(state):
        begin = replace(begin, yield_first_seconds=0.0)  # ranks that wait for one that is gone save nothing
    turn.begin(begin)
    running = max((one.epoch for one in state.seats.values() if one.link and one.state == RUNNING), default=0)
    seconds = begin.yield_first_seconds * SAVE_SHARE
    if not seconds or not saving.ask(turn, running, seconds, ends=True):
        saving.end(turn, reason="another epoch begins")
    for seat in list(turn.seats):
        record = turn.seats[seat]
        if not record.link:
            continue
        if turn.is_foreign(record):
            if saving.is_under_way(turn.saving, record.epoch):
                turn.guide(seat)
            else:
                turn.dismiss(record)
            continue
        if begin.log_rules != record.log_rules:
            record = turn.welcome(record, job)
        if seat in begin.restart_seats and record.epoch != begin.epoch:
            turn.send(record, Stop(RESTART_CODE, begin.grace_seconds))
            turn.seats[seat] = replace(record, is_leaving=True)
            continue
        turn.guide(seat)
    turn.settle()
    return turn.done(is_news=True)


def checkpointed(state: Membership, wish: Checkpoint, now: Now) -> Step:
    """Ask those who run the epoch for a checkpoint."""
    if wish.epoch != state.epoch or state.evidence.has_failed:
        return Step(state)
    turn = Turn(state, now)
    saving.ask(turn, wish.epoch, saving.UNCONFIRMED_SECONDS)
    return turn.done(is_news=False)


def ended(state: Membership, end: End) -> Step:
    """End all supervisors; the first `End` counts."""
    if state.end is not None:
        return Step(state)
    stop = Stop(end.code, end.grace_seconds)
    links = tuple((one.link, stop) for one in state.seats.values() if one.link)
    waiters = () if state.saving is None else state.saving.waiters
    freed = tuple((link, MayLeave(reason="the job ends")) for link in waiters)
    return Step(replace(state, end=end, saving=None), (*freed, *links), is_news=True)


def ticked(state: Membership, now: Now) -> Step:
    """Time has passed: who is silent, who did not come back, what took too long, what stands still."""
    turn = Turn(state, now)
    pause = 0.0 if state.ticked_at is None else now.steady - state.ticked_at
    is_stalled = pause > STALL_SECONDS
    for seat, record in state.seats.items():
        if is_stalled:
            # what supervisors said meanwhile still waits to be read
            moved = replace(record, heard_at=record.heard_at + pause, gone_at=record.gone_at + pause)
            turn.seats[seat] = moved
            continue
        if record.link and now.steady - record.heard_at > SILENT_SECONDS:
            turn.close(record.link)
            turn.lose(record, f"nothing heard for {SILENT_SECONDS:g} s")
        elif not record.link and record.state != LOST and now.steady - record.gone_at > GONE_SECONDS:
            turn.lose(record, f"the connection ended and did not come back within {GONE_SECONDS:g} s")
        elif record.yields_until is not None and now.steady > record.yields_until:
            turn.prepare(record)
    if state.begin is not None and not is_stalled:
        turn.watch_barrier()
        turn.watch_hang()
        turn.watch_saving()
    turn.settle()
    before = (state.evidence, state.started_at, state.is_under_way, len(state.seats))
    after = (turn.evidence, turn.started_at, turn.is_under_way, len(turn.seats))
    return turn.done(is_news=before != after or bool(turn.sends) or bool(turn.closes), is_tick=True)


def _refusal(state: Membership, known: SeatRecord | None, hello: Hello) -> str:
    """Why a supervisor is not let in; empty: it is."""
    names = (hello.seat, hello.pod, hello.instance, hello.address, hello.node)
    if not hello.seat or not all(len(name) <= _MAX_NAME and name.isascii() and name.isprintable() for name in names):
        return f"seat, pod, address and node are printable ASCII of at most {_MAX_NAME} characters"
    if not is_expected(state.begin, hello.seat, hello.pod):
        return "another pod holds this seat"
    if known is None:
        is_crowded = len(state.seats) >= MAX_SEATS and hello.seat not in state.members
        return f"{MAX_SEATS} seats are known already" if is_crowded else ""
    if known.pod != hello.pod and 0 < hello.epoch < known.epoch:
        return "a newer pod holds this seat"
    if known.pod != hello.pod and known.link and saving.is_under_way(state.saving, known.epoch):
        return "the pod that held this seat makes a checkpoint"
    return ""


def _registered(state: Membership, known: SeatRecord | None, hello: Hello, link: int, now: Now) -> SeatRecord:
    record = SeatRecord(
        hello.seat,
        hello.pod,
        hello.instance,
        hello.address,
        hello.node,
        link,
        heard_at=now.steady,
        gone_at=now.steady,
        state=RUNNING if hello.epoch else IDLE,
        epoch=hello.epoch,
    )
    if known is None:
        return record
    if known.state == FINISHED and known.epoch == state.epoch and known.pod == hello.pod:
        return replace(record, state=FINISHED, epoch=known.epoch)  # the end barrier is behind it, whatever happens now
    is_same = _is_same(known, record)
    if is_same:
        record = replace(record, has_go=known.has_go, port=known.port)
    if is_same and known.epoch == hello.epoch and known.state in (YIELDED, FINISHED):
        record = replace(record, state=known.state)
    return replace(record, progress=known.progress) if known.epoch == hello.epoch else record


def _is_same(known: SeatRecord, record: SeatRecord) -> bool:
    """Whether only the connection is new."""
    return known.pod == record.pod and known.instance == record.instance and bool(known.instance)


def _has_lost_processes(state: Membership, known: SeatRecord, record: SeatRecord) -> bool:
    """Whether what a member had started in this epoch, or was told to start, runs no more."""
    if record.seat not in state.members or record.epoch == state.epoch or known.is_leaving:
        return False
    if known.has_go and _is_same(known, record):
        return known.state in (RUNNING, YIELDED) and known.epoch == state.epoch
    return known.has_go or (known.epoch == state.epoch and known.state in (RUNNING, YIELDED))


def _check(state: Membership, begin: Begin) -> None:
    if begin.epoch < state.epoch:
        raise CommandError(f"epoch {begin.epoch} is over, epoch {state.epoch} has begun")
    newest = max((one.epoch for one in state.seats.values() if one.link), default=0)
    if begin.epoch < newest:
        raise CommandError(f"epoch {begin.epoch} is over, supervisors run epoch {newest}")
    if begin.epoch < 1 or begin.attempt < 1 or begin.processes_per_node < 1:
        raise CommandError("epoch, attempt and processes_per_node count from 1")
    if len(begin.seats) > MAX_SEATS or len(set(begin.seats)) != len(begin.seats):
        raise CommandError(f"at most {MAX_SEATS} seats, each once")
    if begin.pods and len(begin.pods) != len(begin.seats):
        raise CommandError("pods are given, but not one for each seat")


def _beat(turn: Turn, record: SeatRecord, beat: Beat) -> bool:
    if beat.epoch != record.epoch or record.state != RUNNING:
        return False
    turn.seats[record.seat] = replace(record, progress=beat.progress)
    is_news = saving.heard(turn, record.seat, beat.progress, beat.epoch)
    if beat.epoch != turn.epoch or record.seat not in turn.members:
        return is_news
    if turn.first_step_at is None and any(one.step >= 0 and one.phase in STEPPING for one in beat.progress):
        turn.first_step_at = turn.now.wall
        is_news = True
    found = evidence.of_loss(record.seat, beat.epoch, beat.progress, turn.now.wall)
    if found is not None and not turn.evidence.has(evidence.NON_FINITE):
        turn.add(found)
        is_news = True
    return is_news


def _prepared(turn: Turn, record: SeatRecord, message: Prepared) -> None:
    if record.state == PREPARING and message.epoch == turn.epoch:
        is_member = record.seat in turn.members
        turn.seats[record.seat] = replace(
            record, state=PREPARED if is_member else IDLE, epoch=0, port=message.port, progress=()
        )


def _reached(turn: Turn, record: SeatRecord, epoch: int, state: str) -> None:
    """`Started`, `Finished` or `Yielded` of an epoch."""
    if state != RUNNING and epoch == record.epoch:
        saving.leave_out(turn, record.seat)
    if record.yields_until is not None and epoch == record.epoch and state != RUNNING:
        turn.prepare(record)
        return
    # what a supervisor says of its own processes is so, also where another coordinator has told it to start them
    is_of_now = epoch == turn.epoch or (turn.epoch == 0 and epoch >= record.epoch)
    if not is_of_now or (record.epoch == epoch and _ORDER.get(record.state, 0) >= _ORDER[state]):
        return
    if state == FINISHED and turn.evidence.has(evidence.PROCESS_EXITED, record.seat):
        return
    turn.seats[record.seat] = replace(record, state=state, epoch=epoch)
    turn.has_started = turn.is_beyond(record.seat)


def _is_whole(state: Membership) -> bool:
    """Whether every member runs and is connected, so that ranks do not wait for one that is gone."""
    records = [state.seats.get(seat) for seat in state.members]
    return all(one is not None and one.link and state.is_beyond(one.seat) for one in records)


def _leave(turn: Turn, seat: str, pod: str, seconds: float, link: int) -> None:
    record = turn.seats.get(seat)
    if record is None and turn.started_at is None:
        turn.sends.append((link, MayLeave(reason="its supervisor is not known here", again=True)))
        return
    if record is None or record.pod != pod or record.state != RUNNING:
        turn.sends.append((link, MayLeave(reason="its processes do not run")))
        return
    is_known = pod in turn.leaving
    turn.leaving |= {pod}
    has_failed = record.epoch == turn.epoch and turn.evidence.has_failed
    if has_failed or (is_known and not saving.is_under_way(turn.saving, record.epoch)):
        turn.sends.append((link, MayLeave(reason="the epoch has failed" if has_failed else "it was asked before")))
    elif not saving.ask(turn, record.epoch, seconds, waiter=link):
        turn.sends.append((link, MayLeave(reason="no rank asks whether a checkpoint is due")))


def _went_wrong(turn: Turn, record: SeatRecord, message: Exited | Matched) -> None:
    if isinstance(message, Exited) and turn.saving is not None and message.epoch == turn.saving.epoch:
        saving.end(turn, reason="a process has failed")
    is_of_now = message.epoch == turn.epoch or (turn.epoch == 0 and message.epoch == record.epoch)
    is_member = turn.epoch == 0 or record.seat in turn.members
    if not is_of_now or not is_member:
        return
    if isinstance(message, Exited):
        turn.add(evidence.of_exit(record.seat, message, turn.now.wall))
    else:
        turn.add(evidence.of_match(record.seat, message, turn.now.wall))
