"""One ModelService on a real control plane, in a test's own namespace, and short ways to follow it."""

from __future__ import annotations

import contextlib
from typing import Any

from harness.waiting import PATIENCE_SECONDS, eventually
from harness.workbench import Document, Workbench, condition, is_ready
from stowage.transport import paths
from stowage.transport.errors import NotFound

CHILDREN = (paths.DEPLOYMENTS, paths.SERVICES, paths.DISRUPTION_BUDGETS)


class Service:
    """One ModelService of a test."""

    def __init__(self, bench: Workbench, name: str = "chat") -> None:
        self.bench = bench
        self.name = name
        self.path = paths.model_service(bench.namespace, name)

    def variant(self, **fields: Any) -> Document:
        container = {"name": "engine", "image": "vllm:1"}
        spec = {"containers": [container], "nodeSelector": {"story": self.bench.namespace}}
        return {"template": {"spec": spec}, **fields}

    async def apply(self, roles: list[Document] | None = None, **spec: Any) -> None:
        """Make it: one role and one variant, as in five lines, if nothing else is said."""
        document = {
            "apiVersion": "stowage.dev/v1alpha1",
            "kind": "ModelService",
            "metadata": {"name": self.name},
            "spec": {"roles": roles or [{"variants": [self.variant()]}], **spec},
        }
        await self.bench.api.create(paths.in_namespace(paths.MODEL_SERVICES, self.bench.namespace), document)

    async def set_spec(self, **spec: Any) -> None:
        await self.bench.api.merge_patch(self.path, {"spec": spec})

    async def read(self) -> Document:
        return await self.bench.api.get(self.path)

    async def status(self) -> Document:
        found: Document = (await self.read()).get("status", {})
        return found

    async def child(self, collection: str, name: str) -> Document:
        return await self.bench.api.get(paths.named(paths.in_namespace(collection, self.bench.namespace), name))

    async def deployment(self, role: str = "unified", variant: str = "default") -> Document:
        return await self.child(paths.DEPLOYMENTS, f"{self.name}-{role}-{variant}")

    async def pods(self) -> dict[str, Document]:
        """Replicas that have not been deleted, by name."""
        found = (pod for pod in await self.bench.pods() if "deletionTimestamp" not in pod["metadata"])
        replicas = (pod for pod in found if "stowage.dev/variant" in pod["metadata"]["labels"])
        own = [pod for pod in replicas if pod["metadata"]["labels"].get("stowage.dev/service") == self.name]
        return {pod["metadata"]["name"]: pod for pod in own}

    async def until_ready(self, count: int, *, within_seconds: float = PATIENCE_SECONDS) -> dict[str, Document]:
        """Wait until so many pods are there and ready, and the status says so too."""

        async def there() -> dict[str, Document]:
            pods, status = await self.pods(), await self.status()
            assert len(pods) == count, sorted(pods)
            assert all(map(is_ready, pods.values())), sorted(pods)
            assert (status.get("desiredReplicas"), status.get("readyReplicas")) == (count, count), status
            return pods or {"": {}}

        return await eventually(there, timeout_seconds=within_seconds, what=f"{self.name} has {count} ready replicas")

    async def until_more_than(self, count: int) -> dict[str, Document]:
        """Wait until there are more ready replicas than that, and as many as are desired; their pods."""

        async def more() -> dict[str, Document]:
            pods, status = await self.pods(), await self.status()
            assert status.get("desiredReplicas", 0) > count, status
            assert len(pods) == status["desiredReplicas"] == status["readyReplicas"], status
            return pods

        return await eventually(more, what=f"{self.name} has more than {count} replicas")

    async def settled(self) -> dict[str, str]:
        """Resource versions once controllers have told all and none but the service's own changes any more."""
        last: dict[str, str] = {}

        async def still() -> dict[str, str]:
            nonlocal last
            for kind in (paths.DEPLOYMENTS, paths.DISRUPTION_BUDGETS):
                for one in (await self.bench.api.get(paths.in_namespace(kind, self.bench.namespace)))["items"]:
                    assert is_told(one), one["status"]
            before, last = last, await self.versions()
            changed = {name for name in last if before.get(name) != last[name]} - {"ModelService"}
            assert not changed, changed
            return last

        return await eventually(still, what=f"{self.name} and its children rest")

    async def until_condition(
        self, kind: str, status: str, reason: str, words: str = "", *, within_seconds: float = PATIENCE_SECONDS
    ) -> Document:
        async def told() -> Document:
            found = await self.condition(kind)
            assert (found.get("status"), found.get("reason")) == (status, reason), await self.status()
            assert words in found.get("message", ""), found
            return found

        return await eventually(told, timeout_seconds=within_seconds, what=f"{kind} is {status}, {reason}")

    async def condition(self, kind: str) -> Document:
        conditions = (await self.status()).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {})

    async def versions(self) -> dict[str, str]:
        """Resource versions of the service, its children and its pods, by kind and name."""
        found = {"ModelService": (await self.read())["metadata"]["resourceVersion"]}
        for collection in (*CHILDREN, paths.PODS):
            items = (await self.bench.api.get(paths.in_namespace(collection, self.bench.namespace)))["items"]
            for item in items:
                found[f"{collection}/{item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
        return found

    async def nothing_left(self) -> bool:
        for collection in (*CHILDREN, paths.PODS):
            found = await self.bench.api.get(paths.in_namespace(collection, self.bench.namespace))
            names = [item["metadata"]["name"] for item in found["items"]]
            assert not [name for name in names if name.startswith(self.name)], names
        return True

    async def delete(self) -> None:
        with contextlib.suppress(NotFound):
            await self.bench.api.delete(self.path)
        # a garbage collector that has just begun learns of services after 30 s
        await eventually(self.nothing_left, what=f"nothing of {self.name} is left")


def is_told(child: Document) -> bool:
    """Whether the status of a Deployment or PodDisruptionBudget is of its spec and of all its pods, which are ready."""
    spec, status = child["spec"], child.get("status", {})
    if status.get("observedGeneration") != child["metadata"]["generation"]:
        return False
    if "template" not in spec:
        return bool(status["currentHealthy"] == status["expectedPods"])
    rolled_out = condition(child, "Progressing").get("reason") == "NewReplicaSetAvailable"
    return rolled_out and {status.get(f"{name}Replicas", 0) for name in ("ready", "available", "updated")} == {
        spec["replicas"]
    }
