"""The admission webhook over HTTP: verdicts, and failures that are clear enough for `failurePolicy`."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientConnectorError, ClientSession, web
from aiohttp.test_utils import TestClient, TestServer

from stowage.admission.verdict import ALLOWED
from stowage.run import webhook as module
from stowage.run.catalogue import Reviewed
from stowage.run.certificates import DAY_SECONDS, issue
from stowage.run.webhook import MAX_BODY_BYTES, Webhook
from stowage.run.webhook_server import AdmissionServer, WebhookOptions
from stowage.transport import Api, ApiUnavailable, NotFound, paths
from unit.admission_requests import plan, policy

Document = dict[str, Any]
Client = TestClient[web.Request, web.Application]


class Server:
    """One policy, `gpu`; `on_get` may fail or hang."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.on_get: Callable[[], Any] = lambda: asyncio.sleep(0)

    async def get(self, path: str) -> Document:
        self.asked.append(path)
        await self.on_get()
        if path == paths.PACKING_POLICIES:
            return {"items": [policy()]}
        if path == paths.packing_policy("gpu"):
            return policy()
        raise NotFound(f"GET {path}", status=404)


def review(document: Document, **fields: Any) -> Document:
    kind = {"group": "stowage.dev", "version": "v1alpha1", "kind": document["kind"]}
    asked = {"uid": "u", "kind": kind, "operation": "CREATE", "name": document["metadata"]["name"], "object": document}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {**asked, **fields}}


class Asked:
    """A webhook behind a client, with what it said of its answers."""

    def __init__(self, client: Client, server: Server, told: list[tuple[str, str]]) -> None:
        self.client, self.server, self.told = client, server, told

    async def __call__(self, document: Document, **fields: Any) -> Document:
        async with self.client.post("/validate", json=review(document, **fields)) as answer:
            assert answer.status == 200, await answer.text()
            return cast("Document", (await answer.json())["response"])

    async def raw(self, data: bytes, content_type: str = "application/json") -> tuple[int, str]:
        headers = {"Content-Type": content_type}
        async with self.client.post("/validate", data=io.BytesIO(data), headers=headers) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def ask() -> AsyncIterator[Asked]:
    server, told = Server(), []
    webhook = Webhook(
        cast("Api", server), lambda: None, on_answer=lambda kind, outcome, _: told.append((kind, outcome))
    )
    async with TestClient(TestServer(webhook.app("/validate"))) as client:
        yield Asked(client, server, told)


async def test_a_plan_for_a_policy_that_exists_is_allowed_and_for_another_one_refused(ask: Asked) -> None:
    assert await ask(plan()) == {"uid": "u", "allowed": True}
    refused = await ask(plan(policy="gone"))
    assert not refused["allowed"]
    assert refused["status"]["message"].startswith("PackingPlan gpu-1: spec.policy = gone: the PackingPolicy does not")
    assert ask.server.asked == [paths.packing_policy("gpu"), paths.packing_policy("gone")]
    assert ask.told == [("PackingPlan", Reviewed.ALLOWED), ("PackingPlan", Reviewed.DENIED)]


