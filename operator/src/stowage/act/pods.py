"""Reading pods past the store: where its view may be older than what was just written."""

from __future__ import annotations

from collections.abc import Mapping

from stowage.transport import Api, paths

UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"  # what has ended holds no room


async def pods_on(api: Api, node: str) -> Mapping[str, str]:
    """The pods that hold room on a node now, `namespace/name` by UID; a consistent read."""
    found = await api.get(paths.PODS, {"fieldSelector": f"spec.nodeName={node},{UNFINISHED}"})
    pods = [item["metadata"] for item in found["items"]]
    return {pod["uid"]: f"{pod['namespace']}/{pod['name']}" for pod in pods}
