"""How many further nodes could take a pod of a job now, with everything else where it is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from stowage.api.training_job import Pack, TrainingJob
from stowage.decide.training.children import SeatPod, seat_pod
from stowage_scheduler.cluster import Node, Pod, Snapshot
from stowage_scheduler.feasibility import feasible_nodes
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import fact_of
from stowage_scheduler.kube.malformed import MalformedObject
from stowage_scheduler.kube.priorities import Priorities
from stowage_scheduler.options import PackOptions

_UID: Final = "a-pod-that-might-be"
_AT_ONCE: Final = 32
"""Nodes that are looked at closely in one go: a small job needs to know of few."""


def room_for(job: TrainingJob, snapshot: Snapshot, taken: Collection[str] = ()) -> int:
    """Nodes with room for one more pod of the job: fewer than a packer finds, who may move others.

    No more are counted than the job may ever have.

    Args:
        job: whose; nodes that its status keeps away from do not count.
        snapshot: the cluster.
        taken: nodes that have a pod of the job already: a seat is a node.
    """
    try:
        pod = _pod(job, snapshot)
    except MalformedObject:
        return 0  # the API server refuses such a pod too, and says why
    names = [name for name in _with_enough_left(snapshot, pod) if name not in taken]
    topology = job.spec.topology
    if topology is not None and topology.pack is Pack.REQUIRED:
        return _in_one_domain(snapshot, pod, names, taken, topology.keys)
    most, found = job.spec.nodes.most, 0
    for start in range(0, len(names), _AT_ONCE):
        found += len(_feasible(snapshot, pod, names[start : start + _AT_ONCE]))
        if found >= most:
            break
    return min(found, most)


def _with_enough_left(snapshot: Snapshot, pod: Pod) -> list[str]:
    """Nodes with enough of each resource left. A quick look: in a full cluster it spares the slow one."""
    wanted = tuple(pod.requests.items())
    left = {
        node.name: [node.allocatable.get(resource, 0) - amount for resource, amount in wanted]
        for node in snapshot.nodes
    }
    for other in snapshot.pods:
        of_node = left.get(other.node) if other.node is not None else None
        if of_node is not None and not other.finished and not other.leaving:
            for place, (resource, _) in enumerate(wanted):
                of_node[place] -= other.requests.get(resource, 0)
    return [name for name, rest in left.items() if min(rest, default=0) >= 0]


def _feasible(snapshot: Snapshot, pod: Pod, names: Iterable[str]) -> frozenset[str]:
    return feasible_nodes(snapshot, pod, PackOptions(nodes=frozenset(names)))


def _in_one_domain(
    snapshot: Snapshot, pod: Pod, names: Sequence[str], taken: Collection[str], keys: tuple[str, ...]
) -> int:
    """Those of the domain in which the job stands already, else of the one with the most."""
    by_name = {node.name: node for node in snapshot.nodes}
    domains = Counter(_domain(by_name, name, keys) for name in _feasible(snapshot, pod, names))
    here = {_domain(by_name, name, keys) for name in taken if name in by_name}
    return max((count for domain, count in domains.items() if None not in domain and here <= {domain}), default=0)


def _pod(job: TrainingJob, snapshot: Snapshot) -> Pod:
    avoid = tuple(one.node for one in job.status.avoided_nodes)
    document = seat_pod(job, SeatPod("s0", 0, gang_size=1, gated=False, avoid=avoid), image="any")
    document["metadata"]["uid"] = _UID
    fact = fact_of(decode_object("Pod", json.dumps(document).encode()), Priorities(snapshot.priority_classes))
    if not isinstance(fact, Pod):
        raise TypeError(f"{type(fact).__name__} is no Pod")
    return fact


def _domain(nodes: Mapping[str, Node], name: str, keys: tuple[str, ...]) -> tuple[str | None, ...]:
    return tuple(nodes[name].labels.get(key) for key in keys)