async def test_a_dry_run_is_answered_like_any_other(ask: Asked, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert (await ask(plan(), dryRun=True))["allowed"]
    assert not (await ask(plan(policy="gone"), dryRun=True))["allowed"]
    assert "(dry run)" in caplog.text


async def test_warnings_come_with_a_yes(ask: Asked) -> None:
    answer = await ask(policy("cpu", objective={"tail": "LeastPower"}))
    assert answer["allowed"]
    assert len(answer["warnings"]) == 1


async def test_what_needs_no_look_costs_no_request(ask: Asked) -> None:
    assert (await ask(plan(policy="gone"), oldObject=plan(policy="gone"), operation="UPDATE"))["allowed"]
    assert (await ask({"kind": "Pod", "metadata": {"name": "a"}}))["allowed"]
    assert ask.server.asked == []
    assert ask.told[-1] == ("Other", Reviewed.ALLOWED)


@pytest.mark.parametrize(
    ("data", "content_type", "status", "words"),
    [
        pytest.param(b"{", "application/json", 400, "no AdmissionReview", id="cut off"),
        pytest.param(b"{}", "application/json", 400, "missing required field", id="no review"),
        pytest.param(b"a=1", "text/plain", 415, "send application/json", id="no JSON"),
        pytest.param(b" " * (MAX_BODY_BYTES + 1), "application/json", 413, "Maximum request body size", id="too large"),
    ],
)
async def test_what_is_no_question_is_refused(
    ask: Asked, data: bytes, content_type: str, status: int, words: str
) -> None:
    answered, text = await ask.raw(data, content_type)
    assert (answered, words in text) == (status, True), text
    assert ask.told == [("Other", Reviewed.FAILED)]


@pytest.mark.parametrize("spec", [{"policy": {"a": 1}}, {"policy": ""}, {}], ids=["no text", "no name", "nothing"])
async def test_a_plan_that_names_no_policy_is_refused_without_asking(ask: Asked, spec: Document) -> None:
    document = plan() | {"spec": spec}
    assert not (await ask(document))["allowed"]
    assert ask.server.asked == []


async def test_an_api_server_that_does_not_answer_costs_the_check_and_not_the_answer(
    ask: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ApiUnavailable("GET packingpolicies", status=503, message="etcd is away")

    ask.server.on_get = fail
    answer = await ask(plan(policy="gone"))
    assert answer["allowed"]
    assert "etcd is away" in answer["warnings"][0]
    monkeypatch.setattr(module, "READ_SECONDS", 0.0)
    ask.server.on_get = asyncio.Event().wait
    answer = await ask(plan(policy="gone"))
    assert "were not read within" in answer["warnings"][0]


async def test_a_policy_that_cannot_be_read_refuses_no_plan(ask: Asked) -> None:
    ask.server.on_get = lambda: asyncio.sleep(0)

    async def unreadable(_: str) -> Document:
        return policy(mode="Perhaps")

    ask.server.get = unreadable  # type: ignore[method-assign]
    answer = await ask(plan())
    assert answer["allowed"]
    assert "spec.mode" in answer["warnings"][0]


async def test_an_error_of_ours_is_a_clear_failure_and_the_next_question_is_answered(
    ask: Asked, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a mistake")

    with monkeypatch.context() as patched:
        patched.setattr(module, "judge", broken)
        status, text = await ask.raw(json.dumps(review(plan())).encode())
    assert (status, "failurePolicy decides" in text) == (500, True)
    assert ask.told == [("PackingPlan", Reviewed.FAILED)]
    assert "a mistake" in caplog.text
    assert (await ask(plan()))["allowed"]


async def test_no_verdict_in_time_is_a_clear_failure(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.0)
    status, text = await ask.raw(json.dumps(review(plan())).encode())
    assert (status, "no verdict within" in text) == (500, True)
    assert [outcome for _, outcome in ask.told] == [Reviewed.FAILED]


async def test_reading_and_judging_leave_the_event_loop_alone(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()

    def seen(*_: object) -> Any:
        threads.add(threading.current_thread().name.partition("_")[0])
        return ALLOWED

    monkeypatch.setattr(module, "judge", seen)
    await ask(plan())
    assert threads == {"webhook"}


NOW = time.time()  # noqa: TID251 - the client goes by the clock of this machine


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[AdmissionServer]:
    options = WebhookOptions(
        "127.0.0.1", 0, "127.0.0.1", "stowage-system", "webhook-tls", "stowage", certificates=folder
    )
    served = AdmissionServer(cast("Api", Server()), lambda: None, options, now=lambda: NOW, generator=random.Random(1))
    running = asyncio.create_task(served.run())
    while served.problems() or not served.port:
        assert not running.done(), running.exception()
        await asyncio.sleep(0)
    try:
        yield served
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def keep(folder: Path) -> bytes:
    """A new pair in the folder; returns its authority."""
    pair = issue(["127.0.0.1"], NOW, DAY_SECONDS)
    (folder / "tls.crt").write_bytes(pair.certificate)
    (folder / "tls.key").write_bytes(pair.key)
    return pair.authority


async def post(port: int, authority: bytes) -> bool:
    """The verdict on a plan, over a connection of its own."""
    trust = ssl.create_default_context(cadata=authority.decode())
    url = f"https://127.0.0.1:{port}/validate"
    async with ClientSession() as client, client.post(url, json=review(plan()), ssl=trust) as answer:
        return bool((await answer.json())["response"]["allowed"])


async def test_it_serves_over_tls_and_new_connections_get_the_new_certificate(tmp_path: Path) -> None:
    first = keep(tmp_path)
    async with serving(tmp_path) as served:
        assert await post(served.port, first)
        second = keep(tmp_path)
        await served.look()
        assert await post(served.port, second)
        with pytest.raises(ClientConnectorError):
            await post(served.port, first)


async def test_a_port_that_is_taken_ends_it(tmp_path: Path) -> None:
    keep(tmp_path)
    async with serving(tmp_path) as served:
        options = WebhookOptions("127.0.0.1", served.port, "a", "b", "c", "d", certificates=tmp_path)
        other = AdmissionServer(
            cast("Api", Server()), lambda: None, options, now=lambda: NOW, generator=random.Random(1)
        )
        with pytest.raises(OSError, match="in use"):
            await other.run()
