"""Looks at a role, over real connections to a server that has what a test scraped."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from harness.prometheus_server import FakePrometheus, fake_prometheus
from harness.series_store import SeriesStore
from stowage.api.model_service import ModelService
from stowage.observe.prometheus import Endpoint
from stowage.run.operator import monotonic
from stowage.run.prometheus_settings import PrometheusSettings
from stowage.run.serving_signals import Look, ServingPod, ServingSignals

NOW = 1_790_000_000.0
HEAD = "chat-unified-default-7d4b9c6f5"
A, B, GONE = f"{HEAD}-aaaaa", f"{HEAD}-bbbbb", f"{HEAD}-zzzzz"


def service(**spec: Any) -> ModelService:
    container = {"name": "engine", "image": "vllm/vllm-openai:v0.11.0"}
    role = {"variants": [{"template": {"spec": {"containers": [container]}}}]}
    metadata = {"name": "chat", "namespace": "team", "uid": "uid-1"}
    return ModelService.model_validate({"metadata": metadata, "spec": {"roles": [role], **spec}})


def pod(
    name: str, *, ready: bool = True, draining: bool = False, age: float = 7200.0, answers: float | None = None
) -> ServingPod:
    since = None if answers is None else NOW - answers
    return ServingPod(name, f"uid-of-{name}", ready, draining, NOW - age, since)


class Bench:
    """A server, engines that it scrapes every five seconds, and who looks."""

    def __init__(self, fake: FakePrometheus) -> None:
        self.fake = fake
        self.store = SeriesStore()
        fake.behaviour = self.store
        self.now = NOW
        self.rung: list[str] = []
        self.signals = self.new()

    def new(self, timeout_seconds: float = 5.0, patience_seconds: float = 600.0) -> ServingSignals:
        endpoint = Endpoint("default", f"http://127.0.0.1:{self.fake.port}", timeout_seconds=timeout_seconds)
        return ServingSignals(
            PrometheusSettings((endpoint,)),
            clock=lambda: self.now,
            monotonic=monotonic,
            generator=random.Random(1),
            ring=self.rung.append,
            patience_seconds=patience_seconds,
        )

    def rest_is_over(self) -> None:
        """Whoever failed may ask again; the rest itself has tests of its own."""
        (server,) = self.signals._servers.values()
        server._breaker.succeeded()
        server._breakers.clear()

    def scrape(self, name: str, at: float, *, done: float, waiting: float = 0, running: float = 0) -> None:
        values = {
            "vllm:num_requests_waiting": waiting,
            "vllm:num_requests_running": running,
            "vllm:kv_cache_usage_perc": 0.25,
            "vllm:cache_config_info{num_gpu_blocks=1000,block_size=16}": 1,
            "vllm:request_success_total{finished_reason=stop}": done,
            "vllm:prompt_tokens_total": 100 * done,
            "vllm:generation_tokens_total": 10 * done,
            "vllm:time_to_first_token_seconds_bucket{le=0.1}": done,
            "vllm:time_to_first_token_seconds_bucket{le=+Inf}": done,
        }
        self.store.scrape(at, values, namespace="team", pod=name, instance="10.0.0.1:8000", job="engines")

    def serve(
        self, name: str, begin: float, end: float, *, per_second: float, first: float = 1000.0, every: float = 5.0
    ) -> None:
        """Scrapes of a pod that answers so many requests per second, between two times before now."""
        at = begin
        while at <= end:
            self.scrape(name, NOW + at, done=round(first + (at - begin) * per_second))
            at += every

    async def look(self, pods: Sequence[ServingPod], of: ModelService | None = None, **options: Any) -> Look:
        desired = sum(not one.is_draining for one in pods)
        return await self.signals.look(
            of or service(), "unified", pods, options.pop("desired", desired), 60.0, self.now, **options
        )


@asynccontextmanager
async def signals_bench() -> AsyncIterator[Bench]:
    """A bench, whose connections end with it."""
    async with fake_prometheus() as fake:
        bench = Bench(fake)
        yield bench
        bench.signals.close()
