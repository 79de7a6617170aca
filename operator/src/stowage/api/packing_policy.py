"""PackingPolicy: for which pods and nodes Stowage may plan, and how far it may go."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, model_validator

from stowage.api.conditions import Conditions
from stowage.api.consolidation import Consolidation
from stowage.api.durations import Duration, within
from stowage.api.fields import (
    MAX_COUNT,
    MAX_INT32,
    AddedLater,
    Integer,
    NamespaceName,
    NodeLabels,
    ResourceName,
    Switch,
    Unique,
    cel,
)
from stowage.api.int_or_percent import IntOrPercent
from stowage.api.names import MAX_POLICY_NAME, MAX_STEPS, SCHEDULER_NAME
from stowage.api.resource import STORED, Resource, SpecFields, StatusFields
from stowage.api.selectors import LabelSelector
from stowage.api.team_share import TeamShare
from stowage_scheduler.options import BatchJobs

MIN_PRIORITY = -(2**31)
MAX_TEAMS = 64
_NOT_YET = "This version accepts the field and does not act on it yet."


class Mode(StrEnum):
    """Who approves plans: people, or the policy itself."""

    RECOMMEND = "Recommend"
    ENFORCE = "Enforce"


class Steering(StrEnum):
    """What makes a replacement land where the plan says."""

    AUTO = "Auto"
    EXTENDER = "Extender"
    BIND = "Bind"


class NodeAutoscaler(StrEnum):
    """Whether planning leaves a node autoscaler time to add nodes first."""

    IGNORE = "Ignore"
    WAIT = "Wait"


class Tail(StrEnum):
    """What a plan improves last, after pods placed and disruption."""

    LEAST_FRAGMENTATION = "LeastFragmentation"
    CONSOLIDATE = "Consolidate"
    SPREAD = "Spread"
    LEAST_POWER = "LeastPower"


class FairnessMode(StrEnum):
    """How pods of equal priority are weighed against each other."""

    NONE = "None"
    WEIGHTED_DRF = "WeightedDRF"
    USER_FAIR_QUEUE = "UserFairQueue"


_QUIET_RULE = "trigger.quiet must not be longer than trigger.longest"
_CERTIFY_RULE = "budget.certifyWithin must not be longer than budget.time"
_WAIT_RULE = "waitFor must be given with nodeAutoscaler Wait, and only then"
_TEAMS_RULE = "fairness.teams must not be empty with mode WeightedDRF"
_QUEUE_RULE = "fairness.mode must be None or WeightedDRF: this version has no UserFairQueue"


class Trigger(SpecFields):
    """When pending pods lead to a plan."""

    model_config = ConfigDict(json_schema_extra=cel(("duration(self.quiet) <= duration(self.longest)", _QUIET_RULE)))

    quiet: Annotated[Duration, within("0s", "10m")] = Duration("1s")
    """Plan once no further pod has become unschedulable for this long."""
    longest: Annotated[Duration, within("0s", "1h")] = Duration("5s")
    """Plan at the latest this long after the first pod became unschedulable."""
    unschedulable_for: Annotated[Duration, within("0s", "24h")] = Duration("2s")
    """Leave a pod to kube-scheduler until it has been unschedulable for this long."""

    @model_validator(mode="after")
    def _quiet_fits(self) -> Self:
        if self.quiet.seconds > self.longest.seconds:
            raise ValueError(_QUIET_RULE)
        return self


class SolverBudget(SpecFields):
    """How long the solver may think."""

    model_config = ConfigDict(
        json_schema_extra=cel(("duration(self.certifyWithin) <= duration(self.time)", _CERTIFY_RULE))
    )

    time: Annotated[Duration, within("100ms", "10m")] = Duration("10s")
    """Wall time for one plan."""
    certify_within: Annotated[Duration, within("0s", "10m")] = Duration("2s")
    """The share of `time` that is kept for proving that no plan places more."""

    @model_validator(mode="after")
    def _share_fits(self) -> Self:
        if self.certify_within.seconds > self.time.seconds:
            raise ValueError(_CERTIFY_RULE)
        return self


class Protection(SpecFields):
    """Pods that are never moved, whatever it costs."""

    namespaces: Annotated[tuple[NamespaceName, ...], Field(max_length=256), Unique()] = ("kube-system",)
    """Namespaces whose pods stay."""
    priority_at_least: Annotated[Integer, Field(ge=MIN_PRIORITY, le=MAX_INT32)] = 1_000_000_000
    """Pods of this priority and above stay."""


class StopRule(SpecFields):
    """When a running plan ends because what comes of it is not what was planned, instead of evicting on."""

    landed_elsewhere: Annotated[Integer, Field(ge=1, le=MAX_STEPS)] = 3
    """End the plan once so many replacements were bound where it has no slot for them."""
    newly_unready: Annotated[Integer, Field(ge=1, le=MAX_COUNT)] = 3
    """End the plan once so many more pods of the controllers that it touches are unready than at its start."""
    ready_within: Annotated[Duration, within("1s", "24h")] = Duration("10m")
    """End the plan when a replacement is not bound, or not Ready, for so long."""


class Disruption(SpecFields):
    """How much running pods may be disturbed."""

    max_moves_per_plan: Annotated[Integer, Field(ge=0, le=MAX_STEPS)] = 20
    """Moves and evictions in one plan; 0 lets plans only use room that is free."""
    max_moves_per_hour: Annotated[Integer, Field(ge=0, le=100_000)] = 60
    """Moves and evictions of this policy within any hour."""
    min_pod_age: Annotated[Duration, within("0s", "8760h")] = Duration("60s")
    """Younger pods are not moved."""
    owner_settled: Annotated[Duration, within("0s", "24h")] = Duration("60s")
    """Pods of an owner whose replica count changed more recently are not moved."""
    plan_timeout: Annotated[Duration, within("1s", "24h")] = Duration("15m")
    """A plan that runs longer is aborted."""
    max_unavailable_per_owner: Annotated[IntOrPercent, AddedLater()] = IntOrPercent("25%")
    """Pods of one controller that a plan may have down at once: a number, or a share of its replicas, at least 1."""
    canary: Annotated[Switch, AddedLater()] = False
    """Whether the first move of a plan goes alone: nobody else is evicted until its replacement is Ready."""
    stop_rule: Annotated[StopRule, AddedLater()] = StopRule()
    """When a plan ends because what comes of it is not what was planned."""
    protect: Protection = Protection()
    """Pods that are never moved."""
    evict_lower_priority: Switch = True
    """Whether a running pod may lose its place to a pending pod of higher priority."""
    batch_jobs: BatchJobs = BatchJobs.NEVER
    """Whether pods of a batch Job may move; each eviction counts against the Job's backoffLimit."""
    protect_empty_dir: Switch = False
    """Whether pods with an emptyDir volume stay."""


