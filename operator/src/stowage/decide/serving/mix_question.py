"""What a role's mix is asked with, whether it is asked at all, and what becomes of the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, Protocol

from stowage.api.conditions import ConditionStatus
from stowage.api.durations import instant
from stowage.api.model_service import ModelService
from stowage.api.model_service_reasons import ServiceReason
from stowage.api.model_service_role import DECODE, PREFILL
from stowage.api.model_service_role import Role as RoleSpec
from stowage.api.model_service_scaling import Minimize
from stowage.api.model_service_status import MixVariant, RoleMix
from stowage.decide.serving import demand
from stowage.decide.serving.capacity import Shape, Targets
from stowage.decide.serving.mix_problem import MICRO
from stowage.decide.serving.mix_switch import is_switching
from stowage.decide.serving.performance import Performance
from stowage.decide.serving.plan_serving import Role
from stowage.decide.serving.role_memory import RoleMemory
from stowage.decide.serving.role_mix import MixAnswer, MixOutcome, MixQuestion, Option, micro
from stowage.decide.serving.role_placing import Placed, PlacedRole
from stowage.decide.serving.role_prospect import Prospect
from stowage.decide.serving.spend import limits_of, uses
from stowage.decide.serving.variant_state import VariantState, most_of
from stowage.decide.serving.view import View

AFTER_FAILURE_SECONDS: Final = 1800.0
"""For so long no other mix is asked for once replicas of one did not start."""
PEAK_SECONDS: Final = 1800.0
"""A mix has to bear what came in any minute of the last half an hour."""
MARGIN: Final = 1.3
"""Of the load of the last minute, for chance and growth: what is planned for."""
LEAST_NEEDED: Final = 0.01
SCATTER: Final = 1.0
"""Standard deviation of lengths over their mean where no histogram tells: conversations have about that."""
_MINUTE_BINS: Final = round(60.0 / demand.BIN_SECONDS)
_LARGEST_PEAK: Final = 10.0
_KINDS: Final = {PREFILL: Role.PREFILL, DECODE: Role.DECODE}


@dataclass(frozen=True, slots=True)
class MixTold:
    """How the mix of a role stands, as a condition tells it."""

    status: ConditionStatus
    reason: ServiceReason
    words: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A role, as far as its mix depends on it.

    Attributes:
        spec: the role.
        states: of its variants.
        prospect: of it.
        memory: of it.
        replicas: that it shall have, each worth the slowest in use.
        start_seconds: what a new replica is expected to take.
        has_signals: whether they can be relied on.
        mix: that it has.
    """

    spec: RoleSpec
    states: Sequence[VariantState]
    prospect: Prospect
    memory: RoleMemory
    replicas: int
    start_seconds: float
    has_signals: bool
    mix: RoleMix | None


def question_of(
    service: ModelService, role: Asked, profiles: Mapping[str, Performance], now: float
) -> MixQuestion | MixTold | None:
    """What to ask for a role, or why nothing; None where it has a single variant."""
    spec = service.spec
    usable = role.states
    if len(usable) < 2:
        return None
    found = _not_asked(service, role, usable, profiles, now)
    if found is not None:
        return found
    in_use = [one for one in usable if one.current > 0] or usable
    bears = role.prospect.capacities
    reference = min(in_use, key=lambda one: bears[one.name]).name
    settings = role.prospect.settings
    shape = demand.shape(role.memory.decisions)
    limits = limits_of(spec.scaling.budget)
    return MixQuestion(
        role=_KINDS.get(role.spec.name, Role.UNIFIED),
        targets=Targets(
            math.inf if settings.slo_ttft_seconds is None else settings.slo_ttft_seconds,
            math.inf if settings.slo_itl_seconds is None else settings.slo_itl_seconds,
            settings.attainment if settings.quantile is None else settings.quantile,
        ),
        shape=Shape(shape.prompt_tokens, shape.output_tokens, SCATTER, SCATTER),
        options=tuple(_option(one, role, profiles, limits, now) for one in usable),
        replicas=_needed(role, bears[reference]),
        reference=reference,
        peak=_peak(role.memory, now),
        least=role.spec.bounds.min,
        most=role.spec.bounds.max,
        stock={name: micro(amount) for name, amount in limits.items()},
        favoured=tuple(one.name for one in role.mix.variants if one.replicas) if role.mix is not None else (),
    )


