"""Autoscalers on the named workloads at several cold starts: who attains the targets, and for how many GPU-hours.

Engines are llama2-70b on eight H100 as splitwise measured them; targets are 2 s to the first token and 100 ms between
tokens for 99 % of all requests. Needs the data sets in `STOWAGE_DATA`, else in `../shared/data` beside the repository.
Tables go to `build/bench/serving/results.md`, figures to `results.json`, a picture per run beside them. What parts
found is kept (`cells/`), so the whole may be run in parts, also at the same time.

Baselines run at their defaults with the largest thresholds at which the targets hold; below them in the tables stand
those whose thresholds were lowered with this very trace in hand. Stowage is compared with the cheapest of either kind
that attains 99 %.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.measurements import Record, at_least, at_most
from stowage.simulate.serving.comparison import ATTAINMENT, ONLINE, ORACLE, OURS, STATIC, Comparison, compare, tuned
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
SET = ("azure-1", "azure-4", "servegen", "ramp", "diurnal")
"""Loads that can be followed: in `spike` and `on-off` they jump faster than replicas start."""
LEAST_SAVED_PERCENT = 15.0
MOST_OF_ORACLE = 1.15
HEADS = (
    *("policy", "attained %", "GPU hours", "cost", "TTFT p50", "TTFT p99", "ITL p50 ms", "ITL p99 ms"),
    *("errors", "scale events", "waste %"),
)


def test_autoscalers(
    workload: str,
    cold_start_seconds: float,
    record: Record,
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
    cell = {"workload": workload, "coldStartSeconds": cold_start_seconds, "seed": seed, "text": text}
    write(cell | document(comparison, lowered))
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
    for kind, hours in (
        ("the best on-line baseline", best_hours({name: outcomes[name] for name in ONLINE})),
        ("the best one tuned on this trace", best_hours(lowered)),
    ):
        if hours is None:
            continue
        saved, most = 100 * (1 - ours.gpu_hours / hours), 100 * (1 - oracle.gpu_hours / hours)
        target = at_least(LEAST_SAVED_PERCENT) if most >= LEAST_SAVED_PERCENT else None
        name = f"fewer GPU hours than {kind}"
        record(title, name if target else f"{name} (the oracle {most:.1f})", saved, "%", target=target)
    record(title, "on-line baselines that dominate", len(found.dominated_by), "", target=at_most(0))
    assert oracle.attainment >= wanted
    for name, one in (outcomes | lowered).items():
        assert one.completed + one.rejected + one.unfinished == len(comparison.requests)
        if name in outcomes and one.attainment >= wanted:
            assert one.gpu_hours >= oracle.gpu_hours, f"{name} beats perfect foresight"


def best_hours(others: Mapping[str, Outcome]) -> float | None:
    """GPU hours of the cheapest that attains enough; None: none does."""
    return min((one.gpu_hours for one in others.values() if one.attainment >= ATTAINMENT), default=None)


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


def write(cell: dict[str, Any]) -> None:
    """The cell, and the tables of all cells there are."""
    (FOLDER / "cells").mkdir(parents=True, exist_ok=True)
    file = FOLDER / "cells" / f"{cell['workload']}-{cell['coldStartSeconds']:g}-{cell['seed']}.json"
    file.write_text(json.dumps(cell, indent=2) + "\n")
    cells = [json.loads(one.read_text()) for one in (FOLDER / "cells").glob("*.json")]
    order = list(WORKLOADS)
    cells.sort(key=lambda one: (one["seed"], one["coldStartSeconds"], order.index(one["workload"])))
    texts = [one.pop("text") for one in cells]
    (FOLDER / "results.md").write_text("\n".join([summary(cells), whole_set(cells), *texts]))
    (FOLDER / "results.json").write_text(json.dumps(cells, indent=2) + "\n")


def summary(cells: list[dict[str, Any]]) -> str:
    """A line per cell: Stowage, the oracle, and the cheapest on-line baseline that attains enough."""
    lines = [
        "| workload, cold start, seed | attained %, GPU hours | oracle | over it | best on-line | saved % | at most |",
        "|---|---|---:|---:|---|---:|---:|",
    ]
    for cell in cells:
        known = cell["policies"]
        ours, oracle = known[OURS], known[ORACLE]["gpuHours"]
        enough = {name: known[name]["gpuHours"] for name in ONLINE if known[name]["attainment"] >= ATTAINMENT}
        best = min(enough, key=lambda name: enough[name], default=None)
        cells_of_line = [
            f"{cell['workload']}, {cell['coldStartSeconds']:g} s, {cell['seed']}",
            f"{100 * ours['attainment']:.2f}, {ours['gpuHours']:.1f}",
            f"{oracle:.1f}",
            f"{ours['gpuHours'] / oracle:.2f}",
            "none" if best is None else f"{best} {enough[best]:.1f}",
            "" if best is None else f"{100 * (1 - ours['gpuHours'] / enough[best]):.1f}",
            "" if best is None else f"{100 * (1 - oracle / enough[best]):.1f}",
        ]
        lines.append("| " + " | ".join(cells_of_line) + " |")
    return "\n".join(lines) + "\n"


def whole_set(cells: list[dict[str, Any]]) -> str:
    """A line per cold start: GPU hours on all of `SET`, of one policy with one setting that attains enough on each."""
    lines = [
        f"{', '.join(SET)} together:",
        "",
        "| cold start, seed | GPU hours | oracle | over it | best on-line | saved % | best tuned | saved % |",
        "|---|---:|---:|---:|---|---:|---|---:|",
    ]
    for seed, cold_start_seconds in sorted({(cell["seed"], cell["coldStartSeconds"]) for cell in cells}):
        runs = {
            cell["workload"]: cell["policies"] | cell["tuned"]
            for cell in cells
            if (cell["seed"], cell["coldStartSeconds"]) == (seed, cold_start_seconds) and cell["workload"] in SET
        }
        if len(runs) < len(SET):
            continue
        hours = {name: sum(run[name]["gpuHours"] for run in runs.values()) for name in runs[SET[0]]}
        enough = {name for name in hours if all(run[name]["attainment"] >= ATTAINMENT for run in runs.values())}
        line = [f"{cold_start_seconds:g} s, {seed}", f"{hours[OURS]:.1f}", f"{hours[ORACLE]:.1f}"]
        line.append(f"{hours[OURS] / hours[ORACLE]:.3f}")
        for rivals in (enough & {*ONLINE}, enough - {*ONLINE, OURS, ORACLE, STATIC}):
            best = min(rivals, key=lambda name: hours[name], default=None)
            line.append("none" if best is None else f"{best} {hours[best]:.1f}")
            line.append("" if best is None else f"{100 * (1 - hours[OURS] / hours[best]):.1f}")
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines) + "\n"


def draw(comparison: Comparison, lowered: dict[str, Outcome], file: Path, title: str) -> None:
    pytest.importorskip("matplotlib")
    from stowage.simulate.serving.comparison_plots import draw as drawn

    drawn(comparison, file, title=title, attainment=ATTAINMENT, beside=lowered)
