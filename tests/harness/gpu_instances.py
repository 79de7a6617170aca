"""Clusters of shared GPUs as dumps: three quarters of the GPU in use, and pods that wait for more."""

from __future__ import annotations

from random import Random
from typing import Any

GPU = "nvidia.com/gpu"
MILLI = "stowage.dev/gpu-milli"
INDEX = "stowage.dev/gpu-index"
SIZES = (200, 250, 300, 500, 600, 800)


def gpu_dump(nodes: int, devices: int, seed: int, *, told: float) -> dict[str, Any]:
    """A cluster three quarters full, and as many pods that wait; of shares that run, a part `told` names its device."""
    chance = Random(seed)
    items: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"n{number}"},
            "status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110", GPU: str(devices)}},
        }
        for number in range(nodes)
    ]
    free = {f"n{number}": [1000] * devices for number in range(nodes)}
    wanted = 750 * nodes * devices
    number = 0
    while wanted > 0:
        milli = chance.choice((*SIZES, 1000, 1000))
        wanted -= milli
        spots = [(n, d) for n, left in free.items() for d, room in enumerate(left) if room >= milli]
        node, device = chance.choice(spots) if spots else (None, 0)
        if node is not None:
            free[node][device] -= milli
        items.append(_pod(number, milli, node, device if chance.random() < told else None))
        number += 1
    for _ in range(nodes):
        items.append(_pod(number, chance.choice((*SIZES, 1000, 2000)), None, None))
        number += 1
    owners = [item["metadata"]["ownerReferences"][0]["name"] for item in items if item["kind"] == "Pod"]
    items += [
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"namespace": "ml", "name": name, "uid": f"rs-{name}"},
            "spec": {"replicas": 1},
        }
        for name in owners
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _pod(number: int, milli: int, node: str | None, device: int | None) -> dict[str, Any]:
    name = f"app{number}"
    requests = {"cpu": "100m", "memory": "64Mi"}
    notes = {}
    if milli < 1000:
        notes = {MILLI: str(milli)} | ({INDEX: str(device)} if device is not None and node is not None else {})
    else:
        requests[GPU] = str(milli // 1000)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": "ml",
            "name": f"{name}-0",
            "uid": f"uid-{name}",
            "annotations": notes,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": f"rs-{name}", "controller": True}
            ],
        },
        "spec": {
            "containers": [{"name": "c", "resources": {"requests": requests}}],
            **({"nodeName": node} if node is not None else {}),
        },
        "status": {"phase": "Running" if node is not None else "Pending"},
    }
