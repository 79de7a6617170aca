"""One TrainingJob on a real control plane, in a test's own namespace, and short ways to follow it."""

from __future__ import annotations

import contextlib
from typing import Any

from harness.waiting import PATIENCE_SECONDS, eventually
from harness.workbench import Document, Workbench
from stowage.transport import paths
from stowage.transport.errors import NotFound


class Job:
    """One TrainingJob of a test."""

    def __init__(self, bench: Workbench, name: str = "tiny") -> None:
        self.bench = bench
        self.name = name
        self.path = paths.training_job(bench.namespace, name)

    async def apply(self, nodes: int | Document = 2, pod: Document | None = None, **spec: Any) -> None:
        """Make it; `pod` is merged over the spec of its pods."""
        container = {"name": "trainer", "image": "train:1", "command": ["python3", "train.py"]}
        pod_spec = {"containers": [container], "nodeSelector": {"story": self.bench.namespace}, **(pod or {})}
        template = {"spec": pod_spec}
        document = {
            "apiVersion": "stowage.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": self.name},
            "spec": {"nodes": nodes if isinstance(nodes, dict) else {"min": nodes}, "template": template, **spec},
        }
        await self.bench.api.create(paths.in_namespace(paths.TRAINING_JOBS, self.bench.namespace), document)

    async def status(self) -> Document:
        found: Document = (await self.bench.api.get(self.path)).get("status", {})
        return found

    async def until(self, phase: str, epoch: int | None = None) -> Document:
        async def there() -> Document:
            status = await self.status()
            assert status.get("phase") == phase, status
            assert epoch is None or status["epoch"] == epoch, status
            return status

        return await eventually(there, what=f"{self.name} is {phase} in epoch {epoch}")

    async def pods(self) -> dict[str, Document]:
        """The pods of the seats by name."""
        found = await self.bench.pods()
        own = [pod for pod in found if pod["metadata"]["labels"].get("stowage.dev/job") == self.name]
        return {pod["metadata"]["name"]: pod for pod in own if "stowage.dev/seat" in pod["metadata"]["labels"]}

    async def until_pods(self, *names: str, within_seconds: float = PATIENCE_SECONDS) -> dict[str, Document]:
        async def there() -> dict[str, Document]:
            pods = await self.pods()
            assert set(pods) == set(names), set(pods)
            return pods or {"": {}}

        return await eventually(there, timeout_seconds=within_seconds, what=f"the pods are {names}")

    async def delete(self) -> None:
        with contextlib.suppress(NotFound):
            await self.bench.api.delete(self.path)
        await self.until_pods()  # a garbage collector that has just begun learns of jobs after 30 s

    async def gone(self) -> bool:
        """Whether nothing of the job is left; fails with what is."""
        for collection in (paths.SECRETS, paths.SERVICES, paths.PODS):
            found = await self.bench.api.get(paths.in_namespace(collection, self.bench.namespace))
            names = [item["metadata"]["name"] for item in found["items"]]
            assert not [name for name in names if name.startswith(self.name)], names
        with contextlib.suppress(NotFound):
            await self.bench.api.get(self.path)
            return False
        return True

    async def set_spec(self, **spec: Any) -> None:
        await self.bench.api.merge_patch(self.path, {"spec": spec})
