"""The engine without a model has the latencies and the metrics that its profile says, and ends what it has begun."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from harness.stand_in_engines import PERFORMANCE, client_of, engine, requests, scraped, session_to
from harness.virtual_sockets import run
from stand_in.client import Outcome, Result
from stand_in.engine_metrics import Names
from stand_in.load import play
from stand_in.process import Process, serving
from stowage.decide.serving.performance import Performance, line
from stowage.simulate.serving.ledger import Ledger
from stowage.simulate.serving.replica import Replica
from stowage.simulate.serving.requests import Requests

E2E = Path(__file__).resolve().parents[2] / "e2e"


# --- latencies ---


@pytest.mark.parametrize("speed", [pytest.param(1.0, id="as in the profile"), pytest.param(50.0, id="sped up")])
def test_a_lone_request_takes_what_the_profile_says(tmp_path: Path, speed: float) -> None:
    async def story() -> Result:
        async with engine(tmp_path, speed=speed), client_of(tmp_path) as client:
            return await client.ask(1000, 11, 0.0, 0.0)

    result = run(story())
    assert result.outcome is Outcome.COMPLETED, result.why
    assert result.ttft_seconds == pytest.approx(PERFORMANCE.lone_prefill_seconds(1000) / speed, abs=1e-6)
    steps = [PERFORMANCE.decode_step_seconds(1, 1000 + done) for done in range(10)]
    assert result.itl_seconds == pytest.approx(sum(steps) / 10 / speed, abs=1e-6)


def test_under_load_every_request_takes_as_long_as_in_the_simulator(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    many = Requests(np.cumsum(rng.exponential(0.2, 60)), rng.integers(50, 900, 60), rng.integers(2, 40, 60))

    async def story() -> tuple[list[Result], dict[str, float]]:
        async with engine(tmp_path), client_of(tmp_path) as client:
            return await play(many, client), await scraped(client.session)

    results, metrics = run(story())
    ledger = Ledger(many)
    replica = Replica(PERFORMANCE, ledger)
    for index, at in enumerate(ledger.arrival_seconds):
        replica.advance(at)
        replica.enqueue(index, at)
    while replica.outstanding:
        replica.advance(replica.next_at)
    assert {one.outcome for one in results} == {Outcome.COMPLETED}
    first = np.array(ledger.first_token_at)
    assert [one.ttft_seconds for one in results] == pytest.approx(first - many.arrival_seconds, abs=1e-6)
    between = (np.array(ledger.finished_at) - first) / (many.output_tokens - 1)
    assert [one.itl_seconds for one in results] == pytest.approx(between, abs=1e-6)
    assert max(one.ttft_seconds or 0.0 for one in results) > 2 * PERFORMANCE.lone_prefill_seconds(900), "some waited"
    # what the engine exports is what its clients saw
    total = {
        "time_to_first_token_seconds": [one.ttft_seconds or 0.0 for one in results],
        "e2e_request_latency_seconds": [one.seconds for one in results],
        "request_time_per_output_token_seconds": [one.itl_seconds or 0.0 for one in results],
        "request_prompt_tokens": many.prompt_tokens.tolist(),
        "request_generation_tokens": many.output_tokens.tolist(),
    }
    for name, values in total.items():
        assert metrics[f"vllm:{name}_count"] == len(values)
        assert metrics[f"vllm:{name}_sum"] == pytest.approx(sum(values), abs=1e-3), name
    assert metrics["vllm:inter_token_latency_seconds_count"] == many.output_tokens.sum() - 60
    assert metrics["vllm:prompt_tokens_total"] == many.prompt_tokens.sum()
    assert metrics["vllm:generation_tokens_total"] == many.output_tokens.sum()
    assert metrics["vllm:request_success_total length"] == 60
    quick = sum(one <= 0.5 for one in first - many.arrival_seconds)
    assert metrics["vllm:time_to_first_token_seconds_bucket 0.5"] == quick


# --- metrics ---

OLD = {"vllm:gpu_cache_usage_perc", "vllm:time_per_output_token_seconds_count"}
CURRENT = {
    "vllm:kv_cache_usage_perc",
    "vllm:inter_token_latency_seconds_count",
    "vllm:request_time_per_output_token_seconds_count",
}
ALWAYS = {
    "vllm:num_requests_waiting",
    "vllm:num_requests_running",
    "vllm:num_preemptions_total",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total length",
    "vllm:time_to_first_token_seconds_count",
    "vllm:e2e_request_latency_seconds_count",
    "vllm:cache_config_info",
    "process_start_time_seconds",
}


@pytest.mark.parametrize(
    ("names", "there", "absent"),
    [
        pytest.param(Names.CURRENT, CURRENT, OLD, id="today's"),
        pytest.param(Names.OLD, OLD, CURRENT, id="those of before"),
        pytest.param(Names.BOTH, CURRENT | OLD, set(), id="both, as while names change"),
    ],
)
def test_names_of_metrics(tmp_path: Path, names: Names, there: set[str], absent: set[str]) -> None:
    async def story() -> dict[str, float]:
        async with engine(tmp_path, names=names), session_to(tmp_path) as session:
            return await scraped(session)

    found = run(story()).keys()
    assert there | ALWAYS <= found
    assert not absent & found


def test_gauges_tell_who_runs_and_who_waits(tmp_path: Path) -> None:
    narrow = Performance(
        prefill_seconds=line(0.02, 0.0002), decode_seconds=line(0.04, 0.0), kv_capacity_tokens=1000, max_running=2
    )
    three = requests(*((0.0, 300, 40) for _ in range(3)))

    async def story() -> tuple[dict[str, float], dict[str, float]]:
        async with engine(tmp_path, narrow), client_of(tmp_path) as client:
            load = asyncio.create_task(play(three, client))
            await asyncio.sleep(0.5)
            during = await scraped(client.session)
            await load
            return during, await scraped(client.session)

    during, after = run(story())
    assert during["vllm:num_requests_running"] == 2
    assert during["vllm:num_requests_waiting"] == 1
    assert 0.6 <= during["vllm:kv_cache_usage_perc"] < 0.65
    assert {after[f"vllm:{name}"] for name in ("num_requests_running", "num_requests_waiting")} == {0.0}
    assert after["vllm:kv_cache_usage_perc"] == 0.0


def test_who_loses_its_place_is_counted_and_ends_all_the_same(tmp_path: Path) -> None:
    small = Performance(prefill_seconds=line(0.02, 0.0), decode_seconds=line(0.04, 0.0), kv_capacity_tokens=100)

    async def story() -> tuple[list[Result], dict[str, float]]:
        async with engine(tmp_path, small), client_of(tmp_path) as client:
            results = await play(requests((0.0, 40, 40), (0.0, 40, 40)), client)
            return results, await scraped(client.session)

    results, metrics = run(story())
    assert {one.outcome for one in results} == {Outcome.COMPLETED}
    assert metrics["vllm:num_preemptions_total"] == 1
    assert metrics["vllm:generation_tokens_total"] == 80


def test_a_client_that_is_gone_makes_room(tmp_path: Path) -> None:
    async def story() -> dict[str, float]:
        async with engine(tmp_path), client_of(tmp_path, patience_seconds=1.0) as client:
            result = await client.ask(300, 400, 0.0, 0.0)
            assert result.outcome is Outcome.CUT
            await asyncio.sleep(0.1)
            return await scraped(client.session)

    metrics = run(story())
    assert metrics["vllm:request_success_total abort"] == 1
    assert metrics["vllm:request_success_total length"] == 0
    assert metrics["vllm:num_requests_running"] == 0
    assert metrics["vllm:kv_cache_usage_perc"] == 0.0


# --- begin and end ---


def test_it_listens_once_it_has_loaded(tmp_path: Path) -> None:
    async def story() -> float:
        async with engine(tmp_path, cold_start_seconds=30.0, speed=2.0), session_to(tmp_path) as session:
            assert (await session.get("http://engine/health")).status == 200
            return asyncio.get_running_loop().time()

    assert run(story()) == pytest.approx(15.0)


def test_who_is_told_to_end_while_loading_does_not_load_on() -> None:
    async def story() -> float:
        ending = asyncio.Event()
        asyncio.get_running_loop().call_later(3.0, ending.set)
        async with serving(Process(PERFORMANCE, cold_start_seconds=30.0), ending):
            return asyncio.get_running_loop().time()

    assert run(story()) == pytest.approx(3.0)


def test_who_is_told_to_end_ends_its_requests_first_and_takes_no_more(tmp_path: Path) -> None:
    async def story() -> tuple[list[Result], Result, float]:
        async with engine(tmp_path) as running, client_of(tmp_path) as client:
            load = asyncio.create_task(play(requests((0.0, 100, 50), (0.1, 100, 100)), client))
            await asyncio.sleep(1.0)
            ending = asyncio.create_task(running.end())
            await asyncio.sleep(0.1)
            late = await client.ask(100, 10, 0.0, 0.0)
            await ending
            ended_at = asyncio.get_running_loop().time()
            return await load, late, ended_at

    results, late, ended_at = run(story())
    assert {one.outcome for one in results} == {Outcome.COMPLETED}
    assert late.outcome is Outcome.REFUSED
    assert ended_at == pytest.approx(max(one.at_seconds + one.seconds for one in results), abs=1e-3)


def test_a_connection_that_is_kept_brings_no_request_to_who_ends(tmp_path: Path) -> None:
    async def story() -> tuple[int, int]:
        connector = aiohttp.UnixConnector(path=str(tmp_path / "engine"))  # keeps it, as gateways do
        async with engine(tmp_path) as running, aiohttp.ClientSession(connector=connector) as session:
            await (await session.get("http://engine/health")).read()
            async with client_of(tmp_path) as client:
                load = asyncio.create_task(play(requests((0.0, 100, 50)), client))
                await asyncio.sleep(1.0)
                ending = asyncio.create_task(running.end())
                await asyncio.sleep(0.1)
                health = await session.get("http://engine/health")
                refused = await session.post("http://engine/v1/completions", json={"prompt": "a"})
                await asyncio.gather(load, ending)
            return health.status, refused.status

    assert run(story()) == (503, 503)


def test_a_process_ends_its_requests_after_sigterm(tmp_path: Path) -> None:
    profile = tmp_path / "profile.yaml"
    profile.write_text(
        "apiVersion: stowage.dev/v1alpha1\nkind: PerformanceProfile\nmetadata: {name: fast}\n"
        "spec:\n  model: stand-in\n  accelerator: none\n  kvCacheTokens: 4000\n"
        '  fitted: {prefill: {base: "20", perToken: "0.2"}, decode: {base: "4", perRequest: "1"}}\n'
    )
    command = [sys.executable, "-m", "stand_in.serve", "--profile", str(profile), "--host", "127.0.0.1", "--port", "0"]
    folders = os.pathsep.join([str(E2E), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": folders, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().split()[-1])

        async def story() -> list[bytes]:
            url = f"http://127.0.0.1:{port}/v1/completions"
            body = {"prompt": "a", "max_tokens": 60, "stream": True}
            async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
                first = await answer.content.readline()
                process.send_signal(signal.SIGTERM)
                return [first, *[line async for line in answer.content]]

        lines = [line for line in asyncio.run(story()) if line.strip()]
        assert process.wait() == 0
    assert len(lines) == 61
    assert lines[-1] == b"data: [DONE]\n"
