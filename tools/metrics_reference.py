"""Writes what follows from the catalogue of metrics: docs/metrics.md and the dashboards of the chart.

`python tools/metrics_reference.py` writes, with `--check` it only compares and exits 1 when a file is not up to date.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from dashboards.extender import EXTENDER
from dashboards.operator import OPERATOR
from dashboards.packing import PACKING
from dashboards.parts import Board, Panel
from dashboards.serving import SERVING
from dashboards.training import TRAINING

from stowage.run.catalogue import CATALOGUE
from stowage.run.metric import Kind, Metric, Process

ROOT: Final = Path(__file__).parents[1]
REFERENCE: Final = Path("docs/metrics.md")
BOARDS: Final = (PACKING, TRAINING, SERVING, OPERATOR, EXTENDER)
DASHBOARDS: Final = Path("helm/stowage/dashboards")
PREFIX: Final = "stowage-"  # of the boards' UIDs, which share one space with all other boards
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS: Final = 24  # of Grafana's grid
HEIGHTS: Final = {"stat": 4, "timeseries": 8}
WIDTHS: Final = {"stat": 4, "timeseries": 12}
ROW_HEIGHT: Final = 1

INTRODUCTION: Final = """\
# Metrics

<!-- Written by `python tools/metrics_reference.py` from operator/src/stowage/run/catalogue.py. -->

Every process of Stowage shows its metrics at `/metrics` of its metrics port, in the format of Prometheus. Names, units
and label values are an interface: they are added to, and changed only with a note in the change log. Labels take values
from closed sets, never names of pods, nodes, plans or jobs: how one job is stands in its status, and
`kubectl stowage why tj/NAME` tells it. Counters of closed sets start at nought, so that the first
increase is seen. Numbers that only a leader knows are nought in a standby: take the maximum over the replicas.

The alerts are in `helm/stowage/alerts`, each with a page in [runbooks](runbooks/index.md); the dashboards in
`helm/stowage/dashboards`.
"""


def reference() -> str:
    """The page of all metrics."""
    parts = [INTRODUCTION]
    for process in Process:
        alone = [metric for metric in CATALOGUE if metric.processes == {process} and metric.ours]
        parts.append(f"## Of the {process}\n\n{_table(alone)}")
    shared = [metric for metric in CATALOGUE if len(metric.processes) > 1 and metric.ours]
    parts.append(f"## Of every process\n\n{_table(shared)}")
    given = [metric for metric in CATALOGUE if not metric.ours]
    parts.append(f"## Of every process, by the client library\n\n{_table(given)}")
    parts.append(f"## Labels\n\n{_labels()}")
    return "\n".join(parts)


def _table(metrics: list[Metric]) -> str:
    rows = ["| metric | type | unit | labels | what it says |", "|---|---|---|---|---|"]
    for metric in metrics:
        labels = ", ".join(f"`{name}`" for name in metric.label_names) or "none"
        rows.append(f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {metric.text} |")
    return "\n".join(rows) + "\n"


def _labels() -> str:
    rows = ["| label | of | values |", "|---|---|---|"]
    for metric in CATALOGUE:
        for label in metric.labels:
            values = ", ".join(f"`{value}`" for value in label.values) or label.open_for
            rows.append(f"| `{label.name}` | `{metric.name}` | {values} |")
    bounds = [
        f"Buckets of `{metric.name}`: {', '.join(f'{bound:g}' for bound in metric.buckets)} s.\n"
        for metric in CATALOGUE
        if metric.kind is Kind.HISTOGRAM
    ]
    return "\n".join(rows) + "\n\n" + "\n".join(bounds)


def dashboard(board: Board) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in board.rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": ROW_HEIGHT},
            }
        )
        y += ROW_HEIGHT
        x = 0
        for panel in row.panels:
            if x + WIDTHS[panel.kind] > COLUMNS:
                x, y = 0, y + HEIGHTS[panel.kind]
            panels.append(_panel(panel, len(panels) + 1, x, y))
            x += WIDTHS[panel.kind]
        y += HEIGHTS[row.panels[-1].kind]
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["stowage"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "annotations": {"list": []},
        "links": [{"type": "dashboards", "title": "Stowage", "tags": ["stowage"], "asDropdown": True, "icon": ""}],
        "templating": {"list": _variables(board)},
        "panels": panels,
    }


def _variables(board: Board) -> list[dict[str, Any]]:
    query = f'label_values(stowage_build_info{{process="{board.process}"}}, job)'
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1},
        {
            "name": "job",
            "label": "Job",
            "type": "query",
            "datasource": SOURCE,
            "definition": query,
            "query": {"query": query, "refId": "job"},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "current": {"text": ["All"], "value": ["$__all"]},
        },
    ]


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.warn_at is not None:
        steps.append({"color": "orange", "value": panel.warn_at})
    stat = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value"}
    lines = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": WIDTHS[panel.kind], "h": HEIGHTS[panel.kind]},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": stat if panel.kind == "stat" else lines,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query,
                "legendFormat": legend or "__auto",
                "instant": panel.kind == "stat",
                "range": panel.kind != "stat",
            }
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


def files() -> dict[Path, str]:
    """What is written, by path below the repository."""
    boards = {DASHBOARDS / f"{board.uid.removeprefix(PREFIX)}.json": _json(dashboard(board)) for board in BOARDS}
    return {REFERENCE: reference(), **boards}


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is not up to date")
    check = parser.parse_args().check
    wanted = files()
    present = {path.relative_to(ROOT) for path in (ROOT / DASHBOARDS).glob("*.json")}
    stale = [path for path, text in wanted.items() if not _is(ROOT / path, text)] + sorted(present - wanted.keys())
    for path in stale:
        if check:
            print(f"not up to date: {path} (run `python tools/metrics_reference.py`)", file=sys.stderr)
        elif path in wanted:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(wanted[path], encoding="utf-8")
            print(f"written: {path}")
        else:
            (ROOT / path).unlink()
            print(f"removed: {path}")
    return 1 if check and stale else 0


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
