"""What supervisors, the coordinator and the operator say to each other: one JSON object a line.

Fields that a receiver does not know are passed over and fields that a sender does not know have defaults, so that
worker files of one version can talk to an operator of the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PROTOCOL = 1
MAX_LINE_BYTES = 1 << 20


class MessageError(ValueError):
    """A line that is no message: says what it lacks or which field is of the wrong form."""


# --- a supervisor to the coordinator ---


@dataclass(frozen=True)
class Hello:
    """The first line of a supervisor, also after the coordinator was started again."""

    token: str
    seat: str
    pod: str
    """UID of the pod (local mode: any text that is new for each supervisor process)."""
    address: str
    """Where ranks on other nodes reach this one."""
    processes: int
    epoch: int = 0
    """Whose processes it runs now; 0: none."""
    attempt: int = 0
    node: str = ""
    instance: str = ""
    """New for each start of the supervisor: tells a new connection from a container that was started again."""
    protocol: int = PROTOCOL


@dataclass(frozen=True)
class Beat:
    """A sign of life, every second."""

    epoch: int
    progress: tuple[RankProgress, ...] = ()


@dataclass(frozen=True)
class RankProgress:
    """What one rank last told through `report` or its progress file; times are seconds, steps count from 0."""

    rank: int
    step: int = -1
    tokens: int = 0
    loss: float | None = None
    phase: str = ""
    """One of those of `stowage_worker.client.PHASES`; empty: not told."""
    step_seconds: float | None = None
    wait_seconds: float | None = None
    """Of the last step, spent waiting for other ranks."""
    since_step_seconds: float = 0.0
    """Since the step changed, on the supervisor's clock."""
    checkpoint_step: int = -1
    checkpoint_uri: str = ""
    checkpoint_seconds: float | None = None
    """Training stood still so long for the last checkpoint."""
    asked_step: int = -1
    """The last step for which it asked whether a checkpoint is due; -1: it never asked."""
    request: int = 0
    """The number of the last `SaveAt` that it has seen."""
    is_late: bool = False
    """It had answered for that step, or a later one, before it saw it."""


@dataclass(frozen=True)
class Prepared:
    """No process of an earlier epoch runs here any more; `port` is free on this node."""

    epoch: int
    port: int


@dataclass(frozen=True)
class Started:
    """The processes of this epoch run."""

    epoch: int
    pids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Exited:
    """One process ended other than with code 0, or left before the end barrier was reached by others."""

    epoch: int
    rank: int
    local_rank: int
    code: int | None = None
    signal: int | None = None
    error_type: str = ""
    """Class of the exception, from the error file."""
    error_message: str = ""
    error_hash: str = ""
    """Of type and message without numbers and addresses: equal for the same mistake."""
    step: int = -1


@dataclass(frozen=True)
class Matched:
    """A line of output matched a rule of the job."""

    epoch: int
    rank: int
    rule: str
    line: str = ""


@dataclass(frozen=True)
class Finished:
    """All processes of this epoch ended with code 0: this node stands at the end barrier."""

    epoch: int


@dataclass(frozen=True)
class Yielded:
    """Asked to yield, all processes ended by themselves at a step boundary, after a checkpoint where one was made."""

    epoch: int


@dataclass(frozen=True)
class Leaving:
    """This supervisor was told to end, and waits so long for `MayLeave`: the job may make a checkpoint first."""

    seconds: float


# --- the preStop hook of a training container to the coordinator ---


@dataclass(frozen=True)
class Leave:
    """The first and only line of such a connection: this pod is about to be stopped; answered with `MayLeave`."""

    token: str
    seat: str
    pod: str
    seconds: float
    """Nobody waits for longer."""
    protocol: int = PROTOCOL


# --- the coordinator to a supervisor ---


@dataclass(frozen=True)
class Welcome:
    """The supervisor is known; what its ranks' output is watched for."""

    job: str
    log_rules: tuple[tuple[str, str], ...] = ()
    """(name, regular expression)."""


@dataclass(frozen=True)
class Prepare:
    """Stop what runs of earlier epochs, SIGKILL after `grace_seconds`, and answer with `Prepared`."""

    epoch: int
    attempt: int
    grace_seconds: float = 30.0


@dataclass(frozen=True)
class Go:
    """Every member is prepared: start the processes."""

    epoch: int
    attempt: int
    node_rank: int
    nodes: int
    processes_per_node: int
    master_address: str
    master_port: int
    environment: dict[str, str] = field(default_factory=dict)
    world: dict[str, Any] = field(default_factory=dict)
    """Written to the file that `STOWAGE_WORLD_FILE` names: layout, batch, data position, seats in order of ranks."""
    checkpoint_seconds: float = 0.0
    """Between two checkpoints; 0: the program's own choice."""


@dataclass(frozen=True)
class SaveAt:
    """At which step ranks shall make a checkpoint; the latest counts. Offered first, then confirmed."""

    epoch: int
    checkpoint_seconds: float = 0.0
    request: int = 0
    """A number for each step that is offered; 0: none is."""
    step: int = -1
    confirmed: bool = False
    """Every rank that asks has seen it in time: all answer yes at this step. Until then ranks that are there wait."""
    ends: bool = False
    """The processes are to end after it."""


