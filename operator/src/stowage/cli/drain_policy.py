"""Which policy a drain answers to: the one that holds the nodes."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from stowage.cli.errors import InputError
from stowage.cli.facts import Chosen, choose, readable_policies

if TYPE_CHECKING:
    from stowage.api.packing_policy import PackingPolicy
    from stowage_scheduler.cluster import Snapshot
    from stowage_scheduler.kube.dump import Dump


def refuse_unknown(nodes: Collection[str], snapshot: Snapshot) -> None:
    """Refuse names of nodes that do not exist.

    Raises:
        InputError: some do not.
    """
    missing = sorted(set(nodes) - {node.name for node in snapshot.nodes})
    if missing:
        raise InputError(f"node {', '.join(missing[:5])}: not found" + (" …" if missing[5:] else ""))


def chosen_for(wanted: str | None, facts: Dump, nodes: Collection[str]) -> Chosen:
    """The policy of a drain: the one given, else the one that holds the nodes, else the one of highest rank.

    Args:
        wanted: `--policy`.
        facts: the cluster and its policies.
        nodes: those to be drained.

    Raises:
        InputError: no such policy, it is malformed, or several policies hold the nodes.
    """
    if wanted is not None:
        return choose(wanted, facts)
    from stowage.decide.scope import scopes

    found = scopes(readable_policies(facts), facts.snapshot.nodes)
    holders = sorted(name for name, scope in found.items() if not scope.nodes.isdisjoint(nodes))
    if len(holders) > 1:
        names = ", ".join(holders)
        raise InputError(f"the nodes belong to PackingPolicies {names}: drain one after the other, or give --policy")
    return choose(holders[0] if holders else None, facts)


def outside_words(policy: PackingPolicy | None, facts: Dump, nodes: Collection[str]) -> str:
    """What to know when no policy holds a node: its pods may only go where the policy of the drain may put them.

    Args:
        policy: of the drain.
        facts: the cluster and its policies.
        nodes: those to be drained.

    Returns:
        A sentence; empty when policies hold all of the nodes, or there is none.
    """
    if policy is None:
        return ""
    from stowage.decide.scope import scopes

    found = scopes(readable_policies(facts), facts.snapshot.nodes)
    alone = sorted(set(nodes).difference(*(scope.nodes for scope in found.values())))
    selector = policy.spec.node_selector
    if not alone or not selector:
        return ""
    wanted = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    return (
        f"no PackingPolicy holds {', '.join(alone[:5])}{' …' if alone[5:] else ''}; "
        f"planned under {policy.name}, which may use only nodes with {wanted}"
    )
