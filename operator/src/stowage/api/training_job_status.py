"""Status of a TrainingJob: all that the operator must not forget, and what people want to know."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, computed_field

from stowage.api.conditions import Conditions
from stowage.api.durations import Duration, Instant
from stowage.api.fields import (
    ATOMIC,
    MAX_COUNT,
    Decimal,
    Integer,
    Message,
    ReasonWord,
    ResourceName,
    Switch,
    Uid,
    Unique,
)
from stowage.api.names import MAX_JOB_NODES
from stowage.api.resource import StatusFields
from stowage.api.training_words import Action, Domain, Event, JobPhase, Lost, Scope

MAX_RECOVERIES: Final = 50
MAX_EVIDENCE: Final = 8
MAX_AVOIDED: Final = 64
MAX_STRAGGLERS: Final = 16
MAX_MEMBERS: Final = MAX_JOB_NODES

Count = Annotated[Integer, Field(ge=0, le=MAX_COUNT)]
SeatName = Annotated[str, Field(min_length=2, max_length=8, pattern=r"^s[0-9]{1,7}$")]
Text = Annotated[str, Field(max_length=256)]
ExitCode = Annotated[Integer, Field(ge=-(2**31), le=2**32 - 1)]
SignalNumber = Annotated[Integer, Field(ge=0, le=128)]


class NodeCounts(StatusFields):
    """Nodes of the job, as numbers."""

    desired: Count = 0
    """Nodes that the job shall train on; more than it does now while further ones are waited for."""
    ready: Count = 0
    """Those whose pod is Ready."""
    spares: Count = 0
    """Further pods that hold a node and wait."""

    @computed_field(  # type: ignore[prop-decorator]
        description="Ready out of desired, for people.", json_schema_extra={"maxLength": 40}
    )
    @property
    def summary(self) -> str:
        """Ready out of desired, such as `3/4`; derived, never read back."""
        return f"{self.ready}/{self.desired}"


class Layout(StatusFields):
    """How the ranks share the work."""

    data: Count
    """Ranks, or groups of them, that work on different samples."""
    tensor: Count
    """Ranks that share one layer."""
    pipeline: Count
    """Ranks that follow each other."""


class LastCheckpoint(StatusFields):
    """The newest checkpoint that is committed."""

    step: Count
    """Step that it was made after."""
    at: Instant
    """When the operator learned of it."""
    uri: Annotated[str, Field(max_length=1024)] | None = None
    """Where it is, as the program told."""
    seconds: Decimal | None = None
    """How long training stood still for it."""


class Progress(StatusFields):
    """How far training is, as the ranks report it."""

    step: Count | None = None
    """The last step that all ranks have done."""
    tokens: Count | None = None
    """Tokens of all ranks together."""
    step_seconds: Decimal | None = None
    """Length of a step, median of the last ones."""
    tokens_per_second: Decimal | None = None
    """Tokens of all ranks together."""
    loss: Text | None = None
    """The last loss that was reported, as text: it may be no number."""
    phase: Text | None = None
    """What the program says that it does: Training, Saving, Restoring …"""
    at: Instant | None = None
    """When `step` last changed."""
    last_checkpoint: LastCheckpoint | None = None
    """The newest checkpoint that is committed."""


class RestartCount(StatusFields):
    """How often something was started again."""

    scope: Scope
    """What was started again."""
    count: Count
    """How often, since the job was made."""


class EvidenceRecord(StatusFields):
    """Something seen that asked for recovery, with time and source."""

    event: Event
    """What happened."""
    at: Instant
    """When."""
    source: ReasonWord
    """Who saw it: coordinator, pod, node or prometheus."""
    seat: SeatName | None = None
    """Seat that it happened to."""
    node: ResourceName | None = None
    """Node that it happened on."""
    rank: Count | None = None
    """Rank that it happened to."""
    code: ExitCode | None = None
    """Exit code."""
    signal: SignalNumber | None = None
    """Signal that ended the process."""
    error_type: Text = ""
    """Class of the exception."""
    step: Count | None = None
    """Step that the rank had reached."""
    name: Text = ""
    """Of the condition, taint, rule or container state."""
    detail: Message = ""
    """In words."""


class RecoveryTimes(StatusFields):
    """Where the time of a recovery went; what has not ended yet is absent."""

    detect: Duration | None = None
    """From the failure to its evidence."""
    decide: Duration | None = None
    """From the evidence to the decision."""
    schedule: Duration | None = None
    """Until every pod had a node."""
    start: Duration | None = None
    """Until every rank was started."""
    restore: Duration | None = None
    """Until the first step."""
    recompute: Duration | None = None
    """Until training was as far as before the failure."""


class LastFailure(StatusFields):
    """The story of the last failure."""

    at: Instant
    """When it happened."""
    domain: Annotated[Domain, Field(alias="class")]
    """Whose fault it is."""
    event: Event
    """What happened."""
    seat: SeatName | None = None
    """Seat that failed first."""
    node: ResourceName | None = None
    """Its node."""
    rank: Count | None = None
    """Rank that failed first."""
    code: ExitCode | None = None
    """Exit code."""
    signal: SignalNumber | None = None
    """Signal that ended the process."""
    evidence: Annotated[tuple[EvidenceRecord, ...], Field(max_length=MAX_EVIDENCE, json_schema_extra=ATOMIC)] = ()
    """What was seen, the oldest first; at most eight."""
    action: Action
    """What was done about it."""
    reason: ReasonWord | None = None
    """Why that, from a closed set."""
    message: Message = ""
    """Why that, in words and numbers."""
    from_step: Count | None = None
    """Step that training had reached."""
    recovery: RecoveryTimes = RecoveryTimes()
    """Where the time of the recovery went."""


class RecoveryRecord(StatusFields):
    """One recovery of the past: budgets, escalation and repeated mistakes are judged by these."""

    at: Instant
    """When it was decided."""
    event: Event
    """What had happened."""
    action: Action
    """What was done."""
    domain: Annotated[Domain, Field(alias="class")]
    """Whose fault it was."""
    epoch: Count
    """Epoch that it happened in."""
    seat: SeatName | None = None
    """Seat that failed."""
    node: ResourceName | None = None
    """Its node."""
    code: ExitCode | None = None
    """Exit code."""
    error_hash: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9]*$")] = ""
    """Of class and message of the exception: equal for the same mistake."""
    step: Count | None = None
    """Step that had been reached."""
    name: Text = ""
    """Of the condition, taint, rule or disruption."""
    blameless: Switch = False
    """Whether nobody failed: it counts in no budget and for no node."""


class AvoidedNode(StatusFields):
    """A node that new pods of this job do not use."""

    node: ResourceName
    """Name of the node."""
    at: Instant
    """Since when."""
    reason: Message = ""
    """Why."""
    cordon: Switch = False
    """Whether nobody should use it: it gets the taint stowage.dev/unhealthy, once for each time that it fails."""


class LostSeconds(StatusFields):
    """Time that was not spent on new steps."""

    cause: Lost
    """Why."""
    seconds: Count
    """How long, since the job was made."""


class Goodput(StatusFields):
    """How much of the job's time went into steps that count."""

    ratio: Decimal
    """Productive and open seconds over all seconds from `since` to `until`, 0 to 1."""
    productive_seconds: Count = 0
    """Time of steps that were not lost."""
    open_seconds: Count = 0
    """Time since the last step: productive once the next one is done, lost if it never is."""
    lost_seconds: Annotated[tuple[LostSeconds, ...], Field(max_length=16), Unique("cause")] = ()
    """All other time, by cause."""
    furthest_step: Count | None = None
    """The furthest that training ever was: steps up to it are done again after a failure, and that is lost."""
    since: Instant | None = None
    """When the account was opened."""
    until: Instant | None = None
    """Up to when these numbers go."""


