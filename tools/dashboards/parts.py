"""The parts of the dashboards, without the form that Grafana wants, and short ways to make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RANGE: Final = "$__rate_interval"
JOB: Final = 'job=~"$job"'


@dataclass(frozen=True)
class Panel:
    """One panel; `queries` are pairs of PromQL and legend, `unit` one of Grafana's, `kind` `timeseries` or `stat`.

    `warn_at` colours a stat from that value on.
    """

    title: str
    description: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    warn_at: float | None = None


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """One dashboard; `process` is whose jobs its variable offers."""

    uid: str
    title: str
    description: str
    process: str
    rows: tuple[Row, ...]


def stat(title: str, description: str, query: str, *, unit: str = "short", warn_at: float | None = None) -> Panel:
    """One number."""
    return Panel(title, description, ((query, ""),), unit, "stat", warn_at)


def quantiles(metric: str, by: str = "", legend: str = "", *, selector: str = JOB) -> tuple[tuple[str, str], ...]:
    """Median and 99th percentile of a histogram."""
    group = f"le, {by}" if by else "le"
    return tuple(
        (
            f"histogram_quantile({quantile}, sum by ({group}) (rate({metric}_bucket{{{selector}}}[{RANGE}])))",
            f"{name} {legend}".strip(),
        )
        for quantile, name in ((0.5, "p50"), (0.99, "p99"))
    )


def rate(metric: str, by: str) -> tuple[tuple[str, str], ...]:
    """How often a second, by one label."""
    return ((f"sum by ({by}) (rate({metric}{{{JOB}}}[{RANGE}]))", f"{{{{{by}}}}}"),)


def increase(metric: str, by: str) -> tuple[tuple[str, str], ...]:
    """How often within one step of the picture, by one label."""
    return ((f"sum by ({by}) (increase({metric}{{{JOB}}}[{RANGE}]))", f"{{{{{by}}}}}"),)


def by_instance(metric: str, by: str = "instance") -> tuple[tuple[str, str], ...]:
    """A gauge of each process."""
    return ((f"max by ({by}) ({metric}{{{JOB}}})", " ".join(f"{{{{{one}}}}}" for one in by.split(", "))),)
