"""The conditions of a ModelService."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stowage.api.conditions import Conditions, ConditionStatus, with_condition
from stowage.api.durations import instant
from stowage.api.model_service import ModelService
from stowage.api.model_service_reasons import ServiceCondition, ServiceReason
from stowage.api.model_service_status import ServiceLevelStatus
from stowage.decide.serving.cold_start import phase_of
from stowage.decide.serving.decision import Decision, Inputs
from stowage.decide.serving.mix_question import MixTold
from stowage.decide.serving.service_facts import PodFact
from stowage.decide.serving.targets_met import LEAST_REQUESTS
from stowage.decide.serving.unsupported import unsupported
from stowage.decide.serving.variant_state import VariantState, is_troubled

Told = tuple[ConditionStatus, ServiceReason, str]
TROUBLES = frozenset({ServiceReason.REPLICAS_UNPLACED, ServiceReason.REPLICAS_FAILING, ServiceReason.QUOTA_FULL})
"""Reasons of `Available` that somebody has to look at, also where enough replicas answer."""
MOST_NAMED = 5
"""Pods that a message names."""
_CONTRADICTIONS = frozenset({"contradictions", "signals_invalid", "signals_from_future_seconds"})
_LACKS = frozenset({"signals_missing", "signals_age_seconds", "targets_missing"})
"""Doubts for want of samples."""


@dataclass(frozen=True, slots=True)
class RoleTold:
    """What conditions are made from, of one role.

    Attributes:
        name: of the role.
        least: ready replicas that make it available.
        decision: about it.
        states: of its variants.
        problem: with its signals; None: none.
        problem_words: the same in words; without a problem, what is there to be wished for.
        doubt: what speaks against its newest sample; None: nothing does.
        elsewhere: replicas of variants that are gone from the spec, and that still take requests.
        mix: how its mix of variants stands; None: it has a single one.
        left_out: targets that decisions leave out, in words; empty: none.
    """

    name: str
    least: int
    decision: Decision
    states: Sequence[VariantState]
    problem: ServiceReason | None
    problem_words: str
    doubt: Inputs | None
    elsewhere: int = 0
    mix: MixTold | None = None
    left_out: str = ""

    @property
    def pods(self) -> tuple[PodFact, ...]:
        """Those that are there."""
        return tuple(pod for state in self.states for pod in state.pods)

    @property
    def ready(self) -> int:
        """Replicas that take requests."""
        return self.elsewhere + sum(one.is_ready and one.takes_requests for one in self.pods)


def with_service_conditions(
    service: ModelService,
    roles: Sequence[RoleTold],
    level: ServiceLevelStatus | None,
    *,
    missing_profiles: Sequence[str],
    refused: str,
    now: float,
) -> Conditions:
    """The conditions as they are now; times of those whose status is the same stay.

    Args:
        service: with its last status.
        roles: all of them.
        level: how well targets are met.
        missing_profiles: names that variants give, and that are not there.
        refused: the API server's words about a child.
        now: the time.
    """
    told: dict[ServiceCondition, Told] = {
        ServiceCondition.ACCEPTED: _accepted(service, roles, missing_profiles, refused),
        ServiceCondition.AVAILABLE: _available(roles, now),
        ServiceCondition.OBSERVED: _observed(roles, service.spec.metrics.stale_after.seconds, now),
        ServiceCondition.SCALING: _scaling(service, roles),
    }
    if service.spec.slo is not None:
        told[ServiceCondition.TARGETS_MET] = _targets_met(float(service.spec.slo.attainment), level)
    mixes = [one.mix for one in roles if one.mix is not None]
    if mixes:
        told[ServiceCondition.MIX_CHOSEN] = _mix_chosen(mixes)
    conditional = {ServiceCondition.TARGETS_MET.value, ServiceCondition.MIX_CHOSEN.value} - set(told)
    found = tuple(one for one in service.status.conditions if one.type not in conditional)
    for kind, (status, reason, message) in told.items():
        found = with_condition(
            found,
            kind,
            status,
            reason,
            message,
            now=instant(now),
            observed_generation=service.metadata.generation or 0,
        )
    return found


def _accepted(service: ModelService, roles: Sequence[RoleTold], missing: Sequence[str], refused: str) -> Told:
    foreign = [
        f"{one.deployment.name} ({one.foreign})"
        for role in roles
        for one in role.states
        if one.deployment is not None and one.foreign
    ]
    if refused:
        return ConditionStatus.FALSE, ServiceReason.CHILD_REFUSED, refused
    if foreign:
        message = (
            f"somebody else writes spec.replicas of {', '.join(foreign)}, so that stays as it is; end what writes it, "
            "then scale the Deployment to its number in status.roles[].variants[].desired"
        )
        return ConditionStatus.FALSE, ServiceReason.FOREIGN_EDIT, message
    if missing:
        message = (
            f"there is no PerformanceProfile {', '.join(missing)}, or its own condition Accepted is False; "
            "what a replica serves is not known meanwhile"
        )
        return ConditionStatus.FALSE, ServiceReason.PROFILE_MISSING, message
    vain = unsupported(service.spec)
    if vain:
        return ConditionStatus.TRUE, ServiceReason.NOT_SUPPORTED, f"not acted on: {', '.join(vain)}"
    left_out = "; ".join(one.left_out for one in roles if one.left_out)
    if left_out:
        words = f"{left_out}; no number of replicas helps, so decisions leave that out"
        return ConditionStatus.TRUE, ServiceReason.TARGET_OUT_OF_REACH, words
    return ConditionStatus.TRUE, ServiceReason.ACCEPTED, ""


def _available(roles: Sequence[RoleTold], now: float) -> Told:
    short = [one for one in roles if one.ready < min(one.least, one.decision.to_replicas)]
    counts = ", ".join(f"{one.ready} of {one.decision.to_replicas} {one.name}" for one in roles)
    if not short:
        if all(one.decision.to_replicas == 0 for one in roles):
            return ConditionStatus.TRUE, ServiceReason.AT_ZERO, "there is no replica, and there shall be none"
        states = [state for role in roles for state in role.states]
        stuck = [pod for one in states for pod in one.stuck(now)]
        troubled = [pod for one in states for pod in one.pods if not pod.is_ready and is_troubled(pod)]
        trouble = _trouble(states, [*troubled, *stuck])
        if trouble is not None:  # those that answer go on: a version that can not start, no room for a further one
            return ConditionStatus.TRUE, trouble[0], f"{counts} ready, and new ones do not get there: {trouble[1]}"
        return ConditionStatus.TRUE, ServiceReason.REPLICAS_READY, f"{counts} ready"
    pods = [pod for role in short for pod in role.pods if not pod.is_ready]
    trouble = _trouble([state for role in short for state in role.states], pods)
    if trouble is not None:
        return ConditionStatus.FALSE, trouble[0], f"{counts} ready: {trouble[1]}"
    phases: dict[str, int] = {}
    for pod in pods:
        phases[phase_of(pod).value] = phases.get(phase_of(pod).value, 0) + 1
    doing = ", ".join(f"{count} in phase {name}" for name, count in phases.items())
    return ConditionStatus.FALSE, ServiceReason.REPLICAS_STARTING, f"{counts} ready{': ' if doing else ''}{doing}"


def _trouble(states: Sequence[VariantState], pods: Sequence[PodFact]) -> tuple[ServiceReason, str] | None:
    """What keeps replicas from getting there, in words; None: nothing that waiting would not mend."""
    full = next((one.failure for one in states if one.is_quota_full), "")
    if full:
        return ServiceReason.QUOTA_FULL, full
    broken = next((one.failure for one in states if one.failure), "")
    troubled = [f"{pod.ref.name} ({pod.trouble or f'{pod.restarts} restarts'})" for pod in pods if is_troubled(pod)]
    if broken or troubled:
        more = f" and {len(troubled) - MOST_NAMED} more" if len(troubled) > MOST_NAMED else ""
        return ServiceReason.REPLICAS_FAILING, broken or ", ".join(troubled[:MOST_NAMED]) + more
    unplaced = [pod for pod in pods if pod.unschedulable_since is not None and pod.node is None]
    if unplaced:
        why = next((pod.unschedulable_message for pod in unplaced if pod.unschedulable_message), "no node has room")
        return ServiceReason.REPLICAS_UNPLACED, f"{len(unplaced)} without a node: {why}"
    return None


def _observed(roles: Sequence[RoleTold], stale_after_seconds: float, now: float) -> Told:
    if all(one.decision.to_replicas == 0 and all(pod.is_spare for pod in one.pods) for one in roles):
        return ConditionStatus.UNKNOWN, ServiceReason.AT_ZERO, "there is no replica that could tell"
    silent = [one for one in roles if _can_not_tell_yet(one, now - stale_after_seconds)]
    for one in roles:
        if one.problem is not None and one not in silent:
            return ConditionStatus.FALSE, one.problem, f"{one.name}: {one.problem_words}"
    for one in roles:
        if one.doubt is not None and one not in silent:
            names = {name for name, _ in one.doubt}
            reason = ServiceReason.SIGNALS_MISSING
            if names & _CONTRADICTIONS:
                reason = ServiceReason.SIGNALS_CONTRADICTORY
            elif "signals_age_seconds" in names:
                reason = ServiceReason.SIGNALS_STALE
            numbers = ", ".join(f"{name}: {value:g}" for name, value in one.doubt)
            return ConditionStatus.FALSE, reason, f"{one.name}: {numbers}"
    if silent:
        words = silent[0].problem_words or "no replica has answered for long enough to have been scraped"
        return ConditionStatus.UNKNOWN, ServiceReason.SIGNALS_MISSING, f"{silent[0].name}: {words}"
    lacks = "; ".join(f"{one.name}: {one.problem_words}" for one in roles if one.problem_words)
    return ConditionStatus.TRUE, ServiceReason.SIGNALS_FRESH, lacks


def _can_not_tell_yet(role: RoleTold, since: float) -> bool:
    """Whether a role has no samples, and no replica that has answered since then, so that there should be some."""
    if role.elsewhere:
        return False
    lacks = role.doubt is not None and {name for name, _ in role.doubt} <= _LACKS
    if role.problem is not ServiceReason.SIGNALS_MISSING and not (role.problem is None and lacks):
        return False
    answers = [one for one in role.pods if one.is_ready and one.takes_requests]
    return all((one.created_at if one.ready_at is None else one.ready_at) > since for one in answers)


def _scaling(service: ModelService, roles: Sequence[RoleTold]) -> Told:
    if service.spec.replicas is not None:
        words = f"spec.replicas fixes {roles[0].name} at {service.spec.replicas}"
        given = roles[0].decision
        if given.to_replicas != service.spec.replicas:
            words = f"{words}, and {given.to_replicas} are asked for: {given.reason.value}"
        return ConditionStatus.FALSE, ServiceReason.MANUAL_OVERRIDE, words
    if service.spec.scaling.paused:
        return ConditionStatus.FALSE, ServiceReason.PAUSED, "scaling.paused is true"
    frozen = [one.name for one in roles if one.problem is not None or one.doubt is not None]
    if frozen and any(one.decision.to_replicas for one in roles):
        return ConditionStatus.FALSE, ServiceReason.FROZEN, f"without signals of {', '.join(frozen)} nothing falls"
    return ConditionStatus.TRUE, ServiceReason.FOLLOWS_SIGNALS, ""


def _mix_chosen(mixes: Sequence[MixTold]) -> Told:
    order = (ConditionStatus.FALSE, ConditionStatus.UNKNOWN, ConditionStatus.TRUE)
    worst = min(mixes, key=lambda one: order.index(one.status))
    return worst.status, worst.reason, "; ".join(one.words for one in mixes)


def _targets_met(asked: float, level: ServiceLevelStatus | None) -> Told:
    if level is None or level.attainment is None or level.requests < LEAST_REQUESTS:
        count = level.requests if level is not None else 0
        return ConditionStatus.UNKNOWN, ServiceReason.TOO_FEW_REQUESTS, f"{count} requests were counted"
    attained = float(level.attainment)
    words = f"{attained:.2%} of {level.requests} requests met the targets; {asked:.2%} shall"
    if attained >= asked:
        return ConditionStatus.TRUE, ServiceReason.WITHIN_TARGETS, words
    return ConditionStatus.FALSE, ServiceReason.BELOW_ATTAINMENT, words
