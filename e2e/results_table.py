"""What stories cost: tables made from results, `build/e2e/NAME.{json,md}`."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.workbench import Document


@dataclass(frozen=True)
class Row(ABC):
    """One story."""

    @abstractmethod
    def cells(self) -> Mapping[str, str]:
        """What people read of it, by heading: the same ones for all rows of a table."""


@dataclass
class Table:
    """Rows in the order in which they were measured."""

    name: str
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Keep and show a row."""
        self.rows.append(row)
        print(json.dumps(asdict(row)))

    def write(self, folder: Path) -> None:
        """As JSON and as Markdown."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = [asdict(row) for row in self.rows]
        (folder / f"{self.name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        (folder / f"{self.name}.md").write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        """For people."""
        if not self.rows:
            return ""
        headings = tuple(self.rows[0].cells())
        lines = [f"| {' | '.join(cells)} |" for cells in (headings, *(row.cells().values() for row in self.rows))]
        lines.insert(1, "|---" * len(headings) + "|")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class TrainingRow(Row):
    """What one fault did to one job; seconds count from the fault."""

    fault: str
    end: str
    answer: str
    """What the job says that happened, and what was done about it."""
    ranks_seconds: float | None = None
    """Until every rank was started again; None: no rank had to be."""
    step_seconds: float | None = None
    """Until the next step was done."""
    steps_lost: int = 0
    """Steps that were done twice."""
    note: str = ""

    def cells(self) -> Mapping[str, str]:
        """See `Row`."""
        return {
            "fault": f"{self.fault}: {self.note}" if self.note else self.fault,
            "answer": self.answer,
            "ranks again": _seconds(self.ranks_seconds, 1),
            "next step": _seconds(self.step_seconds, 1),
            "steps lost": str(self.steps_lost),
            "end": self.end,
        }


@dataclass(frozen=True)
class ServingRow(Row):
    """One story of one service; latencies in seconds, as clients saw them."""

    story: str
    load: str
    replicas: str
    """How their number went: `1 → 4 → 1`."""
    requests: int
    lost: int
    """Those that were refused, failed or were cut."""
    ttft_p99_seconds: float | None
    itl_p99_seconds: float | None
    attainment: float
    """Share of all requests that met both targets."""
    settled_seconds: float | None = None
    """From the change, fault or end of the load until the end state was reached."""

    def cells(self) -> Mapping[str, str]:
        """See `Row`."""
        return {
            "story": self.story,
            "load": self.load,
            "replicas": self.replicas,
            "requests": str(self.requests),
            "lost": str(self.lost),
            "TTFT p99": _seconds(self.ttft_p99_seconds, 2),
            "ITL p99": _seconds(self.itl_p99_seconds, 3),
            "within targets": f"{100 * self.attainment:.1f} %",
            "settled": _seconds(self.settled_seconds, 0),
        }


def _seconds(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f} s"


def answer_of(status: Document) -> str:
    """The recoveries of a job: `ProcessExited → RestartProcesses`."""
    recoveries: list[dict[str, Any]] = status.get("recoveries", [])
    return ", ".join(f"{one['event']} → {one['action']}" for one in recoveries)
