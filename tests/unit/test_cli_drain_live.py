"""What `stowage drain` does to a cluster when things go wrong; the operator is played by a few lines."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import count
from typing import Any

import pytest

from stowage.cli import run
from stowage.cli.cluster import COLLECTIONS
from stowage.cli.drain_answer import DrainAnswer, PlanEnd
from stowage.cli.drain_live import Ended, Request, drain_live
from stowage.cli.errors import InputError
from stowage.transport import ApiUnavailable, Conflict, Forbidden, NotFound, paths
from stowage.transport.server_clock import ServerClock
from stowage_scheduler.options import Drain
from unit.test_cli_answers import Document, node, pod, policy

LEASE = "stowage-system/stowage-operator"
EXISTS: Any = {"tolerations": [{"operator": "Exists"}]}
MANY = 40  # pauses after which a drain that should have ended is taken for an endless one


def moment(ahead: float = 0.0) -> str:
    now = time.time() + ahead  # noqa: TID251 - the command reads it, too
    return f"{datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%SZ}"


class Cluster:
    """Objects by path; `operate` is what the operator does with a plan, `fails` what the server answers once each."""

    def __init__(self, *items: Document, operate: Callable[[Cluster, Document], None] | None = None) -> None:
        self.objects: dict[str, Document] = {}
        self.operate = operate or obey
        self.fails: dict[str, list[BaseException]] = {}
        self.hooks: dict[str, Callable[[], object]] = {}
        self.said: list[str] = []
        self.pauses: list[float] = []
        self.on_pause: Callable[[], None] = lambda: None
        self.listed: list[Document | None] = []
        self.ahead = 0.0  # of the clock of this machine, in seconds
        self.clock = ServerClock()
        self.extender: str | None = None
        for item in items:
            self.add(item)

    def add(self, item: Document) -> None:
        collection = {kind: path for path, kind in COLLECTIONS.items()}[item["kind"]]
        metadata = {"resourceVersion": "1", **item["metadata"]}
        self.objects[f"{collection}/{metadata['name']}"] = {**item, "metadata": metadata}

    def drop(self, name: str) -> None:
        del self.objects[f"{paths.PODS}/{name}"]

    @property
    def plans(self) -> list[Document]:
        return [one for path, one in self.objects.items() if path.startswith(paths.PACKING_PLANS)]

    def cordoned(self, name: str) -> bool:
        return bool(self.objects[paths.node(name)].get("spec", {}).get("unschedulable"))

    async def get(self, path: str, query: Document | None = None) -> Document:
        self._answer(f"GET {path}")
        if path == paths.VERSION:
            return {}
        if path == paths.lease(*LEASE.split("/")):
            return {"spec": {"holderIdentity": "operator", "renewTime": self.moment(), "leaseDurationSeconds": 3600}}
        if path in COLLECTIONS or path == paths.PACKING_PLANS:
            if path == paths.PODS:
                self.listed.append(query)
            found = [one for key, one in self.objects.items() if key.startswith(f"{path}/")]
            _, _, wanted = (query or {}).get("fieldSelector", "").partition("=")
            return {"items": [one for one in found if not wanted or one["spec"].get("nodeName") == wanted]}
        if path == paths.leases("stowage-system"):
            beat = {"spec": {"holderIdentity": self.extender, "renewTime": self.moment()}}
            return {"items": [beat] if self.extender else []}
        if path not in self.objects:
            raise NotFound(f"GET {path}", status=404)
        return self.objects[path]

    async def merge_patch(self, path: str, body: Document) -> Document:
        self._answer(f"PATCH {path}")
        if path not in self.objects:
            raise NotFound(f"PATCH {path}", status=404)
        old = self.objects[path]
        if body.get("metadata", {}).get("resourceVersion") not in {None, old["metadata"].get("resourceVersion")}:
            raise Conflict(f"PATCH {path}", status=409)
        self.objects[path] = {**old, "spec": {**old.get("spec", {}), **body["spec"]}}
        return self.objects[path]

    async def create(self, path: str, body: Document) -> Document:
        metadata = {**body["metadata"], "uid": body["metadata"]["name"], "creationTimestamp": self.moment()}
        plan = {**body, "metadata": metadata}
        if not any(isinstance(error, Forbidden) for error in self.fails.get(f"POST {path}", [])):
            self.objects[f"{path}/{metadata['name']}"] = plan
        assert len(self.plans) < MANY, "the drain does not end"
        self._answer(f"POST {path}")
        self.operate(self, plan)
        return plan

    def moment(self) -> str:
        return moment(self.ahead)

    def _answer(self, request: str) -> None:
        self.clock.hear(format_datetime(datetime.fromisoformat(self.moment()), usegmt=True))
        self.hooks.pop(request, lambda: None)()
        if self.fails.get(request):
            raise self.fails[request].pop(0)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        assert len(self.pauses) < MANY, "the drain does not end"
        self.on_pause()
        await asyncio.sleep(0)

    async def drain(self, *nodes: str, **request: Any) -> Ended:
        drained = Drain(frozenset(nodes or ("old",)), force=request.pop("force", False))
        wanted = Request(drained, units=1.0, operator_lease=LEASE, **request)
        return await drain_live(self, wanted, self.said.append, self.pause)  # type: ignore[arg-type]

    @property
    def words(self) -> str:
        return "\n".join(self.said)


NUMBERS = count(1)


def replaced(cluster: Cluster, plan: Document, where: Callable[[Document], str | None], reason: str) -> None:
    """Each pod of the plan is evicted, and its controller makes another one on that node; None: it waits."""
    slots = {slot["id"]: slot["node"] for slot in plan["spec"].get("slots", ())}
    for step in plan["spec"]["steps"]:
        gone = cluster.objects.pop(f"{paths.PODS}/{step['pod']['name']}")
        on = where({**step, "target": slots.get(step.get("slot"))})
        name = f"new-{next(NUMBERS)}"
        made = {**gone["metadata"], "name": name, "uid": name, "creationTimestamp": cluster.moment()}
        spec = {key: value for key, value in gone["spec"].items() if key != "nodeName"}
        cluster.add({**gone, "metadata": made, "spec": {**spec, **({"nodeName": on} if on else {})}})
    end(plan, "Done", reason)


def end(plan: Document, phase: str, reason: str) -> None:
    plan["status"] = {"phase": phase, "reason": reason}


def obey(cluster: Cluster, plan: Document) -> None:
    replaced(cluster, plan, lambda step: step["target"], "Completed")


def send_back(cluster: Cluster, plan: Document) -> None:
    replaced(cluster, plan, lambda step: step["node"], "CompletedWithVoidSteps")


def rules(**spec: Any) -> Document:
    found = policy("all", **spec)
    return {**found, "metadata": {**found["metadata"], "uid": "all"}}


def small(*more: Document, on: str = "old", **spec: Any) -> tuple[Document, ...]:
    return (node("old"), node("new"), rules(), pod("web", "1", on=on, **spec), *more)


async def test_a_node_is_emptied_by_one_plan() -> None:
    cluster = Cluster(*small())
    ended = await cluster.drain()
    assert ended.drained
    assert cluster.cordoned("old")
    assert [end.reason for end in ended.plans] == ["Completed"]


async def test_a_pod_that_ignores_cordons_keeps_the_node_from_being_drained() -> None:
    cluster = Cluster(*small(**EXISTS, schedulerName="default-scheduler"))
    ended = await cluster.drain()
    assert [one.reason for one in ended.answer.obstacles] == ["Returns"]
    assert not cluster.plans
    assert not cluster.cordoned("old")


async def test_a_replacement_that_comes_back_ends_a_forced_drain() -> None:
    cluster = Cluster(*small(**EXISTS, schedulerName="default-scheduler"), operate=send_back)
    ended = await cluster.drain(force=True)
    assert (ended.drained, ended.under_way) == (False, False)
    assert len(cluster.plans) == 1, "it was evicted once"
    (back,) = (one["metadata"]["name"] for one in cluster.objects.values() if one["kind"] == "Pod")
    assert f"pod a/{back} came back to node old" in cluster.words
    assert "the nodes stay cordoned" in cluster.words


@pytest.mark.parametrize("phase", ["Superseded", "Done"])
async def test_plans_that_change_nothing_become_rarer_and_end(phase: str) -> None:
    cluster = Cluster(*small(), operate=lambda _, plan: end(plan, phase, "CompletedWithVoidSteps"))
    ended = await cluster.drain()
    assert not ended.drained
    assert len(cluster.plans) == 4
    assert cluster.pauses == [2.0, 4.0, 8.0]
    assert "after 4 plans in vain; the nodes stay cordoned" in cluster.words


async def test_plans_that_lower_the_number_are_not_in_vain() -> None:
    def one_only(cluster: Cluster, plan: Document) -> None:
        plan["spec"]["steps"] = plan["spec"]["steps"][:1]
        obey(cluster, plan)

    cluster = Cluster(*small(*(pod(f"api-{number}", "100m", on="old") for number in range(6))), operate=one_only)
    assert (await cluster.drain()).drained
    assert len(cluster.plans) == 7
    assert cluster.pauses == []


CLOCKS = {"two hours behind": 7200.0, "two hours ahead": -7200.0}


@pytest.mark.parametrize("ahead", CLOCKS.values(), ids=CLOCKS.keys())
async def test_the_clock_of_this_machine_does_not_matter(ahead: float) -> None:
    cluster = Cluster(*small())
    cluster.ahead, cluster.extender = ahead, "extender-1"
    assert (await cluster.drain()).drained
    (plan,) = cluster.plans
    assert plan["spec"]["steering"] == "Extender", "its lease was renewed a moment ago"


CREATE = f"POST {paths.PACKING_PLANS}"
UNAVAILABLE = ApiUnavailable("POST", status=0, reason="Timeout")


async def test_a_plan_of_which_nobody_knows_whether_it_was_written_is_stopped() -> None:
    cluster = Cluster(*small())
    cluster.fails[CREATE] = [UNAVAILABLE]
    with pytest.raises(ApiUnavailable):
        await cluster.drain()
    (plan,) = cluster.plans
    assert cluster.objects[paths.packing_plan(plan["metadata"]["name"])]["spec"]["approval"] == "Aborted"
    assert cluster.cordoned("old"), "it may have evicted somebody"
    assert "the nodes stay cordoned" in cluster.words


async def test_a_timeout_while_the_plan_is_being_written_stops_it() -> None:
    cluster = Cluster(*small())
    cluster.fails[CREATE] = [TimeoutError()]
    with pytest.raises(InputError, match="not drained in time; the nodes stay cordoned"):
        await cluster.drain()
    assert cluster.plans[0]["spec"]["approval"] == "Aborted"
    assert cluster.cordoned("old")


async def test_a_plan_that_is_not_there_was_not_written() -> None:
    cluster = Cluster(*small())
    cluster.fails[CREATE] = [UNAVAILABLE]
    cluster.hooks[CREATE] = lambda: [cluster.objects.pop(path) for path in plan_paths(cluster)]
    with pytest.raises(ApiUnavailable):
        await cluster.drain()
    assert not cluster.cordoned("old")
    assert cluster.pauses == [0.5, 0.5], "it was looked for more than once"


def plan_paths(cluster: Cluster) -> list[str]:
    return [path for path in cluster.objects if path.startswith(paths.PACKING_PLANS)]


async def test_a_plan_that_was_refused_leaves_nothing_behind() -> None:
    cluster = Cluster(*small())
    cluster.fails[CREATE] = [Forbidden("POST", status=403)]
    with pytest.raises(Forbidden):
        await cluster.drain()
    assert not cluster.cordoned("old")
    assert "stay" not in cluster.words
    assert not cluster.pauses, "nothing is looked for"


async def test_one_cordon_that_can_not_be_taken_back_keeps_no_other() -> None:
    cluster = Cluster(*small(node("older")))
    cluster.fails[CREATE] = [Forbidden("POST", status=403)]
    patch = f"PATCH {paths.node('old')}"
    cluster.hooks[CREATE] = lambda: cluster.fails.update({patch: [UNAVAILABLE]})
    with pytest.raises(Forbidden):
        await cluster.drain("old", "older")
    assert cluster.cordoned("old")
    assert not cluster.cordoned("older")
    assert "node old stays cordoned" in cluster.words
    assert "old may be cordoned" in cluster.words


async def test_a_cordon_of_somebody_else_stays() -> None:
    cluster = Cluster(*small())
    path = paths.node("old")

    def faster() -> None:
        old = cluster.objects[path]
        cluster.objects[path] = {
            **old,
            "metadata": {**old["metadata"], "resourceVersion": "2"},
            "spec": {"unschedulable": True},
        }

    cluster.hooks[f"PATCH {path}"] = faster
    cluster.fails[CREATE] = [Forbidden("POST", status=403)]
    with pytest.raises(Forbidden):
        await cluster.drain()
    assert cluster.cordoned("old")
    assert "uncordoned" not in cluster.words


def going(name: str, on: str = "old") -> Document:
    found = pod(name, "1", on=on)
    return {**found, "metadata": {**found["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}


async def test_pods_on_their_way_out_are_named_once_and_asked_for_by_node() -> None:
    cluster = Cluster(node("old"), node("new"), rules(), going("slow"))

    def soon() -> None:
        if len(cluster.pauses) == 3:
            cluster.drop("slow")

    cluster.on_pause = soon
    assert (await cluster.drain()).drained
    assert cluster.said.count("waiting for pods on their way out: a/slow") == 1
    assert [query for query in cluster.listed if query and "fieldSelector" in query] == (
        [{"fieldSelector": "spec.nodeName=old"}] * 4
    )
    assert len(cluster.listed) == 3 + 4, "looked, cordoned, looked, waited, looked"


CODES = {
    "the nodes are empty": ({"drained": True}, 0),
    "nobody waits for the rest": ({"under_way": True}, 0),
    "it can not go on": ({"plans": (PlanEnd("p", "Done"),)}, 1),
}


@pytest.mark.parametrize(("fields", "code"), CODES.values(), ids=CODES.keys())
def test_exit_codes(monkeypatch: pytest.MonkeyPatch, fields: Document, code: int) -> None:
    ended = Ended(DrainAnswer(("old",)), **fields)
    monkeypatch.setattr("stowage.cli.cluster.with_cluster", lambda *_: ended)
    assert run(["drain", "old", "--no-wait"]) == code


async def test_without_waiting_pods_on_their_way_out_are_no_failure() -> None:
    cluster = Cluster(node("old"), node("new"), rules(), going("slow"))
    ended = await cluster.drain(wait=False)
    assert (ended.drained, ended.under_way) == (False, True)
    assert "no other pod has to leave; on their way out: a/slow" in cluster.words


async def test_a_drain_that_can_not_go_on_says_that_the_nodes_stay_cordoned() -> None:
    def then_full(cluster: Cluster, plan: Document) -> None:
        end(plan, "Superseded", "Overtaken")
        cluster.add(pod("large", "4", on="new"))

    cluster = Cluster(*small(), operate=then_full)
    ended = await cluster.drain()
    assert not ended.answer.possible
    assert "1 pod would find no place elsewhere; the nodes stay cordoned" in cluster.words
    assert cluster.cordoned("old")


async def test_sigterm_tells_what_is_left_behind() -> None:
    cluster = Cluster(*small(), operate=lambda *_: None)
    cluster.on_pause = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(InputError) as caught:
        await cluster.drain()
    (plan,) = cluster.plans
    name = plan["metadata"]["name"]
    assert str(caught.value) == (
        f"SIGTERM: not drained; the nodes stay cordoned; plan {name} goes on (to stop it: stowage abort {name})"
    )
    assert plan["spec"]["approval"] == "Approved", "as after Ctrl-C: the operator carries it out"


async def test_a_node_of_no_policy_says_where_its_pods_may_go() -> None:
    cluster = Cluster(
        node("old"),
        node("new"),
        node("theirs", labels={"pool": "a"}),
        rules(nodeSelector={"pool": "a"}),
        pod("web", "1", on="old"),
    )
    assert (await cluster.drain()).drained
    words = "no PackingPolicy holds old; planned under all, which may use only nodes with pool=a"
    assert cluster.said.count(words) == 1
