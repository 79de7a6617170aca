"""Writes and evictions against a small server that keeps resource versions as the API server does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import structs

from stowage.act import events
from stowage.act.answers import Answer
from stowage.act.events import Subject, announce
from stowage.act.evictions import evict as ask_for_eviction
from stowage.act.plans import (
    AbortedMeanwhile,
    StaleLeader,
    create_plan,
    delete_plan,
    get_plan,
    list_plans,
    wake_pods,
    write_status,
)
from stowage.act.policies import get_policy, list_policies, write_policy_status
from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_plan_status import PackingPlanStatus
from stowage.decide.announcements import Announcement, EventReason
from stowage.transport import Api, Conflict, NotLeading
from unit.builders import NOW, evict, place, plan_resource, pod, policy_resource, ref, slot

Document = dict[str, Any]
WEB, NEW = pod("web-1", "n1"), pod("new-1", app="new")
TARGET = slot(1, NEW, "n2")
PLAN = "/apis/stowage.dev/v1alpha1/packingplans/default-1"


class FakeServer:
    """Objects by path, with optimistic concurrency on PUT; `before_put` may write in between, as others do."""

    def __init__(self) -> None:
        self.objects: dict[str, Document] = {}
        self.requests: list[tuple[str, str, Document]] = []
        self.refusal: Document | None = None
        self.before_put: Callable[[], None] = lambda: None

    def put(self, path: str, document: Document) -> None:
        version = int(self.objects.get(path, {}).get("metadata", {}).get("resourceVersion", "0")) + 1
        self.objects[path] = {**document, "metadata": {**document["metadata"], "resourceVersion": str(version)}}

    async def handle(self, request: web.Request) -> web.Response:
        body = json.loads(await request.text() or "{}")
        self.requests.append((request.method, request.path, body))
        if self.refusal is not None:
            return web.json_response(self.refusal, status=self.refusal["code"])
        answer = getattr(self, f"_{request.method.lower()}")(request.path, body)
        return web.json_response(answer, status=answer.get("code", 200) if answer.get("kind") == "Status" else 200)

    def _get(self, path: str, _: Document) -> Document:
        items = [one for key, one in self.objects.items() if key.rpartition("/")[0] == path]
        return self.objects.get(path) or ({"items": items} if items or path.endswith("s") else failure(404))

    def _post(self, path: str, body: Document) -> Document:
        return body if "eviction" in path else {**body, "metadata": {**body["metadata"], "uid": "made"}}

    def _put(self, path: str, body: Document) -> Document:
        self.before_put()
        key = path.removesuffix("/status")
        now = self.objects.get(key)
        if now is None:
            return failure(404)
        if now["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            return failure(409, reason="Conflict")
        self.put(key, {**now, "status": body["status"]})
        return self.objects[key]

    def _patch(self, path: str, body: Document) -> Document:
        return body if path in self.objects else failure(404)

    def _delete(self, path: str, _: Document) -> Document:
        return self.objects.pop(path, None) or failure(404)


def failure(code: int, **fields: Any) -> Document:
    return {"kind": "Status", "code": code, **fields}


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
async def api(server: FakeServer, tmp_path: Path) -> AsyncIterator[Api]:
    async with contextlib.AsyncExitStack() as stack:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.handle)
        running = await stack.enter_async_context(TestServer(app))
        document = {
            "clusters": [{"name": "c", "cluster": {"server": str(running.make_url(""))}}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(document))
        yield await stack.enter_async_context(await Api.connect(kubeconfig=str(path), user_agent="stowage-operator/1"))


def stored(server: FakeServer, **status: Any) -> PackingPlan:
    """The plan, as kept by the server, as read from it."""
    plan = plan_resource("default-1", evict(1, WEB), place(2, NEW, TARGET), slots=(TARGET,), status=status)
    server.put(PLAN, plan.to_document())
    return PackingPlan.parse(server.objects[PLAN])


def saying(message: str, epoch: int = 3) -> Callable[[PackingPlan], PackingPlanStatus]:
    return lambda fresh: fresh.status.model_copy(update={"message": message, "epoch": epoch})


class TestStatus:
    async def test_is_written_once(self, api: Api, server: FakeServer) -> None:
        plan = stored(server)
        written = await write_status(api, plan, saying("hello"), epoch=3, leads=lambda: True)
        assert server.objects[PLAN]["status"]["message"] == "hello"
        assert await write_status(api, written, saying("hello"), epoch=3, leads=lambda: True) is written
        assert [method for method, _, _ in server.requests] == ["PUT"]

    async def test_what_others_wrote_meanwhile_is_kept(self, api: Api, server: FakeServer) -> None:
        plan = stored(server)
        entry = {"holder": "host", "observedPlan": "default-1-uid", "at": "2027-01-15T08:00:00Z"}
        stored(server, extenders=[entry])
        written = await write_status(api, plan, saying("hello"), epoch=3, leads=lambda: True)
        assert [one.holder for one in written.status.extenders] == ["host"]
        assert written.status.message == "hello"

    async def test_a_higher_epoch_stops_the_writer(self, api: Api, server: FakeServer) -> None:
        plan = stored(server)
        stored(server, epoch=4)
        with pytest.raises(StaleLeader, match="epoch 4 wrote, this is epoch 3"):
            await write_status(api, plan, saying("hello"), epoch=3, leads=lambda: True)
        assert server.objects[PLAN]["status"]["epoch"] == 4

    async def test_an_abort_stops_the_writer(self, api: Api, server: FakeServer) -> None:
        plan = stored(server)
        document = server.objects[PLAN]
        server.put(PLAN, {**document, "spec": {**document["spec"], "approval": "Aborted"}})
        with pytest.raises(AbortedMeanwhile):
            await write_status(api, plan, saying("hello"), epoch=3, leads=lambda: True)

    async def test_a_plan_made_again_is_not_the_same_plan(self, api: Api, server: FakeServer) -> None:
        plan = stored(server)
        document = server.objects[PLAN]
        server.put(PLAN, {**document, "metadata": {**document["metadata"], "uid": "other"}})
        with pytest.raises(StaleLeader, match="made again"):
            await write_status(api, plan, saying("hello"), epoch=3, leads=lambda: True)

    async def test_tries_are_bounded(self, api: Api, server: FakeServer) -> None:
        plan = stored(server)
        server.before_put = lambda: server.put(PLAN, server.objects[PLAN])
        with pytest.raises(Conflict):
            await write_status(api, plan, saying("hello"), epoch=3, leads=lambda: True)
        assert sum(method == "PUT" for method, _, _ in server.requests) == 5


async def test_the_uid_goes_with_every_eviction(api: Api, server: FakeServer) -> None:
    assert (await ask_for_eviction(api, ref(WEB))).answer is Answer.EVICTED
    [(method, path, body)] = server.requests
    assert (method, path) == ("POST", "/api/v1/namespaces/team/pods/web-1/eviction")
    assert body["deleteOptions"] == {"preconditions": {"uid": WEB.uid}}


BUDGET = {"causes": [{"reason": "DisruptionBudget", "message": "needs 1 healthy pods"}], "retryAfterSeconds": 10}


@pytest.mark.parametrize(
    ("refusal", "answer", "retry_after_seconds"),
    [
        pytest.param(failure(404), Answer.GONE, 5, id="no-such-pod"),
        pytest.param(
            failure(409, message="the UID in the precondition (a) does not match"), Answer.GONE, 5, id="another-uid"
        ),
        pytest.param(failure(409, message="changed meanwhile"), Answer.THROTTLED, 5, id="some-conflict"),
        pytest.param(failure(429, details=BUDGET), Answer.BLOCKED_BY_BUDGET, 10, id="budget"),
        pytest.param(failure(429, details={"retryAfterSeconds": 7}), Answer.THROTTLED, 7, id="server-busy"),
        pytest.param(
            failure(500, message="This pod has more than one PodDisruptionBudget, which the eviction …"),
            Answer.REFUSED,
            5,
            id="two-budgets",
        ),
        pytest.param(failure(500, message="etcd is away"), Answer.FAILED, 5, id="server-broken"),
        pytest.param(failure(403, message="no rights"), Answer.REFUSED, 5, id="no-rights"),
        pytest.param(failure(400, message="the webhook says no"), Answer.REFUSED, 5, id="webhook"),
        pytest.param(failure(422), Answer.REFUSED, 5, id="invalid"),
    ],
)
async def test_answers_to_an_eviction(
    api: Api, server: FakeServer, refusal: Document, answer: Answer, retry_after_seconds: float
) -> None:
    server.refusal = refusal
    result = await ask_for_eviction(api, ref(WEB))
    assert (result.answer, result.retry_after_seconds) == (answer, retry_after_seconds)


async def test_an_eviction_that_was_not_sent_has_no_answer(api: Api, server: FakeServer) -> None:
    with pytest.raises(NotLeading):
        await ask_for_eviction(api.fenced(lambda: False), ref(WEB))
    assert not server.requests


async def test_plans_are_read_and_a_broken_one_is_left_out(api: Api, server: FakeServer) -> None:
    stored(server)
    server.put(f"{PLAN}-broken", {"metadata": {"name": "broken"}, "spec": {"approval": "Perhaps"}})
    assert [plan.name for plan in await list_plans(api)] == ["default-1"]
    assert await get_plan(api, "default-2") is None


async def test_a_plan_is_created_without_status_and_deleted_by_uid(api: Api, server: FakeServer) -> None:
    plan = plan_resource("default-1", evict(1, WEB), status={"message": "not yet"})
    assert (await create_plan(api, plan)).metadata.uid == "made"
    await delete_plan(api, plan)
    (_, _, created), (_, _, deleted) = server.requests
    assert "status" not in created
    assert deleted["preconditions"] == {"uid": "default-1-uid"}


@pytest.mark.parametrize(
    ("mark", "value"), [pytest.param("", "default-1", id="end"), pytest.param("2", "default-1.2", id="on-the-way")]
)
async def test_waking_touches_the_first_node_that_is_left(api: Api, server: FakeServer, mark: str, value: str) -> None:
    plan = stored(server)
    assert await wake_pods(api, plan, mark=mark) is None
    server.put("/api/v1/nodes/n2", {"metadata": {"name": "n2"}})
    assert await wake_pods(api, plan, mark=mark) == "n2"
    assert server.requests[-1][2] == {"metadata": {"annotations": {"stowage.dev/released": value}}}


async def test_events_tell_the_pod_and_never_stop_anything(api: Api, server: FakeServer) -> None:
    told = (Announcement(ref(WEB), EventReason.MOVING, "goes"), Announcement(ref(NEW), EventReason.PLACED, "came"))
    await announce(api, Subject.of_plan(stored(server)), told, identity="me", now=NOW)
    posted = (body for method, _, body in server.requests if method == "POST")
    first, second = sorted(posted, key=lambda body: str(body["reason"]))  # they are sent side by side
    assert first["regarding"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "team",
        "name": "web-1",
        "uid": WEB.uid,
    }
    assert (first["reason"], first["note"], first["eventTime"]) == ("Moving", "goes", "2027-01-15T08:00:00.000000Z")
    assert first["metadata"]["name"] != second["metadata"]["name"]
    server.refusal = failure(403)
    await announce(api, Subject.of_plan(stored(server)), told, identity="me", now=NOW)


async def test_what_is_told_twice_is_one_event(api: Api, server: FakeServer) -> None:
    subject = Subject.of_plan(stored(server))
    waits = Announcement(ref(WEB), EventReason.EVICTION_WAITS, "waits", "s001")
    again = structs.replace(waits, note="waits, as another process says")
    other = structs.replace(waits, key="s002")
    for number, one in enumerate((waits, again, other)):
        await announce(api, subject, [one], identity=f"process-{number}", now=NOW + number)
    first, second, third = (body["metadata"]["name"] for method, _, body in server.requests if method == "POST")
    assert first == second != third, "the API server takes a name once"


async def test_a_slow_server_does_not_hold_events_and_their_plan_up(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Slow:
        async def create(self, path: str, _: Document) -> Document:
            started.append(path)
            return await asyncio.Event().wait()  # type: ignore[return-value]

    monkeypatch.setattr(events, "WRITE_WITHIN_SECONDS", 0.05)
    told = [Announcement(ref(WEB), EventReason.MOVING, "goes")] * 20
    subject = Subject.of_plan(plan_resource("default-1"))
    await announce(cast("Api", Slow()), subject, told, identity="me", now=NOW)
    assert len(started) == 20


class TestPolicies:
    PATH = "/apis/stowage.dev/v1alpha1/packingpolicies/default"

    async def test_status_is_written_when_it_changed(self, api: Api, server: FakeServer) -> None:
        server.put(self.PATH, policy_resource().to_document())
        [policy] = await list_policies(api)
        server.put(self.PATH, server.objects[self.PATH])
        await write_policy_status(
            api, policy, lambda fresh: fresh.status.model_copy(update={"pending_pods": 2}), leads=lambda: True
        )
        assert server.objects[self.PATH]["status"]["pendingPods"] == 2
        fresh = await get_policy(api, "default")
        assert fresh is not None
        before = len(server.requests)
        await write_policy_status(api, fresh, lambda one: one.status, leads=lambda: True)
        assert len(server.requests) == before

    async def test_a_policy_that_is_going_is_gone(self, api: Api, server: FakeServer) -> None:
        going = policy_resource(metadata={"deletionTimestamp": "2027-01-15T08:00:00Z"})
        server.put(self.PATH, going.to_document())
        assert await get_policy(api, "default") is None
        del server.objects[self.PATH]
        await write_policy_status(
            api, going, lambda one: one.status.model_copy(update={"pending_pods": 2}), leads=lambda: True
        )
