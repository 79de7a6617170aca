"""Reading pods past the store: where its view may be older than what was just written."""

from __future__ import annotations

from stowage.transport import Api, paths

UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"  # what has ended holds no room


async def pods_on(api: Api, node: str) -> frozenset[str]:
    """UIDs of the pods that hold room on a node now; a consistent read."""
    found = await api.get(paths.PODS, {"fieldSelector": f"spec.nodeName={node},{UNFINISHED}"})
    return frozenset(item["metadata"]["uid"] for item in found["items"])
