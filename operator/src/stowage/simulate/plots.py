"""Pictures of runs: GPUs held as pods arrive."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from stowage.simulate.ceiling import WELCOME_PERCENT, Ceiling
from stowage.simulate.fill_up import Outcome

_COLOURS = ("#8a8d91", "#7fb3a8", "#b08968", "#e8b04a", "#3d405b", "#c8553d", "#7b4b94")
_FROM_PERCENT = 80


def mean_curves(outcomes: Sequence[Outcome]) -> dict[str, list[tuple[int, float]]]:
    """For each policy the mean share of GPUs held, by share arrived; both in percent."""
    found: Mapping[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in outcomes:
        for point in run.curve:
            found[run.policy][point.arrived_percent].append(point.allocated_percent)
    return {
        policy: [(at, statistics.fmean(values)) for at, values in sorted(points.items())]
        for policy, points in found.items()
    }


def draw(outcomes: Sequence[Outcome], ceilings: Sequence[Ceiling], file: Path, *, title: str) -> None:
    """Writes the curves and the bounds as PNG.

    Raises:
        OSError: the file cannot be written.
        ImportError: matplotlib is not installed (extra `demo`).
    """
    # matplotlib costs half a second to import: only who draws pays for it
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(9, 5.5), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    curves = mean_curves(outcomes)
    for number, (policy, curve) in enumerate(curves.items()):
        shown = [(at, held) for at, held in curve if at >= _FROM_PERCENT]
        label = f"{policy} {curve[-1][1]:.2f} %"
        axes.plot(*zip(*shown, strict=True), color=_COLOURS[number % len(_COLOURS)], label=label, linewidth=1.6)
    if ceilings:
        for name, value, style in (
            ("bound: any placement", statistics.fmean(c.any_percent for c in ceilings), "-"),
            (
                f"bound: nobody turned away until {WELCOME_PERCENT} %",
                statistics.fmean(c.welcoming_percent for c in ceilings),
                "--",
            ),
        ):
            axes.axhline(value, color="#2b2d33", linestyle=style, linewidth=0.9, label=f"{name} {value:.2f} %")
    axes.set(xlabel="GPUs asked for by the pods that arrived (% of the cluster)", ylabel="GPUs held (%)")
    axes.set_title(title, loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(file)
