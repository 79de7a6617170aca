"""The status of a ModelService: what it has, what was decided and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from stowage.api.conditions import Condition, ConditionStatus, condition_of
from stowage.api.durations import instant
from stowage.api.model_service import ModelService
from stowage.api.model_service_reasons import ServiceCondition
from stowage.api.model_service_status import (
    MAX_DECISIONS,
    ColdStart,
    DecisionRecord,
    GroupStatus,
    ModelServiceStatus,
    RoleMix,
    RoleStatus,
    ServiceLevelStatus,
    SpendStatus,
    VariantStatus,
)
from stowage.decide.serving.children import selector_text
from stowage.decide.serving.decision_words import words
from stowage.decide.serving.service_conditions import TROUBLES, RoleTold, with_service_conditions
from stowage.decide.serving.service_facts import PodFact
from stowage.decide.serving.service_settings import decision_record
from stowage.decide.serving.spend import COST, GPUS, POWER, uses
from stowage.decide.serving.variant_state import VariantState

Groups = Mapping[tuple[str, str], tuple[GroupStatus, ...]]
"""By role and variant."""
MOST_WORDS: Final = 100
"""Replicas of several pods, of one service, that have the words of why they were made anew, the last of them: with
those of thousands a status would be larger than the API server stores."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a status is made from.

    Attributes:
        service: with its last status.
        roles: all of them, in the spec's order.
        pods: of the service, all of them.
        answers: the role whose replicas answer under the service's own name.
        targets: by role and variant, replicas that it shall have.
        spares: by role and variant, those that are kept warm beyond them.
        cached_nodes: by role, nodes without a replica that hold its weights.
        groups: by role and variant, those of its replicas that have several pods.
        out_of_stock_until: by role and variant, those that are asked for no more for a while.
        mixes: by role, of which variants replicas are made.
        level: how well targets are met.
        cold_start: how long starts take.
        missing_profiles: names that variants give, and that are not there.
        refused: the API server's words about a child.
        last_signal_at: time of the newest sample.
        now: the time.
    """

    service: ModelService
    roles: Sequence[RoleTold]
    pods: Sequence[PodFact]
    answers: str
    targets: Mapping[str, Mapping[str, int]]
    mixes: Mapping[str, RoleMix | None]
    spares: Mapping[str, Mapping[str, int]]
    cached_nodes: Mapping[str, int]
    level: ServiceLevelStatus | None
    cold_start: ColdStart | None
    missing_profiles: Sequence[str]
    refused: str
    last_signal_at: float | None
    now: float
    groups: Groups = field(default_factory=dict)
    out_of_stock_until: Mapping[tuple[str, str], float] = field(default_factory=dict)


def status_of(report: Report) -> ModelServiceStatus:
    """The status as it is now."""
    service, roles = report.service, report.roles
    first = roles[0]
    conditions = with_service_conditions(
        service,
        roles,
        report.level,
        missing_profiles=report.missing_profiles,
        refused=report.refused,
        now=report.now,
    )
    wrong = _what_is_wrong(conditions)
    groups = with_few_words(report.groups)
    return ModelServiceStatus(
        observed_generation=service.metadata.generation or 0,
        reason=wrong.reason if wrong is not None else first.decision.reason.value,
        message=wrong.message if wrong is not None else words(first.decision),
        replicas=sum(one.role == report.answers and not one.is_terminating and not one.is_spare for one in report.pods),
        selector=selector_text(service.name, report.answers),
        roles=tuple(_role(report, one, groups) for one in roles),
        decisions=_decisions(service.status.decisions, roles),
        cold_start=report.cold_start,
        slo=report.level,
        spend=_spend([state for role in roles for state in role.states], report.pods),
        last_signal_at=instant(report.last_signal_at)
        if report.last_signal_at is not None
        else service.status.last_signal_at,
        conditions=conditions,
    )


def _what_is_wrong(conditions: tuple[Condition, ...]) -> Condition | None:
    """What people should look at before any decision: children that cannot be made, or that nothing comes of."""
    for kind in (ServiceCondition.ACCEPTED, ServiceCondition.AVAILABLE):
        one = condition_of(conditions, kind)
        if one is not None and (one.status is ConditionStatus.FALSE or one.reason in TROUBLES):
            return one
    return None


def with_few_words(groups: Groups) -> Groups:
    """The groups, without words on those beyond the last `MOST_WORDS` that have any."""
    told = sorted(
        ((one.since, key, one.ordinal) for key, found in groups.items() for one in found if one.message), reverse=True
    )
    silent = {(key, ordinal) for _, key, ordinal in told[MOST_WORDS:]}
    if not silent:
        return groups
    return {
        key: tuple(one.model_copy(update={"message": ""}) if (key, one.ordinal) in silent else one for one in found)
        for key, found in groups.items()
    }


def _role(report: Report, role: RoleTold, groups: Groups) -> RoleStatus:
    before = next((one for one in report.service.status.roles if one.name == role.name), None)
    desired = role.decision.to_replicas
    targets = report.targets[role.name]
    is_same = before is not None and before.desired == desired and before.since is not None
    pods = role.pods
    draining = sum(one.is_draining for one in pods)
    return RoleStatus(
        name=role.name,
        desired=desired,
        ready=role.ready,
        starting=max(0, desired - role.ready),
        draining=draining,
        spare=sum(one.is_spare and one.is_ready for one in pods),
        cached_nodes=report.cached_nodes.get(role.name, 0),
        reason=role.decision.reason.value,
        message=words(role.decision),
        since=before.since if before is not None and is_same else instant(float(int(report.now))),
        variants=tuple(
            VariantStatus(
                name=one.name,
                desired=targets.get(one.name, 0),
                ready=sum(pod.is_ready and pod.takes_requests for pod in one.pods),
                spare=report.spares[role.name].get(one.name, 0),
                groups=groups.get((role.name, one.name), ()),
                out_of_stock_until=_until(report, role.name, one),
            )
            for one in role.states
        ),
        mix=report.mixes[role.name],
    )


def _until(report: Report, role: str, state: VariantState) -> datetime | None:
    """Of groups alone: a Deployment has an annotation for it."""
    until = report.out_of_stock_until.get((role, state.name)) if state.spec.group is not None else None
    return instant(float(int(until))) if until is not None else None


def _decisions(before: tuple[DecisionRecord, ...], roles: Sequence[RoleTold]) -> tuple[DecisionRecord, ...]:
    """The last ones; of a role that stays as it is for the same reason, the newest alone.

    Where there are too many, those that changed nothing go first: reasons to stay alternate, changes are looked for.
    """
    found = list(before)
    for role in roles:
        record = decision_record(role.decision, role.name).model_copy(update={"message": words(role.decision)})
        last = next((one for one in reversed(found) if one.role == role.name), None)
        repeats = (
            last is not None
            and record.from_ == record.to == last.to == last.from_
            and (record.reason, record.recommender) == (last.reason, last.recommender)
        )
        if repeats and last is not None:
            found.remove(last)
        found.append(record)
    found.sort(key=lambda one: one.at)
    while len(found) > MAX_DECISIONS:
        newest = {one.role: one for one in found}.values()
        idle = (one for one in found if one.from_ == one.to and not any(one is other for other in newest))
        found.remove(next(idle, found[0]))
    return tuple(found)


def _spend(states: Sequence[VariantState], pods: Sequence[PodFact]) -> SpendStatus:
    """Of variants that are gone from the spec nobody knows the price any more; their GPUs are those of their pods."""
    totals: dict[str, float] = {GPUS: 0.0, COST: 0.0, POWER: 0.0}
    is_known = dict.fromkeys(totals, True)
    for one in states:
        used = uses(one.spec)
        for name in totals:
            is_known[name] = is_known[name] and name in used
            totals[name] += len(one.pods) * used.get(name, 0.0)
    known = {pod.ref for one in states for pod in one.pods}
    left_over = [pod for pod in pods if pod.ref not in known and not pod.is_terminating]
    if left_over:
        totals[GPUS] += sum(one.gpus for one in left_over)
        is_known |= {COST: False, POWER: False}
    return SpendStatus(
        gpus=int(totals[GPUS]),
        cost_per_hour=f"{totals[COST]:.6f}".rstrip("0").rstrip(".") if is_known[COST] else None,
        power_watts=int(totals[POWER]) if is_known[POWER] else None,
    )
