"""What a policy says about itself: one function from what was seen to its status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from stowage.api.conditions import with_condition
from stowage.api.durations import instant
from stowage.api.packing_plan import Approval, PackingPlan
from stowage.api.packing_plan_status import PlanPhase
from stowage.api.packing_policy import PackingPolicy, PackingPolicyStatus
from stowage.api.reasons import PlanReason, PolicyCondition, PolicyReason
from stowage.api.team_share import TeamShare
from stowage.decide.consolidation import Intent
from stowage.decide.policy_words import not_followed_in
from stowage.decide.scope import Scope
from stowage.decide.trigger import Trigger
from stowage_scheduler.counted import counted

LONGEST_MESSAGE = 1024
_NODES_NAMED = 5
_CONSOLIDATED = PolicyCondition.CONSOLIDATED


class PolicyView(Struct, frozen=True):
    """What was seen and done for a policy in one pass.

    `plans` are all plans of the policy, `active` the one that has not ended, `fruitless` whether the last packing
    found nothing for the pods that wait, `error` the words of a packing that failed. `outdated` are those of `plans`
    that are deleted once the status is written. `degraded` says what is not followed now, and why,
    `refused` why the API server did not take the plan that was made, `remark` what people should know though all works.
    """

    scope: Scope
    trigger: Trigger
    plans: Sequence[PackingPlan] = ()
    active: PackingPlan | None = None
    moves_last_hour: int = 0
    fruitless: bool = False
    error: str = ""
    outdated: Sequence[PackingPlan] = ()
    degraded: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""
    remark: str = ""
    teams: tuple[TeamShare, ...] = ()
    consolidation: Intent = Intent()


def policy_status(policy: PackingPolicy, view: PolicyView, now: float) -> PackingPolicyStatus:
    """The status to write; equal to the present one when nothing changed."""
    ready, reason, message = summary(policy, view)
    lost, moment, generation = view.scope.lost, instant(now), policy.metadata.generation or 0
    conflict = PolicyReason.NODES_HELD_BY_OTHER_POLICY if lost else PolicyReason.NO_CONFLICT
    conditions = policy.status.conditions
    sight = PolicyReason.NOT_FOLLOWED if view.degraded else PolicyReason.ALL_FOLLOWED
    said = [
        (PolicyCondition.READY, ready, reason, message),
        (PolicyCondition.DEGRADED, bool(view.degraded), sight, _not_followed(view.degraded)),
    ]
    if not view.degraded:
        said.append((PolicyCondition.CONFLICT, bool(lost), conflict, _held_by_others(view.scope)))
        conditions = tuple(one for one in conditions if view.consolidation.reason or one.type != _CONSOLIDATED)
        if view.consolidation.reason is not None:
            over = view.consolidation.reason is PolicyReason.NOTHING_TO_EMPTY
            said.append((_CONSOLIDATED, over, view.consolidation.reason, view.consolidation.message))
    for kind, holds, why, words in said:
        conditions = with_condition(
            conditions, kind, holds, why, words[:LONGEST_MESSAGE], now=moment, observed_generation=generation
        )
    if view.degraded:  # what is not seen can not be counted
        return policy.status.model_copy(update={"observed_generation": generation, "conditions": conditions})
    newest = max(view.plans, key=_age_key, default=None)
    deleted = policy.status.done_plans_deleted
    done = deleted + _done(view.plans)  # never less than before: people delete plans too
    return policy.status.model_copy(
        update={
            "observed_generation": generation,
            "plans_done": max(done, policy.status.plans_done),
            "done_plans_deleted": deleted + _done(view.outdated),
            "pending_pods": view.trigger.pending,
            "nodes": len(view.scope.nodes),
            "moves_last_hour": view.moves_last_hour,
            "teams": view.teams,
            "active_plan": view.active.name if view.active is not None else None,
            "last_plan": newest.name if newest is not None else policy.status.last_plan,
            "conditions": conditions,
        }
    )


def _done(plans: Sequence[PackingPlan]) -> int:
    return sum(plan.status.phase is PlanPhase.DONE for plan in plans)


def summary(policy: PackingPolicy, view: PolicyView) -> tuple[bool, PolicyReason, str]:
    """Whether the operator acts on a policy as it is written, why, and in words."""
    if view.degraded:
        return False, PolicyReason.NOT_FOLLOWED, _not_followed(view.degraded)
    words = "; ".join(filter(None, (not_followed_in(policy), view.remark)))
    if view.error:
        return False, PolicyReason.SOLVER_FAILED, view.error
    if view.refused:
        return False, PolicyReason.PLAN_REFUSED, view.refused
    if policy.spec.paused:
        return True, PolicyReason.PAUSED, words
    if not view.scope.nodes:
        return False, PolicyReason.NO_MATCHING_NODE, words or "spec.nodeSelector selects no node it may use"
    if view.active is not None:
        phase = view.active.status.phase
        # a plan that was written a moment ago has no phase yet
        waits = phase is PlanPhase.PROPOSED or (phase is None and view.active.spec.approval is Approval.PENDING)
        reason = PolicyReason.AWAITING_APPROVAL if waits else PolicyReason.PLAN_RUNNING
        return True, reason, words or f"plan {view.active.name}"
    newest = max(view.plans, key=_age_key, default=None)
    if newest is not None and newest.status.reason == PlanReason.EXTENDER_UNAVAILABLE.value:
        return False, PolicyReason.EXTENDER_UNAVAILABLE, newest.status.message
    return True, *_waiting(policy, view, words)


def _waiting(policy: PackingPolicy, view: PolicyView, words: str) -> tuple[PolicyReason, str]:
    seen = view.trigger
    if not seen.pending:
        return PolicyReason.WATCHING, words
    if seen.limited and seen.limited == seen.pending:
        return PolicyReason.REPLAN_LIMIT, words or f"{_planned_for(seen.limited)} four times in the last hour"
    if view.fruitless and view.moves_last_hour >= policy.spec.disruption.max_moves_per_hour:
        return PolicyReason.MOVES_PER_HOUR_SPENT, words or f"{counted(view.moves_last_hour, 'move')} in the last hour"
    if view.fruitless:
        return PolicyReason.NO_BETTER_PLAN, words or counted(seen.pending, "pod stays pending", "pods stay pending")
    return PolicyReason.GATHERING, words


def _not_followed(degraded: Mapping[str, str]) -> str:
    return "; ".join(f"{kind} is not followed: {why}" for kind, why in sorted(degraded.items()))


def _held_by_others(scope: Scope) -> str:
    by_policy: dict[str, list[str]] = {}
    for node, policy in sorted(scope.lost.items()):
        by_policy.setdefault(policy, []).append(node)
    return "; ".join(
        f"policy {policy} holds {counted(len(nodes), 'node')}: {', '.join(nodes[:_NODES_NAMED])}"
        + (" …" if len(nodes) > _NODES_NAMED else "")
        for policy, nodes in sorted(by_policy.items())
    )


def _planned_for(pods: int) -> str:
    return counted(pods, "pod was planned for", "pods were planned for")


def _age_key(plan: PackingPlan) -> tuple[float, str]:
    created = plan.metadata.creation_timestamp
    return (created.timestamp() if created else 0.0, plan.name)