def _not_asked(
    service: ModelService,
    role: Asked,
    usable: Sequence[VariantState],
    profiles: Mapping[str, Performance],
    now: float,
) -> MixTold | None:
    spec, name = service.spec, role.spec.name
    without = [one.name for one in usable if one.spec.profile is None or one.spec.profile not in profiles]
    if is_switching(role.mix):
        return MixTold(ConditionStatus.TRUE, ServiceReason.MIX_SWITCHING, f"{name}: another mix takes over")
    if without:
        words = f"{name}: no usable PerformanceProfile of {', '.join(without)}, so variants follow in order of price"
        return MixTold(ConditionStatus.FALSE, ServiceReason.MIX_UNKNOWN, words)
    what = "powerWatts" if spec.scaling.minimize is Minimize.POWER else "costPerHour"
    free = [one.name for one in usable if role.prospect.prices[one.name] is None]
    if free:
        words = f"{name}: {', '.join(free)} without {what}, so variants are taken in the order of the spec"
        return MixTold(ConditionStatus.FALSE, ServiceReason.MIX_UNKNOWN, words)
    why = _why_fixed(service, role, usable)
    if why:
        return MixTold(ConditionStatus.UNKNOWN, ServiceReason.MIX_NOT_ASKED, f"{name}: {why}")
    failed = role.mix is not None and role.mix.reason == ServiceReason.MIX_SWITCH_FAILED
    if role.mix is not None and failed and now - role.mix.since.timestamp() < AFTER_FAILURE_SECONDS:
        wanted = ", ".join(one.name for one in role.mix.variants if one.replicas)
        words = f"{name}: replicas of {wanted} would cost less and did not start; they are tried again in half an hour"
        return MixTold(ConditionStatus.FALSE, ServiceReason.MIX_SWITCH_FAILED, words)
    return None


def _why_fixed(service: ModelService, role: Asked, usable: Sequence[VariantState]) -> str:
    spec = service.spec
    reasons = {
        "scaling.paused is true": spec.scaling.paused,
        "spec.replicas fixes the number, whatever replicas are of": spec.replicas is not None
        and role.spec is spec.roles[0],
        "spec.ratio counts replicas, and those of another variant are worth more or less": spec.ratio is not None
        and role.spec.name in _KINDS,
        "somebody else writes the replicas of a variant": any(one.foreign for one in usable),
        "there shall be no replica": role.replicas == 0,
        "without signals nothing is known of the load": not role.has_signals or not role.memory.decisions.bins,
    }
    return next((words for words, holds in reasons.items() if holds), "")


def _option(
    state: VariantState, role: Asked, profiles: Mapping[str, Performance], limits: Mapping[str, float], now: float
) -> Option:
    used = uses(state.spec)
    most = min(most_of(state, role.spec), role.spec.bounds.max)
    if state.out_of_stock_until(now) is not None:
        most = min(most, sum(one.node is not None and not one.is_draining for one in state.pods))
    return Option(
        name=state.name,
        performance=profiles[state.spec.profile or ""],
        cost_micro=micro(role.prospect.prices[state.name] or 0.0),
        bears=role.prospect.capacities[state.name],
        present=state.current,
        most=most,
        uses={name: micro(used.get(name, 0.0)) for name in limits},
        start_seconds=role.start_seconds,
    )


def _needed(role: Asked, bears: float) -> float:
    """Replicas that the load takes, the last one in part: one of another size may do for what is left.

    Where the load alone does not explain the number that was decided, that number is taken.
    """
    minutes = _minutes(role.memory, 0.0)
    load = MARGIN * minutes[0] / bears if minutes and bears > 0 else 0.0
    return max(LEAST_NEEDED, load) if role.replicas - 1 < load < role.replicas else float(role.replicas)


def _minutes(memory: RoleMemory, since: float) -> list[float]:
    """Requests per second of each minute, the newest first."""
    bins = [one.requests_per_second for one in memory.decisions.bins if one.at > since]
    return [fmean(bins[max(0, end - _MINUTE_BINS) : end]) for end in range(len(bins), 0, -_MINUTE_BINS)]


def _peak(memory: RoleMemory, now: float) -> float:
    """The busiest minute of the last half an hour over the last one."""
    minutes = _minutes(memory, now - PEAK_SECONDS)
    if not minutes or minutes[0] <= 0:
        return 1.0
    return min(_LARGEST_PEAK, max(1.0, max(minutes) / minutes[0]))


_REASONS: Final = {
    MixOutcome.CHOSEN: ServiceReason.MIX_SWITCHING,
    MixOutcome.KEPT: ServiceReason.MIX_IN_FORCE,
    MixOutcome.OUT_OF_REACH: ServiceReason.MIX_OUT_OF_REACH,
    MixOutcome.NO_ROOM: ServiceReason.MIX_NO_ROOM,
}


