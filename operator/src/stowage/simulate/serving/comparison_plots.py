"""Pictures of comparisons: misses against GPU-hours, and replicas over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stowage.simulate.serving.comparison import ORACLE, OURS, STATIC, Comparison
from stowage.simulate.serving.outcome import Outcome

_COLOURS = ("#2a9d8f", "#b08968", "#e8b04a", "#3d5a98", "#7b4b94", "#6a994e", "#d17ba5", "#6d6875", "#9c6644")
_OURS, _ORACLE, _STATIC = "#c8553d", "#2b2d33", "#8a8d91"
_LEAST_MISSED, _MOST_MISSED = 0.01, 20.0
_WIDEST = 1.8
_SLOTS = 240


def draw(
    comparison: Comparison,
    file: Path,
    *,
    title: str,
    attainment: float,
    beside: Mapping[str, Outcome] | None = None,
) -> None:
    """Writes both pictures side by side as PNG; runs in `beside` are small dots without a name.

    Raises:
        OSError: the file cannot be written.
        ImportError: matplotlib is not installed (extra `demo`).
    """
    # matplotlib costs half a second to import: only who draws pays for it
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(14, 5.5), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    pareto(left, comparison.outcomes, attainment, (beside or {}).values())
    _over_time(right, comparison)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    figure.savefig(file)


def colours(names: Sequence[str]) -> dict[str, str]:
    """Each policy's colour; Stowage, the oracle and the best fixed size always have the same."""
    known = {OURS: _OURS, ORACLE: _ORACLE, STATIC: _STATIC}
    rest = [name for name in names if name not in known]
    return known | {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(rest)}


def pareto(axes: Any, outcomes: Mapping[str, Outcome], attainment: float, beside: Iterable[Outcome] = ()) -> None:  # noqa: ANN401
    """Misses against GPU-hours: up and to the left is better; the line joins what no on-line policy dominates.

    Misses are on a logarithmic scale, from one in 10,000 to one in five. What lies beyond the edges is drawn on them.
    """
    widest = _WIDEST * float(np.median([one.gpu_hours for one in outcomes.values()]))
    colour = colours(list(outcomes))

    def at(one: Outcome) -> tuple[float, float]:
        return min(widest, one.gpu_hours), min(_MOST_MISSED, max(_LEAST_MISSED, 100 * (1 - one.attainment)))

    for one in beside:
        axes.scatter(*at(one), color="#b9bdc4", s=14, zorder=2)
    for name, one in outcomes.items():
        label = f"{name}  {100 * one.attainment:.2f} %, {one.gpu_hours:,.1f} h"
        beyond = one.gpu_hours > widest or 100 * (1 - one.attainment) > _MOST_MISSED
        axes.scatter(*at(one), color=colour[name], marker="X" if beyond else "o", s=55, zorder=3, label=label)
    front = pareto_front({name: one for name, one in outcomes.items() if name not in (ORACLE, STATIC)})
    axes.step(*zip(*(at(outcomes[name]) for name in front), strict=True), where="post", color="#c9ccd1", zorder=1)
    axes.axhline(100 * (1 - attainment), color="#2b2d33", linestyle="--", linewidth=0.8)
    axes.set(xlabel="GPU hours", ylabel="requests that miss a target (%)", yscale="log")
    axes.set_ylim(_MOST_MISSED * 1.3, _LEAST_MISSED / 1.3)
    axes.set_yticks([10, 1, 0.1, 0.01], ["10", "1", "0.1", "0.01"])
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7.5, loc="lower right")


def pareto_front(outcomes: Mapping[str, Outcome]) -> list[str]:
    """Names that nobody dominates, the cheapest first."""
    front: list[str] = []
    for name in sorted(outcomes, key=lambda name: (outcomes[name].gpu_hours, -outcomes[name].attainment)):
        if not front or outcomes[name].attainment > outcomes[front[-1]].attainment:
            front.append(name)
    return front


def _over_time(axes: Any, comparison: Comparison) -> None:  # noqa: ANN401
    """Replicas paid for; the grey area is what arrived, in replicas' worth of requests."""
    outcomes, requests = comparison.outcomes, comparison.requests
    seconds = requests.duration_seconds
    if seconds <= 0:
        return
    edges = np.linspace(0.0, seconds, _SLOTS + 1)
    arrived, _ = np.histogram(requests.arrival_seconds, edges)
    worth = arrived / (seconds / _SLOTS) / comparison.targets.requests_per_second
    axes.fill_between(edges[:-1] / 60, worth, step="post", color="#e7e9ec", label="requests / what a replica can do")
    colour = colours(list(outcomes))
    for name in (OURS, ORACLE, STATIC, "hpa", "wva-v2"):
        if name in outcomes:
            width = 1.8 if name == OURS else 1.0
            held = replicas_held(outcomes[name], edges[:-1])
            axes.step(edges[:-1] / 60, held, where="post", color=colour[name], linewidth=width, label=name)
    axes.set(xlabel="minutes", ylabel="replicas asked for, starting or draining")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper right")  # "best" looks at every point


def replicas_held(outcome: Outcome, at: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many replicas were paid for at each of these seconds."""
    asked = np.sort([life.asked_at for life in outcome.lives])
    gone = np.sort([life.gone_at for life in outcome.lives])
    found: NDArray[np.int64] = np.searchsorted(asked, at, "right") - np.searchsorted(gone, at, "right")
    return found
