"""How many further nodes could take a pod of a job now, with everything else where it is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

from stowage.api.training_job import Pack, TrainingJob
from stowage.decide.training.children import SeatPod, seat_pod
from stowage_scheduler.cluster import Node, Pod, Snapshot
from stowage_scheduler.feasibility import feasible_nodes
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import fact_of
from stowage_scheduler.kube.malformed import MalformedObject
from stowage_scheduler.kube.priorities import Priorities

_UID: Final = "a-pod-that-might-be"


def room_for(job: TrainingJob, snapshot: Snapshot, taken: Collection[str] = ()) -> int:
    """Nodes with room for one more pod of the job: fewer than a packer finds, who may move others.

    Args:
        job: whose; nodes that its status keeps away from do not count.
        snapshot: the cluster.
        taken: nodes that have a pod of the job already: a seat is a node.
    """
    try:
        pod = _pod(job, snapshot)
    except MalformedObject:
        return 0  # the API server refuses such a pod too, and says why
    free = feasible_nodes(snapshot, pod) - set(taken)
    topology = job.spec.topology
    if topology is None or topology.pack is not Pack.REQUIRED:
        return len(free)
    by_name = {node.name: node for node in snapshot.nodes}
    domains = Counter(_domain(by_name, name, topology.keys) for name in free)
    here = {_domain(by_name, name, topology.keys) for name in taken if name in by_name}
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
