"""How many replicas each role of a service shall have: the pipeline, and around it what its spec says besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stowage.api.model_service import ModelServiceSpec
from stowage.api.model_service_reasons import ScalingReason, ServiceReason
from stowage.api.model_service_role import DECODE, PREFILL
from stowage.decide.serving.decision import Decision, Recommender, inputs
from stowage.decide.serving.hold import Held
from stowage.decide.serving.limits import limited
from stowage.decide.serving.pipeline import decide
from stowage.decide.serving.prefill_decode import Pair, Ratio, decide_pair
from stowage.decide.serving.recommend_schedule import recommend_schedule, scheduled_most
from stowage.decide.serving.role_memory import RoleMemory
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.trust import distrust
from stowage.decide.serving.unknown_performance import is_settled, missed_too_much
from stowage.decide.serving.view import View
from stowage.decide.serving.zero import has_queue, idle_since


@dataclass(frozen=True, slots=True)
class RoleSeen:
    """A role before it is decided.

    Attributes:
        name: of the role.
        settings: its own, without `spec.replicas`.
        view: its replicas and scrapes; `desired` is what it shall have so far.
        memory: of it.
        problem: why its signals can not be relied on; None: they can.
        has_profile: whether `settings.performance` was measured, and not assumed.
        was_idle: it has been without replicas because nothing was asked for.
        answers_since: since when a replica has been ready; None: none is.
    """

    name: str
    settings: Settings
    view: View
    memory: RoleMemory
    problem: ServiceReason | None = None
    has_profile: bool = True
    was_idle: bool = False
    answers_since: float | None = None


Decided = tuple[Decision, RoleMemory]


def decide_roles(spec: ModelServiceSpec, roles: Sequence[RoleSeen], held: Held | None = None) -> Mapping[str, Decided]:
    """By role, its decision and what to remember.

    Args:
        spec: of the service.
        roles: all of its roles, in its order.
        held: what is known of its activator; None: nothing.
    """
    first = roles[0].name
    fixed = [_fixed(one, spec.replicas) if one.name == first else one for one in roles]
    found = _by_signals(spec, fixed)
    seen = {one.name: one for one in roles}
    found = {name: _without_trust(seen[name], *one) for name, one in found.items()}
    found = {name: _by_misses(seen[name], *one) for name, one in found.items()}
    found = _at_zero(spec, seen, found, held or Held())
    if spec.scaling.paused:
        found = {name: _changed(*one, one[0].from_replicas, ScalingReason.PAUSED) for name, one in found.items()}
    if spec.replicas is not None:
        found[first] = _changed(*found[first], spec.replicas, ScalingReason.MANUAL_OVERRIDE)
    for name, (decision, memory) in found.items():
        if memory.decisions.last_good is not None:
            known = replace(memory.decisions, last_good=decision.to_replicas)
            found[name] = decision, replace(memory, decisions=known)
    return found


def _fixed(role: RoleSeen, replicas: int | None) -> RoleSeen:
    if replicas is None:
        return role
    return replace(role, settings=replace(role.settings, least=replicas, most=replicas))


def _by_signals(spec: ModelServiceSpec, roles: Sequence[RoleSeen]) -> dict[str, Decided]:
    by_name = {one.name: one for one in roles}
    found: dict[str, Decided] = {}
    if PREFILL in by_name and DECODE in by_name:
        first, second = by_name[PREFILL], by_name[DECODE]
        given = spec.ratio
        ratio = Ratio(given.prefill, given.decode, float(given.tolerance)) if given is not None else None
        decisions, memories = decide_pair(
            Pair(first.view, second.view),
            Pair(first.settings, second.settings),
            Pair(first.memory.decisions, second.memory.decisions),
            ratio,
        )
        found[PREFILL] = decisions.prefill, replace(first.memory, decisions=memories.prefill)
        found[DECODE] = decisions.decode, replace(second.memory, decisions=memories.decode)
    for one in roles:
        if one.name not in found:
            decision, memory = decide(one.view, one.settings, one.memory.decisions)
            found[one.name] = decision, replace(one.memory, decisions=memory)
    return {one.name: found[one.name] for one in roles}


def _changed(decision: Decision, memory: RoleMemory, replicas: int, reason: ScalingReason, **known: float) -> Decided:
    """The decision with another number and reason; nobody recommended that."""
    more = inputs({**dict(decision.inputs), **known})
    changed = replace(decision, to_replicas=replicas, reason=reason, recommender=Recommender.NONE, inputs=more)
    return changed, memory


def _without_trust(role: RoleSeen, decision: Decision, memory: RoleMemory) -> Decided:
    """What is known to be incomplete lowers nothing, also where the newest scrape looks sound."""
    if role.problem is None or decision.to_replicas >= decision.from_replicas:
        return decision, memory
    count = min(decision.from_replicas, max(role.settings.most, decision.to_replicas))
    return _changed(decision, memory, count, ScalingReason.SIGNALS_MISSING)


def _by_misses(role: RoleSeen, decision: Decision, memory: RoleMemory) -> Decided:
    """Without a profile: one more as long as far too many requests miss, and none fewer meanwhile."""
    if role.has_profile or role.problem is not None or distrust(role.view, role.settings.stale_after_seconds):
        return decision, memory
    missed = missed_too_much(role.view, role.settings)
    if missed is None or decision.to_replicas > decision.from_replicas:
        return decision, memory
    count = decision.from_replicas + (1 if is_settled(role.view) else 0)
    count, _ = limited(count, role.settings, scheduled_most(role.settings.schedules, role.view.now))
    if count <= decision.to_replicas:
        return decision, memory
    return _changed(decision, memory, count, ScalingReason.SLO_MISSED, missed_share=missed)


def _at_zero(
    spec: ModelServiceSpec, seen: Mapping[str, RoleSeen], found: dict[str, Decided], held: Held
) -> dict[str, Decided]:
    """All roles together: to zero after long enough without a request, and back when something asks for replicas.

    None goes before the activator takes new requests, nor while nobody knows what it holds.
    """
    given = spec.scaling.scale_to_zero
    if given is None or spec.replicas is not None:
        return found
    now = next(iter(seen.values())).view.now
    known: dict[str, Decided] = {}
    for name, (decision, memory) in found.items():
        one = seen[name]
        is_sound = one.problem is None and distrust(one.view, one.settings.stale_after_seconds) is None
        since = idle_since(one.view, memory.idle_since, is_sound=is_sound)
        if since is not None:  # a replica that has just come is there for somebody: none goes while it starts
            since = None if one.answers_since is None else max(since, one.answers_since)
        known[name] = decision, replace(memory, idle_since=held.idle_at(since))
    is_at_zero = all(one.was_idle and one.view.desired == 0 for one in seen.values())
    if held.waiting and is_at_zero:
        return {name: _woken(*one, held.waiting) for name, one in known.items()}
    if held.waiting or any(_asks(one) for one in seen.values()):
        return known
    if is_at_zero:
        return {name: _changed(*one, 0, ScalingReason.IDLE) for name, one in known.items()}
    long_ago = [memory.idle_since for _, memory in known.values()]
    if any(at is None or now - at < given.after.seconds for at in long_ago):
        return known
    if not held.stands_by(now):
        return {
            name: _changed(*one, one[0].to_replicas, ScalingReason.ACTIVATOR_MISSING) for name, one in known.items()
        }
    leaves = held.has_taken_over(now)
    return {
        name: _changed(*one, 0 if leaves else one[0].to_replicas, ScalingReason.IDLE) for name, one in known.items()
    }


def _woken(decision: Decision, memory: RoleMemory, waiting: int) -> Decided:
    """As many as were decided, the least of the role at least: the first that is ready tells the rest."""
    return _changed(decision, memory, decision.to_replicas, ScalingReason.REQUESTS_HELD, requests_held=float(waiting))


def _asks(role: RoleSeen) -> bool:
    """Whether a schedule holds, or requests wait."""
    view = role.view
    if recommend_schedule(role.settings.schedules, view.now, view.cold_start_seconds) is not None:
        return True
    return distrust(view, role.settings.stale_after_seconds) is None and has_queue(view)
