"""Dumps in which some pods are of PodGroups: of the coscheduling plugin, or of kube-scheduler."""

from __future__ import annotations

from random import Random
from typing import Any

Document = dict[str, Any]
RACK = "topology.kubernetes.io/rack"


def with_pod_groups(document: Document, seed: int) -> Document:
    """A dump in which nodes have racks, and the pods of every other ReplicaSet are a group of some kind.

    Some of a group's pods run where they ran, the others wait.
    """
    chance = Random(seed)
    items = []
    groups: dict[str, tuple[Document, float]] = {}
    for item in document["items"]:
        name = item["metadata"]["name"]
        if item["kind"] == "ReplicaSet" and chance.random() < 0.5:
            groups[name] = _group(item, chance), chance.choice([0.0, 0.0, 0.5])
        items.append(_in_a_rack(item, chance) if item["kind"] == "Node" else item)
    grouped = [_member(item, groups, chance) if item["kind"] == "Pod" else item for item in items]
    return {**document, "items": [*grouped, *(group for group, _ in groups.values())]}


def _in_a_rack(node: Document, chance: Random) -> Document:
    labels = {**node["metadata"]["labels"], RACK: f"rack-{chance.randint(0, 1)}"}
    return {**node, "metadata": {**node["metadata"], "labels": labels}}


def _group(owner: Document, chance: Random) -> Document:
    replicas = owner["spec"]["replicas"]
    least = chance.randint(1, replicas)
    metadata = {"name": owner["metadata"]["name"], "namespace": owner["metadata"]["namespace"]}
    if chance.random() < 0.5:
        version, spec = "scheduling.x-k8s.io/v1alpha1", {"minMember": least}
    else:
        version = "scheduling.k8s.io/v1alpha2"
        spec = {"schedulingPolicy": chance.choice([{"basic": {}}, {"gang": {"minCount": least}}])}
        if chance.random() < 0.3:
            spec["schedulingConstraints"] = {"topology": [{"key": RACK}]}
    return {"apiVersion": version, "kind": "PodGroup", "metadata": metadata, "spec": spec}


def _member(pod: Document, groups: dict[str, tuple[Document, float]], chance: Random) -> Document:
    owner = pod["metadata"]["labels"]["app"]
    if owner not in groups:
        return pod
    group, stays = groups[owner]
    metadata, spec, status = pod["metadata"], dict(pod["spec"]), pod["status"]
    if group["apiVersion"].startswith("scheduling.x-k8s.io"):
        metadata = {**metadata, "labels": {**metadata["labels"], "scheduling.x-k8s.io/pod-group": owner}}
    else:
        spec["schedulingGroup"] = {"podGroupName": owner}
    in_racks = "schedulingConstraints" in group["spec"]
    if in_racks or chance.random() >= stays:
        spec.pop("nodeName", None)
        waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        status = {"phase": "Pending", "conditions": [waits]}
    return {**pod, "metadata": metadata, "spec": spec, "status": status}
