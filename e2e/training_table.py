"""What faults cost training jobs: a table made from results, `build/e2e/training-faults.{json,md}`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.workbench import Document


@dataclass(frozen=True)
class Row:
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


@dataclass
class Table:
    """Rows in the order in which they were measured."""

    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Keep and show a row."""
        self.rows.append(row)
        print(json.dumps(asdict(row)))

    def write(self, folder: Path) -> None:
        """As JSON and as Markdown."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = [asdict(row) for row in self.rows]
        (folder / "training-faults.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        (folder / "training-faults.md").write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        """For people."""
        lines = [
            "| fault | answer | ranks again | next step | steps lost | end |",
            "|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            fault = f"{row.fault}: {row.note}" if row.note else row.fault
            times = " | ".join(
                f"{one:.1f} s" if one is not None else "" for one in (row.ranks_seconds, row.step_seconds)
            )
            lines.append(f"| {fault} | {row.answer} | {times} | {row.steps_lost} | {row.end} |")
        return "\n".join(lines) + "\n"


def answer_of(status: Document) -> str:
    """The recoveries of a job: `ProcessExited → RestartProcesses`."""
    recoveries: list[dict[str, Any]] = status.get("recoveries", [])
    return ", ".join(f"{one['event']} → {one['action']}" for one in recoveries)
