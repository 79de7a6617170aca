"""TrainingJobs that run already, as an API server would hold them: for clusters without controllers and kubelets."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from typing import Any, Final

from harness.training_scale import SEATS, SEATS_ON_A_NODE, job
from stowage.api.training_job import TrainingJob
from stowage.decide.training.children import TOKEN_KEY, SeatPod, coordinator_pod, seat_pod, token_secret
from stowage.demo.simulated_nodes import NodeGroup

Document = dict[str, Any]

IMAGE: Final = "stowage:dev"
_MADE: Final = "2026-01-01T00:00:00Z"
_READY: Final = {"type": "Ready", "status": "True", "lastTransitionTime": _MADE}


def documents(count: int, namespace: str) -> Iterator[Document]:
    """The namespace, nodes, jobs in their first epoch, and what they are made of."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}, "status": {"phase": "Active"}}
    yield from _nodes(-(-count * SEATS // SEATS_ON_A_NODE))
    for number in range(count):
        yield from _job(number, namespace)


def _nodes(count: int) -> Iterator[Document]:
    for node in NodeGroup(name_prefix="n", count=count, cpu="64", memory="256Gi").documents():
        node["metadata"] |= {"uid": _uid(node["metadata"]["name"]), "creationTimestamp": _MADE}
        node["status"]["conditions"] = [_READY]
        yield node


def _job(number: int, namespace: str) -> Iterator[Document]:
    document = job(f"j{number}")
    document["metadata"] |= {"namespace": namespace, "uid": _uid(f"j{number}"), "generation": 1}
    document["metadata"] |= {"creationTimestamp": _MADE}
    pods = [f"j{number}-s{seat}-1" for seat in range(SEATS)]
    nodes = [f"n{(number * SEATS + seat) // SEATS_ON_A_NODE + 1}" for seat in range(SEATS)]
    status = {"phase": "Running", "reason": "AllRanksRunning", "epoch": 1, "attempt": 1, "observedGeneration": 1}
    times = dict.fromkeys(("phaseSince", "epochAt", "startedAt", "activeSince"), _MADE)
    seats = [
        {"seat": f"s{seat}", "attempt": 1, "podUID": _uid(pods[seat]), "node": nodes[seat]} for seat in range(SEATS)
    ]
    members = {"members": [f"s{seat}" for seat in range(SEATS)], "nodes": {"desired": SEATS, "ready": SEATS}}
    document["status"] = {**status, **times, **members, "seats": seats}
    yield document
    made = TrainingJob.parse_stored(document)
    secret = token_secret(made, _uid(f"token of j{number}"))
    token = secret.pop("stringData")[TOKEN_KEY]
    yield _stored({**secret, "data": {TOKEN_KEY: base64.b64encode(token.encode()).decode()}})
    yield _running(coordinator_pod(made, IMAGE), "n1")
    for seat, node in enumerate(nodes):
        yield _running(seat_pod(made, SeatPod(f"s{seat}", 1, SEATS, gated=False), IMAGE), node)


def _running(pod: Document, node: str) -> Document:
    pod["spec"]["nodeName"] = node
    bound = {"type": "PodScheduled", "status": "True", "lastTransitionTime": _MADE}
    return {**_stored(pod), "status": {"phase": "Running", "conditions": [bound, _READY], "startTime": _MADE}}


def _stored(document: Document) -> Document:
    document["metadata"] |= {"uid": _uid(document["metadata"]["name"]), "creationTimestamp": _MADE}
    return document


def _uid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
