"""Whether nodes are to be emptied now though no pod waits, and whether a plan that does so is still wanted.

Nothing is remembered but what stands in the API server: how long it has been quiet is read from pods, nodes,
controllers and plans, and whether earlier plans were in vain from the plans themselves and from who stands on the nodes
that they had emptied.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from enum import Enum, auto

from msgspec import Struct

from stowage.api.consolidation import ConsolidationMode
from stowage.api.durations import instant
from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_plan_status import PlanPhase, StepState
from stowage.api.packing_policy import PackingPolicy
from stowage.api.reasons import PlanReason, PolicyReason
from stowage.decide.plan_facts import PlanFacts
from stowage.decide.refusals import REFUSED, UNTOLERATED
from stowage.decide.trigger import in_scope, waiting_pods
from stowage_scheduler.cluster import Pod, Snapshot
from stowage_scheduler.counted import counted
from stowage_scheduler.emptying import Consolidation
from stowage_scheduler.movability import belongs_to_node
from stowage_scheduler.packing import Action
from stowage_scheduler.slots import SlotClass, slot_class

FIRST_SNOOZE_SECONDS = 1800.0
LONGEST_SNOOZE_SECONDS = 86_400.0
LOOK_AGAIN_SECONDS = 3600.0  # at a cluster that is the same as when nothing was found: a search ends by time, too
SPENT_SECONDS = 60.0
SEARCH_AGAIN_SECONDS = 15.0
FAILED_AGAIN_SECONDS = 60.0  # however short `after` is
_CHANGED_MEANWHILE = "something has changed while nodes to empty were looked for"


class Looked(Struct, frozen=True):
    """What the last search found nothing for; losing it costs one needless search.

    `cut_off` counts the searches in a row that a pod or another change ended before they had an answer.
    """

    fingerprint: str = ""
    at: float = float("-inf")
    reason: PolicyReason = PolicyReason.NOTHING_TO_EMPTY
    message: str = ""
    cut_off: int = 0


class Calm(Struct, frozen=True):
    """Facts behind the decision.

    `plans` are all of the policy, `active` the one that has not ended, `nodes` those that the policy may use now,
    `pending` how many pods wait, `moves_left` what is left of this hour's moves, `fingerprint` that of the cluster.
    """

    snapshot: Snapshot
    nodes: frozenset[str]
    plans: Sequence[PackingPlan] = ()
    active: PackingPlan | None = None
    pending: int = 0
    moves_left: int = 0
    fingerprint: str = ""
    looked: Looked = Looked()


class Intent(Struct, frozen=True):
    """Whether to look for nodes to empty now, by at most `moves`; `reason` None: the policy does not ask for it.

    `look_again_seconds` None: at the next event.
    """

    due: bool = False
    reason: PolicyReason | None = None
    message: str = ""
    moves: int = 0
    look_again_seconds: float | None = None


class _Worth(Enum):
    """What a plan that has ended was good for."""

    WORKED = auto()
    IN_VAIN = auto()
    NOTHING_DONE = auto()  # and nobody said no: it does not count


def consolidation(policy: PackingPolicy, calm: Calm, now: float) -> Intent:
    """Decide whether to look for nodes to empty.

    Args:
        policy: whose `spec.consolidation` asks for it.
        calm: what is known.
        now: seconds since the epoch.
    """
    wanted = policy.spec.consolidation
    if wanted.mode is ConsolidationMode.NEVER:
        return Intent()
    if policy.spec.paused:
        return Intent(reason=PolicyReason.PAUSED)
    if calm.active is not None:
        reason = PolicyReason.CONSOLIDATING if calm.active.spec.empties else PolicyReason.NOT_QUIET
        return Intent(reason=reason, message=f"plan {calm.active.name}")
    if calm.pending:
        return Intent(reason=PolicyReason.NOT_QUIET, message=_waits(calm.pending))
    quiet_at = last_change(calm, now) + wanted.after.seconds
    if quiet_at > now:
        leaving = next((pod for pod in _here(calm) if pod.terminating and not pod.finished), None)
        changed = f"something has changed within {wanted.after}"
        words = changed if leaving is None else f"pod {leaving.key} on node {leaving.node} is on its way out"
        return Intent(reason=PolicyReason.NOT_QUIET, message=words, look_again_seconds=quiet_at - now)
    snooze = snoozed(calm)
    if snooze is not None and snooze[0] > now:
        until, why = snooze
        words = f"{why}; not before {instant(until):%Y-%m-%dT%H:%M:%SZ}"
        return Intent(reason=PolicyReason.CONSOLIDATION_SNOOZED, message=words, look_again_seconds=until - now)
    moves = affordable(policy, calm.moves_left)
    if not moves:
        words = "the moves of this hour are kept for pods that wait"
        return Intent(reason=PolicyReason.MOVES_PER_HOUR_SPENT, message=words, look_again_seconds=SPENT_SECONDS)
    looked = calm.looked
    again = looked.at + _pause(looked, calm.fingerprint, wanted.after.seconds)
    if again > now:
        return Intent(reason=looked.reason, message=looked.message, look_again_seconds=again - now)
    return Intent(due=True, reason=looked.reason, message=looked.message, moves=moves)


def _pause(looked: Looked, fingerprint: str, after_seconds: float) -> float:
    """How long not to search after the last search."""
    if looked.cut_off:
        # whoever comes so often would end the next one, too, and each costs a solver's process
        return min(LOOK_AGAIN_SECONDS, SEARCH_AGAIN_SECONDS * 2.0 ** min(looked.cut_off - 1, 10))
    if looked.fingerprint == fingerprint:
        return max(LOOK_AGAIN_SECONDS, after_seconds)
    return after_seconds if looked.reason is PolicyReason.NOTHING_TO_EMPTY else max(FAILED_AGAIN_SECONDS, after_seconds)


def cut_off(before: Looked, now: float) -> Looked:
    """What is remembered of a search that was ended before it had an answer."""
    return Looked("", now, PolicyReason.NOT_QUIET, _CHANGED_MEANWHILE, before.cut_off + 1)


def after_search(intent: Intent) -> Intent:
    """The intent once a search has ended: one without use, because the policy changed, is repeated soon."""
    if not intent.due:
        return intent
    return Intent(reason=PolicyReason.NOT_QUIET, message=_CHANGED_MEANWHILE, look_again_seconds=SEARCH_AGAIN_SECONDS)


def affordable(policy: PackingPolicy, moves_left: int) -> int:
    """Moves that a consolidation may take: half of an hour's stay for pods that wait."""
    return max(0, moves_left - (policy.spec.disruption.max_moves_per_hour + 1) // 2)


def last_change(calm: Calm, now: float) -> float:
    """When something last happened on the policy's nodes, seconds since the epoch.

    A pod that was deleted shows by its replacement, by its controller, or while it ends.
    """
    snapshot = calm.snapshot
    here = _here(calm)
    if any(pod.terminating and not pod.finished for pod in here):
        return now
    times = [max(pod.created_at, pod.bound_at or 0.0) for pod in here]
    times += [node.created_at for node in snapshot.nodes if node.name in calm.nodes]
    namespaces = {pod.namespace for pod in here}
    times += [one.replicas_changed_at or 0.0 for one in snapshot.workloads if one.namespace in namespaces]
    times += [_finished(plan) for plan in calm.plans]
    return max(times, default=0.0)


def _here(calm: Calm) -> list[Pod]:
    return [pod for pod in calm.snapshot.pods if pod.node in calm.nodes]


def snoozed(calm: Calm) -> tuple[float, str] | None:
    """Until when nothing is emptied because the newest plans were in vain, and why: twice as long after each in a row.

    A plan was in vain when somebody said no to it, when it ended after its start before it was done, and when pods came
    to the nodes that it had emptied, for then they are not too many. What ended longer ago than the longest pause does
    not count.
    """
    ended = sorted((plan for plan in calm.plans if plan.spec.empties), key=_finished, reverse=True)
    on_node = _on_node(calm.snapshot)
    first: tuple[float, str] | None = None
    in_a_row = 0
    for plan in ended:
        worth, words = _worth(plan, on_node)
        if worth is _Worth.WORKED or (first is not None and first[0] - _finished(plan) > LONGEST_SNOOZE_SECONDS):
            break
        if worth is _Worth.IN_VAIN:
            in_a_row += 1
            first = first or (_finished(plan), words)
    if first is None:
        return None
    return first[0] + min(LONGEST_SNOOZE_SECONDS, FIRST_SNOOZE_SECONDS * 2.0 ** min(in_a_row - 1, 10)), first[1]


def _worth(plan: PackingPlan, on_node: Mapping[str, Sequence[Pod]]) -> tuple[_Worth, str]:
    status = plan.status
    if status.phase is PlanPhase.DONE:
        used = next((node for node in plan.spec.empties or () if on_node.get(node)), None)
        if used is None:
            return _Worth.WORKED, ""
        return _Worth.IN_VAIN, f"node {used}, which plan {plan.name} had emptied, is in use"
    if status.phase is PlanPhase.ABORTED or (status.phase is PlanPhase.SUPERSEDED and status.started_at is not None):
        return _Worth.IN_VAIN, f"plan {plan.name} is {status.phase}: {status.reason}"
    return _Worth.NOTHING_DONE, ""


def _finished(plan: PackingPlan) -> float:
    return plan.status.finished_at.timestamp() if plan.status.finished_at is not None else 0.0


def _on_node(snapshot: Snapshot) -> Mapping[str, Sequence[Pod]]:
    """The pods that make a node one that is in use."""
    found: dict[str, list[Pod]] = defaultdict(list)
    for pod in snapshot.pods:
        if pod.node is not None and not pod.finished and not pod.terminating and not belongs_to_node(pod):
            found[pod.node].append(pod)
    return found


def emptied(found: Consolidation, policy: PackingPolicy) -> tuple[str, ...]:
    """The nodes that a search empties by moves; none when they are too few, or when a pod would lose its place."""
    packing = found.packing
    if packing is None or packing.evictions or packing.unplaced:
        return ()
    nodes = tuple(sorted({move.source for move in packing.moves} & set(found.nodes)))
    return nodes if len(nodes) >= policy.spec.consolidation.min_emptied_nodes else ()


def overtaken(plan: PlanFacts, policy: PackingPolicy | None, snapshot: Snapshot) -> tuple[PlanReason, str] | None:
    """Why a plan that empties nodes is not wanted any more; None: it goes on, or it is not such a plan.

    Pods that wait come first: the policy's, and others that began to wait for a node that a plan keeps from them. The
    replacements of pods that it has evicted do not count: each has a slot. Nor does anybody on a node whose pods have
    all been evicted.
    """
    if not plan.empties or policy is None or plan.ended:
        return None
    if policy.spec.consolidation.mode is ConsolidationMode.NEVER:
        return PlanReason.POLICY_CHANGED, f"policy {policy.name} empties no nodes any more"
    expected = _replacements(plan)
    for pod in waiting_pods(snapshot):
        if not in_scope(policy, pod, snapshot) and not _kept_away(pod, plan.created_at):
            continue
        if expected[slot_class(pod)]:
            expected[slot_class(pod)] -= 1
            continue
        return PlanReason.POD_WAITS, f"pod {pod.key} waits for a place, which comes before emptying nodes"
    on_node = _on_node(snapshot)
    leaving: dict[str, set[str]] = defaultdict(set)
    for step in plan.steps:
        leaving[step.node].add(step.pod.uid)
    unfinished = {step.node for step in plan.steps if plan.status_of(step).state is StepState.WAITING}
    for node in plan.empties:
        came = next((pod for pod in on_node.get(node, ()) if pod.uid not in leaving[node]), None)
        if node in unfinished and came is not None:
            return PlanReason.NODE_IN_USE, f"pod {came.key} stands on node {node}, which was to be emptied"
    return None


def _kept_away(pod: Pod, since: float) -> bool:
    """Whether a pod began to wait after `since`, and says that a node was closed to it; it may be the plan's."""
    waits_since, words = pod.unschedulable_since, pod.unschedulable_message
    return waits_since is not None and waits_since >= since and (REFUSED in words or UNTOLERATED in words)


def _replacements(plan: PlanFacts) -> Counter[SlotClass]:
    """How many pods of each class may wait because their predecessor was evicted and is not replaced yet."""
    classes = {slot.id: slot.slot_class for slot in plan.slots}
    return Counter(
        classes[step.slot]
        for step in plan.steps
        if step.action is Action.EVICT and step.slot is not None and plan.status_of(step).state is StepState.INTENDED
    )


def _waits(pending: int) -> str:
    return f"{counted(pending, 'pod')} without a place"