class Objective(SpecFields):
    """What makes one plan better than another that places the same pods with the same disruption."""

    tail: Annotated[
        Tail,
        Field(
            description="What is improved last: where the pods of a plan land. LeastPower reads the labels "
            "stowage.dev/idle-watts and stowage.dev/peak-watts of nodes, and is Consolidate where no node has them."
        ),
    ] = Tail.LEAST_FRAGMENTATION


class Team(SpecFields):
    """Pods that share one claim to the nodes."""

    name: NamespaceName
    """Name of the team, unique in the policy."""
    selector: LabelSelector = LabelSelector()
    """Pods of the team, by their labels; `kubernetes.io/metadata.name` stands for their namespace."""
    weight: Annotated[Integer, Field(ge=1, le=1000)] = 1
    """Share of the team relative to the other teams."""


class Fairness(SpecFields):
    """How teams share the nodes."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("self.mode != 'WeightedDRF' || size(self.teams) > 0", _TEAMS_RULE),
            ("self.mode != 'UserFairQueue'", _QUEUE_RULE),
        )
    )

    mode: Annotated[
        FairnessMode,
        Field(
            description="Who comes first among pods of one priority when not all fit. None: most pods. WeightedDRF: "
            "teams get places in proportion to their weights, by dominant resource fairness. UserFairQueue is refused: "
            "this version does not have it, and takes it for None where it is stored already."
        ),
    ] = FairnessMode.NONE
    teams: Annotated[tuple[Team, ...], Field(max_length=MAX_TEAMS), Unique("name")] = ()
    """The teams; a pod belongs to the first that selects it. All others are one more team, of weight 1."""

    @model_validator(mode="after")
    def _teams_given(self, info: ValidationInfo) -> Self:
        if self.mode is FairnessMode.WEIGHTED_DRF and not self.teams:
            raise ValueError(_TEAMS_RULE)
        if self.mode is FairnessMode.USER_FAIR_QUEUE and not (info.context or {}).get(STORED):
            raise ValueError(_QUEUE_RULE)
        return self


class PackingPolicySpec(SpecFields):
    """For which pods and nodes Stowage may plan, and how far it may go. An empty spec recommends plans only."""

    model_config = ConfigDict(
        json_schema_extra=cel(("(self.nodeAutoscaler == 'Wait') == has(self.waitFor)", _WAIT_RULE))
    )

    mode: Mode = Mode.RECOMMEND
    """Recommend: plans wait for `spec.approval: Approved`. Enforce: plans are written as approved."""
    priority: Annotated[Integer, Field(ge=MIN_PRIORITY, le=MAX_INT32)] = 0
    """A node belongs to the policy of highest priority that selects it, then to the oldest."""
    paused: Switch = False
    """Whether planning and the start of further steps are stopped."""
    scheduler_names: Annotated[tuple[ResourceName, ...], Field(min_length=1, max_length=16), Unique()] = (
        SCHEDULER_NAME,
    )
    """Plan for, and move, only pods with one of these values of `spec.schedulerName`."""
    pod_selector: LabelSelector | None = None
    """Plan for, and move, only pods with these labels; absent: all."""
    namespace_selector: LabelSelector | None = None
    """Plan for, and move, only pods in namespaces with these labels; absent: all."""
    node_selector: NodeLabels = Field(default={})
    """Use only nodes with these labels; empty: all nodes."""
    steering: Annotated[
        Steering,
        Field(
            description="What makes a replacement land where the plan says. Auto: the extender where one lives, "
            "else bindings."
        ),
    ] = Steering.AUTO
    trigger: Trigger = Trigger()
    """When pending pods lead to a plan."""
    budget: SolverBudget = SolverBudget()
    """How long the solver may think."""
    disruption: Disruption = Disruption()
    """How much running pods may be disturbed."""
    node_autoscaler: Annotated[
        NodeAutoscaler,
        Field(description=f"Whether a node autoscaler may add nodes first (Wait, with waitFor). {_NOT_YET}"),
    ] = NodeAutoscaler.IGNORE
    wait_for: Annotated[
        Annotated[Duration, within("1s", "24h")] | None,
        Field(description=f"With nodeAutoscaler Wait: how long new nodes are waited for. {_NOT_YET}"),
    ] = None
    objective: Objective = Objective()
    """What makes one plan better than another."""
    fairness: Fairness = Fairness()
    """How teams share the nodes."""
    consolidation: Annotated[Consolidation, AddedLater()] = Consolidation()
    """Whether and when nodes are emptied though no pod waits."""

    @model_validator(mode="after")
    def _wait_for_fits(self) -> Self:
        if (self.node_autoscaler is NodeAutoscaler.WAIT) != (self.wait_for is not None):
            raise ValueError(_WAIT_RULE)
        return self

    def not_supported(self) -> tuple[str, ...]:
        """The settings, as `field: value`, that this version accepts but does not act on, in the order of the spec."""
        queue = self.fairness.mode is FairnessMode.USER_FAIR_QUEUE  # stored by an earlier version
        asked = (
            (self.node_autoscaler is NodeAutoscaler.WAIT, f"nodeAutoscaler: {self.node_autoscaler}"),
            (queue, f"fairness.mode: {self.fairness.mode} (acts as None)"),
        )
        return tuple(words for is_asked, words in asked if is_asked)


class PackingPolicyStatus(StatusFields):
    """What the operator knows about a policy."""

    observed_generation: Annotated[Integer, Field(ge=0, le=MAX_COUNT)] = 0
    """`metadata.generation` that this status speaks of."""
    plans_done: Annotated[Integer, Field(ge=0, le=MAX_COUNT)] = 0
    """Plans of this policy that ended in phase Done."""
    done_plans_deleted: Annotated[Integer, Field(ge=0, le=MAX_COUNT)] = 0
    """Those of `plansDone` that the operator has deleted since, because newer ones took their place."""
    pending_pods: Annotated[Integer, Field(ge=0, le=MAX_COUNT)] = 0
    """Pods in scope that kube-scheduler finds no place for."""
    nodes: Annotated[Integer, Field(ge=0, le=MAX_COUNT)] = 0
    """Nodes that belong to this policy."""
    moves_last_hour: Annotated[Integer, Field(ge=0, le=MAX_COUNT)] = 0
    """Moves and evictions counted against `disruption.maxMovesPerHour`."""
    active_plan: ResourceName | None = None
    """The plan that is being executed or waits for approval."""
    last_plan: ResourceName | None = None
    """The newest plan."""
    teams: Annotated[tuple[TeamShare, ...], Field(max_length=MAX_TEAMS), Unique("name")] = ()
    """With fairness: what each team holds of the policy's nodes."""
    conditions: Conditions = ()
    """Ready, Conflict, Degraded and, where nodes are to be emptied, Consolidated."""


class PackingPolicy(Resource):
    """A standing order: for which pods and nodes Stowage may plan, and how far it may go."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                f"self.metadata.name.size() <= {MAX_POLICY_NAME}",
                f"metadata.name must have at most {MAX_POLICY_NAME} characters: the names of plans begin with it",
            )
        )
    )
    plural: ClassVar[str] = "packingpolicies"
    max_name_length: ClassVar[int] = MAX_POLICY_NAME

    kind: Literal["PackingPolicy"] = "PackingPolicy"
    spec: PackingPolicySpec = PackingPolicySpec()
    """What is wanted; an empty spec recommends plans for pods of scheduler `stowage` on all nodes."""
    status: PackingPolicyStatus = PackingPolicyStatus()
    """What the operator knows; only the leading operator writes it."""
