"""From what users write to what a role's decisions are made with, and from a decision to what users read of it."""

from __future__ import annotations

from typing import Final

from pydantic.alias_generators import to_camel

from stowage.api.durations import instant
from stowage.api.fields import MAX_COUNT
from stowage.api.model_service import ModelServiceSpec
from stowage.api.model_service_role import DECODE, PREFILL
from stowage.api.model_service_role import Role as RoleSpec
from stowage.api.model_service_scaling import EVERY_DAY, Schedule
from stowage.api.model_service_status import MAX_INPUTS, MAX_RECOMMENDATIONS, DecisionRecord, Recommendation
from stowage.decide.serving.decision import Decision, Recommender
from stowage.decide.serving.performance import Performance
from stowage.decide.serving.settings import Role, ScheduledBounds, Settings
from stowage.decide.serving.zero import what_is_unknown

DEFAULT_ATTAINMENT: Final = 0.99
"""Where a service promises nothing."""
DEFAULT_WINDOW_SECONDS: Final = 3600.0
_LARGEST: Final = 1e15
_ROLES: Final = {PREFILL: Role.PREFILL, DECODE: Role.DECODE}


def settings_of(spec: ModelServiceSpec, role: RoleSpec, performance: Performance) -> Settings:
    """What the decisions about one role are made with.

    Roles other than `prefill` and `decode` do whole requests. A target that the role has no hand in is left out: the
    first token is none of decode's, the time between tokens none of prefill's, and the last token's none of either.

    Args:
        spec: of the service.
        role: one of its roles.
        performance: of a replica of the role.
    """
    kind = _ROLES.get(role.name, Role.UNIFIED)
    slo, scaling = spec.slo, spec.scaling
    first_token = slo.time_to_first_token if slo is not None and kind is not Role.DECODE else None
    between_tokens = slo.inter_token_latency if slo is not None and kind is not Role.PREFILL else None
    end_to_end = slo.end_to_end if slo is not None and kind is Role.UNIFIED else None
    rise = scaling.scale_up.max_percent_per_minute
    stock = sum(role.bounds.max if one.max is None else one.max for one in role.variants)
    return Settings(
        performance=performance,
        slo_ttft_seconds=first_token.seconds if first_token is not None else None,
        slo_itl_seconds=between_tokens.seconds if between_tokens is not None else None,
        slo_e2e_seconds=end_to_end.seconds if end_to_end is not None else None,
        attainment=float(slo.attainment) if slo is not None else DEFAULT_ATTAINMENT,
        quantile=float(slo.quantile) if slo is not None and slo.quantile is not None else None,
        attainment_window_seconds=slo.window.seconds if slo is not None else DEFAULT_WINDOW_SECONDS,
        role=kind,
        recommenders=tuple(Recommender(one.value) for one in scaling.recommenders),
        least=role.bounds.min,
        most=max(role.bounds.min, min(role.bounds.max, stock)),
        stale_after_seconds=spec.metrics.stale_after.seconds,
        stabilisation_seconds=scaling.scale_down.stabilization.seconds,
        most_percent_per_minute=float(scaling.scale_down.max_percent_per_minute),
        rise_stabilisation_seconds=scaling.scale_up.stabilization.seconds,
        most_rise_percent_per_minute=None if rise is None else float(rise),
        concurrency_target=float(scaling.concurrency.target) if scaling.concurrency is not None else None,
        cost_ratio=float(scaling.cost_ratio) if scaling.cost_ratio is not None else None,
        season_seconds=scaling.forecast.season.seconds,
        schedules=tuple(
            _bounds(one) for one in scaling.schedules if spec.role(one.role) is role and not what_is_unknown(spec, one)
        ),
    )


def decision_record(decision: Decision, role: str) -> DecisionRecord:
    """A decision as the status keeps it; of more inputs than it may hold the first ones by name.

    Args:
        decision: about the role.
        role: its name.
    """
    recommender = None if decision.recommender is Recommender.NONE else decision.recommender.value
    return DecisionRecord(
        at=instant(decision.at),
        role=role,
        from_=decision.from_replicas,
        to=decision.to_replicas,
        reason=decision.reason.value,
        recommender=recommender,
        inputs={to_camel(name): _decimal(value) for name, value in decision.inputs[:MAX_INPUTS]},
        recommendations=tuple(
            Recommendation(recommender=who, replicas=min(count, MAX_COUNT))
            for who, count in decision.asked[:MAX_RECOMMENDATIONS]
        ),
        valid_until=instant(decision.valid_until),
    )


def _bounds(schedule: Schedule) -> ScheduledBounds:
    return ScheduledBounds(
        begin_second=_second(schedule.start),
        end_second=_second(schedule.end),
        days=tuple(EVERY_DAY.index(one) for one in schedule.days),
        zone=schedule.time_zone,
        least=schedule.min,
        most=schedule.max,
    )


def _second(text: str) -> int:
    hours, minutes = text.split(":")
    return (int(hours) * 60 + int(minutes)) * 60


def _decimal(value: float) -> str:
    """As a status holds it, which has room for so many digits."""
    return f"{min(max(value, -_LARGEST), _LARGEST):.6f}".rstrip("0").rstrip(".")
