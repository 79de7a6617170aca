"""Which nodes are tainted for jobs, and when that is over: with the API server and the lease told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from stowage.api.durations import instant
from stowage.api.names import UNHEALTHY_TAINT
from stowage.api.training_job_status import AvoidedNode
from stowage.run.cordons import Cordons
from stowage.transport import Conflict
from unit.builders import NOW, node
from unit.test_training_job_status import Life


class Nodes:
    """The API server's nodes, and who leads."""

    def __init__(self) -> None:
        self.leading = True
        self.taints: list[dict[str, Any]] = []
        self.annotations: dict[str, str] = {}
        self.writes = 0
        self.in_between = False
        self.cordons = Cordons(
            api=cast("Any", self),
            store=cast("Any", SimpleNamespace(nodes={f"n{one}": node(f"n{one}") for one in range(10)})),
            lease=cast("Any", self),
            may_touch_nodes=True,
        )

    epoch = 1

    async def get(self, _: str) -> dict[str, Any]:
        metadata = {"resourceVersion": "1", "annotations": dict(self.annotations)}
        return {"metadata": metadata, "spec": {"taints": list(self.taints)}}

    async def merge_patch(self, path: str, body: dict[str, Any]) -> None:
        if self.in_between:
            raise Conflict(path, status=409)
        self.writes += 1
        self.taints = body["spec"]["taints"]
        self.annotations |= body["metadata"]["annotations"]

    async def carry_out(self, *, at: float = NOW) -> bool:
        job = Life().job
        avoided = (AvoidedNode(node="n1", at=instant(at), cordon=True, reason="a bad device"),)
        status = job.status.model_copy(update={"avoided_nodes": avoided})
        return await self.cordons.carry_out(job.model_copy(update={"status": status}))


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


async def test_a_node_is_tainted_once_for_each_time_that_it_failed(nodes: Nodes) -> None:
    assert await nodes.carry_out()
    assert [one["key"] for one in nodes.taints] == [UNHEALTHY_TAINT]
    nodes.taints.clear()  # an admin has looked
    assert await nodes.carry_out()
    assert nodes.taints == []
    assert await nodes.carry_out(at=NOW + 60)
    assert [one["key"] for one in nodes.taints] == [UNHEALTHY_TAINT]
    assert nodes.writes == 2


async def test_who_leads_no_longer_writes_nothing_and_does_it_when_it_leads_again(nodes: Nodes) -> None:
    nodes.leading = False
    await nodes.carry_out()
    assert nodes.writes == 0
    nodes.leading = True
    await nodes.carry_out()
    assert nodes.writes == 1


async def test_it_is_tried_again_when_somebody_wrote_in_between(nodes: Nodes) -> None:
    nodes.in_between = True
    assert not await nodes.carry_out()
    nodes.in_between = False
    assert await nodes.carry_out()
    assert nodes.writes == 1
