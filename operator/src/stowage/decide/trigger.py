"""Whether pending pods call for a packing now, and when to look again."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import Struct, field, msgpack, structs

from stowage.api.packing_plan import PackingPlan, PlanSteering
from stowage.api.packing_policy import PackingPolicy
from stowage.api.packing_policy import Trigger as TriggerSpec
from stowage.api.reasons import PlanReason
from stowage.decide.refusals import REFUSED, UNTOLERATED
from stowage.decide.scope import HOUR_SECONDS
from stowage_scheduler.cluster import Pod, Snapshot, Workload
from stowage_scheduler.gangs import GangKey, foreign_gates, gang_key, gangs
from stowage_scheduler.kube.matching import matches_selector

REPLANS_PER_HOUR = 3
WAKING_SECONDS = 15.0  # a refused pod is tried again by kube-scheduler soon after the plan's end
RETRYING_SECONDS = 5.0  # a taint that goes wakes pods at once
FIRST_BACKOFF_SECONDS = 5.0
LONGEST_BACKOFF_SECONDS = 300.0
_in_order = msgpack.Encoder(order="deterministic")
_HOLD_SECONDS = {PlanReason.ABORTED_BY_USER.value: 300.0, PlanReason.EXTENDER_UNAVAILABLE.value: 30.0}
_STOPPED = frozenset({PlanReason.LANDED_ELSEWHERE, PlanReason.REPLACEMENT_NOT_READY, PlanReason.OWNERS_UNREADY})
_HOLD_SECONDS |= {reason.value: 600.0 for reason in _STOPPED}
_HELD_THOUGH_STARTED = frozenset({PlanReason.ABORTED_BY_USER, *_STOPPED})


class Memory(Struct, frozen=True):
    """What the last packing of a policy saw; losing it costs one needless packing.

    `considered` are the UIDs of the pods it was asked about. `fingerprint` is what it found nothing for, empty
    when it found a plan; `fruitless` counts such packings in a row and `at` is when the last one ended.
    """

    considered: frozenset[str] = frozenset()
    fingerprint: str = ""
    fruitless: int = 0
    at: float = 0.0


class Trigger(Struct, frozen=True):
    """Whether to pack now. `pods` call for it; `look_again_seconds` says when to ask again, None: at the next event.

    `pending` counts all pods in scope that wait, `limited` those that were planned for too often.
    """

    due: bool
    look_again_seconds: float | None = None
    pods: tuple[Pod, ...] = ()
    pending: int = 0
    limited: int = 0


class Considered(Struct, frozen=True):
    """Facts behind a trigger: the snapshot, the plans of all policies and the memory of the last packing.

    `ripens_at` is when the next pod may move that may not for its age, or its owner's (`ripens_at`).
    """

    snapshot: Snapshot
    plans: tuple[PackingPlan, ...] = ()
    memory: Memory = field(default_factory=Memory)
    fingerprint: str = ""
    ripens_at: float | None = None


def trigger(policy: PackingPolicy, facts: Considered, now: float) -> Trigger:
    """Decide whether the pods that wait call for a packing.

    Pods are gathered: until none became due for `trigger.quiet`, at most for `trigger.longest`. A packing that
    found nothing is repeated when pods come, or when the cluster changed, with a growing pause.
    """
    waiting = [pod for pod in waiting_pods(facts.snapshot) if in_scope(policy, pod, facts.snapshot)]
    counts = plans_per_pod(facts.plans, now)
    failures = failures_per_gang(facts.plans, now)
    counts.update({pod.uid: failures[gang_key(pod)] for pod in waiting if pod.gang is not None})
    holds = held_until(facts.plans)
    limited = [pod for pod in waiting if counts[pod.uid] > REPLANS_PER_HOUR]
    refused = [pod for pod in waiting if is_refused_only(pod, facts.plans, now)]
    # kube-scheduler tries a group as a whole, and says of one pod alone that it was refused
    whole = {gang_key(pod) for pod in refused if pod.scheduling_group and pod.gang is not None}
    kept = {pod.uid for pod in refused} | {pod.uid for pod in waiting if whole and gang_key(pod) in whole}
    asking = [
        pod
        for pod in waiting
        if counts[pod.uid] <= REPLANS_PER_HOUR and holds.get(pod.uid, now) <= now and pod.uid not in kept
    ]
    base = Trigger(due=False, pending=len(waiting), limited=len(limited))
    if not asking:
        return structs.replace(base, look_again_seconds=_later(waiting, limited, holds, facts.plans, now))
    due_times = {pod.uid: _due_at(policy.spec.trigger, pod) for pod in asking}
    ready = tuple(pod for pod in asking if due_times[pod.uid] <= now)
    fresh = [due_times[pod.uid] for pod in ready if pod.uid not in facts.memory.considered]
    next_due = min((at - now for at in due_times.values() if at > now), default=None)
    if fresh:
        wait = min(max(fresh) + policy.spec.trigger.quiet.seconds, min(fresh) + policy.spec.trigger.longest.seconds)
        if wait <= now:
            return structs.replace(base, due=True, pods=ready)
        return structs.replace(base, look_again_seconds=_sooner(wait - now, next_due), pods=ready)
    if not ready:
        return structs.replace(base, look_again_seconds=next_due)
    pause = _pause(facts, now)
    if pause <= 0:
        return structs.replace(base, due=True, pods=ready)
    return structs.replace(base, look_again_seconds=_sooner(pause, next_due), pods=ready)


def remembered(memory: Memory, trigger: Trigger, fingerprint: str, now: float, *, found: bool) -> Memory:
    """The memory after a packing; `found` says whether it led to a plan."""
    considered = frozenset(pod.uid for pod in trigger.pods)
    if found:
        return Memory(considered, at=now)
    came = considered - memory.considered
    return Memory(considered, fingerprint, 1 if came else memory.fruitless + 1, now)


def in_scope(policy: PackingPolicy, pod: Pod, snapshot: Snapshot) -> bool:
    """Whether a policy plans for a pod at all."""
    spec = policy.spec
    if pod.scheduler_name not in spec.scheduler_names:
        return False
    if spec.pod_selector is not None and not matches_selector(spec.pod_selector.to_fact(), pod.labels):
        return False
    if spec.namespace_selector is None:
        return True
    labels = snapshot.namespace_labels.get(pod.namespace, {})
    return matches_selector(spec.namespace_selector.to_fact(), labels)


def waiting_pods(snapshot: Snapshot) -> list[Pod]:
    """Pods that kube-scheduler finds no place for, or never looks at because they wait for their whole gang."""
    whole = {pod.uid for gang in gangs(snapshot.pods).values() if gang.ready for pod in gang.waiting}
    return [pod for pod in snapshot.pods if pends(pod) and (pod.gang is None or pod.uid in whole)]


def pends(pod: Pod) -> bool:
    """Whether kube-scheduler found no place for a pod and waits for none, or only its gang's gate holds it."""
    held = pod.gated and not foreign_gates(pod)
    return (
        pod.node is None
        and (held if pod.gated else pod.unschedulable_since is not None)
        and pod.nominated_node is None
        and not pod.terminating
        and not pod.finished
    )


