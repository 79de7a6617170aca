"""Autoscalers on the named workloads at several cold starts: who attains the targets, and for how many GPU-hours.

Engines are llama2-70b on eight H100 as splitwise measured them; targets are 2 s to the first token and 100 ms between
tokens for 99 % of all requests. Needs the data sets in `STOWAGE_DATA`, else in `../shared/data` beside the repository.
Tables go to `build/bench/serving/results.md`, figures to `results.json`, a picture per run beside them.

Baselines run at their defaults with the largest thresholds at which the targets hold; below them in the tables stand
those whose thresholds were lowered with this very trace in hand. Stowage is compared with the cheapest of either kind
that attains 99 %.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.measurements import Record, at_least, at_most
from stowage.simulate.serving.comparison import ATTAINMENT, ORACLE, OURS, STATIC, Comparison, compare, tuned
from stowage.simulate.serving.comparison_report import figures, verdict
from stowage.simulate.serving.outcome import Outcome
from stowage.simulate.serving.profile_files import read_profile
from stowage.simulate.serving.setup import Setup
from stowage.simulate.serving.workloads import WORKLOADS, are_there, peak_per_second

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("STOWAGE_DATA", ROOT.parent / "shared" / "data"))
FOLDER = ROOT / "build" / "bench" / "serving"
PROFILE = DATA / "splitwise-perf" / "perf_model.csv"
SELECT = {"model": "llama2-70b", "hardware": "h100-80gb", "tensor_parallel": "8"}
GPUS_PER_REPLICA = 8
TTFT_SECONDS, ITL_SECONDS = 2.0, 0.1
LEAST_SAVED_PERCENT = 15.0
MOST_OF_ORACLE = 1.15
HEADS = (
    *("policy", "attained %", "GPU hours", "cost", "TTFT p50", "TTFT p99", "ITL p50 ms", "ITL p99 ms"),
    *("errors", "scale events", "waste %"),
)


@pytest.fixture(scope="session")
def answers() -> list[dict[str, Any]]:
    """What was found so far; written after every run, so that a bench cut off tells of what it did."""
    return []


def test_autoscalers(
    workload: str,
    cold_start_seconds: float,
    record: Record,
    answers: list[dict[str, Any]],
    pytestconfig: pytest.Config,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen = WORKLOADS[workload]
    if not are_there(chosen, DATA) or not PROFILE.is_file():
        pytest.skip(f"{chosen.needs} or {PROFILE.name} is not in {DATA}: set STOWAGE_DATA")
    seed, price = pytestconfig.getoption("--serving-seed"), pytestconfig.getoption("--price")
    requests = chosen.read(DATA, seed)
    performance = read_profile(PROFILE, SELECT)
    setup = Setup(performance, GPUS_PER_REPLICA, TTFT_SECONDS, ITL_SECONDS, cold_start_seconds, seed=seed)
    comparison = compare(requests, setup)
    lowered = tuned(comparison)
    title = f"{workload}, cold start {cold_start_seconds:g} s"
    text = told(title, comparison, lowered, price)
    with capsys.disabled():
        print(f"\n{text}")
    answers.append(
        {"workload": workload, "coldStartSeconds": cold_start_seconds, "text": text} | document(comparison, lowered)
    )
    write(answers)
    draw(comparison, lowered, FOLDER / f"{workload}-{cold_start_seconds:g}.png", title)
    judge(comparison, lowered, title, record)


def judge(comparison: Comparison, lowered: dict[str, Outcome], title: str, record: Record) -> None:
    outcomes = comparison.outcomes
    ours, oracle = outcomes[OURS], outcomes[ORACLE]
    found = verdict(comparison, ATTAINMENT)
    assert found is not None
    wanted = min(ATTAINMENT, outcomes[STATIC].attainment)
    record(title, "attained", 100 * ours.attainment, "%", target=at_least(100 * wanted))
    record(title, "GPU hours over the oracle's", ours.gpu_hours / oracle.gpu_hours, "", target=at_most(MOST_OF_ORACLE))
    for kind, saved in (
        ("the best on-line baseline", found.saved_percent),
        ("the best one tuned on this trace", saved_against(ours, lowered)),
    ):
        if saved is not None:
            record(title, f"fewer GPU hours than {kind}", saved, "%", target=at_least(LEAST_SAVED_PERCENT))
    record(title, "on-line baselines that dominate", len(found.dominated_by), "", target=at_most(0))
    assert oracle.attainment >= wanted
    for name, one in (outcomes | lowered).items():
        assert one.completed + one.rejected + one.unfinished == len(comparison.requests)
        if name in outcomes and one.attainment >= wanted:
            assert one.gpu_hours >= oracle.gpu_hours, f"{name} beats perfect foresight"


def saved_against(ours: Outcome, others: dict[str, Outcome]) -> float | None:
    enough = [one.gpu_hours for one in others.values() if one.attainment >= ATTAINMENT]
    return 100 * (1 - ours.gpu_hours / min(enough)) if enough else None


def told(title: str, comparison: Comparison, lowered: dict[str, Outcome], price: float) -> str:
    """A table in Markdown, the cheapest first."""
    requests, targets = comparison.requests, comparison.targets
    about = (
        f"{len(requests):,} requests in {requests.duration_seconds / 60:.0f} min, at most "
        f"{peak_per_second(requests):.1f}/s in a minute; one replica does {targets.requests_per_second:.2f}/s "
        f"with {targets.in_flight:.0f} in flight; all begin with {comparison.setup.initial} replicas."
    )
    lines = [
        f"## {title}",
        "",
        about,
        "",
        "| " + " | ".join(HEADS) + " |",
        "|---|" + "---:|" * (len(HEADS) - 1),
    ]
    ordered = sorted((comparison.outcomes | lowered).items(), key=lambda one: one[1].gpu_hours)
    return "\n".join([*lines, *(row(name, one, price) for name, one in ordered)]) + "\n"


def row(name: str, one: Outcome, price: float) -> str:
    waste = 100 * one.starting_gpu_hours / one.gpu_hours
    cells = (
        f"**{name}**" if name == OURS else name,
        f"{100 * one.attainment:.2f}",
        f"{one.gpu_hours:.1f}",
        f"{price * one.gpu_hours:.0f}",
        f"{one.ttft_quantile(0.5):.2f}",
        f"{one.ttft_quantile(0.99):.2f}",
        f"{1000 * one.itl_quantile(0.5):.0f}",
        f"{1000 * one.itl_quantile(0.99):.0f}",
        f"{one.rejected + one.unfinished}",
        f"{len(one.scale_events)}",
        f"{waste:.1f}",
    )
    return "| " + " | ".join(cells) + " |"


def document(comparison: Comparison, lowered: dict[str, Outcome]) -> dict[str, Any]:
    return {
        "requests": len(comparison.requests),
        "policies": {name: figures(one) for name, one in comparison.outcomes.items()},
        "tuned": {name: figures(one) for name, one in lowered.items()},
    }


def write(answers: list[dict[str, Any]]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "results.md").write_text("\n".join(one["text"] for one in answers))
    kept = [{key: value for key, value in one.items() if key != "text"} for one in answers]
    (FOLDER / "results.json").write_text(json.dumps(kept, indent=2) + "\n")


def draw(comparison: Comparison, lowered: dict[str, Outcome], file: Path, title: str) -> None:
    pytest.importorskip("matplotlib")
    from stowage.simulate.serving.comparison_plots import draw as drawn

    drawn(comparison, file, title=title, attainment=ATTAINMENT, beside=lowered)
