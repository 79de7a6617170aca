"""The answer of `stowage why node/NAME`: who runs there, what a policy says of them, and whether it can be emptied.

Whether it can is the question of a drain, asked without a change: a place elsewhere for every pod that has to leave.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from stowage.cli.top import NodeUse

if TYPE_CHECKING:
    from stowage.api.packing_plan import PackingPlan
    from stowage.api.packing_policy import PackingPolicy
    from stowage.cli.drain_answer import DrainAnswer
    from stowage_scheduler.cluster import Node, Pod, Snapshot
    from stowage_scheduler.kube.dump import Dump
    from stowage_scheduler.movability import Movability
    from stowage_scheduler.options import PackOptions

_UNITS = {"cpu": "cpuMilli", "memory": "memoryBytes", "ephemeral-storage": "ephemeralStorageBytes"}
_SECONDS = 1.0  # for places elsewhere, unless somebody gives more


class Stays(Struct, frozen=True):
    """Why a pod stays: a word for scripts, a sentence for people, and what would help, if anything is known."""

    reason: str
    words: str
    help: str = ""


class PodLine(Struct, frozen=True):
    """A pod of the node: why plans leave it where it is, why a drain does, else where a drain would send it."""

    pod: str
    priority: int
    requests: dict[str, int]
    in_plans: Stays | None = None
    in_drain: Stays | None = None
    to: str | None = None


class Keeper(Struct, frozen=True):
    """A plan that keeps the node: how many pods of it are to land there, and how many to leave."""

    plan: str | None  # its name; None: only its UID is known, from the taint
    uid: str
    phase: str = ""
    arriving: int = 0
    leaving: int = 0


class Holder(Struct, frozen=True):
    """The policy that holds the node."""

    name: str
    mode: str
    paused: bool


class NodeAnswer(Struct, frozen=True):
    """What is to be said of a node; `rivals` are policies that select it but do not hold it."""

    node: Node
    use: NodeUse
    drain: DrainAnswer
    pods: tuple[PodLine, ...] = ()
    holder: Holder | None = None
    rivals: tuple[str, ...] = ()
    keepers: tuple[Keeper, ...] = ()
    unreadable: int = 0  # pods there that make no sense

    @property
    def positive(self) -> bool:
        """Whether the node can be emptied, or is empty."""
        return self.drain.possible


def explain(facts: Dump, name: str, wanted: str | None, seconds: float | None) -> NodeAnswer:
    """Look at a node.

    Args:
        facts: the cluster and its policies.
        name: of the node.
        wanted: `--policy`; None: the policy that holds the node.
        seconds: for the search of places elsewhere; None: a short one.

    Raises:
        InputError: no such node or policy.
    """
    from stowage.cli.drain_answer import answer
    from stowage.cli.drain_policy import chosen_for, refuse_unknown
    from stowage.cli.plan import budget_for, options_in
    from stowage.cli.top import node_uses
    from stowage_scheduler.options import Drain

    snapshot = facts.snapshot
    refuse_unknown({name}, snapshot)
    chosen = chosen_for(wanted, facts, {name})
    options = options_in(chosen, snapshot)
    drained = structs.replace(options, drain=Drain(frozenset({name})))
    given = answer(snapshot, drained, budget_for(chosen.policy, seconds or _SECONDS, None), 0)
    holder, rivals = _holders(facts, name)
    node = next(one for one in snapshot.nodes if one.name == name)
    return NodeAnswer(
        node=node,
        use=next(one for one in node_uses(snapshot) if one.name == name),
        drain=given,
        pods=_lines(snapshot, name, (options, drained), given, chosen.policy),
        holder=holder,
        rivals=rivals,
        keepers=_by_taint(node),
        unreadable=sum(one.node == name for one in snapshot.rejected),
    )


def kept_by(given: NodeAnswer, plans: Iterable[PackingPlan]) -> NodeAnswer:
    """The answer with the plans that work on the node, as far as they have not ended."""
    from stowage.decide.scope import nodes_of
    from stowage_scheduler.packing import Action

    name = given.node.name
    found = [
        Keeper(
            plan=plan.name,
            uid=plan.metadata.uid or "",
            phase=plan.status.phase.value if plan.status.phase is not None else "",
            arriving=sum(slot.node == name for slot in plan.spec.slots),
            leaving=sum(step.node == name and step.action is Action.EVICT for step in plan.spec.steps),
        )
        for plan in plans
        if plan.active and name in nodes_of(plan)
    ]
    known = {one.uid for one in found}
    return structs.replace(given, keepers=(*found, *(one for one in given.keepers if one.uid not in known)))


def document(given: NodeAnswer) -> dict[str, Any]:
    """The answer as JSON values."""
    from stowage.cli import drain_answer, top

    node = given.node
    return {
        "node": node.name,
        "ready": node.ready,
        "cordoned": node.unschedulable,
        "taints": taints(node),
        "use": top.document([given.use], 0)["nodes"][0],
        "policy": structs.asdict(given.holder) if given.holder is not None else None,
        "otherPolicies": [*given.rivals],
        "keptBy": [structs.asdict(one) for one in given.keepers],
        "unreadablePods": given.unreadable,
        "pods": [
            {
                "pod": one.pod,
                "priority": one.priority,
                "requests": {_UNITS.get(resource, resource): amount for resource, amount in one.requests.items()},
                "staysInPlans": _reason(one.in_plans),
                "staysInDrain": _reason(one.in_drain),
                "to": one.to,
            }
            for one in given.pods
        ],
        "canBeEmptied": given.positive,
        "drain": drain_answer.document(given.drain, (), drained=None),
    }


def taints(node: Node) -> list[str]:
    """The taints of a node as kubectl writes them, cordon and reservation among them."""
    return [f"{one.key}{f'={one.value}' if one.value else ''}:{one.effect.value}" for one in node.taints]


def _reason(why: Stays | None) -> dict[str, str] | None:
    return None if why is None else {"reason": why.reason, "message": why.words, "help": why.help}


def _holders(facts: Dump, name: str) -> tuple[Holder | None, tuple[str, ...]]:
    from stowage.cli.facts import readable_policies
    from stowage.decide.scope import scopes

    policies = readable_policies(facts)
    found = scopes(policies, facts.snapshot.nodes)
    holding = next((one for one in policies if name in found[one.name].nodes), None)
    return _holder(holding), tuple(sorted(one for one, scope in found.items() if name in scope.lost))


def _holder(policy: PackingPolicy | None) -> Holder | None:
    return None if policy is None else Holder(policy.name, policy.spec.mode.value, bool(policy.spec.paused))


def _by_taint(node: Node) -> tuple[Keeper, ...]:
    from stowage.api.names import RESERVED_TAINT

    return tuple(Keeper(None, one.value) for one in node.taints if one.key == RESERVED_TAINT)


def _lines(
    snapshot: Snapshot,
    name: str,
    options: tuple[PackOptions, PackOptions],
    given: DrainAnswer,
    policy: PackingPolicy | None,
) -> tuple[PodLine, ...]:
    """The pods of a node; `options` are those of plans, then those of a drain."""
    from stowage_scheduler.cluster import PODS
    from stowage_scheduler.movability import Movability

    in_plans, in_drain = (Movability(snapshot, one) for one in options)
    obstacles = {one.pod.uid: Stays(one.reason, one.words, one.help) for one in given.obstacles}
    places = {one.pod.uid: one.target for one in given.packing.moves} if given.packing is not None else {}
    unplaced = given.packing.unplaced if given.packing is not None else ()
    homeless = {one.pod.uid: Stays(str(one.reason), "no place elsewhere", one.help) for one in unplaced}

    def line(pod: Pod) -> PodLine:
        return PodLine(
            pod=pod.key,
            priority=pod.priority,
            requests={one: amount for one, amount in pod.requests.items() if amount and one != PODS},
            in_plans=_stays(in_plans, pod, policy),
            in_drain=obstacles.get(pod.uid) or homeless.get(pod.uid) or _stays(in_drain, pod, policy),
            to=places.get(pod.uid),
        )

    here = [pod for pod in snapshot.pods if pod.node == name and not pod.finished]
    return tuple(line(pod) for pod in sorted(here, key=lambda one: one.key))


def _stays(movability: Movability, pod: Pod, policy: PackingPolicy | None) -> Stays | None:
    from stowage.cli.pod_answer import scope_help
    from stowage_scheduler.immovable import Immovable

    why = movability.immovable(pod)
    if why is None:
        return None
    words = scope_help(pod, policy) if why is Immovable.OUT_OF_SCOPE else str(why)
    return Stays("".join(part.capitalize() for part in why.name.split("_")), words)