def is_refused_only(pod: Pod, plans: Iterable[PackingPlan], now: float) -> bool:
    """Whether a pod was kept from a node by a plan that runs or has just ended: it will be tried again."""
    for plan in plans if UNTOLERATED in pod.unschedulable_message else ():
        ended = plan.status.finished_at
        created = plan.metadata.creation_timestamp
        meanwhile = created is not None and (pod.unschedulable_since or 0.0) >= created.timestamp()
        under_way = plan.active or (ended is not None and now - ended.timestamp() < RETRYING_SECONDS)
        if plan.spec.steering is PlanSteering.BIND and meanwhile and under_way:
            return True
    if REFUSED not in pod.unschedulable_message:
        return False
    for plan in plans:
        if f"{REFUSED} {plan.name}" in pod.unschedulable_message:
            ended = plan.status.finished_at
            return ended is None or now - ended.timestamp() < WAKING_SECONDS
    return False


def plans_per_pod(plans: Iterable[PackingPlan], now: float) -> Counter[str]:
    """In how many plans that started within the last hour each pending pod, by its UID, was to be placed."""
    counts: Counter[str] = Counter()
    for plan in plans:
        started = plan.status.started_at
        if started is not None and now - started.timestamp() < HOUR_SECONDS:
            counts.update(_placed_by(plan))
    return counts


def failures_per_gang(plans: Iterable[PackingPlan], now: float) -> Counter[GangKey | None]:
    """In how many plans of the last hour each gang was let go in vain: its pods are made again with other UIDs."""
    counts: Counter[GangKey | None] = Counter()
    for plan in plans:
        started = plan.status.started_at
        recent = started is not None and now - started.timestamp() < HOUR_SECONDS
        if recent and plan.status.reason == PlanReason.GANG_INCOMPLETE:
            counts.update({(step.pod.namespace, step.gang) for step in plan.spec.steps if step.gang})
    return counts


def held_until(plans: Iterable[PackingPlan]) -> dict[str, float]:
    """Until when the pods of plans that ended before they did anything are not planned for again, by UID.

    Somebody who aborts a plan does not want it back at once, nor does who set a rule that stopped it, and an extender
    that is away needs time.
    """
    until: dict[str, float] = {}
    for plan in plans:
        finished = plan.status.finished_at
        held = plan.status.reason in _HELD_THOUGH_STARTED
        if finished is None or (plan.status.started_at is not None and not held):
            continue
        end = finished.timestamp() + _HOLD_SECONDS.get(plan.status.reason or "", FIRST_BACKOFF_SECONDS)
        for uid in _placed_by(plan):
            until[uid] = max(end, until.get(uid, 0.0))
    return until


