"""What many runs of the grid come to: rows by usage and nodes, and two pictures beside the paper's figures.

The paper's are those of its code repository, for CP-SAT and Gurobi over all combinations (a later run than the paper;
its instances have the same form, not the same seeds, and its machine was another one).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.table import Table

from harness.grid_runs import BETTER_OR_PROVEN, CALLED, PROVEN, Outcome, Run

# from henrikdchristensen/scheduler-plugins, table_outcomes_by_timeout.tex of each solver
PAPER = {
    "1s": {
        "paper, CP-SAT": {
            Outcome.FAILURE: 31.9,
            Outcome.NO_CALL: 7.6,
            Outcome.KEPT_AND_PROVEN: 8.8,
            Outcome.BETTER: 28.5,
            Outcome.BETTER_AND_PROVEN: 23.2,
        },
        "paper, Gurobi": {
            Outcome.FAILURE: 13.9,
            Outcome.NO_CALL: 7.6,
            Outcome.KEPT_AND_PROVEN: 7.4,
            Outcome.BETTER: 40.4,
            Outcome.BETTER_AND_PROVEN: 30.7,
        },
    },
    "10s": {
        "paper, CP-SAT": {
            Outcome.FAILURE: 7.5,
            Outcome.NO_CALL: 7.8,
            Outcome.KEPT_AND_PROVEN: 9.3,
            Outcome.BETTER: 40.3,
            Outcome.BETTER_AND_PROVEN: 35.1,
        },
        "paper, Gurobi": {
            Outcome.FAILURE: 7.3,
            Outcome.NO_CALL: 7.5,
            Outcome.KEPT_AND_PROVEN: 8.0,
            Outcome.BETTER: 33.4,
            Outcome.BETTER_AND_PROVEN: 43.8,
        },
    },
}
PAPER_MOVES_PERCENT = (27, 34)  # of all pods, when not proven optimal; 1 priority, 16 and 32 nodes
COLOURS = {
    Outcome.FAILURE: "#c0392b",
    Outcome.NO_CALL: "#d5d8dc",
    Outcome.KEPT: "#e59866",
    Outcome.BETTER: "#f4d03f",
    Outcome.KEPT_AND_PROVEN: "#5dade2",
    Outcome.BETTER_AND_PROVEN: "#27ae60",
}


@dataclass(frozen=True)
class Row:
    """Figures of some runs. Percentages of outcomes are of the calls; the others are means unless they say more."""

    name: str
    calls: int
    failures: int
    better_or_proven_percent: float
    proven_percent: float
    unproven_gap_percent: float  # of the tier's pods, in the worst tier
    largest_gap_percent: float
    gaps_above_1_5: int
    proven_moves_percent: float
    near_bound_percent: float  # of those with proven placement, moves within a tenth of their own bound
    unproven_moves_percent: float
    unproven_evictions_percent: float
    median_seconds: float
    longest_seconds: float


def row(name: str, runs: Iterable[Run]) -> Row:
    """The figures of some runs."""
    calls = [one for one in runs if one.outcome in CALLED]
    proven = [one for one in calls if one.outcome in PROVEN]
    open_ = [one for one in calls if one.outcome not in PROVEN]
    return Row(
        name=name,
        calls=len(calls),
        failures=sum(one.outcome is Outcome.FAILURE for one in calls),
        better_or_proven_percent=100 * _share(one.outcome in BETTER_OR_PROVEN for one in calls),
        proven_percent=100 * _share(one.outcome in PROVEN for one in calls),
        unproven_gap_percent=_mean(one.gap_percent for one in open_),
        largest_gap_percent=max((one.gap_percent for one in open_), default=0.0),
        gaps_above_1_5=sum(one.gap_percent > 1.5 for one in open_),
        proven_moves_percent=_mean(one.moves_percent for one in proven),
        near_bound_percent=100 * _share(one.moves_near_bound for one in proven),
        unproven_moves_percent=_mean(one.moves_percent for one in open_),
        unproven_evictions_percent=_mean(one.evictions_percent for one in open_),
        median_seconds=median([one.seconds for one in calls] or [0.0]),
        longest_seconds=max((one.seconds for one in calls), default=0.0),
    )


def rows(runs: Sequence[Run]) -> list[Row]:
    """By usage and nodes, by usage, and over all."""
    found = []
    for usage, of_usage in _grouped(runs, lambda one: one.cell.usage_percent):
        for nodes, group in _grouped(of_usage, lambda one: one.cell.nodes):
            found.append(row(f"{usage} %, {nodes} nodes", group))
        found.append(row(f"{usage} %", of_usage))
    return [*found, row("all", runs)]


def table(title: str, found: Iterable[Row]) -> Table:
    """Rows for people."""
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    shown.add_column("")
    for head in (
        *("calls", "failed", "better or proven %", "proven %", "gap % if not", "largest", "above 1.5 %"),
        *("moves % proven", "near bound %", "not proven", "evicted %", "median s", "longest s"),
    ):
        shown.add_column(head, justify="right")
    for one in found:
        values = list(asdict(one).values())[1:]
        shown.add_row(one.name, *(f"{value:.2f}" if isinstance(value, float) else str(value) for value in values))
        if "," not in one.name:
            shown.add_section()
    return shown


def draw(runs: Sequence[Run], budget: str, file: Path) -> None:
    """Outcomes by usage and nodes as stacked bars with the paper's beside them, and moves below."""
    from matplotlib.figure import Figure

    bars = {
        f"{usage} %\n{nodes}": _percentages(group)
        for usage, of_usage in _grouped(runs, lambda one: one.cell.usage_percent)
        for nodes, group in _grouped(of_usage, lambda one: one.cell.nodes)
    }
    bars["all"] = _percentages(runs)
    bars |= {name.replace(", ", ",\n"): dict(shares) for name, shares in PAPER.get(budget, {}).items()}
    figure = Figure(figsize=(13, 9), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(3, 2))
    places = range(len(bars))
    bottom = [0.0] * len(bars)
    for outcome, colour in COLOURS.items():
        heights = [shares.get(outcome, 0.0) for shares in bars.values()]
        above.bar(places, heights, bottom=bottom, color=colour, label=str(outcome), width=0.8)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    above.set_xticks(places, list(bars))
    above.set_ylabel("% of start states")
    above.set_title(f"Outcomes of one packing, budget {budget}: usage and nodes")
    above.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=6, frameon=False)
    _draw_moves(below, runs)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def _draw_moves(axes: Any, runs: Sequence[Run]) -> None:
    runs = [one for one in runs if one.outcome in CALLED]
    groups = [
        (f"{usage} %\n{nodes}", group)
        for usage, of_usage in _grouped(runs, lambda one: one.cell.usage_percent)
        for nodes, group in _grouped(of_usage, lambda one: one.cell.nodes)
    ]
    for shift, proven, colour in ((-0.2, True, "#27ae60"), (0.2, False, "#f4d03f")):
        chosen = [[one.moves_percent for one in group if (one.outcome in PROVEN) is proven] for _, group in groups]
        places = [place + shift for place, values in enumerate(chosen) if values]
        heights = [mean(values) for values in chosen if values]
        axes.bar(places, heights, width=0.38, color=colour, label="proven" if proven else "not proven")
    axes.axhspan(*PAPER_MOVES_PERCENT, color="#c0392b", alpha=0.2, label="paper, not proven, 1 priority, 16-32 nodes")
    axes.set_xticks(range(len(groups)), [name for name, _ in groups])
    axes.set_ylabel("pods that move, % of all")
    axes.legend(loc="upper left")


def _percentages(runs: Sequence[Run]) -> dict[Outcome, float]:
    return {outcome: 100 * count / len(runs) for outcome, count in Counter(one.outcome for one in runs).items()}


def _grouped(runs: Iterable[Run], key: Callable[[Run], int]) -> list[tuple[int, list[Run]]]:
    groups: dict[int, list[Run]] = defaultdict(list)
    for one in runs:
        groups[key(one)].append(one)
    return sorted(groups.items())


def _share(values: Iterable[bool]) -> float:
    return _mean(float(value) for value in values)


def _mean(values: Iterable[float]) -> float:
    every = list(values)
    return mean(every) if every else 0.0
