"""A job in miniature: membership, supervisors that follow the protocol, and a network that loses connections.

It stands for all interleavings: each operation is one thing that can happen, and what must hold is asserted at once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from stowage_worker import membership
from stowage_worker.membership_state import CommandError, Membership, Now, Step
from stowage_worker.messages import (
    Begin,
    Exited,
    Finished,
    Go,
    Hello,
    Prepare,
    Prepared,
    Refused,
    Started,
    Stop,
    Welcome,
    Yield,
    Yielded,
)
from stowage_worker.reports import phase_of


@dataclass
class ModelSupervisor:
    """What a supervisor process knows; `starts` and `goes` are kept for the asserts."""

    seat: str
    pod: str
    instance: str
    runs: int = 0
    prepared: int = 0
    link: int = 0
    is_welcome: bool = False
    said: list[Any] = field(default_factory=list)
    up: deque[Any] = field(default_factory=deque)
    down: deque[Any] = field(default_factory=deque)
    starts: list[int] = field(default_factory=list)
    goes: list[int] = field(default_factory=list)


class Theatre:
    """Plays operations one by one."""

    def __init__(self, seats: tuple[str, ...]) -> None:
        self.seats = seats
        self.state = Membership()
        self.now = 100.0
        self.supervisors = {seat: ModelSupervisor(seat, f"pod-{seat}", "1") for seat in seats}
        self.begin: Begin | None = None
        self.finished: set[tuple[str, int]] = set()
        self._numbers = 1

    # --- operations ---

    def connect(self, seat: str) -> None:
        """A supervisor without a connection makes one."""
        one = self.supervisors[seat]
        if one.link:
            return
        one.link = self._number()
        hello = Hello("", seat, one.pod, "10.0.0.1", 1, one.runs, instance=one.instance)
        self.apply(membership.joined(self.state, one.link, hello, "job", self.clock()))

    def break_off(self, seat: str) -> None:
        """A connection ends; what was under way on it is lost."""
        one = self.supervisors[seat]
        link, one.link, one.is_welcome = one.link, 0, False
        one.up.clear()
        one.down.clear()
        if link:
            self.apply(membership.left(self.state, seat, link, self.clock()))

    def upward(self, seat: str) -> None:
        """The coordinator reads one message of a supervisor."""
        one = self.supervisors[seat]
        if one.up:
            message = one.up.popleft()
            self.apply(membership.said(self.state, seat, one.link, message, self.clock()))
            self.assert_told(seat, message)

    def downward(self, seat: str) -> None:
        """A supervisor reads one message and does what it says."""
        one = self.supervisors[seat]
        if not one.down:
            return
        message = one.down.popleft()
        if isinstance(message, Welcome):
            one.is_welcome = True
            self.tell_again(one)
        elif isinstance(message, Prepare):
            self._prepare(one, message)
        elif isinstance(message, Go):
            self._go(one, message)
        elif isinstance(message, Yield) and message.epoch == one.runs:
            self.say(one, Yielded(one.runs), keep=True)
        elif isinstance(message, (Stop, Refused)):
            self.break_off(seat)
            if isinstance(message, Stop):
                self.crash(seat)

    def crash(self, seat: str) -> None:
        """A supervisor and its processes end; its container starts again in the same pod."""
        self.break_off(seat)
        old = self.supervisors[seat]
        self.supervisors[seat] = ModelSupervisor(seat, old.pod, str(self._number()))

    def replace_pod(self, seat: str) -> None:
        """Another pod takes the seat."""
        self.break_off(seat)
        self.supervisors[seat] = ModelSupervisor(seat, f"pod-{self._number()}", str(self._number()))

    def restart_coordinator(self) -> None:
        """It forgets all; connections end; nobody commands yet."""
        self.state = Membership()
        for one in self.supervisors.values():
            one.link, one.is_welcome = 0, False
            one.up.clear()
            one.down.clear()

    def command_again(self) -> None:
        """Whoever commands attaches and sends the same again."""
        if self.begin is not None:
            self.command(self.begin)

    def command_next(self, members: tuple[str, ...], yield_first_seconds: float = 0.0) -> None:
        """Another epoch begins."""
        epoch = 1 if self.begin is None else self.begin.epoch + 1
        self.begin = Begin(epoch, epoch, members, 1, yield_first_seconds=yield_first_seconds, start_seconds=60.0)
        self.command(self.begin)

    def command_late(self) -> None:
        """A command of an epoch before arrives, from somebody who does not lead any more."""
        if self.begin is not None and self.begin.epoch > 1 and self.state.begin is not None:
            before = self.state
            self.command(replace(self.begin, epoch=self.begin.epoch - 1))
            assert self.state is before or before.epoch < self.begin.epoch

    def command(self, begin: Begin) -> None:
        """Send a `Begin`; a refused one changes nothing."""
        try:
            self.apply(membership.began(self.state, begin, "job", self.clock()))
        except CommandError:
            return

    def exit(self, seat: str) -> None:
        """A process fails."""
        one = self.supervisors[seat]
        if one.runs and not any(isinstance(message, (Finished, Yielded)) for message in one.said):
            self.say(one, Exited(one.runs, self.seats.index(seat), 0, code=1), keep=True)

    def finish(self, seat: str) -> None:
        """All processes end well."""
        one = self.supervisors[seat]
        if one.runs and not any(isinstance(message, (Exited, Finished, Yielded)) for message in one.said):
            self.finished.add((seat, one.runs))
            self.say(one, Finished(one.runs), keep=True)

    def pass_time(self, seconds: float) -> None:
        """Ticks of a quarter of a second; who is connected beats."""
        for _ in range(max(1, int(seconds * 4))):
            self.now += 0.25
            self.apply(membership.ticked(self.state, self.clock()))

    def deliver_all(self) -> None:
        """Until no message is under way."""
        while any(one.up or one.down for one in self.supervisors.values()):
            for seat in self.seats:
                self.upward(seat)
                self.downward(seat)

    # --- inside ---

    def clock(self) -> Now:
        return Now(self.now, 1e9 + self.now)

    def say(self, one: ModelSupervisor, message: Any, *, keep: bool = False) -> None:
        if keep:
            one.said.append(message)
        if one.is_welcome:
            one.up.append(message)

    def tell_again(self, one: ModelSupervisor) -> None:
        if not one.runs and one.prepared:
            self.say(one, Prepared(one.prepared, 1))
        for message in one.said:
            self.say(one, message)

    def apply(self, step: Step) -> None:
        before, self.state = self.state, step.state
        by_link = {one.link: one for one in self.supervisors.values() if one.link}
        for link, message in step.sends:
            one = by_link.get(link)
            if one is None:
                continue
            if isinstance(message, Go):
                self._assert_go(one, message)
            one.down.append(message)
        for link in step.closes:
            one = by_link.get(link)
            if one is not None and one.link == link:
                if isinstance(one.down[-1] if one.down else None, Refused):
                    continue  # it reads why, and ends the connection itself
                self.break_off(one.seat)
        self._assert_kept(before)

    def _prepare(self, one: ModelSupervisor, message: Prepare) -> None:
        assert self.begin is not None
        assert message.epoch <= self.begin.epoch
        if message.epoch < one.runs:
            return
        if message.epoch == one.runs:
            self.tell_again(one)
            return
        one.runs, one.prepared = 0, message.epoch
        one.said.clear()
        self.say(one, Prepared(message.epoch, 1))

    def _go(self, one: ModelSupervisor, message: Go) -> None:
        if one.runs == message.epoch:
            self.tell_again(one)
        elif one.prepared == message.epoch and not one.runs:
            one.runs = message.epoch
            one.starts.append(message.epoch)
            one.said.insert(0, Started(message.epoch))
            self.tell_again(one)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    # --- what must hold ---

    def _assert_go(self, one: ModelSupervisor, message: Go) -> None:
        assert one.seat in self.state.members, "Go to somebody who is no member"
        assert self.state.members[message.node_rank] == one.seat
        assert all(epoch <= message.epoch for epoch in one.goes), "Go of a lower epoch after a higher one"
        assert one.prepared == message.epoch, "Go to somebody who was not prepared"
        one.goes.append(message.epoch)

    def _assert_kept(self, before: Membership) -> None:
        if before.epoch == self.state.epoch:
            assert set(before.evidence.entries) <= set(self.state.evidence.entries), "evidence was lost"
        assert all(one.epoch in (self.state.epoch, 0) or not self.state.epoch for one in self._evidence())
        if phase_of(self.state) == "Finished":
            assert all((seat, self.state.epoch) in self.finished for seat in self.state.members)
        for one in self.supervisors.values():
            assert len(set(one.starts)) == len(one.starts), "processes of one epoch were started twice"
            assert one.starts == sorted(one.starts)

    def assert_told(self, seat: str, message: Any) -> None:
        """What failed in the current epoch is known from the moment when it was told."""
        if isinstance(message, Exited) and message.epoch == self.state.epoch and seat in self.state.members:
            assert self.state.evidence.has("ProcessExited", seat)

    def _evidence(self) -> list[Any]:
        return list(self.state.evidence.entries.values())
