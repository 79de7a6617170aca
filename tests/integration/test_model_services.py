"""The life of ModelServices on a real control plane, with simulated nodes and engines that the test plays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import aiohttp
from aiohttp import web

from harness.model_service import Service
from harness.played_engines import CACHE_TOKENS, PlayedEngines
from harness.waiting import PATIENCE_SECONDS, always, eventually
from harness.workbench import Document, Workbench
from stowage.api.model_service import ModelService
from stowage.decide.serving.service_step import BUSY_SECONDS
from stowage.demo.processes import ManagedProcess, free_port
from stowage.transport import paths
from stowage.transport.errors import NotFound

Start = Callable[..., ManagedProcess]

BY_TOKENS: Document = {
    "recommenders": ["Saturation"],
    "scaleDown": {"stabilization": "0s", "maxPercentPerMinute": 100},
}
"""What replicas there are follows at once from the tokens in their caches."""
TAKES = "stowage.dev/takes-requests"
TWO_LOOKS_SECONDS = 2 * BUSY_SECONDS + 1.0
"""Within it the operator looks at a service twice, whatever happens."""


async def test_five_lines_are_a_deployment_with_one_replica_behind_a_service(service: Service) -> None:
    await service.apply()
    (pod,) = (await service.until_ready(1)).values()
    found = await service.deployment()
    assert found["spec"]["replicas"] == 1
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("ModelService", "chat", True)
    served = await service.child(paths.SERVICES, "chat")
    assert (served["spec"]["selector"][TAKES], served["spec"]["ports"][0]["port"]) == ("true", 8000)
    assert pod["metadata"]["labels"][TAKES] == "true"
    await service.until_condition("Available", "True", "ReplicasReady")
    await service.until_condition("Accepted", "True", "Accepted")
    await service.until_condition("Observed", "True", "SignalsFresh")
    read = ModelService.parse_stored(await service.read())
    assert read.unread == (), "what the operator writes has the form that it reads"
    assert [(one.name, one.desired, one.ready) for one in read.status.roles] == [("unified", 1, 1)]
    assert "stowage.dev/service=chat" in read.status.selector


async def test_replicas_follow_the_load_and_leave_once_their_requests_have_ended(
    service: Service, engines: PlayedEngines
) -> None:
    await service.apply(scaling=BY_TOKENS)
    await service.until_ready(1)
    await service.until_condition("Observed", "True", "SignalsFresh")
    engines.tokens = CACHE_TOKENS  # all of them seen in one cache: from the first look on it is known how many it takes
    before = await service.until_more_than(1)
    engines.held = dict.fromkeys(before, 3)
    engines.tokens = 1000

    async def leaving() -> set[str]:
        return {name for name, pod in (await service.pods()).items() if pod["metadata"]["labels"][TAKES] == "false"}

    # nothing falls before the demand of three minutes is known
    victims = await eventually(leaving, timeout_seconds=300, what="a replica takes no new requests")
    there = await service.deployment()
    assert there["spec"]["replicas"] == len(before), "those that leave are there until their last request has ended"
    engines.held = {}
    await service.until_ready(1, within_seconds=120)
    assert not victims & set(await service.pods())
    decisions = (await service.status())["decisions"]
    assert {"CapacityUnused"} & {one["reason"] for one in decisions}, decisions


async def test_without_signals_nothing_falls_and_the_condition_says_why(
    service: Service, engines: PlayedEngines
) -> None:
    await service.apply(scaling=BY_TOKENS, metrics={"staleAfter": "5s"})
    await service.until_ready(1)
    await service.until_condition("Observed", "True", "SignalsFresh")
    engines.tokens = 2 * CACHE_TOKENS
    before = await service.until_more_than(1)
    engines.is_down = True
    engines.tokens = 0

    async def told() -> bool:
        found = await service.condition("Observed")
        return found["status"] == "False" and found["reason"] in {"PrometheusUnreachable", "SignalsStale"}

    await eventually(told, what="the signals are said to be away")
    await service.until_condition("Scaling", "False", "Frozen")
    assert set(await service.pods()) >= set(before)


async def test_kubectl_scale_fixes_the_first_role_until_it_is_taken_away(service: Service) -> None:
    await service.apply()
    await service.until_ready(1)
    await service.bench.api.merge_patch(f"{service.path}/scale", {"spec": {"replicas": 3}})
    await service.until_ready(3)
    await service.until_condition("Scaling", "False", "ManualOverride")
    scale = await service.bench.api.get(f"{service.path}/scale")
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (3, 3)
    await service.set_spec(replicas=None)

    async def follows() -> bool:
        return (await service.condition("Scaling"))["reason"] != "ManualOverride"

    await eventually(follows, what="the role follows its load again")


async def test_who_else_writes_replicas_is_named_and_not_overruled(service: Service) -> None:
    await service.apply()
    await service.until_ready(1)
    path = paths.named(paths.in_namespace(paths.DEPLOYMENTS, service.bench.namespace), "chat-unified-default")
    await service.bench.api.merge_patch(f"{path}/scale", {"spec": {"replicas": 2}}, {"fieldManager": "another"})
    await service.until_condition("Accepted", "False", "ForeignEdit", "another")

    async def untouched() -> bool:
        return bool((await service.deployment())["spec"]["replicas"] == 2)

    await always(untouched, for_seconds=6.0)
    await service.bench.api.merge_patch(f"{path}/scale", {"spec": {"replicas": 1}}, {"fieldManager": "another"})
    await service.until_condition("Accepted", "True", "Accepted")


async def test_a_name_that_is_taken_is_told_and_left_alone(service: Service) -> None:
    taken = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "chat"}, "spec": {"ports": [{"port": 1}]}}
    await service.bench.api.create(paths.in_namespace(paths.SERVICES, service.bench.namespace), taken)
    await service.apply()
    await service.until_condition("Accepted", "False", "ChildRefused", "not of this service")
    found = await service.child(paths.SERVICES, "chat")
    assert found["spec"]["ports"][0]["port"] == 1
    await service.bench.api.delete(paths.named(paths.in_namespace(paths.SERVICES, service.bench.namespace), "chat"))
    await service.until_condition("Accepted", "True", "Accepted")


async def test_a_template_that_no_api_server_can_read_is_told_in_its_words(service: Service) -> None:
    unreadable = (
        ({"volumeMonts": []}, "volumeMonts: field not declared in schema"),
        ({"resources": {"requests": {"cpu": "1 core"}}}, "quantities must match"),
        ({"env": [{"name": "A", "value": 4711}]}, "value: expected string"),
    )
    await service.apply()
    for fields, words in unreadable:
        bad = service.variant(name="bad")
        bad["template"]["spec"]["containers"][0] |= fields
        await service.set_spec(roles=[{"variants": [service.variant(), bad]}])
        await service.until_condition("Accepted", "False", "ChildRefused", words)
    assert "4711" not in str(await service.status())
    await service.until_condition("Available", "True", "ReplicasReady")


async def test_a_profile_that_is_missing_is_named_until_it_is_there(service: Service) -> None:
    name = f"fast-{service.bench.namespace}"
    await service.apply(roles=[{"variants": [service.variant(profile=name)]}])
    await service.until_condition("Accepted", "False", "ProfileMissing", name)
    rows = {
        "prefill": [{"tokens": 512, "milliseconds": "20"}],
        "decode": [{"running": 1, "kvTokens": 1000, "milliseconds": "7"}],
    }
    spec = {"model": "m", "accelerator": "h100", "kvCacheTokens": CACHE_TOKENS, "measured": rows}
    document = {"apiVersion": "stowage.dev/v1alpha1", "kind": "PerformanceProfile", "metadata": {"name": name}}
    await service.bench.create(paths.PERFORMANCE_PROFILES, {**document, "spec": spec})
    await service.until_condition("Accepted", "True", "Accepted")


async def test_it_rests_while_nothing_changes_and_a_new_operator_changes_nothing(
    workbench: Workbench, engines: PlayedEngines, begin: Callable[[], ManagedProcess]
) -> None:
    await workbench.nodes(1, cpu="16", labels={"story": workbench.namespace})
    engines.tokens = 1000
    operator = begin()
    service = Service(workbench)
    # not by spec.replicas: a service that follows its load is looked at every 5 s, one of a fixed number every 30 s
    await service.apply(roles=[{"bounds": {"min": 2, "max": 2}, "variants": [service.variant()]}])
    pods = await service.until_ready(2)
    await service.until_condition("Observed", "True", "SignalsFresh")
    before = await service.settled()

    async def is_still() -> bool:
        after = await service.versions()
        return {name for name in before if before[name] != after[name]} <= {"ModelService"} and len(after) == len(
            before
        )

    await always(is_still, for_seconds=TWO_LOOKS_SECONDS)
    status = await service.status()
    operator.stop()
    begin()
    await service.bench.api.merge_patch(service.path, {"metadata": {"annotations": {"look": "now"}}})
    await always(is_still, for_seconds=TWO_LOOKS_SECONDS)
    assert set(await service.pods()) == set(pods)
    after = await service.status()
    assert [(one["name"], one["desired"], one["since"]) for one in after["roles"]] == [
        (one["name"], one["desired"], one["since"]) for one in status["roles"]
    ]
    await service.delete()


async def test_a_deployment_that_was_deleted_or_changed_comes_back(service: Service) -> None:
    await service.apply()
    await service.until_ready(1)
    path = paths.named(paths.in_namespace(paths.DEPLOYMENTS, service.bench.namespace), "chat-unified-default")
    spec = {"template": {"spec": {"containers": [{"name": "engine", "image": "other:1"}]}}}
    await service.bench.api.strategic_patch(path, {"spec": spec})

    async def is_mended() -> bool:
        found = await service.deployment()
        return bool(found["spec"]["template"]["spec"]["containers"][0]["image"] == "vllm:1")

    await eventually(is_mended, what="the image is that of the service again")
    before = (await service.deployment())["metadata"]["uid"]
    await service.bench.api.delete(path)

    async def is_new() -> bool:
        with contextlib.suppress(NotFound):
            return bool((await service.deployment())["metadata"]["uid"] != before)
        return False

    await eventually(is_new, what="the Deployment is made anew")
    await service.until_ready(1)


async def test_variants_and_roles_that_are_gone_from_the_spec_go(service: Service) -> None:
    await service.apply(roles=[{"variants": [service.variant(name="a"), service.variant(name="b")]}])
    await service.until_ready(1)
    assert (await service.deployment(variant="b"))["spec"]["replicas"] in {0, 1}
    await service.set_spec(roles=[{"name": "all", "variants": [service.variant(name="a")]}])

    async def only_the_new_ones() -> bool:
        found = {name.rpartition("/")[2] for name in await service.versions() if paths.PODS not in name}
        assert found == {"ModelService", "chat-all-a", "chat", "chat-all"}, found
        return True

    await eventually(only_the_new_ones, timeout_seconds=180, what="what is left over has gone")
    await service.until_ready(1)


async def test_at_zero_a_request_waits_for_the_first_replica(
    workbench: Workbench, engines: PlayedEngines, begin: Callable[[], ManagedProcess], start: Start, status_port: int
) -> None:
    port, replica_port = free_port(), free_port()
    ports = ("--port", str(port), "--metrics-port", str(status_port), "--forward-to", f"127.0.0.1:{replica_port}")
    start("activator", *ports, ready_url=f"http://127.0.0.1:{status_port}/readyz")
    engines.idle_since = 0.0
    await workbench.nodes(1, cpu="16", labels={"story": workbench.namespace})
    service = Service(workbench)
    await service.apply(scaling=BY_TOKENS | {"scaleToZero": {"after": "1h"}})
    at_zero = {"roles": [{"name": "unified", "desired": 0, "reason": "Idle"}]}  # as it has gone there an hour ago
    await workbench.api.merge_patch(f"{service.path}/status", {"status": at_zero})
    begin()
    await service.until_condition("Available", "True", "AtZero")

    async def answers(component: str | None) -> bool:
        with contextlib.suppress(NotFound):
            selector = (await service.child(paths.SERVICES, "chat"))["spec"]["selector"]
            assert selector.get("stowage.dev/component") == component, selector
            return bool((await service.deployment())["spec"]["replicas"] == (0 if component else 1))
        return False

    await eventually(lambda: answers("activator"), what="the activator answers, and there is no replica")

    async def ask() -> str:
        async with aiohttp.ClientSession() as client, client.post(f"http://127.0.0.1:{port}/v1", data=b"hello") as one:
            return await one.text()

    asked = asyncio.create_task(ask())
    await service.until_ready(1)
    assert "RequestsHeld" in [one["reason"] for one in (await service.status())["decisions"]]
    assert not asked.done()
    async with replica_at(replica_port):
        assert await asyncio.wait_for(asked, PATIENCE_SECONDS) == "to hello"
    await eventually(lambda: answers(None), what="replicas answer")
    await service.delete()


@contextlib.asynccontextmanager
async def replica_at(port: int) -> AsyncIterator[None]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=f"to {await request.text()}")

    app = web.Application()
    app.router.add_post("/v1", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()
