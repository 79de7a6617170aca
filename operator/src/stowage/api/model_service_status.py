"""Status of a ModelService: how it is, what was decided about it and why."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints, computed_field

from stowage.api.conditions import Conditions
from stowage.api.durations import Duration, Instant
from stowage.api.fields import ATOMIC, MAX_COUNT, Decimal, Integer, Message, ReasonWord, Unique
from stowage.api.model_service_role import MAX_REPLICAS, MAX_ROLES, MAX_VARIANTS, PartName
from stowage.api.resource import StatusFields

MAX_DECISIONS: Final = 10
MAX_INPUTS: Final = 32
MAX_RECOMMENDATIONS: Final = 8

Count = Annotated[Integer, Field(ge=0, le=MAX_COUNT)]
InputName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z][A-Za-z0-9]*$")]
Inputs = Annotated[dict[InputName, Decimal], Field(max_length=MAX_INPUTS)]


class ColdStartPhase(StrEnum):
    """What a replica that starts is doing."""

    SCHEDULE = "Schedule"
    IMAGE = "Image"
    WEIGHTS = "Weights"
    ENGINE = "Engine"


class GroupStatus(StatusFields):
    """One replica that has several pods."""

    ordinal: Count
    """Its number within the variant; pods have it in their names."""
    attempt: Count = 0
    """Pods of other attempts, by their names, are no longer of it."""
    size: Count
    """Pods that it has, or shall have."""
    whole: bool = False
    """All of its pods have been there: one that is missing now was deleted."""
    restarts: Count = 0
    """How often all of its pods were made anew since it last served for ten minutes."""
    container_restarts: Count | None = None
    """Of its containers until it first answered; with one more all pods are made anew. Absent: it has not answered."""
    since: Instant
    """When this attempt was decided."""
    reason: ReasonWord | None = None
    """Why its pods were made anew the last time, from a closed set."""
    message: Message = ""
    """The same in words."""


class VariantStatus(StatusFields):
    """Replicas of one variant."""

    name: PartName
    """Name of the variant."""
    desired: Count = 0
    """Replicas that it shall have."""
    ready: Count = 0
    """Those that take requests."""
    groups: Annotated[tuple[GroupStatus, ...], Field(max_length=MAX_REPLICAS, json_schema_extra=ATOMIC)] = ()
    """With `group`: each of its replicas, those that leave included."""
    out_of_stock_until: Instant | None = None
    """With `group`: no room was found for a replica, and until then no more are asked for."""
    spare: Count = 0
    """Replicas that it shall keep warm beyond `desired`."""


class MixVariant(StatusFields):
    """A variant's part in the mix of a role."""

    name: PartName
    """Name of the variant."""
    replicas: Count = 0
    """Of it, at the load that the mix was chosen for; 0: it comes only when those before it can have no more."""
    requests_per_second: Decimal | None = None
    """What one replica serves within the targets, of requests as they were measured."""


class RoleMix(StatusFields):
    """Of which variants the replicas of a role shall be, so that they cost least."""

    since: Instant
    """When it was chosen."""
    reason: ReasonWord
    """How it stands, from a closed set: `MixInForce`, `MixSwitching`, or why there is none."""
    saves_per_hour: Decimal | None = None
    """What the last switch saved, in what `scaling.minimize` counts: price, or watts."""
    variants: Annotated[tuple[MixVariant, ...], Field(max_length=MAX_VARIANTS), Unique("name")] = ()
    """In the order in which they get replicas."""


class RoleStatus(StatusFields):
    """Replicas of one role."""

    name: PartName
    """Name of the role."""
    desired: Count = 0
    """Replicas that it shall have."""
    ready: Count = 0
    """Those that take requests."""
    starting: Count = 0
    """Those that do not take requests yet."""
    draining: Count = 0
    """Those that leave, and still answer."""
    spare: Count = 0
    """Those that are kept warm beyond `desired`, and are ready."""
    cached_nodes: Count = 0
    """Nodes that hold image and weights, and no replica."""
    reason: ReasonWord | None = None
    """Why it shall have so many, from a closed set."""
    message: Message = ""
    """Why, in words and numbers."""
    since: Instant | None = None
    """When `desired` last changed."""
    variants: Annotated[tuple[VariantStatus, ...], Field(max_length=MAX_VARIANTS), Unique("name")] = ()
    """The same by variant."""
    mix: RoleMix | None = None
    """Of which variants replicas are made; absent with a single one."""


class Recommendation(StatusFields):
    """What one recommender asked for."""

    recommender: ReasonWord
    """Who."""
    replicas: Count
    """How many."""


