"""What deciding about a TrainingJob is told: frozen values, times in seconds since 1970."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from stowage.api.training_words import Action, Domain, Event, JobPhase


class Evidence(Struct, frozen=True):
    """Something seen that may ask for recovery, with time and source.

    `source` says who saw it, like `coordinator`, `pod`, `node`, `prometheus`. `epoch` is the epoch in which it
    happened; None: not bound to one. `pod` is the UID of the pod that it is about. `name` is that of the condition,
    taint, rule, disruption or container state. `gone`: nothing will ever run in that pod again.
    """

    event: Event
    at: float
    source: str
    seat: str | None = None
    node: str | None = None
    rank: int | None = None
    epoch: int | None = None
    code: int | None = None
    signal: int | None = None
    error_type: str = ""
    error_message: str = ""
    error_hash: str = ""
    step: int | None = None
    name: str = ""
    detail: str = ""
    pod: str | None = None
    gone: bool = False


class RuleFacts(Struct, frozen=True):
    """One rule of `spec.recovery.rules`, or a default below them; empty sets match anything of the event."""

    action: Action
    events: frozenset[Event] = frozenset()
    codes: frozenset[int] = frozenset()
    signals: frozenset[int] = frozenset()
    names: frozenset[str] = frozenset()
    """Of node conditions, taints, promql rules or log rules."""
    error_types: frozenset[str] = frozenset()
    message: str = ""


class SeatFacts(Struct, frozen=True):
    """One seat as it is: its pod and what the coordinator says of its supervisor.

    A pod that a decision gave up is the seat's no more, though it may be `Terminating` for long: the seat of a vacated
    pod has neither `pod_uid` nor `node`.
    """

    seat: str
    pod_uid: str | None = None
    pod_name: str | None = None
    node: str | None = None
    ready: bool = False
    terminating: bool = False
    finished: bool = False
    """All its ranks ended with code 0: what becomes of its pod then matters to nobody."""
    connected: bool = False
    member: bool = False
    """Of the current epoch."""
    spare: bool = False
    started_at: float | None = None
    """When its pod got its node."""
    ready_since: float | None = None
    """When its containers ran, where they do."""


class Budget(Struct, frozen=True):
    """At most `restarts` in any `window_seconds`."""

    restarts: int
    window_seconds: float


class JobFacts(Struct, frozen=True):
    """A job, as recovery has to know it.

    `sizes` are the allowed numbers of nodes, ascending. `force_delete` says whether pods on lost nodes may be
    deleted by force (`spec.recovery.forceDelete`). `epoch_at` is when the current epoch was decided: what is not bound
    to an epoch and is older has been answered by it.
    """

    key: str
    epoch: int
    attempt: int
    size: int
    sizes: tuple[int, ...]
    rules: tuple[RuleFacts, ...]
    budget: Budget
    seats: tuple[SeatFacts, ...]
    spares: int = 0
    step: int | None = None
    checkpoint_step: int | None = None
    stateful_storage: bool = False
    """It has volumes that one node at a time may attach: a second pod with them could spoil data."""
    force_delete: bool = False
    phase: JobPhase = JobPhase.RUNNING
    epoch_at: float = 0.0
    heard: bool = True
    """Whether the coordinator is heard now; without it nobody knows which supervisors live."""
    heard_since: float = 0.0
    """Since when it is heard, or is not."""


class Recovery(Struct, frozen=True):
    """One recovery of the past, as the job's status keeps it (bounded)."""

    at: float
    event: Event
    action: Action
    domain: Domain
    epoch: int
    seat: str | None = None
    node: str | None = None
    code: int | None = None
    error_hash: str = ""
    step: int | None = None
    name: str = ""
    """Of the condition, taint, rule or disruption."""
    blameless: bool = False
    """Nobody failed: it counts in no budget and for no node."""


class NodeRecord(Struct, frozen=True):
    """What one node did to jobs, over all jobs: times of failures that were put down to it.

    `is_proven` says that so many of them, of so many jobs, are beyond what the jobs of one namespace can make up that
    nobody should use the node.
    """

    failures: tuple[float, ...] = ()
    jobs: frozenset[str] = frozenset()
    is_proven: bool = False


class History(Struct, frozen=True):
    """What went before: this job's recoveries, oldest first, and the records of nodes across jobs."""

    recoveries: tuple[Recovery, ...] = ()
    nodes: Mapping[str, NodeRecord] = field(default_factory=dict)


class Decision(Struct, frozen=True):
    """What to do about evidence, and why.

    `restart` are seats whose container has to be ended so that the kubelet starts it again, `vacate` seats whose pods
    go (`force` by force), `avoid` nodes that new pods must not use, with a reason each, and `cordon` those of them that
    nobody should use. `size` is the new number of nodes. `reason` is a word of `RecoveryReason`, `message` a sentence
    with the numbers. `recoveries` are what the status has to remember. With `Ignore`, `again_at` says when the same
    facts may ask for more. Any action other than `Ignore`, `Pause` and `Fail` begins a new epoch and attempt.
    """

    action: Action
    domain: Domain
    reason: str
    message: str
    evidence: tuple[Evidence, ...] = ()
    vacate: tuple[str, ...] = ()
    force: tuple[str, ...] = ()
    avoid: Mapping[str, str] = field(default_factory=dict)
    cordon: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    claimed_spares: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    recoveries: tuple[Recovery, ...] = ()
    again_at: float | None = None
