"""What one run of a policy over the Azure trace costs, in CPU seconds, and a decision of capacity."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.measurements import Record, at_most
from stowage.decide.serving.capacity import Shape, Targets, capacity
from stowage.decide.serving.view import View
from stowage.simulate.serving.arrivals import read_requests
from stowage.simulate.serving.fleet import run
from stowage.simulate.serving.profile_files import read_profile
from stowage.simulate.serving.setup import Setup

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("STOWAGE_DATA", ROOT.parent / "shared" / "data"))
TRACE = DATA / "azure-llm-2023-conv" / "AzureLLMInferenceTrace_conv.csv"
PROFILE = DATA / "splitwise-perf" / "perf_model.csv"
SELECT = {"model": "llama2-70b", "hardware": "h100-80gb", "tensor_parallel": "8"}
SECONDS_PER_20_000 = 3.0
BENCH = "serving simulator, Azure conversations"


class Steady:
    name = "steady"
    interval_seconds = 15.0

    def decide(self, view: View) -> int:
        return view.desired


@pytest.mark.parametrize(("scale", "replicas"), [(1, 2), (4, 8)])
def test_a_run(record: Record, scale: int, replicas: int) -> None:
    if not TRACE.is_file() or not PROFILE.is_file():
        pytest.skip(f"no Azure trace or no splitwise profile in {DATA}: set STOWAGE_DATA")
    requests, performance = read_requests(TRACE, rate_scale=scale), read_profile(PROFILE, SELECT)
    begun = time.process_time()
    outcome = run(requests, Steady, Setup(performance, 8, 2.0, 0.1, initial=replicas))
    took = (time.process_time() - begun) * 20_000 / len(requests)
    name = f"20,000 requests, rate x {scale}, {replicas} replicas"
    assert record(BENCH, name, took, "s of CPU", target=at_most(SECONDS_PER_20_000)).met
    assert outcome.completed == len(requests)


def test_a_capacity(record: Record) -> None:
    if not PROFILE.is_file():
        pytest.skip(f"no splitwise profile in {DATA}: set STOWAGE_DATA")
    performance = read_profile(PROFILE, SELECT)
    for name, shape in (("requests alike", Shape(1155, 211)), ("with variations", Shape(1155, 211, 0.95, 0.9))):
        begun = time.process_time()
        capacity(performance, shape, Targets(2.0, 0.1))
        record(BENCH, f"capacity, {name}", 1000 * (time.process_time() - begun), "ms of CPU")
