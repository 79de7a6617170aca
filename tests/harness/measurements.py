"""What benches measure: a figure with its unit and its target, collected into one table and one JSON file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parents[2] / "build" / "bench" / "results.json"


@dataclass(frozen=True)
class Target:
    """A bound that a figure shall keep, in the figure's unit."""

    bound: float
    is_most: bool

    def met_by(self, value: float) -> bool:
        """Whether a figure keeps the bound."""
        return value <= self.bound if self.is_most else value >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.is_most else '≥'} {self.bound:g}"


def at_most(bound: float) -> Target:
    """A target of which less is better."""
    return Target(bound, is_most=True)


def at_least(bound: float) -> Target:
    """A target of which more is better."""
    return Target(bound, is_most=False)


@dataclass(frozen=True)
class Measurement:
    """One figure.

    Attributes:
        bench: which bench measured it; groups rows of the table.
        name: what was measured; with `bench` it names the figure for good.
        value: the figure.
        unit: such as `s`, `ms`, `MB`, `pods/s`, `%`; empty for ratios and counts.
        target: what it shall be; None: it is only shown.
        details: anything else that explains the figure, such as sizes; in the JSON file only.
    """

    bench: str
    name: str
    value: float
    unit: str = ""
    target: Target | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the target is kept; True without one."""
        return self.target is None or self.target.met_by(self.value)

    def document(self, measured_at: str) -> dict[str, Any]:
        """The figure as it is written to the file."""
        bound = {"target": str(self.target), "met": self.met} if self.target is not None else {}
        details = {"details": self.details} if self.details else {}
        return {
            "bench": self.bench,
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            **bound,
            **details,
            "measuredAt": measured_at,
        }


class Measurements:
    """The figures of one test run, in the order in which they were taken."""

    def __init__(self) -> None:
        self.taken: list[Measurement] = []

    def add(self, measurement: Measurement) -> None:
        """Keep a figure."""
        self.taken.append(measurement)

    def table(self) -> Table:
        """All figures for people."""
        table = Table(title="benchmarks", title_justify="left", box=None, pad_edge=False)
        table.add_column("bench")
        table.add_column("figure")
        table.add_column("value", justify="right")
        table.add_column("unit")
        table.add_column("target", justify="right")
        table.add_column("")
        bench = ""
        for one in self.taken:
            if one.bench != bench:
                table.add_section()
            verdict = "" if one.target is None else "met" if one.met else "[bold red]missed[/]"
            shown = one.bench if one.bench != bench else ""
            table.add_row(shown, one.name, f"{one.value:,.4g}", one.unit, str(one.target or ""), verdict)
            bench = one.bench
        return table

    def print(self, console: Console) -> None:
        """Print the table."""
        console.print(self.table())

    def write(self, file: Path = RESULTS) -> None:
        """Write all figures to a JSON file.

        Figures in the file that this run did not take stay: parts of the benches can be run by themselves.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        machine = {"processors": os.cpu_count()}
        fresh = {(one.bench, one.name): one.document(now) for one in self.taken}
        before = json.loads(file.read_text(encoding="utf-8"))["results"] if file.is_file() else []
        kept = [entry for entry in before if (entry["bench"], entry["name"]) not in fresh]
        results = sorted([*kept, *fresh.values()], key=lambda entry: (entry["bench"], entry["name"]))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n", encoding="utf-8")


class Record(Protocol):
    """Takes one figure, which the table and the file will show; the fixture `record` of the benches."""

    def __call__(
        self, bench: str, name: str, value: float, unit: str = "", *, target: Target | None = None, **details: Any
    ) -> Measurement: ...
