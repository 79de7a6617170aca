"""One change of a ModelService, with its operator killed at one of its writes or not at all, judged by oracles."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from faults.kill_points import KillPoint
from faults.lab import Lab
from faults.operator_points import counts, is_quiet, kill_and_restart
from faults.script import Hold, Match
from faults.watch_log import Change as PodChange
from faults.watch_log import watch_log
from harness.model_service import Service
from harness.waiting import eventually
from harness.workbench import Workbench, is_ready
from stowage.api.names import (
    ATTEMPT_LABEL,
    GROUP_INDEX_LABEL,
    GROUP_ORDINAL_LABEL,
    ROLE_LABEL,
    SERVICE_LABEL,
    TAKES_REQUESTS_LABEL,
)
from stowage.decide.serving.service_facts import DRAINING_SINCE_ANNOTATION, seconds_of
from stowage.transport import NotFound, paths

Document = dict[str, Any]

DRAIN_SECONDS: Final = 4
POLL_SECONDS: Final = 0.1
REACHED_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Change:
    """What becomes of a service that rests.

    Attributes:
        name: of the scenario.
        before: replicas by role, before.
        after: the same, after.
        image: of the new replicas.
        least: replicas that answer under the service's own name at any time.
        is_roll_out: its Deployments replace their pods, which are not drained.
        size: pods of a replica; with more than one it is a group, and drains in a roll-out too.
    """

    name: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    image: str = "vllm:1"
    least: int = 1
    is_roll_out: bool = False
    size: int = 1


CHANGES: Final = (
    Change("service-in", {"unified": 3}, {"unified": 1}),
    Change("service-out", {"unified": 1}, {"unified": 3}),
    Change("service-image", {"unified": 2}, {"unified": 2}, image="vllm:2", least=2, is_roll_out=True),
    Change("groups-in", {"unified": 2}, {"unified": 1}, size=2),
    Change("groups-out", {"unified": 1}, {"unified": 2}, size=2),
    Change("groups-image", {"unified": 1}, {"unified": 1}, image="vllm:2", size=2),
    Change("service-roles", {"unified": 1}, {"prefill": 1, "decode": 1}),
)


@dataclass
class Changed:
    """What came of one run.

    Attributes:
        killed: the point was reached.
        request: the request that was held then.
        end: what has to be the same whoever was killed.
        problems: what the oracles found.
        changes: how many the operator asked for, leases and events left out.
    """

    killed: bool = False
    request: str = ""
    end: Document = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    changes: int = 0


class ServingSweep:
    """Runs of one change in one lab, one after the other.

    Args:
        lab: with an operator, which knows of no Prometheus: who leaves is waited for until the deadline.
        bench: a namespace; its cluster has nodes with the label `story`.
        change: what is asked for in each run.
    """

    def __init__(self, lab: Lab, bench: Workbench, change: Change) -> None:
        self._lab = lab
        self._bench = bench
        self._change = change
        self._runs = 0

    async def run(self, point: KillPoint | None = None, expected: Document | None = None) -> Changed:
        """Let the service rest, change it, and judge what became of it; `expected` is the end that is waited for."""
        self._runs += 1
        service = Service(self._bench, f"{self._change.name}-{self._runs}")
        changed = Changed()
        watching: asyncio.Task[list[str]] | None = None
        try:
            scaling = {"scaleDown": {"drainDeadline": f"{DRAIN_SECONDS}s"}}
            await service.apply(self._roles(service, self._change.before, "vllm:1"), scaling=scaling)
            await self._until(service, self._change.before)
            since = len(self._lab.proxy.exchanges)
            rule = None
            if point is not None:
                rule = self._lab.proxy.add(Match.nth(point.number, mutating=True, where=counts), Hold(point.side))
            over = asyncio.Event()
            watching = asyncio.create_task(self._watched(service, over))
            await service.set_spec(roles=self._roles(service, self._change.after, self._change.image))
            if point is not None:
                await self._kill_at(rule, changed)
            await self._until(service, self._change.after, expected)
            changed.changes = sum(counts(one.request) for one in self._lab.proxy.exchanges[since:])
            over.set()
            changed.problems += [*await watching, *self._lab.new_alarms(), *self._lab.dead()]
            changed.end = await self._end(service)
        except AssertionError as error:
            changed.problems.append(str(error))
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            self._lab.proxy.clear()
            with contextlib.suppress(NotFound):
                await self._bench.api.delete(service.path)
        return changed

    def _roles(self, service: Service, counts_by_role: Mapping[str, int], image: str) -> list[Document]:
        """Roles of exactly so many replicas: no signals are needed to get there."""
        variant = service.variant(**({"group": {"size": self._change.size}} if self._change.size > 1 else {}))
        variant["template"]["spec"]["containers"][0]["image"] = image
        return [
            {"name": name, "bounds": {"min": count, "max": count}, "variants": [variant]}
            for name, count in counts_by_role.items()
        ]

    async def _kill_at(self, rule: Any, changed: Changed) -> None:
        proxy = self._lab.proxy

        async def is_held() -> bool:
            return bool(proxy.held(rule))

        with contextlib.suppress(AssertionError):  # a change fewer than undisturbed: its end tells
            await eventually(is_held, timeout_seconds=REACHED_SECONDS, what="the operator asks for that change")
        killed = await kill_and_restart(self._lab, rule)
        changed.killed, changed.request = killed is not None, killed or ""
        proxy.clear()

    async def _until(self, service: Service, wanted: Mapping[str, int], expected: Document | None = None) -> None:
        """All replicas are there, of the right image, no others are, and nobody writes any more."""

        async def there() -> bool:
            pods, status = await service.pods(), await service.status()
            found = [one["metadata"]["labels"][ROLE_LABEL] for one in pods.values()]
            in_all = {name: count * self._change.size for name, count in wanted.items()}
            assert {name: found.count(name) for name in {*found}} == in_all, sorted(pods)
            replicas = {(one["metadata"]["labels"].get(GROUP_ORDINAL_LABEL), _attempt(one)) for one in pods.values()}
            assert self._change.size == 1 or len(replicas) == sum(wanted.values()), sorted(pods)
            assert all(map(is_ready, pods.values())), sorted(pods)
            ready = {one["name"]: (one["desired"], one["ready"]) for one in status.get("roles", ())}
            assert ready == {name: (count, count) for name, count in wanted.items()}, status
            assert await is_quiet(self._lab.proxy)
            assert expected is None or await self._end(service) == expected
            return True

        await eventually(there, timeout_seconds=120, what=f"{service.name} has {dict(wanted)}")

    async def _watched(self, service: Service, over: asyncio.Event) -> list[str]:
        """What went wrong meanwhile: too few that answer, or a replica that goes before it has drained."""
        problems: set[str] = set()
        gone: set[str] = set()
        read = 0

        async def selector() -> dict[str, str]:
            found: dict[str, str] = (await service.child(paths.SERVICES, service.name))["spec"]["selector"]
            return found

        # a look now and then could miss that a replica drained before it went
        async with watch_log(self._bench.api, paths.in_namespace(paths.PODS, self._bench.namespace)) as log:
            while not over.is_set():
                chosen = await selector()
                answering = [one for one in (await service.pods()).values() if is_ready(one)]
                behind = [one for one in answering if chosen.items() <= one["metadata"]["labels"].items()]
                lacks = []
                if len(behind) < self._change.least:
                    lacks.append(f"{len(behind)} replicas answer as {service.name}, by {chosen}")
                if chosen[ROLE_LABEL] == "prefill" and not _of_role(answering, "decode"):
                    lacks.append("prefill answers, and decode does not")
                if lacks and chosen == await selector():  # else it is of another time than the pods
                    problems.update(lacks)
                fresh, read = log.changes[read:], len(log.changes)
                problems.update(self._undrained(service, fresh, gone))
                await asyncio.sleep(POLL_SECONDS)
        return sorted(problems)

    def _undrained(self, service: Service, changes: Iterable[PodChange], gone: set[str]) -> Iterator[str]:
        """Replicas that are told to go before they have drained; `gone` are pods that were looked at."""
        for change in changes:
            metadata = change.object["metadata"]
            labels = metadata.get("labels", {})
            goes = change.type == "DELETED" or "deletionTimestamp" in metadata
            if not goes or metadata["uid"] in gone or labels.get(SERVICE_LABEL) != service.name:
                continue
            gone.add(metadata["uid"])
            if labels.get(GROUP_INDEX_LABEL, "0") != "0" or self._change.is_roll_out:
                continue  # requests are the first pod's
            if _drained_seconds(change.object) < DRAIN_SECONDS - 2 * POLL_SECONDS:
                yield f"{metadata['name']} went before it had drained"

    async def _end(self, service: Service) -> Document:
        status = await service.status()
        children = [name.rpartition("/")[2] for name in await service.versions() if paths.PODS not in name]
        pods = (await service.pods()).values()
        return {
            "roles": [(one["name"], one["desired"], one["ready"], one.get("draining", 0)) for one in status["roles"]],
            "conditions": sorted((one["type"], one["status"], one["reason"]) for one in status["conditions"]),
            "selector": status["selector"].partition(ROLE_LABEL)[2],
            "children": sorted(name.removeprefix(service.name) for name in children if name.startswith(service.name)),
            "left": sorted(name for one in pods for name in one["metadata"].get("annotations") or () if "leav" in name),
        }


def _drained_seconds(pod: Document) -> float:
    """For how long a pod has been without new requests, by its label and annotation."""
    metadata = pod["metadata"]
    if metadata["labels"].get(TAKES_REQUESTS_LABEL) != "false":
        return 0.0
    since = seconds_of((metadata.get("annotations") or {}).get(DRAINING_SINCE_ANNOTATION))
    return time.time() - since if since is not None else 0.0  # noqa: TID251 - as the operator's clock has it


def _attempt(pod: Document) -> str:
    """Of the replica that the pod is of: all of its pods have to be of one."""
    return str(pod["metadata"]["labels"].get(ATTEMPT_LABEL, ""))


def _of_role(pods: Sequence[Document], role: str) -> list[Document]:
    return [one for one in pods if one["metadata"]["labels"][ROLE_LABEL] == role]
