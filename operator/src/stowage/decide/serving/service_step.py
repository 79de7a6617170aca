"""One look at a ModelService, and what to do about it: from what is seen to children, drains and status.

Pure: what was seen before is in the status, in labels and annotations of pods and Deployments, and, where losing it
costs nothing but time, in `RoleMemory`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from stowage.api.model_service import ModelService
from stowage.api.model_service_reasons import ServiceReason
from stowage.api.model_service_role import Role
from stowage.api.model_service_status import GroupStatus, ModelServiceStatus, RoleMix
from stowage.decide.serving import children
from stowage.decide.serving.cold_start import cold_start_status, of_variants, remembered, still_asked_for
from stowage.decide.serving.decision import Decision
from stowage.decide.serving.drain import Samples
from stowage.decide.serving.group_children import group_documents
from stowage.decide.serving.group_facts import Groups, VariantKey
from stowage.decide.serving.group_step import GroupPlans, GroupWork
from stowage.decide.serving.hold import Held, leads_to_activator
from stowage.decide.serving.leaving import Leaving, stood_in
from stowage.decide.serving.left_over import left_over
from stowage.decide.serving.mix_question import MixTold, mix_after, mixes_of, told
from stowage.decide.serving.out_of_reach import left_out
from stowage.decide.serving.performance import Performance
from stowage.decide.serving.role_decision import RoleSeen, decide_roles
from stowage.decide.serving.role_memory import RoleMemory
from stowage.decide.serving.role_mix import MixAnswer, MixQuestion
from stowage.decide.serving.role_placing import Placed, place_roles, wishes
from stowage.decide.serving.role_prospect import (
    Prospect,
    answers_since,
    cold_start_seconds,
    desired_now,
    prospect,
    states_of,
    was_idle,
)
from stowage.decide.serving.service_conditions import RoleTold
from stowage.decide.serving.service_facts import ChildRef, DeploymentFact, PodFact, PodRef
from stowage.decide.serving.service_status import Report, status_of
from stowage.decide.serving.targets_met import service_level
from stowage.decide.serving.trust import distrust
from stowage.decide.serving.variant_state import VariantState
from stowage.decide.serving.view import ReplicaView, View
from stowage.decide.serving.warm_spares import spares_of

BUSY_SECONDS: Final = 5.0
"""Until the next look while replicas follow the load: how often decisions are made in simulations too."""
QUIET_SECONDS: Final = 30.0
"""The same where the number is fixed and nothing is under way."""

Document = dict[str, Any]


class Look(Protocol):
    """What the signals of one role say."""

    @property
    def view(self) -> View:
        """The role, with what was scraped of it so far."""

    @property
    def requests(self) -> Mapping[str, int]:
        """By pod: requests that run and wait in its newest sample, where that is fresh; draining pods too."""

    @property
    def sampled_at(self) -> Mapping[str, float]:
        """By pod of `requests`: the time of that sample; a pod may be missing."""

    @property
    def problem(self) -> ServiceReason | None:
        """Why they can not be relied on; None: they can."""

    @property
    def message(self) -> str:
        """What is missing, in words."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A service at the instant `now` (seconds since 1970).

    Attributes:
        service: as it is stored, its last status included.
        pods: of the service, those that have ended left out.
        deployments: by name, all that the service owns, those of variants that are gone from the spec included.
        looks: by role; a role without one is decided without signals.
        profiles: by name, those that are there.
        now: the time.
        memories: by role, as the last step gave them; empty at first.
        others: Services and PodDisruptionBudgets that the service owns.
        free_gpus: by node, GPUs that nobody uses; which replica goes depends on it, and nothing else.
        refused: the API server's words where it refused a child the last time; empty: it took all of them.
        groups: replicas that have several pods; `pods` has each of them as one.
        held: what is known of the service's activator.
        image: of Stowage, for the activator.
        mixes: by role, answers about its mix of variants that have come since the last step.
        cached_nodes: by role, nodes without a replica that hold its weights.
    """

    service: ModelService
    pods: tuple[PodFact, ...]
    deployments: Mapping[str, DeploymentFact]
    looks: Mapping[str, Look]
    profiles: Mapping[str, Performance]
    now: float
    memories: Mapping[str, RoleMemory] = field(default_factory=dict)
    others: tuple[ChildRef, ...] = ()
    free_gpus: Mapping[str, int] = field(default_factory=dict)
    refused: str = ""
    groups: Groups = field(default_factory=Groups)
    held: Held = field(default_factory=Held)
    image: str = "stowage:dev"
    mixes: Mapping[str, MixAnswer] = field(default_factory=dict)
    cached_nodes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServiceStep:
    """What to do: patch pods (`pod_patches.py`), then apply children, delete what is left over, write the status.

    Attributes:
        status: to be written.
        apply: children, whole. `spec.replicas` of a Deployment is left out where somebody else owns it, so all of them
            may be applied by force.
        drain: pods that get no new requests from now on.
        undrain: pods that get requests again.
        cost: by pod, its deletion cost; 0 takes the annotation away.
        delete: children that the spec no longer asks for, and that nothing needs any more.
        memories: by role, for the next step.
        again_seconds: when to look again at the latest.
        lower: Deployments that the spec no longer asks for, and how many replicas of each are still needed.
        groups: pods of replicas that have several, to be made and deleted once children are applied.
        leads_to_activator: whether the Service under the service's own name does, once `apply` is done.
        questions: by role, what a mix of variants may be asked for with; the answer comes in `Seen.mixes`.
        spare: pods that become spares, and get no new requests.
        unspare: spares that are none any more; they are in `drain` or `undrain` too.
    """

    status: ModelServiceStatus
    apply: tuple[Document, ...]
    drain: tuple[PodRef, ...]
    undrain: tuple[PodRef, ...]
    cost: Mapping[PodRef, int]
    delete: tuple[ChildRef, ...]
    memories: Mapping[str, RoleMemory]
    again_seconds: float
    lower: Mapping[ChildRef, int] = field(default_factory=dict)
    groups: GroupWork = field(default_factory=GroupWork)
    leads_to_activator: bool = False
    questions: Mapping[str, MixQuestion] = field(default_factory=dict)
    spare: tuple[PodRef, ...] = ()
    unspare: tuple[PodRef, ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """What signals are asked for with: replicas that the role shall have now, and how long a new one takes."""

    desired: int
    cold_start_seconds: float


@dataclass(frozen=True, slots=True)
class _NoLook:
    """Of a role that nobody asked signals of."""

    view: View
    requests: Mapping[str, int] = field(default_factory=dict)
    sampled_at: Mapping[str, float] = field(default_factory=dict)
    problem: ServiceReason | None = ServiceReason.SIGNALS_MISSING
    message: str = "nobody asked for them"


@dataclass(frozen=True, slots=True)
class _Role:
    """A role on its way through a step."""

    spec: Role
    states: tuple[VariantState, ...]
    memory: RoleMemory
    look: Look
    prospect: Prospect
    mix: RoleMix | None = None

    @property
    def name(self) -> str:
        return self.spec.name


def asks(
    service: ModelService,
    pods: Sequence[PodFact],
    deployments: Mapping[str, DeploymentFact],
    memories: Mapping[str, RoleMemory],
) -> Mapping[str, Ask]:
    """By role, what `ServingSignals.look` is to be told beside the pods."""
    found: dict[str, Ask] = {}
    for role in service.spec.roles:
        states = states_of(service, role, pods, deployments)
        memory = _memory(memories.get(role.name), service, role.name, states)
        found[role.name] = Ask(desired_now(service, role, states), cold_start_seconds(service, role, states, memory))
    return found


def next_step(seen: Seen) -> ServiceStep:
    """What to do about a service as it is."""
    service, now = seen.service, seen.now
    stale = service.spec.metrics.stale_after.seconds
    roles = [_role(seen, one) for one in service.spec.roles]
    decided = decide_roles(service.spec, [_as_seen(service, one) for one in roles], seen.held)
    placed = place_roles(service.spec, roles, {name: decision for name, (decision, _) in decided.items()}, now)
    decisions, placings = placed.decisions, placed.placings
    spares = spares_of(service, wishes(roles, placed))
    leaving = Leaving(
        seen.pods,
        {name: decision.to_replicas for name, decision in decisions.items()},
        {name: Samples(one.requests, one.sampled_at, stale) for name, one in seen.looks.items()},
        seen.free_gpus,
        stood_in=stood_in(service, seen.pods),
        deadline_seconds=service.spec.scaling.scale_down.drain_deadline.seconds,
        now=now,
    )
    gone = left_over(service.name, seen.deployments, seen.others, seen.pods, children.names(service), leaving.left_over)
    groups = GroupPlans(service, seen.groups, leaving, now)
    groups.left_over()
    reason, led = decisions[roles[0].name].reason, seen.held.leads_since is not None
    to_activator = not leaving.stands_in and leads_to_activator(service.spec, seen.pods, reason, now, led_before=led)
    documents: list[Document] = [
        *children.activators(service, seen.image),
        *children.services(service, leaving.stands_in, to_activator=to_activator),
    ]
    for role in roles:
        documents.append(children.disruption_budget(service, role.spec))
        placing = placings[role.name]
        for one in role.states:
            target, kept = placing.counts.get(one.name, 0), spares[role.name].get(one.name, 0)
            if one.spec.group is not None:
                groups.of(role.spec, one, target, kept, singles=_singles(seen.pods, role.name, one.name))
                continue
            replicas = leaving.of(role.name, one, target, kept)
            until = placing.out_of_stock_until.get(one.name)
            documents.append(
                children.deployment(service, role.spec, one.spec, None if one.foreign else replicas, until)
            )
    documents += group_documents(service, groups.records)
    changes = leaving.changes
    memories = placed.remembered({name: memory for name, (_, memory) in decided.items()})
    mixes = mixes_of(service, roles, seen.profiles, placed, memories, now)
    status = _status(seen, roles, placed, memories, mixes, leaving.stands_in, groups.records, spares)
    return ServiceStep(
        status=status,
        apply=tuple(documents),
        drain=tuple(ref for one in changes for ref in one.drain),
        undrain=tuple(ref for one in changes for ref in one.undrain),
        cost={ref: cost for one in changes for ref, cost in one.cost.items()},
        delete=gone.delete,
        lower=gone.lower,
        memories=memories,
        questions={name: one for name, one in mixes.items() if isinstance(one, MixQuestion)},
        again_seconds=_again_seconds(service, seen.pods, decisions, now),
        groups=groups.work,
        leads_to_activator=to_activator,
        spare=tuple(ref for one in changes for ref in one.spare),
        unspare=tuple(ref for one in changes for ref in one.unspare),
    )


def _role(seen: Seen, spec: Role) -> _Role:
    states = states_of(seen.service, spec, seen.pods, seen.deployments, seen.groups.failures)
    memory = _memory(seen.memories.get(spec.name), seen.service, spec.name, states)
    look = seen.looks.get(spec.name)
    if look is None:
        desired = desired_now(seen.service, spec, states)
        cold = cold_start_seconds(seen.service, spec, states, memory)
        replicas = tuple(
            ReplicaView(pod.ref.name, pod.is_ready, seen.now - pod.created_at, 0, 0, 0, 0)
            for state in states
            for pod in state.pods
            if pod.takes_requests
        )
        look = _NoLook(View(seen.now, desired, replicas, (), cold))
    known = next((one.mix for one in seen.service.status.roles if one.name == spec.name), None)
    mix = mix_after(known, seen.mixes.get(spec.name), spec, seen.now)
    return _Role(spec, states, memory, look, prospect(seen.service.spec, spec, states, seen.profiles, memory), mix)


def _memory(known: RoleMemory | None, of: ModelService, role: str, states: Sequence[VariantState]) -> RoleMemory:
    return remembered(known, role, [pod for one in states for pod in one.pods], of.status.cold_start)


def _as_seen(service: ModelService, role: _Role) -> RoleSeen:
    return RoleSeen(
        name=role.name,
        settings=role.prospect.settings,
        view=role.look.view,
        memory=role.memory,
        problem=role.look.problem,
        has_profile=role.prospect.has_profile,
        was_idle=was_idle(service, role.spec),
        answers_since=answers_since(role.states),
    )


def _status(
    seen: Seen,
    roles: Sequence[_Role],
    placed: Placed,
    memories: Mapping[str, RoleMemory],
    mixes: Mapping[str, MixQuestion | MixTold],
    stands_in: str,
    groups: Mapping[VariantKey, tuple[GroupStatus, ...]],
    spares: Mapping[str, Mapping[str, int]],
) -> ModelServiceStatus:
    service = seen.service
    stale = service.spec.metrics.stale_after.seconds
    newest = [one.look.view.scrapes[-1].at for one in roles if one.look.view.scrapes]
    kept_start = still_asked_for(service.spec, service.status.cold_start)
    report = Report(
        service=service,
        roles=[
            RoleTold(
                name=one.name,
                least=one.spec.bounds.min,
                decision=placed.decisions[one.name],
                states=one.states,
                problem=one.look.problem,
                problem_words=one.look.message,
                doubt=distrust(one.look.view, stale),
                elsewhere=_elsewhere(one, seen.pods),
                mix=told(one.name, mixes.get(one.name), placed),
                left_out=left_out(one.name, one.prospect, memories[one.name].decisions),
            )
            for one in roles
        ],
        pods=seen.pods,
        answers=stands_in or roles[0].name,
        targets={name: placing.wanted for name, placing in placed.placings.items()},
        mixes=placed.mixes,
        spares=spares,
        cached_nodes=seen.cached_nodes,
        level=service_level(service.spec.slo, [(one.prospect.settings, one.look.view) for one in roles]),
        cold_start=cold_start_status(
            [(one.name, of_variants(memories[one.name].starts, {state.name for state in one.states})) for one in roles],
            kept_start,
            seen.pods,
            seen.now,
        ),
        missing_profiles=[name for one in roles for name in one.prospect.missing_profiles],
        refused=seen.refused,
        last_signal_at=max(newest, default=None),
        now=seen.now,
        groups=groups,
        out_of_stock_until={
            (role, name): until
            for role, placing in placed.placings.items()
            for name, until in placing.out_of_stock_until.items()
        },
    )
    return status_of(report)


def _elsewhere(role: _Role, pods: Sequence[PodFact]) -> int:
    own = {(one.name, one.spec.group is not None) for one in role.states}
    return sum(
        one.role == role.name
        and (one.variant, one.ordinal is not None) not in own
        and one.is_ready
        and one.takes_requests
        for one in pods
        if not one.is_terminating
    )


def _singles(pods: Sequence[PodFact], role: str, variant: str) -> int:
    own = (one for one in pods if (one.role, one.variant) == (role, variant) and one.ordinal is None)
    return sum(not one.is_terminating and not one.is_draining for one in own)


def _again_seconds(
    service: ModelService, pods: Sequence[PodFact], decisions: Mapping[str, Decision], now: float
) -> float:
    spec = service.spec
    fresh = now - spec.metrics.stale_after.seconds  # of who has been ready for so short the first samples are to come
    is_fixed = spec.scaling.paused or (spec.replicas is not None and len(spec.roles) == 1)
    is_at_zero = all(one.to_replicas == 0 for one in decisions.values())
    is_under_way = any(
        one.is_draining or not one.is_ready or (one.ready_at is not None and one.ready_at > fresh) for one in pods
    )
    return QUIET_SECONDS if (is_fixed or is_at_zero) and not is_under_way else BUSY_SECONDS
