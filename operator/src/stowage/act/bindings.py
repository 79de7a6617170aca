"""Binding a pod to a node, as kube-scheduler does it."""

from __future__ import annotations

from typing import Any

from stowage.act.answers import Answer, Reply, reply_to
from stowage.transport import Api, ApiError, paths
from stowage_scheduler.packing import PodRef


async def bind(api: Api, pod: PodRef, node: str) -> Reply:
    """Bind exactly this pod, as it is now.

    It is read first: the binding carries its UID and resourceVersion, so nothing that changed since can be overlooked.
    The API server refuses every further binding of a pod.
    """
    try:
        found = await api.get(paths.pod(pod.namespace, pod.name))
        reply = _as_found(found, pod, node)
        if reply is None:
            await api.create(paths.binding(pod.namespace, pod.name), _binding(found, node))
            reply = Reply(Answer.BOUND)
    except ApiError as error:
        reply = reply_to(error)
    return reply


def _as_found(found: dict[str, Any], pod: PodRef, node: str) -> Reply | None:
    """What there is to say before anything is asked for; None: it can be bound."""
    metadata, spec = found["metadata"], found["spec"]
    if metadata["uid"] != pod.uid:
        return Reply(Answer.GONE, "another pod has its name now")
    bound_to = spec.get("nodeName")
    if bound_to:
        return Reply(Answer.BOUND if bound_to == node else Answer.ELSEWHERE, f"it is bound to node {bound_to}")
    if metadata.get("deletionTimestamp"):
        return Reply(Answer.GONE, "it is terminating")
    if spec.get("schedulingGates"):
        return Reply(Answer.REFUSED, f"scheduling gate {spec['schedulingGates'][0]['name']} holds it")
    return None


def _binding(found: dict[str, Any], node: str) -> dict[str, Any]:
    metadata = found["metadata"]
    kept = {name: metadata[name] for name in ("namespace", "name", "uid", "resourceVersion")}
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": kept,
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }
