"""Two workers with GPUs that a large pod could share with nobody, until two small ones stand together."""

from __future__ import annotations

import json
from typing import Any

from harness.story import Story
from harness.waiting import eventually
from harness.workbench import Document, Workbench
from kind_cluster import KindCluster
from stowage.transport import paths

GPU = "nvidia.com/gpu"
GPUS = 8
SLOWLY_SECONDS = 90  # real kubelets, on a machine that does other things as well


def give_gpus(cluster: KindCluster) -> None:
    """Let workers say that they have GPUs; kubelets leave resources alone that they do not know."""
    for worker in cluster.workers:
        patch = {"status": {"capacity": {GPU: str(GPUS)}, "allocatable": {GPU: str(GPUS)}}}
        cluster.kubectl("patch", "node", worker, "--subresource=status", "--type=merge", "--patch", json.dumps(patch))


class Scene(Story):
    """Two workers of 8 GPUs with a pod of 3 on each, so that a pod of 6 waits until one of those moves."""

    def __init__(self, bench: Workbench, cluster: KindCluster) -> None:
        super().__init__(bench)
        self.cluster = cluster
        self._image = cluster.pause_image()

    async def begin(self, **spec: Any) -> None:
        """Bring it about; keywords are fields of the policy."""
        bench = self.bench
        await self.label_workers()
        await bench.deployment("small", 1, **self.pod(gpus=3))
        await bench.until_ready("small", 1, timeout_seconds=SLOWLY_SECONDS)
        (taken,) = await bench.bound("small")
        # the scheduler may find the node with one pod as good as the empty one: not while it is cordoned
        await self._cordon(taken, cordoned=True)
        await bench.scale(paths.DEPLOYMENTS, "small", 2)
        await bench.until_ready("small", 2, timeout_seconds=SLOWLY_SECONDS)
        await self._cordon(taken, cordoned=False)
        assert set((await bench.bound("small")).values()) == {1}
        await bench.replica_set("large", 1, **self.pod(gpus=6))
        await bench.until_unschedulable("large", 1, timeout_seconds=SLOWLY_SECONDS)
        await self.apply_policy(self.label, **spec)

    async def label_workers(self) -> None:
        """Make two workers those of the story."""
        self.nodes = self.cluster.workers[:2]
        for node in self.nodes:
            await self.bench.api.merge_patch(paths.node(node), {"metadata": {"labels": self.label}})

    @property
    def label(self) -> Document:
        """What the nodes of the story carry."""
        return {"story": self.bench.namespace}

    def pod(self, gpus: int) -> Document:
        """Keywords of a pod template: GPUs and little else, on the nodes of the story."""
        return {
            "gpus": gpus,
            "cpu": "10m",
            "memory": "8Mi",
            "image": self._image,
            "nodeSelector": self.label,
            "scheduler_name": self.scheduler_name,
            "terminationGracePeriodSeconds": 1,
        }

    async def end(self) -> None:
        """Take the labels away."""
        for node in self.nodes:
            await self.bench.api.merge_patch(paths.node(node), {"metadata": {"labels": {"story": None}}})

    async def until_packed(self) -> None:
        """Wait until the large pod runs, and the small ones beside each other."""
        await self.bench.until_ready("large", 1, timeout_seconds=SLOWLY_SECONDS)
        await self.bench.until_ready("small", 2, timeout_seconds=SLOWLY_SECONDS)
        assert list((await self.bench.bound("small")).values()) == [2]

    async def packed_by_recommendation(self) -> None:
        """Approve the next plan, and wait until it is done."""
        await self.approve(await self.plan_in("Proposed", timeout_seconds=SLOWLY_SECONDS))
        await self.plan_in("Done", timeout_seconds=SLOWLY_SECONDS)
        await self.until_packed()

    async def _cordon(self, node: str, *, cordoned: bool) -> None:
        await self.bench.api.merge_patch(paths.node(node), {"spec": {"unschedulable": cordoned or None}})

        async def seen() -> bool:  # the scheduler knows of it by the taint
            taints = (await self.bench.api.get(paths.node(node)))["spec"].get("taints", [])
            return cordoned is any(taint["key"] == "node.kubernetes.io/unschedulable" for taint in taints)

        await eventually(seen, what=f"{node} is {'' if cordoned else 'not '}cordoned")
