"""The fault proxy in front of a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.proxy import FaultProxy
from faults.script import Answer, Match
from harness.waiting import eventually
from harness.workbench import Workbench
from stowage.demo.processes import ManagedProcess, free_port
from stowage.transport import Api, Conflict, TooManyRequests, paths


async def test_objects_and_events_pass_unchanged(
    proxy: FaultProxy, workbench: Workbench, api: Api, tmp_path: Path
) -> None:
    kubeconfig = str(proxy.kubeconfig(tmp_path))
    async with await Api.connect(kubeconfig=kubeconfig, user_agent="tester/1") as by_proxy:
        maps = f"{paths.named(paths.NAMESPACES, workbench.namespace)}/configmaps"
        made = await by_proxy.create(maps, {"metadata": {"name": "one"}, "data": {"a": "x" * 200_000}})
        assert made == await api.get(f"{maps}/one")
        # long enough to be compressed on the way; others write meanwhile, so the list's own version may differ
        only = {"fieldSelector": "metadata.name=one"}
        assert (await by_proxy.get(maps, only))["items"] == (await api.get(maps, only))["items"] != []
        version = made["metadata"]["resourceVersion"]
        stream = by_proxy.watch(maps, {"resourceVersion": version})
        async with contextlib.aclosing(stream):
            first = asyncio.ensure_future(anext(stream))
            await api.merge_patch(f"{maps}/one", {"data": {"b": "y" * 300_000}})
            event = json.loads(await first)
        assert (event["type"], len(event["object"]["data"]["b"])) == ("MODIFIED", 300_000)
        [created] = proxy.seen(Match(mutating=True))
        assert (created.request.verb, created.server_status) == ("create", 201)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(Answer(409), Conflict, id="conflict"),
        pytest.param(Answer(429, retry_after_seconds=10), TooManyRequests, id="too many requests"),
    ],
)
async def test_answers_of_the_proxy_read_like_the_servers(
    proxy: FaultProxy, tmp_path: Path, answer: Answer, error: type[Exception]
) -> None:
    proxy.add(Match.nth(1), answer)
    async with await Api.connect(kubeconfig=str(proxy.kubeconfig(tmp_path)), user_agent="tester/1") as by_proxy:
        with pytest.raises(error) as raised:
            await by_proxy.get(paths.NODES)
        assert getattr(raised.value, "retry_after_seconds", None) == answer.retry_after_seconds
        assert await by_proxy.get(paths.NODES)


async def test_the_operator_works_by_the_proxy(
    proxy: FaultProxy, workbench: Workbench, start: Callable[..., ManagedProcess]
) -> None:
    port = str(free_port())
    lease = f"lease-{workbench.namespace}"
    arguments = ("--metrics-port", port, "--lease-name", lease, "--solver-workers", "1")
    start("operator", *arguments, ready_url=f"http://127.0.0.1:{port}/readyz")

    async def leads() -> bool:
        return any(exchange.took_effect for exchange in proxy.seen(Match(path=f"/leases(/{lease})?$", mutating=True)))

    await eventually(leads, what="the operator leads")
    watched = {watch.exchange.request.path for watch in proxy.watches(Match(user_agent="^stowage-operator"))}
    assert {paths.PODS, paths.NODES} <= watched
