"""Letting a pod go that waited for its gang: pinned to its node, and free of Stowage's gate."""

from __future__ import annotations

from typing import Any

from stowage.act.answers import Answer, Reply, reply_to
from stowage.api.names import GANG_GATE, RESERVED_TAINT
from stowage.transport import Api, ApiError, paths
from stowage_scheduler.packing import PodRef

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


async def ungate(api: Api, pod: PodRef, node: str, *, tolerate: str | None) -> Reply:
    """Pin exactly this pod to a node and take its gate away, in one patch.

    Args:
        api: the connection.
        pod: who is let go.
        node: where it shall run; kube-scheduler binds it there.
        tolerate: UID of the plan whose taint keeps the node; None: no taint does.
    """
    try:
        found = await api.get(paths.pod(pod.namespace, pod.name))
        metadata, spec = found["metadata"], found["spec"]
        if metadata["uid"] != pod.uid:
            return Reply(Answer.GONE, "another pod has its name now")
        gates = spec.get("schedulingGates") or []
        kept = [gate for gate in gates if gate["name"] != GANG_GATE]
        if len(kept) == len(gates):
            return Reply(Answer.UNGATED, "its gate was gone already")
        changes: dict[str, Any] = {
            "schedulingGates": kept,
            "affinity": {"nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": pinned(_terms(spec), node)}}},
        }
        if tolerate is not None:
            changes["tolerations"] = [*(spec.get("tolerations") or []), _toleration(tolerate)]
        version = {"resourceVersion": metadata["resourceVersion"]}
        await api.merge_patch(paths.pod(pod.namespace, pod.name), {"metadata": version, "spec": changes})
    except ApiError as error:
        return reply_to(error)
    return Reply(Answer.UNGATED)


async def open_gate(api: Api, pod: PodRef) -> Reply:
    """Take the gate of exactly this pod away and leave its place to the scheduler: nobody plans for it any more."""
    path = paths.pod(pod.namespace, pod.name)
    try:
        found = await api.get(path)
        metadata, gates = found["metadata"], found["spec"].get("schedulingGates") or []
        kept = [gate for gate in gates if gate["name"] != GANG_GATE]
        if metadata["uid"] != pod.uid or len(kept) == len(gates):
            return Reply(Answer.UNGATED, "it is not gated")
        version = {"uid": pod.uid, "resourceVersion": metadata["resourceVersion"]}
        await api.merge_patch(path, {"metadata": version, "spec": {"schedulingGates": kept}})
    except ApiError as error:
        return reply_to(error)
    return Reply(Answer.UNGATED)


def pinned(terms: list[dict[str, Any]], node: str) -> list[dict[str, Any]]:
    """Node selector terms that hold on one node alone.

    Terms are ORed, so each of them gets the requirement. One without any requirement selects nothing, and stays so.
    """
    only = {"key": "metadata.name", "operator": "In", "values": [node]}
    if not terms:
        return [{"matchFields": [only]}]
    return [
        {**term, "matchFields": [*(term.get("matchFields") or []), only]}
        if term.get("matchFields") or term.get("matchExpressions")
        else term
        for term in terms
    ]


def _terms(spec: dict[str, Any]) -> list[dict[str, Any]]:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    return (affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or []


def _toleration(uid: str) -> dict[str, str]:
    return {"key": RESERVED_TAINT, "operator": "Equal", "value": uid, "effect": "NoSchedule"}
