"""Hundreds of TrainingJobs on a simulated cluster, what is done to them, and how soon the operator acted."""

from __future__ import annotations

import asyncio
import base64
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from harness.training_fleet import Fleet, FleetJob
from harness.training_watch import Watched
from harness.waiting import eventually
from stowage.api.names import JOB_LABEL, SEAT_LABEL
from stowage.decide.training.children import TOKEN_KEY, secret_name
from stowage.demo.simulated_nodes import NodeGroup
from stowage.transport import paths
from stowage.transport.api import Api

SEATS: Final = 8
SEATS_ON_A_NODE: Final = 8  # of a real job it is one: a node that is lost hits eight jobs at once here
START_SECONDS: Final = 1200.0
STILL_SECONDS: Final = 240.0
ANSWER_SECONDS: Final = 180.0
AT_ONCE: Final = 16
SILENT: Final = "sim.stowage.dev/silent"
WATCHED_FOR_CHANGES: Final = (paths.TRAINING_JOBS, paths.PODS, paths.SERVICES, paths.SECRETS, paths.EVENTS)

Document = dict[str, Any]

clock = time.perf_counter


@dataclass(frozen=True)
class Failure:
    """Something done to a job, on `clock`.

    Attributes:
        acted: when the watch showed the status with the decision.
        begun: when the coordinator was told to begin the next epoch; None: there is none.
    """

    kind: str
    job: str
    at: float
    acted: float
    begun: float | None


