"""A role as it is before it is decided: its variants, how many it has, how fast they are and how long starts take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stowage.api.model_service import ModelService, ModelServiceSpec
from stowage.api.model_service_reasons import ScalingReason
from stowage.api.model_service_role import Role, Variant
from stowage.api.model_service_scaling import Minimize
from stowage.api.model_service_status import VariantStatus
from stowage.decide.serving import demand
from stowage.decide.serving.children import deployment_name
from stowage.decide.serving.cold_start import expected_seconds
from stowage.decide.serving.latency_model import LatencyModel, Shape
from stowage.decide.serving.memory import Corrections
from stowage.decide.serving.performance import Performance
from stowage.decide.serving.role_memory import RoleMemory
from stowage.decide.serving.service_facts import OUT_OF_STOCK_UNTIL_ANNOTATION, DeploymentFact, PodFact, written
from stowage.decide.serving.service_settings import settings_of
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.spend import COST, POWER, uses
from stowage.decide.serving.unknown_performance import ASSUMED, RECOMMENDERS
from stowage.decide.serving.variant_state import VariantState


def states_of(
    service: ModelService,
    role: Role,
    pods: Sequence[PodFact],
    deployments: Mapping[str, DeploymentFact],
    failures: Mapping[tuple[str, str], str] | None = None,
) -> tuple[VariantState, ...]:
    """The variants of a role with their pods, those that have been deleted left out.

    Args:
        service: whose.
        role: which one.
        pods: of the service.
        deployments: by name.
        failures: by role and variant, why pods of groups can not be made.
    """
    told = {one.name: one for known in service.status.roles if known.name == role.name for one in known.variants}

    def state(one: Variant) -> VariantState:
        own = tuple(
            pod
            for pod in pods
            if (pod.role, pod.variant) == (role.name, one.name)
            and (pod.ordinal is not None) == (one.group is not None)
            and not pod.is_terminating
        )
        before, name = told.get(one.name), deployment_name(service.name, role.name, one.name)
        found = deployments.get(name)
        if one.group is not None:
            found = stand_in(name, before, own, (failures or {}).get((role.name, one.name), ""))
        return VariantState(one, found, own, before.desired + before.spare if before is not None else None)

    return tuple(state(one) for one in role.variants)


def stand_in(name: str, told: VariantStatus | None, replicas: Sequence[PodFact], failure: str) -> DeploymentFact | None:
    """What a Deployment would say of replicas that have several pods each; None: there was no decision about them yet.

    Args:
        name: that it would have.
        told: of the variant, by the last status.
        replicas: that there are, each as one pod.
        failure: why pods can not be made; empty: they can.
    """
    if told is None and not replicas:
        return None
    until = told.out_of_stock_until if told is not None else None
    return DeploymentFact(
        name=name,
        uid="",
        replicas=told.desired + told.spare if told is not None else sum(not one.is_draining for one in replicas),
        ready_replicas=sum(one.is_ready for one in replicas),
        is_settled=not any(one.is_outdated for one in replicas),
        failure=failure,
        annotations={} if until is None else {OUT_OF_STOCK_UNTIL_ANNOTATION: written(until.timestamp())},
    )


def desired_now(service: ModelService, role: Role, states: Sequence[VariantState]) -> int:
    """What was decided last: by the status, else by the Deployments, else the least that the role may have.

    A first role under a new name begins with what the first one had before.
    """
    told = next((one for one in service.status.roles if one.name == role.name), None)
    if told is not None:
        return told.desired
    if any(one.deployment is not None for one in states):
        return sum(max(0, one.current - sum(pod.is_spare for pod in one.pods)) for one in states)
    before = service.status.roles[0] if service.status.roles else None
    if role is service.spec.roles[0] and before is not None and service.spec.role(before.name) is None:
        return max(role.bounds.min, min(role.bounds.max, before.desired))
    return role.bounds.min


def was_idle(service: ModelService, role: Role) -> bool:
    """Whether the role has been without replicas because nothing was asked for, paused meanwhile or not."""
    told = next((one for one in service.status.roles if one.name == role.name), None)
    return told is not None and told.desired == 0 and told.reason in {ScalingReason.IDLE, ScalingReason.PAUSED}


def answers_since(states: Sequence[VariantState]) -> float | None:
    """Since when a replica has been ready and taken requests, the one that has done so for longest; None: none does."""
    ready = (pod for one in states for pod in one.pods if pod.is_ready and pod.takes_requests)
    return min((pod.created_at if pod.ready_at is None else pod.ready_at for pod in ready), default=None)


def cold_start_seconds(service: ModelService, role: Role, states: Sequence[VariantState], memory: RoleMemory) -> float:
    """What a new replica is expected to take: of variants that have some, of all where none has."""
    in_use = [one.name for one in states if one.current > 0] or [one.name for one in states]
    return expected_seconds(role.name, in_use, memory.starts, service.status.cold_start)


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a role's decisions are made with.

    Attributes:
        settings: of the role.
        has_profile: whether what a replica does was measured.
        capacities: by variant, what a replica serves; all alike where that is not known of each.
        prices: by variant, what a replica costs, in what the service shall save; None: not told.
        missing_profiles: names that variants give, and that are not there.
    """

    settings: Settings
    has_profile: bool
    capacities: Mapping[str, float]
    prices: Mapping[str, float | None]
    missing_profiles: tuple[str, ...]


def prospect(
    spec: ModelServiceSpec,
    role: Role,
    states: Sequence[VariantState],
    profiles: Mapping[str, Performance],
    memory: RoleMemory,
) -> Prospect:
    """The settings of a role, by the slowest variant that is in use.

    Replicas of unlike variants are counted as if all were as slow as that: a mix bears at least what it is taken for,
    and what is measured of it corrects the rest.
    """
    known = {
        one.name: profiles[one.spec.profile]
        for one in states
        if one.spec.profile is not None and one.spec.profile in profiles
    }
    shape = demand.shape(memory.decisions)
    bears = {name: _bears(settings_of(spec, role, performance), shape) for name, performance in known.items()}
    pool = [one.name for one in states if one.current > 0] or [one.name for one in states]
    in_use = [name for name in pool if name in known]
    has_profile = len(in_use) == len(pool) and bool(pool)
    if has_profile:
        found = settings_of(spec, role, known[min(in_use, key=lambda name: (bears[name], name))])
    else:
        found = replace(settings_of(spec, role, ASSUMED), recommenders=RECOMMENDERS)
    price = POWER if spec.scaling.minimize is Minimize.POWER else COST
    return Prospect(
        settings=found,
        has_profile=has_profile,
        capacities=bears
        if len(bears) == len(states) and min(bears.values()) > 0
        else {one.name: 1.0 for one in states},
        prices={one.name: uses(one.spec).get(price) for one in states},
        missing_profiles=tuple(
            one.spec.profile for one in states if one.spec.profile is not None and one.spec.profile not in profiles
        ),
    )


def _bears(settings: Settings, shape: Shape) -> float:
    """Requests per second within the targets, by the profile alone."""
    model = LatencyModel(settings.performance, Corrections(), settings.role)
    return model.capacity(settings, shape).within_targets_per_second
