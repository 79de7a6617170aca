"""Signals by Thanos in front of real Prometheus servers, where there are both: the same as by Prometheus itself.

Two replicas of Prometheus have scraped the same pods at other times, and each was away for a while.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from harness.real_prometheus import needs, start_prometheus, start_query, start_sidecar, write_blocks
from harness.waiting import eventually
from stowage.api.model_service import ModelService
from stowage.api.model_service_reasons import ServiceReason
from stowage.observe.prometheus import Endpoint
from stowage.run.operator import monotonic, wall_clock
from stowage.run.prometheus_settings import PrometheusSettings
from stowage.run.serving_signals import Look, ServingPod, ServingSignals

CONTAINER = {"name": "engine", "image": "vllm/vllm-openai:v0.11.0"}
SERVICE = ModelService.model_validate(
    {
        "metadata": {"name": "chat", "namespace": "team", "uid": "uid-1"},
        "spec": {"roles": [{"variants": [{"template": {"spec": {"containers": [CONTAINER]}}}]}]},
    }
)
PODS = ("chat-unified-default-7d4b9c6f5-aaaaa", "chat-unified-default-7d4b9c6f5-bbbbb")
SECONDS = 420
"""Of the past that the blocks have."""
SCRAPE_SECONDS = 5
LOOK_SECONDS = 5


@dataclass(frozen=True)
class Life:
    """A process of a pod: when it began and ended, seconds into the past that is told, and its requests per second."""

    pod: str
    rate: int
    begin: int = 0
    end: int = SECONDS
    namespace: str = "team"


LIVES = (
    Life(PODS[0], 2, end=200),
    Life(PODS[0], 2, begin=200),  # began again
    Life(PODS[1], 3),
    Life("chat-unified-default-7d4b9c6f5-ggggg", 1, end=250),
    Life("chat-unified-default-extra-7d4b9c6f5-ccccc", 100),
    Life(PODS[0], 100, namespace="other"),
)
RATE = 5
"""Of the requests to the pods that stay."""


@dataclass(frozen=True)
class Replica:
    """A Prometheus: how late it scrapes, and the seconds between which it was away."""

    name: str
    phase: float
    away: tuple[int, int]


REPLICAS = (Replica("a", 0.0, (290, 380)), Replica("b", 2.5, (140, 240)))


FAMILIES = (
    ("process_start_time_seconds", "gauge", ("",), None),
    ("vllm:num_requests_waiting", "gauge", ("",), 0),
    ("vllm:num_requests_running", "gauge", ("",), 0),
    ("vllm:kv_cache_usage_perc", "gauge", ("",), 0),
    ("vllm:request_success", "counter", ('_total{finished_reason="stop"}',), 1),
    ("vllm:prompt_tokens", "counter", ("_total",), 300),
    ("vllm:generation_tokens", "counter", ("_total",), 50),
    ("vllm:time_to_first_token_seconds", "histogram", ('_bucket{le="0.5"}', '_bucket{le="+Inf"}'), 1),
    ("vllm:request_prompt_tokens", "histogram", ('_bucket{le="200.0"}', '_bucket{le="500.0"}'), 1),
)
"""Name, type, what comes behind the name, and by how much each request that ended raises it."""


def told(replica: Replica, begin: float) -> str:
    """What a replica has scraped since then, for promtool."""
    lines = []
    for family, kind, endings, each in FAMILIES:
        lines.append(f"# TYPE {family} {kind}")
        for life, ending in itertools.product(LIVES, endings):
            suffix, _, labels = ending.removesuffix("}").partition("{")
            target = f'namespace="{life.namespace}",pod="{life.pod}",job="engines",instance="{life.pod}:8000"'
            series = f"{family}{suffix}{{{','.join(filter(None, (target, labels)))}}}"
            for number in range(SECONDS // SCRAPE_SECONDS):
                at = number * SCRAPE_SECONDS + replica.phase
                if life.begin <= at < life.end and not replica.away[0] <= at < replica.away[1]:
                    value = begin + life.begin if each is None else each * int(life.rate * (at - life.begin))
                    lines.append(f"{series} {value} {begin + at:.3f}")
    return "\n".join([*lines, "# EOF", ""])


@dataclass(frozen=True)
class Scene:
    """Servers on the same past.

    Attributes:
        begin: of the past, seconds since 1970.
        prometheus: address of the replica that is whole until 290 s.
        sidecars: gRPC ports of all replicas.
        folder: for further processes.
        ends: ends them.
    """

    begin: float
    prometheus: str
    sidecars: tuple[int, ...]
    folder: Path
    ends: ExitStack

    async def query(self, name: str, *options: str, sidecars: tuple[int, ...] | None = None, prefix: str = "") -> str:
        """The address of a further Thanos Query, which knows these sidecars."""
        ports = sidecars or self.sidecars
        process, url = start_query(self.folder, name, ports, *options, prefix=prefix)
        self.ends.callback(process.stop)

        async def known() -> bool:
            async with aiohttp.ClientSession() as session, session.get(f"{url}/api/v1/stores") as answer:
                stores = (await answer.json())["data"].get("sidecar", [])
            return len(stores) == len(ports) and all(one["labelSets"] for one in stores)

        await eventually(known, what=f"{name} knows its sidecars")
        return url


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    needs("prometheus", "promtool", "thanos")
    begin = float(int(wall_clock())) - SECONDS - 10
    with ExitStack() as ends:
        addresses, sidecars = [], []
        for replica in REPLICAS:
            folder = tmp_path_factory.mktemp(replica.name)
            write_blocks(folder, told(replica, begin))
            labels = {"prometheus_replica": replica.name, "cluster": "one", "tenant_id": "team-a"}
            process, url = start_prometheus(folder, external_labels=labels)
            ends.callback(process.stop)
            addresses.append(url)
            process, port = start_sidecar(folder, url)
            ends.callback(process.stop)
            sidecars.append(port)
        yield Scene(begin, addresses[0], tuple(sidecars), tmp_path_factory.mktemp("queries"), ends)


class Replay:
    """Looks at a past, one after the other, as an operator would have done then."""

    def __init__(self, url: str, begin: float, tenant: str | None = None) -> None:
        self.now = self.begin = begin
        self._signals = ServingSignals(
            PrometheusSettings((Endpoint("default", url, tenant=tenant),)),
            clock=lambda: self.now,
            monotonic=monotonic,
            generator=random.Random(1),
            patience_seconds=60.0,
        )

    async def looks(self, first: int, last: int) -> list[Look]:
        """One look each few seconds, between two times in seconds into the past that is told."""
        found = []
        for second in range(first, last, LOOK_SECONDS):
            self.now = self.begin + second
            pods = [ServingPod(name, name, is_ready=True, is_draining=False, asked_at=self.begin) for name in PODS]
            found.append(await self._signals.look(SERVICE, "unified", pods, 2, 60.0, self.now))
        return found

    async def lengths(self, second: int) -> object:
        self.now = self.begin + second
        return await self._signals.lengths(SERVICE, "unified")

    def close(self) -> None:
        self._signals.close()


@pytest.fixture
def replays() -> Iterator[list[Replay]]:
    made: list[Replay] = []
    yield made
    for one in made:
        one.close()


ENGINES = ("--query.promql-engine=prometheus", "--query.promql-engine=thanos")


@pytest.mark.parametrize("engine", ENGINES)
async def test_one_replica_by_thanos_is_what_prometheus_itself_says(
    scene: Scene, replays: list[Replay], engine: str
) -> None:
    name = engine.rpartition("=")[2]
    url = await scene.query(f"one-{name}", engine, sidecars=scene.sidecars[:1], prefix="/prometheus")
    replays += [Replay(scene.prometheus, scene.begin), Replay(url, scene.begin)]
    direct, by_thanos = replays
    expected = await direct.looks(100, 420)
    assert await by_thanos.looks(100, 420) == expected
    assert {one.problem for one in expected[:38]} == {None}
    assert ServiceReason.SIGNALS_STALE in {one.problem for one in expected}  # while this replica was away
    assert await by_thanos.lengths(280) == await direct.lengths(280) != (None, None)


PAIRS = {
    "deduplicated": ("--query.replica-label=prometheus_replica",),
    "every series twice": (),
    "deduplicated, by the other engine": ("--query.replica-label=prometheus_replica", ENGINES[1]),
}


@pytest.mark.parametrize("options", [pytest.param(one, id=name) for name, one in PAIRS.items()])
async def test_a_pair_of_replicas_tells_of_each_request_once_and_of_all(
    scene: Scene, replays: list[Replay], options: tuple[str, ...]
) -> None:
    replays += [Replay(await scene.query(f"pair-{len(options)}", *options), scene.begin)]
    looks = await replays[0].looks(100, 420)
    assert {one.problem for one in looks} == {None}
    scrapes = looks[-1].view.scrapes
    assert {one.ready for one in scrapes if one.at > scene.begin + 260} == {2}
    assert {(one.waiting, one.running) for one in scrapes} <= {(0, 0)}
    first, last = next(one for one in scrapes if one.at > scene.begin + 260), scrapes[-1]
    passed = last.at - first.at
    assert passed > 120
    for counter, each in (("arrived", 1), ("completed", 1), ("prompt_tokens", 300), ("generated_tokens", 50)):
        rise = getattr(last, counter) - getattr(first, counter)
        assert rise == pytest.approx(RATE * each * passed, rel=0.05), counter
    assert last.ttft_counts[-1] - first.ttft_counts[-1] == pytest.approx(RATE * passed, rel=0.05)


async def test_a_querier_that_forces_a_tenant_takes_the_header(scene: Scene, replays: list[Replay]) -> None:
    options = ("--query.enforce-tenancy", "--query.tenant-header=X-Scope-OrgID", "--query.tenant-label-name=tenant_id")
    url = await scene.query("tenants", *options, sidecars=scene.sidecars[:1])
    replays += [Replay(url, scene.begin, tenant) for tenant in ("team-a", "team-b")]
    (own,), (of_others,) = [await one.looks(130, 131) for one in replays]
    assert (own.problem, own.view.scrapes[-1].ready) == (None, 2)
    assert (of_others.problem, of_others.view.scrapes) == (ServiceReason.SIGNALS_MISSING, ())


async def test_a_store_that_is_lost_is_no_fall_of_demand(scene: Scene, replays: list[Replay], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    process, port = start_sidecar(tmp_path, scene.prometheus)
    scene.ends.callback(process.stop)
    replays += [Replay(await scene.query("lost", sidecars=(port,)), scene.begin)]
    before = await replays[0].looks(100, 150)
    process.stop()
    after = await replays[0].looks(150, 280)
    assert {one.problem for one in before} == {None}
    assert after[-1].problem is ServiceReason.SIGNALS_STALE
    assert after[-1].view.scrapes == before[-1].view.scrapes
