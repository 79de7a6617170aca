"""How far the replica model is from measured engines.

- Runs of vLLM, request by request (`llmservingsim-vllm-runs`): step times are fitted on the first third of a run's
  requests; errors of end-to-end times are told of the other two thirds, and of all.
- Runs at a fixed rate (`inference-perf-vllm-curve`) and at a fixed concurrency (`aiconfigurator-silicon`): profiles are
  fitted to the stages' means, then the model plays each stage; errors of means are told, over stages.

Needs the folders in `STOWAGE_DATA`, else in `../shared/data` beside the repository.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from harness.closed_loop import closed_loop
from harness.measurements import Record, at_most
from stowage.decide.serving.performance import Performance
from stowage.simulate.serving.calibration import FITTED_SHARE, calibrated
from stowage.simulate.serving.csv_files import Row, parsed
from stowage.simulate.serving.measured_runs import play, read_run, run_performance
from stowage.simulate.serving.profile_files import read_profile
from stowage.simulate.serving.requests import Floats, Requests

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("STOWAGE_DATA", ROOT.parent / "shared" / "data"))
RUNS = ("RTXPRO6000_Llama-3.1-8B", "RTXPRO6000_Qwen3-32B")
CURVE = DATA / "inference-perf-vllm-curve" / "vllm_llama3_8b_latency_vs_qps.csv"
CONFIGS = ("vllm", "vllm+batch_size", "vllm+chunking_and_prefix_caching", "vllm+quantization")
SILICON = DATA / "aiconfigurator-silicon" / "silicon_sample_dev.csv.gz"
SYSTEMS = tuple(
    {"hardware": system, "backend": "vllm", "model": model, "precision": precision, "tensor_parallel": gpus}
    for system, model, precision, gpus in (
        ("h100_sxm", "Qwen/Qwen3-32B", "", "2"),
        ("h100_sxm", "Qwen/Qwen3-32B", "", "4"),
        ("h100_sxm", "Qwen/Qwen3-32B", "", "8"),
        ("h100_sxm", "meta-llama/Llama-3.1-70B", "fp8", "4"),
        ("h200_sxm", "meta-llama/Llama-3.1-70B", "fp8", "2"),
        ("b200_sxm", "meta-llama/Llama-3.1-70B", "fp8", "1"),
    )
)
MEDIAN_PERCENT, P99_PERCENT = 10.0, 20.0


def needed(path: Path) -> Path:
    if not path.is_file():
        pytest.skip(f"no {path.parent.name} in {DATA}: set STOWAGE_DATA to the folder that holds it")
    return path


@pytest.mark.parametrize("name", RUNS)
def test_runs_of_vllm(record: Record, name: str) -> None:
    run = read_run(needed(DATA / "llmservingsim-vllm-runs" / f"{name}.csv"))
    performance = calibrated(run, run_performance(run))
    ttft, decode = play(run.requests, performance)
    fitted = round(FITTED_SHARE * len(run.requests))
    several = run.requests.output_tokens > 1
    figures = {
        "end to end": 100 * np.abs((ttft + decode) / run.end_to_end_seconds - 1.0),
        "TTFT": 100 * np.abs(ttft / run.ttft_seconds - 1.0),
        "time per output token": 100 * np.abs(decode[several] / run.decode_seconds[several] - 1.0),
    }
    bench = f"replica model, {name}"
    for what, errors in figures.items():
        for part, those in (("held out", errors[fitted:]), ("all", errors)):
            judged = what == "end to end"
            median = record(
                bench, f"{what}, {part}: median", float(np.median(those)), "%",
                target=at_most(MEDIAN_PERCENT) if judged else None,
            )  # fmt: skip
            p99 = record(
                bench, f"{what}, {part}: p99", float(np.quantile(those, 0.99)), "%",
                target=at_most(P99_PERCENT) if judged else None,
            )  # fmt: skip
            assert median.met
            assert p99.met


@pytest.mark.parametrize("config", CONFIGS)
def test_runs_at_a_fixed_rate(record: Record, config: str) -> None:
    performance = read_profile(needed(CURVE), {"config": config})
    columns = ("config", "requested_rps", "completed_rps", "requests", "input_tok_per_s", "output_tok_per_s")
    rows = [row for row in parsed(CURVE, (*columns, "e2e_mean_s", "ttft_mean_s"), dict) if row["config"] == config]
    kept_up = [row for row in rows if float(row["completed_rps"]) > 0.95 * float(row["requested_rps"])]
    errors = np.array([_stage_error(performance, row) for row in kept_up])
    assert len(errors) >= 3
    for column, what in enumerate(("mean end to end", "mean TTFT")):
        record("replica model, inference-perf", f"{config}, {what}: median", float(np.median(errors[:, column])), "%")
        record("replica model, inference-perf", f"{config}, {what}: most", float(errors[:, column].max()), "%")


def _stage_error(performance: Performance, row: Row) -> tuple[float, float]:
    rate, count = float(row["requested_rps"]), int(row["requests"])
    prompt, output = (
        round(float(row[name]) / float(row["completed_rps"])) for name in ("input_tok_per_s", "output_tok_per_s")
    )
    at = np.cumsum(np.random.default_rng(0).exponential(1.0 / rate, count))
    ttft, decode = play(Requests(at, np.full(count, prompt), np.full(count, output)), performance)
    end_to_end, first = float(row["e2e_mean_s"]), float(row["ttft_mean_s"])
    return 100 * abs((ttft + decode).mean() / end_to_end - 1.0), 100 * abs(ttft.mean() / first - 1.0)


@pytest.mark.parametrize("select", SYSTEMS, ids=lambda select: "-".join(select.values()))
def test_runs_at_a_fixed_concurrency(record: Record, select: dict[str, str]) -> None:
    performance = read_profile(needed(SILICON), select)
    columns = {
        "system": "hardware",
        "backend": "backend",
        "model_path": "model",
        "precision": "precision",
        "tp_size": "tensor_parallel",
    }
    rows = [
        row
        for row in parsed(SILICON, ("isl", "osl", "batch_size", "silicon_ttft_ms", "silicon_tpot_ms", *columns), dict)
        if row["mode"] == "agg" and all(row[column] == select[key] for column, key in columns.items())
    ]
    errors = np.array([_run_error(performance, row) for row in rows])
    assert len(errors) >= 9
    name = " ".join(filter(None, select.values()))
    for column, what in enumerate(("time per output token", "requests per second")):
        _told(record, f"{name}, {what}", errors[:, column])


def _told(record: Record, name: str, errors: Floats) -> None:
    record("replica model, silicon", f"{name}: median", float(np.median(errors)), "%")
    record("replica model, silicon", f"{name}: most", float(errors.max()), "%")


def _run_error(performance: Performance, row: Row) -> tuple[float, float]:
    prompt, output, users = (int(row[name]) for name in ("isl", "osl", "batch_size"))
    ttft, itl = (float(row[name]) / 1000 for name in ("silicon_ttft_ms", "silicon_tpot_ms"))
    found = closed_loop(performance, users, prompt, output)
    measured = users / (ttft + (output - 1) * itl)
    return 100 * abs(found.itl_seconds / itl - 1.0), 100 * abs(found.requests_per_second / measured - 1.0)