class Straggler(StatusFields):
    """A rank that is slower than the others, by what it told of its last steps. Nothing is done about it."""

    rank: Count
    """Its number in the current epoch."""
    seat: SeatName
    """Where it runs."""
    node: ResourceName | None = None
    """Where that is."""
    step_seconds: Decimal
    """Length of its steps, median."""
    wait_seconds: Decimal
    """How long it waited for others in each, median."""
    ratio: Decimal
    """Its own time, step without wait, over the median of all ranks."""


class SeatSummary(StatusFields):
    """Seats of the job, by how they are; all together are its seats and spares."""

    vacant: Count = 0
    """Without a pod."""
    waiting: Count = 0
    """The pod has no node yet."""
    starting: Count = 0
    """The pod has a node and its supervisor is not connected."""
    connected: Count = 0
    """The supervisor is connected, and its ranks do not run."""
    running: Count = 0
    """The ranks run."""
    finished: Count = 0
    """All ranks ended with code 0."""


class Sizing(StatusFields):
    """Why the job has as many nodes as it has, and what the next change of it waits for."""

    reason: ReasonWord | None = None
    """Why the number changed last, from a closed set."""
    message: Message = ""
    """Why, in words and numbers."""
    resized_at: Instant | None = None
    """When the number of nodes that train last changed."""
    asked_at: Instant | None = None
    """When another number was last asked for."""
    missing_since: Instant | None = None
    """Since when not all of them have a node."""
    room_since: Instant | None = None
    """Since when there is room for more, or more could begin."""


