"""Steering Bind: a taint keeps the nodes of a plan, for kube-scheduler knows nothing of plans.

The taint's value is the UID of its plan, so a node tells by itself whose it is. It goes onto every node that the plan
sends a pod to before anything else is done, and off again when the plan has ended. Whatever a crash leaves behind is
the taint of a plan that does not run: whoever leads next sweeps it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct, structs

from stowage.api.names import RESERVED_TAINT
from stowage.api.packing_plan import PackingPlan, PlanSteering
from stowage.decide.plan_facts import PlanFacts
from stowage_scheduler.cluster import Node, Snapshot

SETTLE_SECONDS = 1.0
"""A pod that kube-scheduler assumed on a node before it knew the taint is bound by then."""


class Reservation(Struct, frozen=True):
    """Nodes of a plan that do not carry its taint: `free` ones, and those `taken` by another plan, by its UID."""

    free: frozenset[str]
    taken: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Whether every node of the plan that exists carries its taint."""
        return not self.free and not self.taken


def targets(plan: PlanFacts) -> frozenset[str]:
    """The nodes that a plan sends pods to, and those that it empties: they are the emptiest ones for a scheduler."""
    return frozenset(slot.node for slot in plan.slots) | frozenset(plan.empties)


def reservation(plan: PlanFacts, nodes: Iterable[Node]) -> Reservation:
    """What is missing before the nodes of a plan are kept for it; nodes that are gone are not spoken of."""
    wanted = targets(plan)
    free, taken = set(), {}
    for node in nodes:
        if node.name not in wanted:
            continue
        holder = holder_of(node)
        if holder is None:
            free.add(node.name)
        elif holder != plan.uid:
            taken[node.name] = holder
    return Reservation(frozenset(free), taken)


def holder_of(node: Node) -> str | None:
    """UID of the plan that a node is kept for."""
    return next((taint.value for taint in node.taints if taint.key == RESERVED_TAINT), None)


def leftovers(nodes: Iterable[Node], running: Collection[str]) -> dict[str, str]:
    """Nodes kept for plans that do not run, with the UIDs of those plans.

    Args:
        nodes: as they were before `running` was read: a taint is never older than its plan.
        running: UIDs of the plans that may keep nodes now.
    """
    holders = {node.name: holder for node in nodes if (holder := holder_of(node)) is not None}
    return {name: holder for name, holder in holders.items() if holder not in running}


def keeps_nodes(plan: PackingPlan) -> bool:
    """Whether taints of a plan belong where they are."""
    return plan.spec.steering is PlanSteering.BIND and plan.active


def without_reservations(snapshot: Snapshot, uid: str | None = None) -> Snapshot:
    """The snapshot as the pods of a plan see it: without its taint; without any reservation when `uid` is None."""
    if all(holder_of(node) is None for node in snapshot.nodes):
        return snapshot
    nodes = tuple(
        structs.replace(
            node,
            taints=tuple(
                taint for taint in node.taints if taint.key != RESERVED_TAINT or uid not in (None, taint.value)
            ),
        )
        for node in snapshot.nodes
    )
    return structs.replace(snapshot, nodes=nodes)
