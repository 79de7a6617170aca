"""Which nodes could take one pod while everything else stays as it is: what the rules' own checks say, node by node.

kube-scheduler calls these the feasible nodes (its plugins' Filter). Nothing of the packer's model is used.
"""

from __future__ import annotations

from collections import ChainMap

from msgspec.structs import replace

from stowage_scheduler.cluster import Node, Pod, Snapshot
from stowage_scheduler.devices.limits import with_gpu_milli
from stowage_scheduler.movability import Movability
from stowage_scheduler.options import PackOptions
from stowage_scheduler.rules import RULES, Outcome

# these speak of a plan as a whole, whichever node it chooses: who may move, how many, at what cost, who goes together
_OF_PLANS = frozenset({"NeverMoves", "Evictions", "Budgets", "MoveLimit", "Gangs"})
_OF_NODES = tuple(rule for rule in RULES if rule.name not in _OF_PLANS)
_WITHOUT_OPTIONS = PackOptions()


def feasible_nodes(snapshot: Snapshot, pod: Pod, options: PackOptions = _WITHOUT_OPTIONS) -> frozenset[str]:
    """Names of the nodes that may receive a pod with all other pods where they are.

    Whether the pod may be moved or planned for at all is another question (`movability`), as are its gang and caps on
    moves. A pod that runs is thought away from its node first; that node is not in the answer.

    Args:
        snapshot: the facts, `pod` among them or not.
        pod: that looks for a node.
        options: `nodes` and `node_selector` say which nodes are looked at.
    """
    others = tuple(other for other in snapshot.pods if other.uid != pod.uid)
    seeker = replace(pod, node=None, nominated_node=None, terminating=False, disruption_target=False)
    standing: dict[str, str] = {
        other.uid: other.node for other in others if other.node is not None and not other.finished and not other.leaving
    }
    facts = with_gpu_milli(replace(snapshot, pods=(*others, seeker)))
    seeker = facts.pods[-1]
    before = Outcome(facts, options, standing)
    looked_at = Movability(replace(facts, pods=()), options).nodes.values()
    return frozenset(
        node.name for node in looked_at if node.name != pod.node and _takes(seeker, node, before, standing)
    )


def _takes(pod: Pod, node: Node, before: Outcome, standing: dict[str, str]) -> bool:
    """Whether no rule refuses the node and none is broken with the pod there."""
    if any(rule.refuses(pod, node) for rule in _OF_NODES):
        return False
    outcome = _with_arrival(before, standing, pod, node)
    return not any(True for rule in _OF_NODES for _ in rule.check(outcome))


def _with_arrival(before: Outcome, standing: dict[str, str], pod: Pod, node: Node) -> Outcome:
    """The outcome with one more pod in place. What it has in common with the one before is not worked out again."""
    after = ChainMap({pod.uid: node.name}, standing)
    outcome = Outcome(before.snapshot, before.options, after)
    outcome.__dict__.update(
        nodes=before.nodes,
        residents=ChainMap({node.name: [*before.residents[node.name], pod]}, before.residents),
        arrivals=[(pod, node)],
        departures=[],
        evicted=[],
        staying=[],  # nobody leaves, so nobody who stays loses anything
        standing=before.standing,  # no rule between pods asks how a pod stands to itself
        standing_before=before.standing,
    )
    return outcome