@dataclass
class Scale:
    """The jobs, their cluster and their operator.

    Attributes:
        namespace: of the jobs.
        metrics_url: of the operator.
    """

    api: Api
    namespace: str
    metrics_url: str = ""
    fleet: Fleet = field(init=False)
    watched: Watched = field(init=False)
    failures: list[Failure] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def name_of(self, token: str) -> str | None:
        """The job of a token, from the Secrets; they are read again where it is not known."""
        async with self._reading:
            if token not in self._names:
                listed = await self.api.get(paths.in_namespace(paths.SECRETS, self.namespace))
                for item in listed["items"]:
                    if TOKEN_KEY in item.get("data", {}):
                        known = base64.b64decode(item["data"][TOKEN_KEY]).decode("ascii")
                        self._names[known] = item["metadata"]["name"].removesuffix(secret_name(""))
        return self._names.get(token)

    async def add_nodes(self, seats: int) -> int:
        """So many nodes that all seats have a place when a tenth of the nodes is gone; how many."""
        count = -(-seats * 5 // (SEATS_ON_A_NODE * 4)) + 2
        documents = NodeGroup(name_prefix="n", count=count, cpu="64", memory="256Gi").documents()
        await in_parallel(self.api.create(paths.NODES, one) for one in documents)
        return count

    async def add_jobs(self, names: Iterable[str]) -> None:
        """Create the jobs."""
        collection = paths.in_namespace(paths.TRAINING_JOBS, self.namespace)
        await in_parallel(self.api.create(collection, job(name)) for name in names)

    async def until_all_run(self, count: int) -> None:
        """Wait until so many jobs run, as their status and their coordinators have it."""

        async def run() -> bool:
            phases = Counter(status.get("phase") for status in self.watched.status.values())
            running = sum(one.runs for one in self.fleet.jobs.values())
            assert phases["Running"] == running == count, f"{dict(phases)}, {running} running"
            return True

        await eventually(run, timeout_seconds=START_SECONDS, what=f"{count} jobs run")

    async def until_still(self, seconds: float) -> None:
        """Wait until the cluster has caught up: kubelets tell of pods long after their programs have begun.

        Who writes for ever is not waited for: then this fails.
        """

        async def still() -> bool:
            before = await self.versions()
            await asyncio.sleep(seconds)
            return before == await self.versions()

        await eventually(still, timeout_seconds=STILL_SECONDS, what="nothing changes any more")

    async def fail(self, kind: str, job: FleetJob, **details: Any) -> None:
        """Do something to a job that runs, and wait until it runs again, or has failed."""
        epoch = job.epoch
        sent = clock()
        if kind == "pod deleted":
            pods = await self.pods_of(job.name)
            sent = clock()
            await self.api.delete(paths.pod(self.namespace, pods[details["seat"]]))
        elif kind == "hang":
            job.hangs()
        else:
            job.exits(details["seat"], step=details.get("step"), error_hash=details.get("error_hash", ""))
        await self.answered(kind, job, epoch, sent)

    async def answered(self, kind: str, job: FleetJob, epoch: int, sent: float) -> None:
        """Wait until what was done to a job in an epoch is answered."""

        async def over() -> bool:
            if self.watched.phase(job.name) == "Failed":
                return True
            assert job.epoch > epoch, f"epoch {job.epoch}, {self.watched.status[job.name].get('message')}"
            assert (job.name, epoch + 1) in self.watched.epochs
            return job.runs and self.watched.phase(job.name) == "Running"

        await eventually(over, timeout_seconds=ANSWER_SECONDS, what=f"{job.name}: {kind} in epoch {epoch}")
        acted = self.watched.ended.get(job.name) or self.watched.epochs[job.name, epoch + 1]
        self.failures.append(Failure(kind, job.name, sent, acted, job.begun.get(epoch + 1)))

    async def pods_of(self, name: str) -> dict[str, str]:
        """The pods of a job's seats by seat, those that go left out."""
        query = {"labelSelector": f"{JOB_LABEL}={name},{SEAT_LABEL}"}
        listed = await self.api.get(paths.in_namespace(paths.PODS, self.namespace), query)
        return {
            item["metadata"]["labels"][SEAT_LABEL]: item["metadata"]["name"]
            for item in listed["items"]
            if "deletionTimestamp" not in item["metadata"]
        }

    async def seats_on(self, node: str) -> dict[str, list[str]]:
        """The seats on a node, by job."""
        listed = await self.api.get(paths.PODS, {"fieldSelector": f"spec.nodeName={node}"})
        found: defaultdict[str, list[str]] = defaultdict(list)
        for item in listed["items"]:
            labels = item["metadata"]["labels"]
            if SEAT_LABEL in labels:
                found[labels[JOB_LABEL]].append(labels[SEAT_LABEL])
        return found

    async def lose_node(self, node: str, *, is_deleted: bool) -> int:
        """A node is deleted, or falls silent with all that runs on it; waits until all its jobs run again; how many."""
        seats = {name: hit for name, hit in (await self.seats_on(node)).items() if self.fleet.jobs[name].ended is None}
        epochs = {name: self.fleet.jobs[name].epoch for name in seats}
        if is_deleted:
            kind, sent = "node deleted", clock()
            await self.api.delete(paths.node(node))
        else:
            kind = "node silent"
            await self.api.merge_patch(paths.node(node), {"metadata": {"annotations": {SILENT: "true"}}})
            for name, hit in seats.items():
                self.fleet.jobs[name].loses(*hit)
            sent = clock()
            condition = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "silent"}
            await self.api.merge_patch(paths.node(node) + "/status", {"status": {"conditions": [condition]}})
        await asyncio.gather(*(self.answered(kind, self.fleet.jobs[one], epochs[one], sent) for one in seats))
        return len(seats)

    async def versions(self) -> Mapping[str, str]:
        """The resource version of everything that the operator could write, by path and name."""
        found = {}
        for collection in WATCHED_FOR_CHANGES:
            listed = await self.api.get(paths.in_namespace(collection, self.namespace))
            found |= {f"{collection} {one['metadata']['name']}": _version(one) for one in listed["items"]}
        return found

    async def requests(self) -> Counter[str]:
        """What the operator has asked the API server, by method, watches left out."""
        async with aiohttp.ClientSession() as session, session.get(self.metrics_url) as answer:
            text = await answer.text()
        found: Counter[str] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "stowage_api_requests_total" and sample.labels["method"] != "WATCH":
                    found[sample.labels["method"]] += int(sample.value)
        return found


def job(name: str) -> Document:
    """A job of eight nodes."""
    container = {
        "name": "trainer",
        "image": "train:1",
        "command": ["python3", "train.py"],
        "resources": {"requests": {"cpu": "7900m"}},
    }
    return {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {"nodes": {"min": SEATS}, "template": {"spec": {"containers": [container]}}},
    }


async def in_parallel(actions: Iterable[Any]) -> None:
    """Some at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(action: Any) -> None:
        async with places:
            await action

    await asyncio.gather(*map(one, actions))


def _version(document: Document) -> str:
    return str(document["metadata"]["resourceVersion"])