def mix_after(mix: RoleMix | None, answer: MixAnswer | None, role: RoleSpec, now: float) -> RoleMix | None:
    """The mix of a role with an answer to it; one that names other variants than the role has is none any more.

    What says the same as before stays as it is, so that a status rests.

    Args:
        mix: so far.
        answer: what came; None: nothing.
        role: as it is now.
        now: the time.
    """
    names = {one.name for one in role.variants}
    if mix is not None and {one.name for one in mix.variants} != names:
        mix = None
    if answer is None or {one.name for one in answer.parts} != names:
        return mix
    reason = _REASONS[answer.outcome]
    variants = tuple(
        MixVariant(name=one.name, replicas=one.replicas, requests_per_second=f"{one.requests_per_second:.4f}")
        for one in answer.parts
    )
    is_chosen = answer.outcome is MixOutcome.CHOSEN
    if mix is not None and not is_chosen and mix.reason == reason.value and _says(mix.variants) == _says(variants):
        return mix
    saves = f"{answer.saves_micro / MICRO:.6f}".rstrip("0").rstrip(".") if is_chosen else None
    return RoleMix(
        since=instant(float(int(now))),
        reason=reason.value,
        saves_per_hour=saves if is_chosen or mix is None else mix.saves_per_hour,
        variants=variants,
    )


def _says(variants: Sequence[MixVariant]) -> list[tuple[str, bool]]:
    return [(one.name, one.replicas > 0) for one in variants]


def told(role: str, asked: MixQuestion | MixTold | None, placed: Placed) -> MixTold | None:
    """What the condition says of a role.

    Args:
        role: its name.
        asked: what is asked for it, or why nothing is; None: it has a single variant.
        placed: where its replicas go.
    """
    mix = placed.mixes[role]
    if asked is None or (isinstance(asked, MixTold) and not is_switching(mix)):
        return asked
    if mix is None:
        return MixTold(ConditionStatus.UNKNOWN, ServiceReason.MIX_NOT_ASKED, f"{role}: none has been worked out yet")
    reason = ServiceReason(mix.reason)
    used = ", ".join(f"{one.replicas} {one.name}" for one in mix.variants if one.replicas)
    words = {
        ServiceReason.MIX_IN_FORCE: f"{role}: {used}",
        ServiceReason.MIX_SWITCHING: f"{role}: to {used}; what is there goes once they are ready",
        ServiceReason.MIX_OUT_OF_REACH: f"{role}: no variant serves these requests within the targets of slo",
        ServiceReason.MIX_NO_ROOM: f"{role}: no mix for this load fits into stock, bounds and budget",
        ServiceReason.MIX_SWITCH_FAILED: f"{role}: replicas of {used} did not start",
    }[reason]
    if role in placed.waiting:
        words = f"{role}: to {used}, once scaling.budget pays for old and new replicas at once"
    good = reason in {ServiceReason.MIX_IN_FORCE, ServiceReason.MIX_SWITCHING}
    return MixTold(ConditionStatus.TRUE if good else ConditionStatus.FALSE, reason, words)


class MixedRole(PlacedRole, Protocol):
    """A role on its way through a step, with its signals."""

    @property
    def look(self) -> Signalled:
        """What its signals say."""


class Signalled(Protocol):
    """As much of the signals as a mix depends on."""

    @property
    def view(self) -> View:
        """The role."""

    @property
    def problem(self) -> ServiceReason | None:
        """Why they can not be relied on."""


def mixes_of(
    service: ModelService,
    roles: Sequence[MixedRole],
    profiles: Mapping[str, Performance],
    placed: Placed,
    memories: Mapping[str, RoleMemory],
    now: float,
) -> Mapping[str, MixQuestion | MixTold]:
    """By role with several variants, what its mix is to be asked with, or why it is not asked.

    Args:
        service: with its last status.
        roles: all of them.
        profiles: by name.
        placed: where replicas go.
        memories: by role, as this step leaves them.
        now: the time.
    """
    found: dict[str, MixQuestion | MixTold] = {}
    for one in roles:
        asked = Asked(
            spec=one.spec,
            states=one.states,
            prospect=one.prospect,
            memory=memories[one.name],
            replicas=placed.decisions[one.name].to_replicas,
            start_seconds=one.look.view.cold_start_seconds,
            has_signals=one.look.problem is None,
            mix=placed.mixes[one.name],
        )
        question = question_of(service, asked, profiles, now)
        if question is not None:
            found[one.name] = question
    return found
