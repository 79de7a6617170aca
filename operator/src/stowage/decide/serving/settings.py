"""What a role's decisions are made with besides what is measured: targets, limits and who may recommend."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stowage.decide.serving.decision import Recommender
from stowage.decide.serving.performance import Performance


class Role(StrEnum):
    """What a replica computes: whole requests, prompts alone, or all tokens after the first."""

    UNIFIED = "unified"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class ScheduledBounds:
    """From `begin_second` to `end_second` of the day (past midnight where the end is not later), bounds hold.

    `days` are the weekdays (0: Monday) on which a window begins, in the time zone `zone` (IANA name).
    """

    begin_second: int
    end_second: int
    days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    zone: str = "UTC"
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one role.

    Attributes:
        performance: the profile of a replica, from which the latency model starts.
        slo_ttft_seconds: target for the time to first token; None: no target.
        slo_itl_seconds: target for the mean time between a request's tokens; None: no target.
        slo_e2e_seconds: target for the time from arrival to last token; None: no target.
        attainment: share of requests that shall meet the targets.
        quantile: of the latencies that a replica's load is planned for; None: `attainment`.
        attainment_window_seconds: over how long `attainment` is counted.
        role: what a replica computes.
        recommenders: who is asked.
        least: fewest replicas.
        most: most replicas.
        budget_replicas: most replicas that the budget or the quota pays for; None: no such limit.
        interval_seconds: from one decision to the next.
        stale_after_seconds: how old the newest sample may be.
        stabilisation_seconds: for so long fewer must have done before the role shrinks; None: half a cold start.
        most_percent_per_minute: of the replicas, how many may go in a minute; at least one.
        rise_stabilisation_seconds: for so long more must have been needed before the role grows.
        most_rise_percent_per_minute: of the replicas, how many may come in a minute, at least one; None: no limit.
        concurrency_target: requests per replica for `Concurrency`; None: what the latency model allows.
        cost_ratio: what a miss costs over what an idle replica costs; demand is then served up to the quantile
            `cost_ratio / (cost_ratio + 1)`. None: as many are kept as are worth it, see `replicas_for_demand`.
        season_seconds: after how long demand is expected to repeat; 0: never.
        schedules: bounds by time of day.
    """

    performance: Performance
    slo_ttft_seconds: float | None = 2.0
    slo_itl_seconds: float | None = 0.1
    slo_e2e_seconds: float | None = None
    attainment: float = 0.99
    quantile: float | None = None
    attainment_window_seconds: float = 3600.0
    role: Role = Role.UNIFIED
    recommenders: tuple[Recommender, ...] = (Recommender.SLO, Recommender.SATURATION, Recommender.FORECAST)
    least: int = 1
    most: int = 1000
    budget_replicas: int | None = None
    interval_seconds: float = 5.0
    stale_after_seconds: float = 60.0
    stabilisation_seconds: float | None = None
    most_percent_per_minute: float = 20.0
    rise_stabilisation_seconds: float = 0.0
    most_rise_percent_per_minute: float | None = None
    concurrency_target: float | None = None
    cost_ratio: float | None = None
    season_seconds: float = 86_400.0
    schedules: tuple[ScheduledBounds, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most:
            raise ValueError(f"least {self.least} and most {self.most} are no bounds")
        if not 0 < self.attainment < 1:
            raise ValueError(f"attainment {self.attainment} is not between 0 and 1")
        if self.quantile is not None and not 0 < self.quantile < 1:
            raise ValueError(f"quantile {self.quantile} is not between 0 and 1")
        if self.attainment_window_seconds <= 0:
            raise ValueError(f"attainment_window_seconds {self.attainment_window_seconds} is not more than 0")
        if self.interval_seconds <= 0 or self.stale_after_seconds <= 0:
            raise ValueError("interval_seconds and stale_after_seconds are more than 0")

    @property
    def may_miss(self) -> float:
        """The share of requests that may miss their targets in the long run."""
        return 1 - self.attainment

    @property
    def may_miss_planned(self) -> float:
        """The share that a replica's load may miss by plan."""
        return 1 - (self.attainment if self.quantile is None else self.quantile)
