"""Requests to a server that misbehaves in all the ways an API server and what stands before it can."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from stowage.cli.server_time import server_time
from stowage.transport import (
    Api,
    ApiError,
    ApiUnavailable,
    Conflict,
    CredentialsError,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    NotLeading,
    TooManyRequests,
    Unauthorized,
    paths,
)
from stowage.transport import (
    api as api_module,
)

NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z
Handler = Callable[[web.Request], Any]
Connect = Callable[[Handler], Any]


def write_kubeconfig(folder: Path, server: str, **cluster: str) -> str:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return str(path)


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncIterator[Connect]:
    """An Api whose server is the given handler."""
    async with contextlib.AsyncExitStack() as stack:

        async def serve(handler: Handler) -> Api:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", handler)
            server = await stack.enter_async_context(TestServer(app))
            kubeconfig = write_kubeconfig(tmp_path, str(server.make_url("")))
            return await stack.enter_async_context(
                await Api.connect(kubeconfig=kubeconfig, user_agent="stowage-test/1.0")
            )

        yield serve


def status(code: int, **fields: Any) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "code": code, **fields}, status=code)

    return answer


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, ApiError),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (422, Invalid),
        (429, TooManyRequests),
        (500, ApiUnavailable),
        (503, ApiUnavailable),
    ],
)
async def test_each_status_becomes_its_own_error(connect: Connect, code: int, error: type[ApiError]) -> None:
    api = await connect(status(code, reason="SomeReason", message="some words"))
    with pytest.raises(error, match=r"GET /api/v1/nodes/n1: .*some words") as caught:
        await api.get(paths.node("n1"))
    assert type(caught.value) is error
    assert (caught.value.status, caught.value.reason) == (code, "SomeReason")


@pytest.mark.parametrize("code", [200, 403], ids=["granted", "refused"])
async def test_each_answer_tells_the_time_of_the_server(connect: Connect, code: int) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({}, status=code, headers={"Date": "Thu, 01 Jan 2026 12:00:00 GMT"})

    api = await connect(answer)
    assert api.clock.now() is None
    assert await server_time(api) == pytest.approx(NOON, abs=60)
    with contextlib.suppress(Forbidden):
        await api.get(paths.NODES)
    assert api.clock.now() == pytest.approx(NOON, abs=60)


async def test_a_blocked_eviction_names_its_budget_and_its_wait(connect: Connect) -> None:
    causes = [{"reason": "DisruptionBudget", "message": "web needs 1 healthy pod"}]
    api = await connect(status(429, details={"causes": causes, "retryAfterSeconds": 10}))
    with pytest.raises(TooManyRequests) as caught:
        await api.create(paths.eviction("a", "web-1"), {"kind": "Eviction"})
    assert caught.value.by_disruption_budget
    assert caught.value.retry_after_seconds == 10


async def test_an_overloaded_server_is_no_budget_and_its_header_counts(connect: Connect) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"code": 429}, status=429, headers={"Retry-After": "7"})

    with pytest.raises(TooManyRequests) as caught:
        await (await connect(answer)).get(paths.NODES)
    assert not caught.value.by_disruption_budget
    assert caught.value.retry_after_seconds == 7


async def test_an_error_page_of_a_proxy_is_quoted_short(connect: Connect) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="<html>bad gateway" + "x" * 5000, status=502)

    with pytest.raises(ApiUnavailable, match="bad gateway") as caught:
        await (await connect(answer)).get(paths.NODES)
    assert len(str(caught.value)) < 400


async def test_a_body_that_is_no_json_means_unavailable(connect: Connect) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text='{"kind": "Nod')

    with pytest.raises(ApiUnavailable, match="truncated"):
        await (await connect(answer)).get(paths.NODES)


async def test_nobody_listens(tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path, f"http://127.0.0.1:{unused_port()}")
    async with await Api.connect(kubeconfig=kubeconfig, user_agent="stowage-test/1.0") as api:
        with pytest.raises(ApiUnavailable) as caught:
            await api.get(paths.NODES)
    assert caught.value.status == 0


async def test_a_request_ends_in_time_although_the_server_says_nothing(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "REQUEST_SECONDS", 0.1)
    release = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    api = await connect(answer)
    with pytest.raises(ApiUnavailable, match="no answer in time"):
        await api.get(paths.NODES)
    release.set()


async def test_writes_say_who_writes_and_queries_arrive_as_given(connect: Connect) -> None:
    seen: list[tuple[str, dict[str, str], str, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        seen.append((request.method, dict(request.query), request.headers["Content-Type"], body))
        assert request.headers["Authorization"] == "Bearer secret"
        assert request.headers["User-Agent"] == "stowage-test/1.0"
        return web.json_response({})

    api = await connect(answer)
    await api.get(paths.PODS, {"labelSelector": "a=b,c in (d, e)", "continue": "x+/="})
    await api.create(paths.NODES, {"a": 1})
    await api.replace(paths.node("n"), {}, {"fieldManager": "other"})
    await api.merge_patch(paths.node("n"), {"a": None})
    await api.apply(paths.node("n"), {"a": 2}, field_manager="stowage-extender")
    await api.delete(paths.node("n"), {"preconditions": {"uid": "u"}})
    own = {"fieldManager": "stowage-test"}
    assert seen == [
        ("GET", {"labelSelector": "a=b,c in (d, e)", "continue": "x+/="}, "application/json", None),
        ("POST", own, "application/json", {"a": 1}),
        ("PUT", {"fieldManager": "other"}, "application/json", {}),
        ("PATCH", own, "application/merge-patch+json", {"a": None}),
        ("PATCH", {"fieldManager": "stowage-extender", "force": "true"}, "application/apply-patch+yaml", {"a": 2}),
        ("DELETE", {}, "application/json", {"preconditions": {"uid": "u"}}),
    ]


WRITES: dict[str, Callable[[Api], Awaitable[Any]]] = {
    "create": lambda api: api.create(paths.NODES, {}),
    "replace": lambda api: api.replace(paths.node("n"), {}),
    "merge patch": lambda api: api.merge_patch(paths.node("n"), {}),
    "strategic patch": lambda api: api.strategic_patch(paths.node("n"), {}),
    "apply": lambda api: api.apply(paths.node("n"), {}, field_manager="stowage-test"),
    "delete": lambda api: api.delete(paths.node("n")),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
async def test_behind_a_fence_a_change_is_sent_only_while_it_may_be(
    connect: Connect, write: Callable[[Api], Awaitable[Any]]
) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.method)
        return web.json_response({})

    leading = True
    api = await connect(answer)
    fenced = api.fenced(lambda: leading)
    await write(fenced)
    assert len(seen) == 1
    leading = False
    with pytest.raises(NotLeading):
        await write(fenced)
    assert len(seen) == 1
    await fenced.get(paths.NODES)  # to look is always allowed …
    await write(api)  # … and whoever has the connection itself is not held back: the lease is written with it
    assert len(seen) == 3


async def test_every_request_is_observed_with_its_status(connect: Connect) -> None:
    seen: list[tuple[str, int]] = []
    api = await connect(status(404))
    api.observer = lambda method, code, _: seen.append((method, code))
    for call in (api.get(paths.NODES), anext(api.watch(paths.NODES, {}))):
        with pytest.raises(NotFound):
            await call
    assert seen == [("GET", 404), ("WATCH", 404)]


async def lines_of(api: Api) -> list[bytes]:
    async with contextlib.aclosing(api.watch(paths.PODS, {"resourceVersion": "5"})) as lines:
        return [line async for line in lines]


LONG = b'{"a":"' + b"x" * (5 * 2**20) + b'"}'


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        pytest.param([], [], id="a watch that ends at once"),
        pytest.param([b"1\n2\n", b"3\n"], [b"1", b"2", b"3"], id="whole lines"),
        pytest.param([b"1", b"2", b"\n3\n4", b"5\n"], [b"12", b"3", b"45"], id="lines cut anywhere"),
        pytest.param([b"1\n", b"\n\n2\n"], [b"1", b"2"], id="empty lines"),
        pytest.param([LONG, b"\n7\n"], [LONG, b"7"], id="a line longer than any buffer"),
    ],
)
async def test_a_watch_yields_whole_lines(connect: Connect, chunks: list[bytes], lines: list[bytes]) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.query["watch"] == request.query["allowWatchBookmarks"] == "true"
        assert request.query["resourceVersion"] == "5"
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        return response

    assert await lines_of(await connect(answer)) == lines


@pytest.mark.parametrize("broken", [True, False], ids=["the connection breaks", "the connection goes silent"])
async def test_a_dead_watch_is_noticed(connect: Connect, monkeypatch: pytest.MonkeyPatch, *, broken: bool) -> None:
    monkeypatch.setattr(api_module, "SILENCE_SECONDS", 0.5)
    release = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"1\n")
        if broken and request.transport is not None:
            request.transport.abort()
        await release.wait()
        return response

    api = await connect(answer)
    async with contextlib.aclosing(api.watch(paths.PODS, {})) as lines:
        assert await anext(lines) == b"1"
        with pytest.raises(ApiUnavailable):
            await anext(lines)
    release.set()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file"),
        ("clusters: [", "kubeconfig"),
        ("clusters: []\ncontexts: []\n", "current-context"),
        ("just words", "kubeconfig"),
    ],
    ids=["no file", "no YAML", "no context", "no mapping"],
)
async def test_a_useless_kubeconfig_is_one_clear_error(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CredentialsError, match=words):
        await Api.connect(kubeconfig=str(path), user_agent="stowage-test/1.0")


async def test_without_any_credentials_the_error_says_what_was_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CredentialsError, match="KUBECONFIG"):
        await Api.connect(user_agent="stowage-test/1.0")


@pytest.mark.parametrize(
    ("cluster", "no_proxy", "asked"),
    [
        pytest.param({}, "", "environment", id="the environment names a proxy"),
        pytest.param({}, "cluster.invalid", None, id="the server needs none"),
        pytest.param({"proxy-url": "{kubeconfig}"}, "", "kubeconfig", id="the kubeconfig names another"),
    ],
)
async def test_proxies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cluster: dict[str, str], no_proxy: str, asked: str | None
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        heard: list[tuple[str, str]] = []
        urls = {}
        for name in ("environment", "kubeconfig"):

            async def relay(request: web.Request, name: str = name) -> web.Response:
                heard.append((name, str(request.headers.get("Authorization"))))
                return web.json_response({"from": request.headers["Host"]})

            app = web.Application()
            app.router.add_route("*", "/{path:.*}", relay)
            urls[name] = str((await stack.enter_async_context(TestServer(app))).make_url(""))
        (tmp_path / ".netrc").write_text("default login somebody password secret\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("http_proxy", urls["environment"])
        monkeypatch.setenv("no_proxy", no_proxy)
        given = {name: value.format(**urls) for name, value in cluster.items()}
        kubeconfig = write_kubeconfig(tmp_path, "http://cluster.invalid", **given)
        api = await stack.enter_async_context(await Api.connect(kubeconfig=kubeconfig, user_agent="stowage-test/1.0"))
        if asked is None:
            with pytest.raises(ApiUnavailable, match=r"cluster\.invalid"):
                await api.get("/version")
        else:
            assert await api.get("/version") == {"from": "cluster.invalid"}
    assert heard == ([(asked, "Bearer secret")] if asked else [])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (paths.eviction("a", "web-1"), "/api/v1/namespaces/a/pods/web-1/eviction"),
        (paths.in_namespace(paths.REPLICA_SETS, "a"), "/apis/apps/v1/namespaces/a/replicasets"),
        (paths.packing_plan_status("p"), "/apis/stowage.dev/v1alpha1/packingplans/p/status"),
        (paths.node("../../secrets?x"), "/api/v1/nodes/..%2F..%2Fsecrets%3Fx"),
        (paths.lease("kube-system", "l"), "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/l"),
    ],
)
def test_paths(path: str, expected: str) -> None:
    assert path == expected
