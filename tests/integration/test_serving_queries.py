"""A role's signals through a real Prometheus, where there is one: what engines expose arrives as a view."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from harness.real_prometheus import needs, start_prometheus, write_blocks
from harness.waiting import eventually
from stowage.api.model_service import ModelService
from stowage.demo.processes import ManagedProcess
from stowage.observe.prometheus import Endpoint
from stowage.run.operator import monotonic, wall_clock
from stowage.run.prometheus_settings import PrometheusSettings
from stowage.run.serving_signals import Look, ServingPod, ServingSignals

PODS = ("chat-unified-default-7d4b9c6f5-aaaaa", "chat-unified-default-7d4b9c6f5-bbbbb")
OTHER = "chat-unified-default-extra-7d4b9c6f5-ccccc"
CONTAINER = {"name": "engine", "image": "vllm/vllm-openai:v0.11.0"}
SERVICE = ModelService.model_validate(
    {
        "metadata": {"name": "chat", "namespace": "team", "uid": "uid-1"},
        "spec": {
            "metrics": {"staleAfter": "30s"},
            "roles": [{"variants": [{"template": {"spec": {"containers": [CONTAINER]}}}]}],
        },
    }
)


class Engines:
    """What pods expose, all of them at one address."""

    def __init__(self) -> None:
        self.done = dict.fromkeys((*PODS, OTHER), 1000)
        self.port = 0

    async def metrics(self, _: web.Request) -> web.Response:
        lines = []
        for pod, done in self.done.items():
            labels = f'namespace="team",pod="{pod}",instance="{pod}:8000",model_name="a \\"b\\"",engine="0"'
            lines += [
                f"vllm:num_requests_waiting{{{labels}}} 1",
                f"vllm:num_requests_running{{{labels}}} 2",
                f"vllm:kv_cache_usage_perc{{{labels}}} 0.5",
                f'vllm:cache_config_info{{{labels},num_gpu_blocks="100",block_size="16"}} 1',
                f'vllm:request_success_total{{{labels},finished_reason="stop"}} {done}',
                f"vllm:prompt_tokens_total{{{labels}}} {100 * done}",
                f"vllm:generation_tokens_total{{{labels}}} {10 * done}",
                f'vllm:time_to_first_token_seconds_bucket{{{labels},le="0.5"}} {done}',
                f'vllm:time_to_first_token_seconds_bucket{{{labels},le="+Inf"}} {done}',
            ]
        return web.Response(text="\n".join([*lines, ""]))


@pytest.fixture
async def engines() -> AsyncIterator[Engines]:
    engines = Engines()
    app = web.Application()
    app.add_routes([web.get("/metrics", engines.metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    engines.port = int(runner.addresses[0][1])
    yield engines
    await runner.cleanup()


def begin(folder: Path, engines: Engines) -> tuple[ManagedProcess, ServingSignals]:
    """A Prometheus on the blocks of that folder, and who asks it."""
    scrape = {
        "job_name": "engines",
        "scrape_interval": "1s",
        "honor_labels": True,  # one address speaks for all pods
        "static_configs": [{"targets": [f"127.0.0.1:{engines.port}"]}],
    }
    process, url = start_prometheus(folder, [scrape])
    signals = ServingSignals(
        PrometheusSettings((Endpoint("default", url),)),
        clock=wall_clock,
        monotonic=monotonic,
        generator=random.Random(1),
        patience_seconds=60.0,
    )
    return process, signals


@pytest.fixture
async def signals(engines: Engines, tmp_path: Path) -> AsyncIterator[ServingSignals]:
    needs("prometheus")
    process, signals = begin(tmp_path, engines)
    yield signals
    signals.close()
    process.stop()


def past(until: float) -> str:
    """An hour of one pod that answers two requests per second and of another that went in the middle, for promtool."""
    gone = "chat-unified-default-6c8d7f5b4-ggggg"
    lives = ((PODS[0], until, 2), (gone, until - 1800, 6), (OTHER, until, 100))
    names = {"request_success": 1, "prompt_tokens": 300, "generation_tokens": 50}
    counters = {f"vllm:{name}": ("counter", "_total", each) for name, each in names.items()}
    gauges = {f"vllm:num_requests_{name}": ("gauge", "", 0) for name in ("waiting", "running")}
    lines = []
    for name, (kind, suffix, each) in {**counters, **gauges}.items():
        lines.append(f"# TYPE {name} {kind}")
        for pod, end, rate in lives:
            labels = f'namespace="team",pod="{pod}",instance="{pod}:8000",engine="0"'
            for number in range(int((end - until + 3600) / 15) + 1):
                value = each * rate * number * 15
                lines.append(f"{name}{suffix}{{{labels}}} {value} {until - 3600 + number * 15:.3f}")
    return "\n".join([*lines, "# EOF", ""])


async def test_a_new_leader_knows_the_demand_of_the_last_hour(engines: Engines, tmp_path: Path) -> None:
    needs("prometheus", "promtool")
    now = wall_clock()
    write_blocks(tmp_path, past(now))
    engines.done.clear()
    process, signals = begin(tmp_path, engines)
    try:
        pods = [ServingPod(PODS[0], "uid", is_ready=True, is_draining=False, asked_at=now - 7200)]
        view = (await signals.look(SERVICE, "unified", pods, 1, 60.0, wall_clock())).view
    finally:
        signals.close()
        process.stop()
    early = [one for one in view.scrapes if one.at < now - 1900]
    late = [one for one in view.scrapes if now - 1400 < one.at <= now]
    assert now - early[0].at > 3400
    for scrapes, rate, ready in ((early, 8.0, 2), (late, 2.0, 1)):
        assert {one.ready for one in scrapes} == {ready}
        passed = scrapes[-1].at - scrapes[0].at
        assert (scrapes[-1].arrived - scrapes[0].arrived) / passed == pytest.approx(rate, rel=0.03)


async def test_what_engines_expose_arrives_as_a_view(engines: Engines, signals: ServingSignals) -> None:
    async def look() -> Look:
        now = wall_clock()
        pods = [ServingPod(name, name, is_ready=True, is_draining=False, asked_at=now - 3600) for name in PODS]
        return await signals.look(SERVICE, "unified", pods, 2, 60.0, now)

    async def seen() -> Look:
        found = await look()
        assert found.problem is None, found.message
        return found

    first = (await eventually(seen, what="both pods were scraped")).view.scrapes[-1]
    assert (first.ready, first.waiting, first.running, first.kv_tokens_capacity) == (2, 2, 4, 3200)
    for pod in engines.done:
        engines.done[pod] += 70

    async def grown() -> Look:
        found = await look()
        assert found.view.scrapes[-1].completed > first.completed + 70
        return found

    after = await eventually(grown, what="requests that ended are counted")
    newest = after.view.scrapes[-1]
    assert newest.completed - first.completed == 140
    assert newest.arrived - first.arrived == 140
    assert newest.prompt_tokens - first.prompt_tokens == 14_000
    assert newest.ttft_counts[-1] - first.ttft_counts[-1] == 140
    assert after.requests == dict.fromkeys(PODS, 3)
    assert wall_clock() - newest.at < 30
