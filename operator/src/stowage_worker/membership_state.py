"""What the coordinator knows of a job: frozen values, made anew at each message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stowage_worker.codec import ToSupervisor
from stowage_worker.evidence import EvidenceLog
from stowage_worker.hang import HangWatch
from stowage_worker.messages import Begin, End, RankProgress

SILENT_SECONDS = 5.0
"""A supervisor that is connected and says nothing for so long is lost."""
LATE_SECONDS = 2.5
"""Supervisors beat once a second: one that was not heard for so long may be lost."""
GONE_SECONDS = 2.0
"""A supervisor whose connection ended has so long to come back."""
RETURN_SECONDS = 15.0
"""After the coordinator was started again, members that run have so long to find it."""
STALL_SECONDS = 1.5
"""A longer time between two ticks is the coordinator's own, and nobody's silence."""
RESTART_CODE = 76
"""With which a supervisor ends whose container shall start again."""

IDLE = "Idle"
PREPARING = "Preparing"
PREPARED = "Prepared"
RUNNING = "Running"
FINISHED = "Finished"
YIELDED = "Yielded"
LOST = "Lost"
BEYOND_THE_BARRIER = (RUNNING, FINISHED, YIELDED)
"""States of one whose processes of the epoch were started."""

WAITING = "Waiting"
FAILED = "Failed"


@dataclass(frozen=True)
class Now:
    """One instant on two clocks, seconds: `steady` for durations, `wall` since 1970."""

    steady: float
    wall: float


@dataclass(frozen=True)
class SeatRecord:
    """One supervisor."""

    seat: str
    pod: str
    instance: str
    address: str
    node: str
    link: int
    """Number of its connection; 0: none."""
    heard_at: float
    gone_at: float
    """When the connection ended; counts while `link` is 0."""
    state: str = IDLE
    epoch: int = 0
    """Whose processes it has started last; 0: none."""
    port: int = 0
    has_go: bool = False
    """`Go` of the current epoch was sent to this instance."""
    yields_until: float | None = None
    """It was asked to yield, and will be prepared by then at the latest."""
    is_leaving: bool = False
    """It was asked to end, for its container to start again."""
    log_rules: tuple[tuple[str, str], ...] = ()
    progress: tuple[RankProgress, ...] = ()


@dataclass(frozen=True)
class SavedStep:
    """The newest checkpoint that was heard of."""

    epoch: int
    step: int
    uri: str
    seconds: float | None
    """Training stood still so long for it."""
    at: float
    """When it was heard of, seconds since 1970."""


@dataclass(frozen=True)
class Saving:
    """A checkpoint that the ranks of an epoch are asked for."""

    epoch: int
    request: int = 0
    """New with each step that is offered, also by a coordinator that was started again."""
    step: int = -1
    by: float = 0.0
    """Steady clock: until then somebody waits for it."""
    offers: int = 0
    offered_at: float = 0.0
    """Steady clock: when this step was offered."""
    confirmed: bool = False
    confirmed_at: float = 0.0
    """Steady clock."""
    ends: bool = False
    """The processes end after it."""
    is_awaited: bool = False
    is_over: bool = False
    """It is committed, or given up."""
    saved_before: int = -1
    """Step of the checkpoint before it, in this epoch."""
    seats: tuple[str, ...] = ()
    """Who ran the epoch when the step was offered."""
    waits_for: str = ""
    """A seat with a rank that had not seen the offer when this was last asked; it is asked first the next time."""
    waiters: tuple[int, ...] = ()
    """Connections that are told `MayLeave`."""


@dataclass(frozen=True)
class Membership:
    """All that the coordinator knows; a new value after each message, report or tick."""

    begin: Begin | None = None
    seats: Mapping[str, SeatRecord] = field(default_factory=dict)
    evidence: EvidenceLog = field(default_factory=EvidenceLog)
    is_under_way: bool = False
    """Processes of this epoch have been started, or are being started."""
    barrier_by: float = 0.0
    """Steady clock: members that are not beyond the start barrier by then are evidence."""
    started_at: float | None = None
    first_step_at: float | None = None
    hang: HangWatch = field(default_factory=HangWatch)
    leader_epoch: int = 0
    end: End | None = None
    ticked_at: float | None = None
    waits_for: str = ""
    """A member that was not ready when this was last asked; it is asked first the next time."""
    saving: Saving | None = None
    saved: SavedStep | None = None
    rested_at: float | None = None
    """Steady clock: since then training goes on without a checkpoint."""
    leaving: frozenset[str] = frozenset()
    """Pods that were told to end, by UID."""

    @property
    def members(self) -> tuple[str, ...]:
        """Seats of the current epoch, in order of node ranks."""
        return () if self.begin is None else self.begin.seats

    @property
    def epoch(self) -> int:
        """The current epoch; 0 before the first command."""
        return 0 if self.begin is None else self.begin.epoch

    def is_beyond(self, seat: str) -> bool:
        """Whether a member's processes of this epoch were started."""
        record = self.seats.get(seat)
        return record is not None and record.epoch == self.epoch and record.state in BEYOND_THE_BARRIER


@dataclass(frozen=True)
class Step:
    """What follows from one event."""

    state: Membership
    sends: tuple[tuple[int, ToSupervisor], ...] = ()
    """(number of the connection, message), in this order."""
    closes: tuple[int, ...] = ()
    """Connections to end, after what is sent to them."""
    is_news: bool = False
    """Something other than progress has changed."""


class CommandError(ValueError):
    """A command that cannot be followed; says why."""
