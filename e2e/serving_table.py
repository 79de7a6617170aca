"""What changes and faults cost the requests of a service: a table made from results, `build/e2e/serving.{json,md}`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
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
    settled_seconds: float | None
    """From the change, fault or end of the load until the end state was reached."""
    end: str


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
        (folder / "serving.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        (folder / "serving.md").write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        """For people."""
        lines = [
            "| story | load | replicas | requests | lost | TTFT p99 | ITL p99 | within targets | settled | end |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            cells = (
                *(row.story, row.load, row.replicas, str(row.requests), str(row.lost)),
                *(_seconds(row.ttft_p99_seconds, 2), _seconds(row.itl_p99_seconds, 3)),
                *(f"{100 * row.attainment:.1f} %", _seconds(row.settled_seconds, 0), row.end),
            )
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def _seconds(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f} s"
