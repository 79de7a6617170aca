"""What would help a gang that waits: how many more nodes, of a type that is there already."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice

from msgspec.structs import replace

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.explain.explainer import Explainer
from stowage_scheduler.explain.gangs import MOST_DOMAINS, lacking
from stowage_scheduler.explain.help import Help, HelpKind
from stowage_scheduler.explain.node_types import NodeType, new_nodes, node_types
from stowage_scheduler.gangs import GangState
from stowage_scheduler.rules import RULES, Outcome

_COST = 10.0
_MOST_TYPES = 4


def best_domain(outcome: Outcome, explainer: Explainer, gang: GangState) -> Explainer:
    """The nodes of the domain in which most of a gang finds room; all nodes when it asks for no domain.

    Args:
        outcome: who stands where.
        explainer: of all nodes that may be used.
        gang: that waits.
    """
    if not gang.required:
        return explainer
    running = {pod.node for pod in gang.running}
    domains: dict[tuple[str, ...], list[Node]] = defaultdict(list)
    for node in explainer.nodes:
        if all(key in node.labels for key in gang.required):
            domains[tuple(node.labels[key] for key in gang.required)].append(node)
    most = explainer.most(gang.waiting)
    choices = [
        (lacking(most, nodes), key, nodes) for key, nodes in domains.items() if running <= {node.name for node in nodes}
    ]
    choices.sort(key=lambda choice: choice[:2])
    insides = [
        Explainer(outcome.snapshot, nodes, outcome.residents, explainer.standing)
        for _, _, nodes in choices[:MOST_DOMAINS]
    ]
    return min(insides, key=lambda inside: len(inside.homeless(gang.waiting)[0]), default=explainer)


def more_nodes_for(outcome: Outcome, inside: Explainer, gang: GangState) -> Help | None:
    """The fewest nodes of one type after which all of a gang finds room.

    Args:
        outcome: who stands where.
        inside: of the nodes of its domain, or of all.
        gang: that waits.
    """
    homeless, _ = inside.homeless(gang.waiting)
    types = node_types(inside.nodes, outcome.residents)
    fitting = (one for one in types if all(_fits(pod, one.new) for pod in homeless))
    found: list[tuple[int, NodeType]] = []
    for one in islice(fitting, _MOST_TYPES):
        most = max(1, min(len(homeless), -(-len(homeless) // _per_node(homeless, one))))
        for count in dict.fromkeys((most, len(homeless))):
            if not _left_over(outcome, inside, gang, new_nodes(one, count)):
                found.append((count, one))
                break
    if not found:
        return None
    count, kind = min(found, key=lambda one: one[0])
    added = new_nodes(kind, count)
    what = f"{count} more nodes" if count > 1 else "one more node"
    text = f"{what} {kind.words(homeless[0])}: then all of gang {gang.key[1]} fits"
    return Help(HelpKind.MORE_NODES, text, _COST * count, homeless[0], added[0].name, nodes=added)


def _fits(pod: Pod, node: Node) -> bool:
    return not any(rule.refuses(pod, node) for rule in RULES)


def _per_node(homeless: list[Pod], kind: NodeType) -> int:
    """How many of the largest of some pods a new node holds."""
    asked: dict[str, int] = defaultdict(int)
    for pod in homeless:
        for resource, amount in pod.requests.items():
            asked[resource] = max(asked[resource], amount)
    taken = {resource: sum(pod.requests.get(resource, 0) for pod in kind.daemons) for resource in asked}
    offered = kind.new.allocatable
    holds = ((offered.get(resource, 0) - taken[resource]) // amount for resource, amount in asked.items() if amount)
    return max(1, min(holds, default=1))


def _left_over(outcome: Outcome, inside: Explainer, gang: GangState, added: tuple[Node, ...]) -> list[Pod]:
    """Who finds no room with more nodes."""
    snapshot = replace(outcome.snapshot, nodes=(*outcome.snapshot.nodes, *added))
    explainer = Explainer(snapshot, [*inside.nodes, *added], outcome.residents)
    return explainer.homeless(gang.waiting)[0]