class DecisionRecord(StatusFields):
    """One decision about one role."""

    at: Instant
    """When."""
    role: PartName
    """About which role."""
    from_: Annotated[Count, Field(alias="from")]
    """Replicas before."""
    to: Count
    """Replicas after."""
    reason: ReasonWord
    """Why, from a closed set."""
    recommender: ReasonWord | None = None
    """Whose number it follows."""
    message: Message = ""
    """Why, in words and numbers."""
    inputs: Inputs = Field(default={})
    """The numbers that it was made from, such as `arrivalsPerSecond`."""
    recommendations: Annotated[
        tuple[Recommendation, ...], Field(max_length=MAX_RECOMMENDATIONS, json_schema_extra=ATOMIC)
    ] = ()
    """What each recommender asked for."""
    valid_until: Instant | None = None
    """Without newer signals it is not repeated after this."""


class PhaseTime(StatusFields):
    """How long one phase of a cold start takes."""

    phase: ColdStartPhase
    """Which phase."""
    p50: Duration
    """Median."""
    p90: Duration
    """Nine of ten are shorter."""


class VariantColdStart(StatusFields):
    """How long a replica of one variant takes to start."""

    role: PartName
    """Its role."""
    variant: PartName
    """Its name."""
    p50: Duration
    """Median."""
    p90: Duration
    """Nine of ten are shorter."""
    samples: Count
    """Starts that this was learned from."""


class ColdStart(StatusFields):
    """How long replicas take from being asked for to their first request, as learned from their starts."""

    p50: Duration
    """Median."""
    p90: Duration
    """Nine of ten are shorter."""
    samples: Count = 0
    """Starts that this was learned from."""
    useful_seconds_per_cold_start_second: Decimal | None = None
    """Time that replicas were ready for, over the time that they took to start."""
    phases: Annotated[tuple[PhaseTime, ...], Field(max_length=4), Unique("phase")] = ()
    """The same by phase."""
    variants: Annotated[
        tuple[VariantColdStart, ...], Field(max_length=MAX_ROLES * MAX_VARIANTS, json_schema_extra=ATOMIC)
    ] = ()
    """The same by variant."""


class ServiceLevelStatus(StatusFields):
    """How well the targets are met."""

    attainment: Decimal | None = None
    """Share of the requests within `slo.window` that met every target, 0 to 1."""
    requests: Count = 0
    """Requests that this was counted from, those that failed included."""
    time_to_first_token: Duration | None = None
    """At the quantile that is held against the target, lately."""
    inter_token_latency: Duration | None = None
    """The same for the time between tokens."""
    end_to_end: Duration | None = None
    """The same for whole requests."""
    at: Instant | None = None
    """Time of the newest sample."""


class SpendStatus(StatusFields):
    """What all replicas together use, those that start or drain included."""

    gpus: Count | None = None
    """GPUs."""
    cost_per_hour: Decimal | None = None
    """Sum of `costPerHour`; absent where a variant does not tell, or is gone from the spec and has replicas left."""
    power_watts: Count | None = None
    """Sum of `powerWatts`; absent where a variant does not tell, or is gone from the spec and has replicas left."""


def _sum(counts: Iterable[int]) -> int:
    return min(MAX_COUNT, sum(counts))


class ModelServiceStatus(StatusFields):
    """How a service is, and the last decisions about it."""

    observed_generation: Count = 0
    """`metadata.generation` that this status speaks of."""
    reason: ReasonWord | None = None
    """Why the first role has as many replicas as it has, or why the service is not as it shall be."""
    message: Message = ""
    """Why, in words."""
    replicas: Count = 0
    """Replicas of the first role, for `/scale`."""
    selector: Annotated[str, Field(max_length=256)] = ""
    """Selects the pods of the first role, for `/scale`."""
    roles: Annotated[tuple[RoleStatus, ...], Field(max_length=MAX_ROLES), Unique("name")] = ()
    """Replicas by role."""
    decisions: Annotated[tuple[DecisionRecord, ...], Field(max_length=MAX_DECISIONS, json_schema_extra=ATOMIC)] = ()
    """The last ten decisions, oldest first."""
    cold_start: ColdStart | None = None
    """How long replicas take to start."""
    slo: ServiceLevelStatus | None = None
    """How well the targets are met."""
    spend: SpendStatus | None = None
    """What all replicas together use."""
    last_signal_at: Instant | None = None
    """Time of the newest sample of all signals."""
    conditions: Conditions = ()
    """Accepted, Available, Observed, Scaling, TargetsMet and MixChosen."""

    @computed_field(  # type: ignore[prop-decorator]
        description="Ready replicas of all roles.", json_schema_extra={"minimum": 0, "maximum": MAX_COUNT}
    )
    @property
    def ready_replicas(self) -> int:
        """Ready replicas of all roles; derived, never read back."""
        return _sum(one.ready for one in self.roles)

    @computed_field(  # type: ignore[prop-decorator]
        description="Desired replicas of all roles.", json_schema_extra={"minimum": 0, "maximum": MAX_COUNT}
    )
    @property
    def desired_replicas(self) -> int:
        """Desired replicas of all roles; derived, never read back."""
        return _sum(one.desired for one in self.roles)