def _placed_by(plan: PackingPlan) -> set[str]:
    return {step.pod.uid for step in plan.spec.steps if step.action.arrives}


def _later(
    waiting: list[Pod], limited: list[Pod], holds: Mapping[str, float], plans: Iterable[PackingPlan], now: float
) -> float | None:
    """When pods that may not ask now may ask again; None when nobody waits."""
    if not waiting:
        return None
    times = [until - now for pod in waiting if (until := holds.get(pod.uid, 0.0)) > now]
    if limited:
        times.append(_leaves_hour(plans, now))
    return min(times, default=WAKING_SECONDS)


def fingerprint(policy: PackingPolicy, snapshot: Snapshot, moves_left: int, nodes: frozenset[str]) -> str:
    """A digest of what a packing for `policy` on `nodes` depends on: same digest, same answer.

    Of times it knows whether they are past: a pod that comes of age changes it. Rules may speak of pods on other nodes
    too; those change seldom enough to wait for the next look. Images change often, and give nobody a place.
    """
    pods = [pod for pod in snapshot.pods if not pod.finished and (pod.node in nodes or pends(pod))]
    namespaces = {pod.namespace for pod in pods}
    facts: list[Struct] = [
        structs.replace(node, created_at=0.0, images=b"") for node in snapshot.nodes if node.name in nodes
    ]
    untimed = {"bound_at": None, "unready_since": None, "unschedulable_since": None, "unschedulable_message": ""}
    facts += [
        structs.replace(pod, created_at=float(_pod_ripens(policy, pod) > snapshot.now), **untimed) for pod in pods
    ]
    facts += [
        structs.replace(workload, replicas_changed_at=float(_owner_ripens(policy, workload) > snapshot.now))
        for workload in snapshot.workloads
        if workload.namespace in namespaces
    ]
    facts += [budget for budget in snapshot.budgets if budget.namespace in namespaces]
    facts += [quota for quota in snapshot.quotas if quota.namespace in namespaces]
    facts += [one for one in snapshot.rejected if one.node in nodes]
    labels = {namespace: snapshot.namespace_labels.get(namespace) for namespace in namespaces}
    policy_read = (policy.metadata.uid, policy.metadata.generation, moves_left)
    digest = hashlib.sha256(_in_order.encode((policy_read, labels)))
    for row in sorted(type(fact).__name__.encode() + _in_order.encode(fact) for fact in facts):
        digest.update(row)
    return digest.hexdigest()


def ripens_at(policy: PackingPolicy, snapshot: Snapshot, nodes: frozenset[str]) -> float | None:
    """When the next pod on `nodes` may move that may not yet, for its age or for its owner's; None: none will."""
    pods = [pod for pod in snapshot.pods if pod.node in nodes and not pod.finished]
    namespaces = {pod.namespace for pod in pods}
    times = [_pod_ripens(policy, pod) for pod in pods]
    times += [_owner_ripens(policy, owner) for owner in snapshot.workloads if owner.namespace in namespaces]
    return min((time for time in times if time > snapshot.now), default=None)


def _pod_ripens(policy: PackingPolicy, pod: Pod) -> float:
    if pod.node is None:
        return 0.0
    started = pod.bound_at if pod.bound_at is not None else pod.created_at
    return started + policy.spec.disruption.min_pod_age.seconds


def _owner_ripens(policy: PackingPolicy, workload: Workload) -> float:
    changed = workload.replicas_changed_at
    return 0.0 if changed is None else changed + policy.spec.disruption.owner_settled.seconds


def _due_at(spec: TriggerSpec, pod: Pod) -> float:
    since = pod.created_at if pod.gated else pod.unschedulable_since or 0.0
    return since + spec.unschedulable_for.seconds


def _pause(facts: Considered, now: float) -> float:
    """How long to wait before pods that were considered already are packed for again."""
    memory = facts.memory
    if not memory.fruitless:
        return 0.0  # a plan ran since: what it left is looked at once
    backoff = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(memory.fruitless - 1, 10))
    again = memory.at + backoff
    if memory.fingerprint == facts.fingerprint:
        # with time alone pods come of age; for what else might change, it is looked at again, but seldom
        seldom = memory.at + LONGEST_BACKOFF_SECONDS
        again = seldom if facts.ripens_at is None else min(seldom, max(again, facts.ripens_at))
    return again - now


def _leaves_hour(plans: Iterable[PackingPlan], now: float) -> float:
    """Seconds until the oldest plan of the last hour leaves it."""
    ages = [now - plan.status.started_at.timestamp() for plan in plans if plan.status.started_at]
    return HOUR_SECONDS - max((age for age in ages if age < HOUR_SECONDS), default=0.0)


def _sooner(first: float, second: float | None) -> float:
    return first if second is None else min(first, second)
