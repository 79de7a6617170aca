"""One recovery of a training job, with its operator killed at one of its changes or not at all, judged by oracles."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, Final

from faults.kill_points import KillPoint
from faults.lab import Lab
from faults.operator_points import counts, is_quiet, kill_and_restart
from faults.script import Hold, Match
from faults.traffic import Exchange
from harness.coordinator import FakeCoordinator, fake_coordinator
from harness.waiting import eventually
from harness.workbench import Workbench
from stowage.transport import NotFound, paths

Document = dict[str, Any]

SILENT: Final = "sim.stowage.dev/silent"
POLL_SECONDS: Final = 0.02
REACHED_SECONDS: Final = 30.0
MEMBERS: Final = 2
CREATED: Final = 201


@dataclass(frozen=True)
class Failure:
    """What goes wrong.

    Attributes:
        name: of the scenario.
        spares: that the job has.
        node_dies: the node of seat s1 is not Ready, and its supervisor is silent; else one of its processes exits.
    """

    name: str
    spares: int
    node_dies: bool


FAILURES: Final = (
    Failure("job-process", spares=0, node_dies=False),
    Failure("job-spare", spares=1, node_dies=True),
    Failure("job-node", spares=0, node_dies=True),
)


@dataclass
class Mended:
    """What came of one run.

    Attributes:
        point: where the kill was; None: undisturbed.
        killed: the point was reached.
        request: the request that was held then.
        end: what has to be the same whoever was killed.
        problems: what the oracles found.
        changes: how many the operator asked for from the failure on, leases and events left out.
    """

    point: KillPoint | None
    killed: bool = False
    request: str = ""
    end: Document = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    changes: int = 0


class TrainingSweep:
    """Runs of one failure in one lab, one after the other.

    Args:
        lab: with an operator that looks for coordinators at `port`.
        bench: a namespace; its cluster has nodes with the label `sweep`.
        failure: what goes wrong in each run.
        port: of the coordinator.
    """

    def __init__(self, lab: Lab, bench: Workbench, failure: Failure, port: int) -> None:
        self._lab = lab
        self._bench = bench
        self._failure = failure
        self._port = port
        self._runs = 0

    async def run(self, point: KillPoint | None = None) -> Mended:
        """Let the job run, fail and be mended, and judge what became of it."""
        self._runs += 1
        name = f"{self._failure.name}-{self._runs}"
        mended = Mended(point)
        async with fake_coordinator(self._port) as coordinator:
            try:
                await self._apply(name)
                await self._until(name, lambda status: status.get("phase") == "Running", "the job runs")
                await self._all_stand(name, coordinator)
                since = len(self._lab.proxy.exchanges)
                seen = await self._pods(name)
                await self._fail(name, coordinator, mended)
                await self._until(name, lambda status: status.get("epoch", 0) > 1, "a new epoch has begun")
                await self._until(name, lambda status: status.get("phase") == "Running", "the job runs again")
                await self._all_stand(name, coordinator)
                quiet = partial(is_quiet, self._lab.proxy)
                await eventually(quiet, timeout_seconds=60, what="the operator asks for no more changes")
                exchanges = self._lab.proxy.exchanges[since:]
                mended.changes = sum(counts(exchange.request) for exchange in exchanges)
                mended.end = await self._end(name)
                mended.problems += [*self._problems(name, coordinator, exchanges, seen), *self._lab.new_alarms()]
                mended.problems += self._lab.dead()
            except AssertionError as error:
                mended.problems.append(str(error))
            finally:
                self._lab.proxy.clear()
                mended.problems += await self._clear(name)
        return mended

    async def _apply(self, name: str) -> None:
        container = {"name": "trainer", "image": "train:1", "command": ["python3", "train.py"]}
        resources = {"requests": {"cpu": "5"}}
        spec = {
            "nodes": {"min": MEMBERS},
            "template": {
                "spec": {"containers": [{**container, "resources": resources}], "nodeSelector": {"sweep": "node"}}
            },
            "recovery": {"spares": self._failure.spares},
        }
        document = {"apiVersion": "stowage.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name}}
        collection = paths.in_namespace(paths.TRAINING_JOBS, self._bench.namespace)
        await self._lab.api.create(collection, {**document, "spec": spec})

    async def _status(self, name: str) -> Document:
        found: Document = (await self._lab.api.get(paths.training_job(self._bench.namespace, name))).get("status", {})
        return found

    async def _until(self, name: str, holds: Callable[[Document], bool], what: str) -> None:
        async def there() -> bool:
            status = await self._status(name)
            assert holds(status), status
            return True

        await eventually(there, timeout_seconds=90, what=what)

    async def _all_stand(self, name: str, coordinator: FakeCoordinator) -> None:
        """Every seat has a pod that runs, and no other pod is left; spares are connected."""

        async def there() -> bool:
            status, pods = await self._status(name), await self._pods(name)
            seats = {f"{name}-{one['seat']}-{one['attempt']}": one for one in status["seats"]}
            assert len(seats) == MEMBERS + self._failure.spares, status["seats"]
            assert set(seats) == set(pods), (set(seats), set(pods))
            assert all(one.get("podUID") and one.get("node") for one in seats.values()), seats
            ready = [one for one in pods.values() if one["status"]["phase"] == "Running"]
            assert len(ready) == len(pods)
            coordinator.waiting = {one["seat"]: one["podUID"] for one in seats.values() if one.get("spare")}
            return True

        await eventually(there, timeout_seconds=60, what="every seat has its pod")
        coordinator.tell("Running")

    async def _pods(self, name: str) -> dict[str, Document]:
        labels = {"labelSelector": f"stowage.dev/job={name},stowage.dev/seat"}
        found = await self._lab.api.get(paths.in_namespace(paths.PODS, self._bench.namespace), labels)
        return {pod["metadata"]["name"]: pod for pod in found["items"]}

    async def _fail(self, name: str, coordinator: FakeCoordinator, mended: Mended) -> None:
        point, proxy = mended.point, self._lab.proxy
        rule = None
        if point is not None:
            rule = proxy.add(Match.nth(point.number, mutating=True, where=counts), Hold(point.side))
        now = time.time()  # noqa: TID251 - as the operator's clock has it
        if self._failure.node_dies:
            status = await self._status(name)
            node = next(one["node"] for one in status["seats"] if one["seat"] == "s1")
            await self._silence(node)
            coordinator.loses("s1", at=now)
        else:
            coordinator.fails("s1", at=now)
        if point is None:
            return
        deadline = time.monotonic() + REACHED_SECONDS  # noqa: TID251
        while not proxy.held(rule) and time.monotonic() < deadline:  # noqa: TID251
            await asyncio.sleep(POLL_SECONDS)
            if (await self._status(name)).get("epoch", 0) > 1 and not proxy.held(rule) and await is_quiet(proxy):
                break
        killed = await kill_and_restart(self._lab, rule)
        mended.killed, mended.request = killed is not None, killed or ""

    async def _silence(self, node: str) -> None:
        """Its kubelet reports no more, and the control plane has noticed."""
        api = self._lab.api
        await api.merge_patch(paths.node(node), {"metadata": {"annotations": {SILENT: "true"}}})
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        lost = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "silent"}
        stamped = {**lost, "lastHeartbeatTime": at, "lastTransitionTime": at}
        found = (await api.get(paths.node(node)))["status"].get("conditions", [])
        conditions = [*(one for one in found if one["type"] != "Ready"), stamped]
        await api.merge_patch(paths.node(node) + "/status", {"status": {"conditions": conditions}})

    async def _end(self, name: str) -> Document:
        status = await self._status(name)
        return {
            "phase": status["phase"],
            "epoch": status["epoch"],
            "attempt": status["attempt"],
            "members": sorted(status["members"]),
            "seats": sorted((one["seat"], one["attempt"], one.get("spare", False)) for one in status["seats"]),
            "restarts": status.get("restarts"),
            "recoveries": [(one["event"], one["action"], one["seat"]) for one in status["recoveries"]],
        }

    def _problems(
        self, name: str, coordinator: FakeCoordinator, exchanges: list[Exchange], seen: dict[str, Document]
    ) -> list[str]:
        told = [(begin.epoch, begin.attempt, begin.seats, begin.pods) for begin in coordinator.told]
        problems = [f"epoch {b[0]} after {a[0]}" for a, b in pairwise(told) if b[0] < a[0]]
        by_epoch: dict[int, set[Any]] = {}
        for one in told:
            by_epoch.setdefault(one[0], set()).add(one[1:])
        problems += [f"epoch {epoch} was told as {said}" for epoch, said in by_epoch.items() if len(said) > 1]
        made = Counter(
            exchange.request.path.rpartition("/")[2]
            for exchange in exchanges
            if exchange.request.method == "PATCH"
            and exchange.request.field_manager
            and f"/pods/{name}-s" in exchange.request.path
            and exchange.server_status == CREATED
        )
        problems += [f"pod {pod} was made {times} times" for pod, times in made.items() if times > 1]
        problems += [f"pod {pod} was made again" for pod in made if pod in seen]
        return problems

    async def _clear(self, name: str) -> list[str]:
        """Deletes the job; what the operator leaves behind of it then."""
        api, left = self._lab.api, list[str]()
        with contextlib.suppress(NotFound):
            await api.delete(paths.training_job(self._bench.namespace, name))

        async def gone() -> bool:
            pods = await self._bench.pods()
            assert not pods, [(pod["metadata"]["name"], pod["metadata"].get("finalizers")) for pod in pods]
            return True

        try:
            await eventually(gone, timeout_seconds=60, what="a deleted job has no pods")
        except AssertionError as error:
            left.append(str(error))
        for node in (await api.get(paths.NODES))["items"]:
            if SILENT in (node["metadata"].get("annotations") or {}):
                await api.merge_patch(
                    paths.node(node["metadata"]["name"]), {"metadata": {"annotations": {SILENT: None}}}
                )
                await eventually(
                    lambda node=node: self._is_ready(node["metadata"]["name"]), what="the node is Ready again"
                )
        return left

    async def _is_ready(self, node: str) -> bool:
        found = await self._lab.api.get(paths.node(node))
        return any(one["type"] == "Ready" and one["status"] == "True" for one in found["status"]["conditions"])
