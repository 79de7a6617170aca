"""Which nodes and pods belong to which policy, and what a packing for it may do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct, structs

from stowage.api.names import MAX_STEPS
from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_plan_status import PlanPhase, StepState
from stowage.api.packing_policy import FairnessMode, PackingPolicy
from stowage.api.packing_policy import Tail as PolicyTail
from stowage.api.reasons import StepReason
from stowage.api.selectors import LabelSelector, SelectorExpression, SelectorOperator
from stowage.decide.reservation import without_reservations
from stowage_scheduler.cluster import Node, Snapshot
from stowage_scheduler.kube.matching import NAMESPACE_NAME_LABEL
from stowage_scheduler.options import PackOptions, Tail
from stowage_scheduler.packing import Action
from stowage_scheduler.slots import slot_class
from stowage_scheduler.teams import Team

HOUR_SECONDS = 3600.0
_NOT_OURS = frozenset({StepReason.ALREADY_GONE.value, StepReason.PLAN_ENDED.value})


_TAILS: Mapping[PolicyTail, Tail] = {
    PolicyTail.LEAST_FRAGMENTATION: Tail.LEAST_FRAGMENTATION,
    PolicyTail.CONSOLIDATE: Tail.CONSOLIDATE,
    PolicyTail.SPREAD: Tail.SPREAD,
    PolicyTail.LEAST_POWER: Tail.LEAST_POWER,
}


class Scope(Struct, frozen=True):
    """The nodes of one policy: those it holds, and those it selects but another policy holds (by its name)."""

    nodes: frozenset[str]
    lost: Mapping[str, str]


def within(policy: PackingPolicy, namespaces: Collection[str]) -> PackingPolicy:
    """The policy as far as it speaks of pods in these namespaces; with none given as it is."""
    if not namespaces:
        return policy
    selector = policy.spec.namespace_selector or LabelSelector()
    here = SelectorExpression(key=NAMESPACE_NAME_LABEL, operator=SelectorOperator.IN, values=tuple(sorted(namespaces)))
    limited = selector.model_copy(update={"match_expressions": (*selector.match_expressions, here)})
    return policy.model_copy(update={"spec": policy.spec.model_copy(update={"namespace_selector": limited})})


def rank(policy: PackingPolicy) -> tuple[int, float, str]:
    """Sorts policies by their claim to nodes, strongest first: priority, then age, then name."""
    created = policy.metadata.creation_timestamp
    return (-policy.spec.priority, created.timestamp() if created else float("inf"), policy.name)


def scopes(policies: Iterable[PackingPolicy], nodes: Iterable[Node]) -> dict[str, Scope]:
    """Give each node to at most one policy.

    Returns:
        The scope of each policy by its name.
    """
    ranked = sorted(policies, key=rank)
    held: dict[str, set[str]] = {policy.name: set() for policy in ranked}
    lost: dict[str, dict[str, str]] = {policy.name: {} for policy in ranked}
    for node in nodes:
        claims = [policy for policy in ranked if _selects(policy.spec.node_selector, node)]
        for policy in claims[:1]:
            held[policy.name].add(node.name)
        for policy in claims[1:]:
            lost[policy.name][node.name] = claims[0].name
    return {policy.name: Scope(frozenset(held[policy.name]), lost[policy.name]) for policy in ranked}


def options(
    policy: PackingPolicy, moves_left: int, nodes: frozenset[str] | None = None, *, binds: bool = False
) -> PackOptions:
    """What a packing for `policy` may do.

    Args:
        policy: whose limits hold.
        moves_left: moves and evictions that the policy may still cause in this hour.
        nodes: those that it may use now; None: all that it selects.
        binds: whether its plans bind pods (steering Bind).
    """
    spec = policy.spec
    limits = spec.disruption
    return PackOptions(
        scheduler_names=spec.scheduler_names,
        pod_selector=spec.pod_selector.to_fact() if spec.pod_selector else None,
        namespace_selector=spec.namespace_selector.to_fact() if spec.namespace_selector else None,
        node_selector=spec.node_selector,
        nodes=nodes,
        max_moves=max(0, min(limits.max_moves_per_plan, moves_left)),
        max_gang_pods=MAX_STEPS,
        min_pod_age_seconds=limits.min_pod_age.seconds,
        owner_settled_seconds=limits.owner_settled.seconds,
        protected_namespaces=limits.protect.namespaces,
        protected_priority_at_least=limits.protect.priority_at_least,
        evict_lower_priority=limits.evict_lower_priority,
        max_unavailable_per_owner=limits.max_unavailable_per_owner.to_fact(),
        batch_jobs=limits.batch_jobs,
        protect_empty_dir=limits.protect_empty_dir,
        tail=_TAILS[spec.objective.tail],
        teams=teams_of(policy),
        binds=binds,
    )


def teams_of(policy: PackingPolicy) -> tuple[Team, ...]:
    """The teams between which a policy is fair; none where it is not asked to be."""
    fairness = policy.spec.fairness
    if fairness.mode is not FairnessMode.WEIGHTED_DRF:
        return ()
    return tuple(Team(team.name, team.selector.to_fact(), team.weight) for team in fairness.teams)


def moves_last_hour(plans: Iterable[PackingPlan], now: float) -> int:
    """Evictions that plans caused, or may have caused, within the hour before `now` (seconds since the epoch)."""
    count = 0
    for plan in plans:
        evictions = {step.id for step in plan.spec.steps if step.action is Action.EVICT}
        count += sum(
            1
            for status in plan.status.steps
            if status.id in evictions
            and status.state is not StepState.WAITING
            and status.reason not in _NOT_OURS
            and status.at is not None
            and now - status.at.timestamp() < HOUR_SECONDS
        )
    return count


def moves_left(policy: PackingPolicy, plans: Iterable[PackingPlan], now: float) -> int:
    """Moves and evictions that `policy` may still cause, given its plans of the last hour."""
    return max(0, policy.spec.disruption.max_moves_per_hour - moves_last_hour(plans, now))


def free_nodes(scope: Scope, other_plans: Iterable[PackingPlan]) -> frozenset[str]:
    """Nodes of a policy that no plan of another policy works on (pods elsewhere still count for rules)."""
    return scope.nodes - {name for plan in other_plans for name in nodes_of(plan)}


def without_planned(snapshot: Snapshot, other_plans: Iterable[PackingPlan]) -> Snapshot:
    """The snapshot without the pending pods that plans of other policies keep slots for, and without any reservation.

    Nodes that a plan keeps are left out elsewhere; a taint that still stands for a plan that has ended goes any moment.
    """
    busy = {slot.pod_class.to_fact() for plan in other_plans for slot in plan.spec.slots}
    pods = tuple(pod for pod in snapshot.pods if pod.node is not None or slot_class(pod) not in busy)
    return structs.replace(without_reservations(snapshot), pods=pods)


def nodes_of(plan: PackingPlan) -> frozenset[str]:
    """The nodes that a plan touches."""
    return frozenset([step.node for step in plan.spec.steps] + [slot.node for slot in plan.spec.slots])


def _selects(selector: Mapping[str, str], node: Node) -> bool:
    return all(node.labels.get(key) == value for key, value in selector.items())


def rival_of(plan: PackingPlan, others: Iterable[PackingPlan]) -> PackingPlan | None:
    """Another plan that is being executed for the policy of `plan`, or on one of its nodes; None: it may start."""
    nodes = nodes_of(plan)
    for other in others:
        if other.name == plan.name or other.status.phase not in {PlanPhase.APPROVED, PlanPhase.RUNNING}:
            continue
        if other.status.phase is PlanPhase.APPROVED and plan.name < other.name:
            continue  # neither runs yet: the one of the smaller name goes first
        if other.spec.policy == plan.spec.policy or nodes & nodes_of(other):
            return other
    return None