class Seat(StatusFields):
    """One seat: the pod that fills it. What is not here has no pod, or one that is no longer counted on."""

    seat: SeatName
    """Name of the seat."""
    attempt: Count
    """The last part of the pod's name."""
    pod_uid: Annotated[Uid | None, Field(alias="podUID")] = None
    """UID of the pod, once it is known."""
    node: ResourceName | None = None
    """Node of the pod."""
    spare: Switch = False
    """Whether the seat waits to take the place of another one."""


class TrainingJobStatus(StatusFields):
    """How a job is. What the operator decides stands here before it acts, so that another one can go on."""

    observed_generation: Count = 0
    """`metadata.generation` that this status speaks of."""
    phase: JobPhase | None = None
    """Where the job is in its life; absent: the operator has not looked yet."""
    phase_since: Instant | None = None
    """When `phase` last changed."""
    reason: ReasonWord | None = None
    """Why the job is in this phase, from a closed set."""
    message: Message = ""
    """Why, in words."""
    nodes: NodeCounts = NodeCounts()
    """Nodes of the job, as numbers."""
    selector: Annotated[str, Field(max_length=256)] = ""
    """Selects the pods of the job's seats, for `/scale`."""
    epoch: Count = 0
    """Rises with each change of the membership and each start of processes."""
    epoch_at: Instant | None = None
    """When the current epoch was decided."""
    attempt: Count = 0
    """Rises whenever processes are started again; checkpoints are fenced by it."""
    members: Annotated[tuple[SeatName, ...], Field(max_length=MAX_MEMBERS, json_schema_extra=ATOMIC)] = ()
    """Seats of the current epoch, in the order of node ranks."""
    # one writer, and atomic: the API server would keep who owns each field of each of them, as large as they are
    seats: Annotated[tuple[Seat, ...], Field(max_length=2 * MAX_MEMBERS, json_schema_extra=ATOMIC)] = ()
    """Seats that have a pod, or shall have one; each once."""
    seat_summary: SeatSummary | None = None
    """Seats by how they are."""
    sizing: Sizing | None = None
    """Why the job has as many nodes as it has; absent where the number never changes."""
    layout: Layout | None = None
    """How the ranks share the work."""
    progress: Progress = Progress()
    """How far training is."""
    checkpoint_interval: Duration | None = None
    """The interval that the program is told: that of the spec, or, with Auto, the computed one."""
    restarts: Annotated[tuple[RestartCount, ...], Field(max_length=8), Unique("scope")] = ()
    """How often something was started again."""
    last_failure: LastFailure | None = None
    """The story of the last failure."""
    stragglers: Annotated[tuple[Straggler, ...], Field(max_length=MAX_STRAGGLERS, json_schema_extra=ATOMIC)] = ()
    """The slowest ranks of the current epoch, where some are slower than usual by a tenth and more."""
    recoveries: Annotated[tuple[RecoveryRecord, ...], Field(max_length=MAX_RECOVERIES, json_schema_extra=ATOMIC)] = ()
    """The last recoveries, oldest first."""
    avoided_nodes: Annotated[tuple[AvoidedNode, ...], Field(max_length=MAX_AVOIDED), Unique("node")] = ()
    """Nodes that new pods of this job do not use."""
    goodput: Goodput | None = None
    """How much of the job's time went into steps that count."""
    started_at: Instant | None = None
    """When every rank had been started for the first time."""
    active_since: Instant | None = None
    """Since when the job is not suspended, for `spec.startDeadline` and `spec.activeDeadline`."""
    active_seconds: Count = 0
    """How long it was active before that."""
    finished_at: Instant | None = None
    """When the job ended."""
    conditions: Conditions = ()
    """Accepted, Placed, Running, Suspended, Complete and Failed."""

    @computed_field(  # type: ignore[prop-decorator]
        description="Starts of all scopes together.", json_schema_extra={"minimum": 0, "maximum": MAX_COUNT}
    )
    @property
    def restart_count(self) -> int:
        """Starts of all scopes together; derived, never read back."""
        return sum(one.count for one in self.restarts)
