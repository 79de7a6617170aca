"""One event at work: a copy of the state that may be changed, and what is to be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from stowage_worker import saving
from stowage_worker.codec import ToSupervisor
from stowage_worker.evidence import HANG, LEAVING, START_TIMEOUT, SUPERVISOR_LOST
from stowage_worker.hang import HangWatch, watched
from stowage_worker.membership_state import (
    BEYOND_THE_BARRIER,
    FINISHED,
    LATE_SECONDS,
    LOST,
    PREPARED,
    PREPARING,
    RETURN_SECONDS,
    RUNNING,
    YIELDED,
    Membership,
    Now,
    SeatRecord,
    Step,
)
from stowage_worker.messages import Begin, Evidence, Go, Prepare, RankProgress, Refused, Welcome, Yield


def is_expected(begin: Begin | None, seat: str, pod: str) -> bool:
    """Whether a pod may have a seat: the one that the command names, or any where it names none."""
    if begin is None or not begin.pods or seat not in begin.seats:
        return True
    return begin.pods[begin.seats.index(seat)] == pod


class Turn:
    """Made from a state, changed by one event, and turned into the next state by `done`."""

    def __init__(self, state: Membership, now: Now) -> None:
        self.now = now
        self.seats: dict[str, SeatRecord] = dict(state.seats)
        self.evidence = state.evidence
        self.started_at = state.started_at
        self.first_step_at = state.first_step_at
        self.is_under_way = state.is_under_way
        self.saving = state.saving
        self.saved = state.saved
        self.rested_at = state.rested_at
        self.leaving = state.leaving
        self.sends: list[tuple[int, ToSupervisor]] = []
        self.closes: list[int] = []
        self._state = state
        self._begin = state.begin
        self._barrier_by = state.barrier_by
        self._hang = state.hang
        self.has_started = False
        """A member was seen beyond the start barrier."""
        self._waits_for = state.waits_for

    @property
    def members(self) -> tuple[str, ...]:
        """Seats of the epoch, in order of node ranks."""
        return () if self._begin is None else self._begin.seats

    @property
    def epoch(self) -> int:
        """The current epoch; 0 before the first command."""
        return 0 if self._begin is None else self._begin.epoch

    @property
    def checkpoint_seconds(self) -> float:
        """Between two checkpoints; 0: the program's own choice."""
        return 0.0 if self._begin is None else self._begin.checkpoint_seconds

    def is_beyond(self, seat: str) -> bool:
        """Whether processes of this epoch were started on a seat."""
        record = self.seats.get(seat)
        return record is not None and record.epoch == self.epoch and record.state in BEYOND_THE_BARRIER

    def done(self, *, is_news: bool, is_tick: bool = False) -> Step:
        """The next state, and what is to be sent."""
        self._release()
        state = replace(
            self._state,
            begin=self._begin,
            seats=self.seats,
            evidence=self.evidence,
            is_under_way=self.is_under_way,
            barrier_by=self._barrier_by,
            started_at=self.started_at,
            first_step_at=self.first_step_at,
            hang=self._hang,
            waits_for=self._waits_for,
            saving=self.saving,
            saved=self.saved,
            rested_at=self.rested_at,
            leaving=self.leaving,
            ticked_at=self.now.steady if is_tick else self._state.ticked_at,
        )
        return Step(state, tuple(self.sends), tuple(self.closes), is_news)

    def _release(self) -> None:
        """Let those yield who were kept for a checkpoint that is over now."""
        before, now = self._state.saving, self.saving
        if before is None or before.is_over or now is None or not now.is_over or now.epoch >= self.epoch:
            return
        for record in list(self.seats.values()):
            if record.state != RUNNING or record.epoch != now.epoch or record.yields_until is None:
                continue
            if self.is_foreign(record):
                self.dismiss(record)
            else:
                self.send(record, Yield(record.epoch, max(0.0, record.yields_until - 1.0 - self.now.steady)))

    def is_foreign(self, record: SeatRecord) -> bool:
        """Whether another pod shall have the seat."""
        return not is_expected(self._begin, record.seat, record.pod)

    def dismiss(self, record: SeatRecord) -> None:
        """End the connection of a supervisor whose seat another pod has."""
        self.send(record, Refused("another pod holds this seat"))
        self.close(record.link)
        del self.seats[record.seat]

    def begin(self, begin: Begin) -> None:
        """Forget the older epoch; evidence of the new one may be here already, told to a coordinator started again."""
        self._begin = begin
        self._barrier_by = self.now.steady + begin.yield_first_seconds + begin.start_seconds
        self._hang = HangWatch()
        self.evidence = self.evidence.of_epoch(begin.epoch)
        self.is_under_way = False
        self.started_at = None
        self.first_step_at = None
        self._waits_for = ""
        self.leaving = self.leaving & {record.pod for record in self.seats.values()}
        self.has_started = any(self.is_beyond(seat) for seat in begin.seats)
        for seat, record in list(self.seats.items()):
            if not record.link and record.state == LOST and seat not in begin.seats:
                del self.seats[seat]
            elif not record.link and record.epoch != begin.epoch:
                # gone before this epoch: it, or who takes its place, has until the barrier's time is over
                self.seats[seat] = replace(record, state=LOST, has_go=False, yields_until=None)
            elif record.has_go:
                self.seats[seat] = replace(record, has_go=False)

    def send(self, record: SeatRecord, message: ToSupervisor) -> None:
        """Say something to a supervisor that is connected."""
        if record.link:
            self.sends.append((record.link, message))

    def close(self, link: int) -> None:
        """End a connection."""
        self.closes.append(link)

    def welcome(self, record: SeatRecord, job: str) -> SeatRecord:
        """Tell a supervisor that it is known, and which lines of output are looked for."""
        rules = () if self._begin is None else self._begin.log_rules
        self.send(record, Welcome(job, rules))
        record = self.seats[record.seat] = replace(record, log_rules=rules)
        return record

    def add(self, one: Evidence) -> None:
        """Keep evidence until a higher epoch begins."""
        self.evidence = self.evidence.added(one)

    def lost(self, seat: str, detail: str) -> None:
        """A member's processes run no more, or nobody knows."""
        record = self.seats.get(seat)
        name = LEAVING if record is not None and record.pod in self.leaving else ""
        self.add(Evidence(SUPERVISOR_LOST, self.epoch, self.now.wall, seat=seat, detail=detail, name=name))

    def lose(self, record: SeatRecord, detail: str) -> None:
        """A supervisor is gone; of members that have finished or were sent away this is no evidence."""
        if record.seat not in self.members or self.is_foreign(record):
            del self.seats[record.seat]
            return
        has_finished = record.state == FINISHED and record.epoch == self.epoch
        if not has_finished and not record.is_leaving:
            self.lost(record.seat, detail)
        state = FINISHED if has_finished else LOST
        self.seats[record.seat] = replace(record, link=0, state=state, yields_until=None)

    def guide(self, seat: str) -> None:
        """Tell a supervisor that is connected what it has to do to be in the current epoch, or out of older ones."""
        record = self.seats[seat]
        if self._begin is None or record.epoch >= self.epoch or record.is_leaving:
            return
        is_member = seat in self.members
        if is_member and self.is_under_way:
            if record.has_go and self._master().port:
                self._go(record, self.members.index(seat))
            else:
                self.lost(seat, "it runs nothing of the epoch that others run")
            return
        if record.epoch and record.state == RUNNING:
            yields_until = self._barrier_by - self._begin.start_seconds
            if yields_until > self.now.steady:
                if not saving.is_under_way(self.saving, record.epoch):
                    self.send(record, Yield(record.epoch, yields_until - self.now.steady))
                # a second for it to end processes that do not yield
                self.seats[seat] = replace(record, yields_until=yields_until + 1.0)
                return
        if is_member or record.epoch:
            self.prepare(record)

    def prepare(self, record: SeatRecord) -> None:
        """Let a supervisor stop what runs of earlier epochs and come to the start barrier; one without a seat goes."""
        if self.is_foreign(record):
            self.dismiss(record)
            return
        if self._begin is not None:
            self.send(record, Prepare(self._begin.epoch, self._begin.attempt, self._begin.grace_seconds))
        self.seats[record.seat] = replace(record, state=PREPARING, yields_until=None)

    def settle(self) -> None:
        """Open the start barrier, or see that it was passed."""
        if not self.members or self.started_at is not None:
            return
        if not self.is_under_way:
            self._open_barrier()
        if self.is_under_way and self._all_are(self.is_beyond):
            self.started_at = self.now.wall
            self.rested_at = None
            self._hang = HangWatch(since=self.now.steady)

    def watch_barrier(self) -> None:
        """Members that are not beyond the start barrier in time are evidence."""
        if self.started_at is not None or self.now.steady <= self._barrier_by:
            return
        for seat in self.members:
            if self.is_beyond(seat):
                continue
            record = self.seats.get(seat)
            if self.is_under_way and (record is None or not record.link):
                self.lost(seat, "it did not come back to a coordinator that was started again")
            elif self.is_under_way or record is None or record.state != PREPARED:
                detail = (
                    f"{'not connected' if record is None or not record.link else record.state} at the start barrier"
                )
                self.add(Evidence(START_TIMEOUT, self.epoch, self.now.wall, seat=seat, detail=detail))

    def change_interval(self, seconds: float) -> None:
        """Another interval between checkpoints, for who runs already."""
        if self._begin is not None and self._begin.checkpoint_seconds != seconds:
            self._begin = replace(self._begin, checkpoint_seconds=seconds)
            saving.tell_interval(self, self.epoch)

    def watch_saving(self) -> None:
        """Ask for a checkpoint when it is time, and see how far the one that was asked for is."""
        asked = self.saving
        if asked is not None and asked.epoch == self.epoch and self.evidence.has_failed:
            saving.end(self, reason="the epoch has failed")
        elif self.started_at is not None and not self.evidence.has_failed:
            saving.keep_interval(self, self.epoch)
        saving.advance(self)

    def watch_hang(self) -> None:
        """Look whether ranks that train have stood still for too long."""
        if self._begin is None or self._begin.hang is None or self.started_at is None or self.evidence.has_failed:
            return
        if saving.may_hold_ranks(self.saving, self.now.steady):
            return
        if any(self.now.steady - record.heard_at > LATE_SECONDS for record in self._running()):
            return  # whether it is lost is known in a moment: ranks that wait for a frozen node do not hang
        self._hang, found = watched(
            self._hang, self._begin.hang, self._told(), self.now.steady, is_ending=self._is_ending()
        )
        if found is None:
            return
        seat = next(one.seat for one in self._running() if any(rank.rank == found.rank for rank in one.progress))
        detail = f"no step for {found.still_seconds:.1f} s, {found.allowed_seconds:.1f} s are allowed"
        self.add(Evidence(HANG, self.epoch, self.now.wall, seat, found.rank, step=found.step, detail=detail))

    def _is_ending(self) -> bool:
        """Whether ranks of the epoch have ended with code 0: whole seats, or some beside others that run."""
        if self._begin is None:
            return False
        processes = self._begin.processes_per_node
        return any(
            record.state in (FINISHED, YIELDED)
            # supervisors leave out ranks that have ended, while others run
            or (record.state == RUNNING and 0 < len(record.progress) < processes)
            for record in map(self.seats.get, self.members)
            if record is not None and record.epoch == self.epoch
        )

    def _open_barrier(self) -> None:
        if self.has_started and any(self.is_beyond(seat) for seat in self.members):
            # by a coordinator before this one: who runs is left alone, and who does not has lost its processes
            self.is_under_way = True
            self._barrier_by = self.now.steady + RETURN_SECONDS
            for seat in self.members:
                record = self.seats.get(seat)
                if record is not None and record.link and not self.is_beyond(seat):
                    self.lost(seat, "it runs nothing of the epoch that others run")
            return
        if self.evidence.has_failed or not self._all_are(self._is_prepared):
            return
        self.is_under_way = True
        self._barrier_by = self.now.steady + (0.0 if self._begin is None else self._begin.start_seconds)
        for node_rank, seat in enumerate(self.members):
            self._go(self.seats[seat], node_rank)

    def _go(self, record: SeatRecord, node_rank: int) -> None:
        if self._begin is None:
            return
        master = self._master()
        go = Go(
            self._begin.epoch,
            self._begin.attempt,
            node_rank,
            len(self.members),
            self._begin.processes_per_node,
            master.address,
            master.port,
            self._begin.environment,
            self._begin.world,
            self._begin.checkpoint_seconds,
        )
        self.send(record, go)
        self.seats[record.seat] = replace(record, has_go=True, state=PREPARED)

    def _master(self) -> SeatRecord:
        return self.seats[self.members[0]]

    def _all_are(self, is_ready: Callable[[str], bool]) -> bool:
        """Whether all members are; who was not the last time is asked first, for this is asked at each message."""
        if self._waits_for and not is_ready(self._waits_for):
            return False
        for seat in self.members:
            if not is_ready(seat):
                self._waits_for = seat
                return False
        return True

    def _is_prepared(self, seat: str) -> bool:
        record = self.seats.get(seat)
        return record is not None and record.state == PREPARED and record.link > 0

    def _running(self) -> Iterator[SeatRecord]:
        for seat in self.members:
            record = self.seats.get(seat)
            if record is not None and record.state == RUNNING and record.epoch == self.epoch:
                yield record

    def _told(self) -> Iterator[tuple[float, RankProgress]]:
        for record in self._running():
            age = max(self.now.steady - record.heard_at, 0.0)
            for rank in record.progress:
                yield age, rank
