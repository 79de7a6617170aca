"""How the replicas of a ModelService follow its load: recommenders, limits of change, zero, schedules, budget."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, model_validator

from stowage.api.amounts import Amount, Between
from stowage.api.auto_duration import AUTO, AutoDuration, auto_or_within
from stowage.api.durations import Duration, within
from stowage.api.fields import Integer, NamespaceName, Switch, Unique, cel
from stowage.api.model_service_role import PartName, ReplicaCount
from stowage.api.resource import SpecFields

MAX_SCHEDULES: Final = 32


class Recommender(StrEnum):
    """Who says how many replicas are needed; see `docs/serving.md`."""

    CONCURRENCY = "Concurrency"
    SATURATION = "Saturation"
    SLO = "Slo"
    FORECAST = "Forecast"


class Day(StrEnum):
    """A day of the week."""

    MONDAY = "Monday"
    TUESDAY = "Tuesday"
    WEDNESDAY = "Wednesday"
    THURSDAY = "Thursday"
    FRIDAY = "Friday"
    SATURDAY = "Saturday"
    SUNDAY = "Sunday"


EVERY_DAY: Final = tuple(Day)


class Minimize(StrEnum):
    """What the mix of variants is chosen for."""

    COST = "Cost"
    POWER = "Power"


Percent = Annotated[Integer, Field(ge=1, le=10_000)]


class Concurrency(SpecFields):
    """For the recommender Concurrency."""

    target: Annotated[Integer, Field(ge=1, le=100_000)]
    """Requests that one replica shall have, those that wait included."""


class Forecast(SpecFields):
    """For the recommender Forecast."""

    season: Annotated[Duration, within("1h", "168h")] = Duration("24h")
    """After how long the load repeats: 24h for days that are alike, 168h for weeks."""


class ScaleUp(SpecFields):
    """How fast replicas are added."""

    stabilization: Annotated[Duration, within("0s", "1h")] = Duration("0s")
    """More must have been asked for this long."""
    max_percent_per_minute: Percent | None = None
    """Most growth within a minute, at least one replica; absent: no limit."""


class ScaleDown(SpecFields):
    """How fast replicas are removed."""

    stabilization: Annotated[AutoDuration, auto_or_within("0s", "24h")] = AutoDuration(AUTO)
    """Fewer must have done for this long; Auto: half of what a cold start takes."""
    max_percent_per_minute: Annotated[Percent, Field(le=100)] = 20
    """Most shrinkage within a minute, at least one replica."""
    drain_deadline: Annotated[Duration, within("0s", "24h")] = Duration("5m")
    """A replica that leaves takes no new requests, and goes when its last one has ended, or after this long."""


class Hold(SpecFields):
    """Requests that come while there is no replica."""

    requests: Annotated[Integer, Field(ge=1, le=100_000)] = 100
    """Most requests that are held; further ones are refused with 429."""
    longest: Annotated[Duration, within("1s", "1h")] = Duration("300s")
    """A request that was held for longer is refused with 503."""


class ScaleToZero(SpecFields):
    """When nothing is left running, and what becomes of requests then."""

    after: Annotated[Duration, within("30s", "168h")] = Duration("10m")
    """No request has come or run for so long."""
    hold: Hold = Hold()
    """Requests that come while there is no replica."""


_SCHEDULE_BOUNDS_RULE: Final = "at least one of min and max must be given"
_SCHEDULE_ORDER_RULE: Final = "max must not be less than min"
_SCHEDULE_SPAN_RULE: Final = "end must differ from start; a whole day is 00:00 to 24:00"
_TIME: Final = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
_END: Final = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"
_ZONE: Final = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$"


class Schedule(SpecFields):
    """Bounds that hold at certain times, within those of the role."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("has(self.min) || has(self.max)", _SCHEDULE_BOUNDS_RULE),
            ("!has(self.min) || !has(self.max) || self.max >= self.min", _SCHEDULE_ORDER_RULE),
            ("self.start != self.end", _SCHEDULE_SPAN_RULE),
        )
    )

    name: NamespaceName
    """Name of the schedule, unique in the service."""
    role: PartName | None = None
    """Whose bounds; absent: the first role's."""
    time_zone: Annotated[str, Field(min_length=1, max_length=64, pattern=_ZONE)] = "UTC"
    """Name in the IANA database, such as Europe/Berlin; summer time is followed."""
    days: Annotated[tuple[Day, ...], Field(min_length=1, max_length=7), Unique()] = EVERY_DAY
    """Days on which it starts."""
    start: Annotated[str, Field(max_length=5, pattern=_TIME)]
    """When it starts, such as `08:00`. Replicas are asked for as long before as a start takes."""
    end: Annotated[str, Field(max_length=5, pattern=_END)]
    """When it ends, such as `18:30` or `24:00`; before `start`: on the next day."""
    min: ReplicaCount | None = None
    """At least so many."""
    max: ReplicaCount | None = None
    """At most so many."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError(_SCHEDULE_BOUNDS_RULE)
        if self.min is not None and self.max is not None and self.max < self.min:
            raise ValueError(_SCHEDULE_ORDER_RULE)
        if self.start == self.end:
            raise ValueError(_SCHEDULE_SPAN_RULE)
        return self


class Budget(SpecFields):
    """What all roles together may cost; it ends before `bounds.min` does."""

    cost_per_hour: Amount | None = None
    """Sum of `costPerHour` of all replicas."""
    power_watts: Annotated[Integer, Field(ge=1, le=1_000_000_000)] | None = None
    """Sum of `powerWatts` of all replicas."""
    gpus: Annotated[Integer, Field(ge=1, le=1_000_000)] | None = None
    """GPUs of all replicas."""


class Scaling(SpecFields):
    """How the numbers of replicas follow the load. Any recommender raises them, all together lower them."""

    paused: Switch = False
    """Whether replicas stay as they are, whatever the load."""
    recommenders: Annotated[tuple[Recommender, ...], Field(min_length=1, max_length=4), Unique()] = (
        Recommender.SLO,
        Recommender.SATURATION,
        Recommender.FORECAST,
    )
    """
    Who says how many replicas are needed: Slo by a model of latencies, against `spec.slo`; Saturation by tokens in the
    KV cache; Forecast by the load to come; Concurrency by requests for each replica.
    """
    concurrency: Concurrency | None = None
    """For the recommender Concurrency; absent: as many requests for each replica as the model of latencies allows."""
    forecast: Forecast = Forecast()
    """For the recommender Forecast."""
    scale_up: ScaleUp = ScaleUp()
    """How fast replicas are added."""
    scale_down: ScaleDown = ScaleDown()
    """How fast replicas are removed."""
    scale_to_zero: ScaleToZero | None = None
    """When nothing is left running; absent: never."""
    schedules: Annotated[tuple[Schedule, ...], Field(max_length=MAX_SCHEDULES), Unique("name")] = ()
    """Bounds that hold at certain times; where several hold, the largest `min` and the smallest `max`."""
    cost_ratio: Annotated[Amount, Between("1", "100000")] | None = None
    """
    What it costs that requests miss their targets for want of a replica, over what a replica costs that is idle for as
    long: demand is served up to the quantile costRatio / (costRatio + 1). Absent: as `slo.attainment` asks.
    """
    minimize: Annotated[
        Minimize, Field(description="What the mix of variants is chosen for: least cost, or least power.")
    ] = Minimize.COST
    budget: Budget | None = None
    """What all roles together may cost; absent: no limit."""
