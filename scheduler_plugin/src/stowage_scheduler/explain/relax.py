"""Rules of a pod given up or loosened as little as will do, with what that costs and its words."""

from __future__ import annotations

import math

from msgspec import Struct
from msgspec.structs import replace

from stowage_scheduler.cluster import OF_VOLUMES, PODS, Node, Pod, Toleration
from stowage_scheduler.explain.clauses import Clause, ClauseKind
from stowage_scheduler.explain.node_types import PASSING_TAINTS
from stowage_scheduler.explain.words import amount_of
from stowage_scheduler.kube.matching import UNSCHEDULABLE_TAINT

IMPOSSIBLE = math.inf

# what a person would rather do comes first; a new node costs 10
_COSTS = {
    ClauseKind.NODE_READY: 3.0,
    ClauseKind.TAINT: 8.0,  # it is there for a purpose
    ClauseKind.TOPOLOGY_SPREAD: 4.0,
    ClauseKind.POD_ANTI_AFFINITY: 6.0,
    ClauseKind.HOST_PORT: 6.0,
    ClauseKind.NODE_SELECTOR: 8.0,
    ClauseKind.NODE_AFFINITY: 8.0,
    ClauseKind.POD_AFFINITY: 8.0,
}
_WASTED_GPUS = 6.0
_SMALLER = 5.0
_BY_PART = 10.0  # of the request that is given up: half of it at most


class Relaxed(Struct, frozen=True):
    """A pod that asks for less, and a node that was mended; the words say both."""

    pod: Pod
    node: Node
    words: tuple[str, ...] = ()


def relax_cost(clause: Clause, pod: Pod, lacking: int, node: Node) -> float:
    """What it costs to do without so much of a rule on a node; `IMPOSSIBLE` when nobody can."""
    if clause.kind is ClauseKind.RESOURCE:
        asked = pod.requests.get(clause.subject, 0)
        if lacking * 2 > asked or clause.subject == PODS or clause.subject.startswith(OF_VOLUMES):
            return IMPOSSIBLE
        return _SMALLER + _BY_PART * lacking / asked
    if clause.kind is ClauseKind.TAINT:
        return _taint_cost(clause.subject, pod, node)
    if clause.kind is ClauseKind.TOPOLOGY_SPREAD:
        return _COSTS[clause.kind] + lacking - 1 if lacking < 1 << 30 else IMPOSSIBLE
    return _COSTS.get(clause.kind, IMPOSSIBLE)


def _taint_cost(subject: str, pod: Pod, node: Node) -> float:
    if subject.startswith(PASSING_TAINTS):
        return _COSTS[ClauseKind.NODE_READY]
    wasted = any("gpu" in name and not pod.requests.get(name) for name, amount in node.allocatable.items() if amount)
    return _COSTS[ClauseKind.TAINT] + _WASTED_GPUS * wasted


def relax(relaxed: Relaxed, clause: Clause, lacking: int) -> Relaxed:
    """Do without so much of a rule."""
    pod, node = relaxed.pod, relaxed.node
    match clause.kind:
        case ClauseKind.RESOURCE:
            left = pod.requests[clause.subject] - lacking
            text = f"{amount_of(clause.subject, left)} instead of {amount_of(clause.subject, left + lacking)}"
            pod = replace(pod, requests={**pod.requests, clause.subject: left})
        case ClauseKind.NODE_READY:
            text, node = f"node {node.name} Ready again", replace(node, ready=True)
        case ClauseKind.TAINT if clause.subject.startswith(PASSING_TAINTS):
            text, node = _mend(node, clause.subject)
        case ClauseKind.TAINT:
            text = f"a toleration for taint {clause.subject}"
            pod = replace(pod, tolerations=(*pod.tolerations, _toleration(clause.subject)))
        case ClauseKind.TOPOLOGY_SPREAD:
            text, pod = _wider_skew(pod, clause.subject, lacking)
        case ClauseKind.POD_ANTI_AFFINITY:
            text = f"no anti-affinity by {clause.subject}"
            terms = tuple(term for term in pod.anti_affinity_terms if term.topology_key != clause.subject)
            pod = replace(pod, anti_affinity_terms=terms)
        case ClauseKind.HOST_PORT:
            text = f"another host port than {clause.subject}"
            pod = replace(pod, host_ports=())
        case ClauseKind.NODE_SELECTOR:
            key = clause.subject.partition("=")[0]
            text = f"no node selector {clause.subject}"
            pod = replace(pod, node_selector={k: v for k, v in pod.node_selector.items() if k != key})
        case ClauseKind.NODE_AFFINITY:
            text = f"another node affinity than {clause.subject}"
            pod = replace(pod, node_affinity=None)
        case _:
            text = f"no pod affinity by {clause.subject}"
            pod = replace(pod, affinity_terms=())
    return Relaxed(pod, node, (*relaxed.words, text))


def _toleration(subject: str) -> Toleration:
    """Of `key=value:Effect`, or of `key:Effect` for all values."""
    taint, _, effect = subject.rpartition(":")
    key, _, value = taint.partition("=")
    return Toleration(key, "Equal" if value else "Exists", value, effect)


def _mend(node: Node, subject: str) -> tuple[str, Node]:
    taint = subject.rpartition(":")[0].partition("=")[0]
    taints = tuple(one for one in node.taints if one.key != taint)
    if taint == UNSCHEDULABLE_TAINT.key:
        return f"kubectl uncordon {node.name}", replace(node, taints=taints, unschedulable=False)
    return f"node {node.name} without {taint}", replace(node, taints=taints)


def _wider_skew(pod: Pod, subject: str, more: int) -> tuple[str, Pod]:
    """The constraint with a larger skew; `subject` is its key, and its place among those of one key."""
    key, _, place = subject.partition("#")
    spread = list(pod.spread)
    number = int(place) - 1 if place else next(n for n, one in enumerate(spread) if one.topology_key == key)
    skew = spread[number].max_skew
    spread[number] = replace(spread[number], max_skew=skew + more)
    return f"maxSkew {skew + more} instead of {skew} for {key}", replace(pod, spread=tuple(spread))