@dataclass(frozen=True)
class MayLeave:
    """Nothing is waited for any more: the checkpoint is committed, or there will be none."""

    step: int = -1
    """Of the checkpoint; -1: none was made."""
    reason: str = ""
    again: bool = False
    """Ask again: this coordinator was started a moment ago, and the supervisor has not come back to it yet."""


@dataclass(frozen=True)
class Yield:
    """Let the processes make a checkpoint and end at a step boundary; SIGTERM, then SIGKILL after the deadline."""

    epoch: int
    deadline_seconds: float


@dataclass(frozen=True)
class Stop:
    """End all processes and the supervisor itself, with this exit code."""

    code: int = 0
    grace_seconds: float = 30.0


# --- the operator (or local mode) to the coordinator ---


@dataclass(frozen=True)
class Attach:
    """The first line of whoever commands; the latest to attach is listened to."""

    token: str
    leader_epoch: int = 0
    """Of the leader's lease: a coordinator refuses one that is lower than it has seen."""
    protocol: int = PROTOCOL


@dataclass(frozen=True)
class Begin:
    """Be in this epoch with these members, in order of node ranks; repeating it changes `checkpoint_seconds` alone."""

    epoch: int
    attempt: int
    seats: tuple[str, ...]
    processes_per_node: int
    grace_seconds: float = 30.0
    yield_first_seconds: float = 0.0
    """Above 0: the change is planned; let members checkpoint and yield within this time before they are stopped."""
    start_seconds: float = 600.0
    """Within which every member must be prepared."""
    environment: dict[str, str] = field(default_factory=dict)
    world: dict[str, Any] = field(default_factory=dict)
    hang: HangRule | None = None
    log_rules: tuple[tuple[str, str], ...] = ()
    pods: tuple[str, ...] = ()
    """UIDs, one for each seat: supervisors of other pods are refused the seats. Empty: the newest pod has the seat."""
    restart_seats: tuple[str, ...] = ()
    """Their supervisors are ended first (`Stop` with a code that is not 0), for their containers to start again."""
    checkpoint_seconds: float = 0.0
    """Between two checkpoints; 0: the program's own choice. Said again with another one it counts from then on."""


@dataclass(frozen=True)
class HangRule:
    """No step for `max(floor_seconds, factor x median step)` while ranks are training is a hang."""

    floor_seconds: float = 5.0
    factor: float = 5.0
    first_step_seconds: float = 1800.0
    """Until the first step, in phases other than training and once ranks have ended with 0, so long is allowed."""


@dataclass(frozen=True)
class Checkpoint:
    """Ask for a checkpoint soon; training goes on."""

    epoch: int


@dataclass(frozen=True)
class End:
    """End all supervisors with this exit code, then the coordinator."""

    code: int = 0
    grace_seconds: float = 30.0


# --- the coordinator to the operator ---


@dataclass(frozen=True)
class Evidence:
    """Something that went wrong in the current epoch; kept until the next one begins."""

    event: str
    """`ProcessExited`, `SupervisorLost`, `Hang`, `NonFinite`, `LogRule` or `StartTimeout`."""
    epoch: int
    at: float
    """Seconds since 1970, on the coordinator's clock."""
    seat: str = ""
    rank: int = -1
    code: int | None = None
    signal: int | None = None
    error_type: str = ""
    error_message: str = ""
    error_hash: str = ""
    step: int = -1
    detail: str = ""
    name: str = ""
    """Of the log rule."""


@dataclass(frozen=True)
class SeatState:
    """One supervisor, as the coordinator sees it."""

    seat: str
    pod: str
    connected: bool
    state: str
    """`Idle`, `Preparing`, `Prepared`, `Running`, `Finished`, `Yielded` or `Lost`."""
    address: str = ""
    node: str = ""
    silent_seconds: float = 0.0


@dataclass(frozen=True)
class Straggling:
    """Statistics of steps, per rank: evidence, no reason to act."""

    rank: int
    seat: str
    step_seconds_median: float
    wait_seconds_median: float
    ratio: float
    """Own time (step without wait) over the median of all ranks."""


@dataclass(frozen=True)
class Progress:
    """The job's progress: the least step of all ranks, tokens of all ranks together."""

    step: int = -1
    tokens: int = 0
    loss: float | None = None
    step_seconds: float | None = None
    phase: str = ""
    since_step_seconds: float = 0.0
    checkpoint_step: int = -1
    """Of the newest checkpoint that this coordinator heard of, also one of an earlier epoch."""
    checkpoint_uri: str = ""
    checkpoint_seconds: float | None = None
    checkpoint_at: float | None = None
    """When it heard of it, seconds since 1970."""


@dataclass(frozen=True)
class Report:
    """All that the operator needs to know; sent when it attaches and at each change (progress: once a second)."""

    epoch: int
    attempt: int
    phase: str
    """`Waiting` (no command yet), `Preparing`, `Running`, `Failed` (evidence is there), `Yielded` or `Finished`."""
    seats: tuple[SeatState, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    progress: Progress = Progress()
    stragglers: tuple[Straggling, ...] = ()
    started_at: float | None = None
    """When the processes of this epoch were started everywhere, seconds since 1970."""
    first_step_at: float | None = None
    protocol: int = PROTOCOL


@dataclass(frozen=True)
class Refused:
    """A message was not accepted; the connection ends."""

    reason: str
