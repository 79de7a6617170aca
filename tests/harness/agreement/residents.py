"""Pods that stand in the cluster, whose room, ports, labels and rules the others meet."""

from __future__ import annotations

from dataclasses import dataclass

from harness.agreement.amounts import ask_for_resources, small
from harness.agreement.draws import Draws
from harness.agreement.nodes import node_name
from harness.agreement.rules_of_nodes import host_ports
from harness.agreement.rules_of_pods import pod_term, spread, stay_away, stay_near
from harness.agreement.vocabulary import APPS, POD_NAMESPACES, SCHEDULER, VERSIONS, Document
from harness.agreement.volumes import use_claims


@dataclass(frozen=True)
class Resident:
    """A pod that stands on a node.

    Attributes:
        document: as it is created, with its node.
        status: what is written into its status then.
        terminating: whether it is deleted then, with a grace period that does not end.
    """

    document: Document
    status: Document
    terminating: bool


def pod_document(draws: Draws, name: str) -> Document:
    """A pod with labels, and one container that asks for nothing."""
    labels = {"app": draws.one(APPS), "version": draws.one(VERSIONS), "pod-template-hash": draws.one(("h1", "h2"))}
    if draws.chance(12):
        labels["canary"] = "yes"
    for key in ("app", "version"):
        if draws.chance(6):
            del labels[key]
    spec = {"schedulerName": SCHEDULER, "containers": [{"name": "main", "image": "generated"}]}
    namespace = draws.one(POD_NAMESPACES)
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec}


def resident(draws: Draws, number: int, nodes: int) -> Resident:
    """One pod on one of so many nodes."""
    pod = pod_document(draws.within("pod"), f"r-{number:02}")
    spec = pod["spec"]
    spec["nodeName"] = node_name(draws.between(0, nodes - 1))
    spec["containers"][0]["resources"] = small(draws.within("amounts"))
    if draws.chance(12):
        ask_for_resources(draws.within("many amounts"), pod)  # may be more than the node has
    elif draws.chance(15):
        spec["runtimeClassName"] = "sandboxed"
    if draws.chance(18):
        spec["containers"][0]["ports"] = host_ports(draws.within("ports"))
    if draws.chance(12):
        if draws.chance(50):
            _stay_away_from_few(draws.within("anti-affinity"), pod)
        else:
            stay_away(draws.within("anti-affinity"), pod)
    if draws.chance(8):
        stay_near(draws.within("affinity"), pod)
    if draws.chance(8):
        spread(draws.within("spread"), pod)
    if draws.chance(30):
        use_claims(draws.within("volumes"), pod)
    if draws.chance(50):
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "set", "controller": True}
        pod["metadata"]["ownerReferences"] = [{**owner, "uid": f"set-{draws.between(1, 3)}"}]
    phase = draws.one(("Running",) * 9 + ("Pending", "Succeeded", "Failed"))
    status: Document = {"phase": phase}
    if phase == "Running" and draws.chance(25):
        status |= _resized(draws, spec)
    return Resident(pod, status, terminating=draws.chance(10))


def _stay_away_from_few(draws: Draws, pod: Document) -> None:
    """Anti-affinity that names a label which pods get when they are to meet it."""
    term = pod_term(draws)
    term.pop("matchLabelKeys", None)
    term.pop("mismatchLabelKeys", None)
    term["labelSelector"] = {"matchLabels": {"noisy": draws.one(("yes", "very"))}}
    terms = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    pod["spec"].setdefault("affinity", {})["podAntiAffinity"] = terms


def meet_anti_affinity(draws: Draws, pod: Document) -> None:
    """Labels that anti-affinity of standing pods names."""
    pod["metadata"]["labels"]["noisy"] = draws.one(("yes", "yes", "very", "no"))


def _resized(draws: Draws, spec: Document) -> Document:
    """A pod whose node still holds other amounts than its spec asks for (KEP-1287)."""
    held = {"cpu": draws.one(("50m", "50m", "1500m", "2")), "memory": draws.one(("32Mi", "32Mi", "2Gi"))}
    container = {"name": spec["containers"][0]["name"], "image": "generated", "imageID": "", "ready": True}
    container |= {"restartCount": 0, "resources": {"requests": held}, "allocatedResources": held}
    conditions = []
    if draws.chance(60):
        reason = draws.one(("Infeasible", "Infeasible", "Deferred"))
        conditions.append({"type": "PodResizePending", "status": "True", "reason": reason})
    return {"containerStatuses": [container], "conditions": conditions}
