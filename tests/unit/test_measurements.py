"""Figures of benches: targets, the table and the file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from harness.measurements import Measurement, Measurements, Target, at_least, at_most


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        pytest.param(at_most(5), 5.0, True, id="as much as allowed"),
        pytest.param(at_most(5), 5.1, False, id="more than allowed"),
        pytest.param(at_least(0.7), 0.7, True, id="as much as wanted"),
        pytest.param(at_least(0.7), 0.69, False, id="less than wanted"),
        pytest.param(None, 1e9, True, id="only shown"),
    ],
)
def test_a_target_is_met(target: Target | None, value: float, met: bool) -> None:
    assert Measurement("b", "n", value, target=target).met is met


def test_the_table_tells_what_was_missed() -> None:
    measurements = Measurements()
    measurements.add(Measurement("extender", "p99", 7.5, "ms", at_most(5)))
    measurements.add(Measurement("extender", "p50", 0.25, "ms"))
    text = io.StringIO()
    measurements.print(Console(file=text, width=100))
    missed, shown = text.getvalue().splitlines()[-2:]
    assert missed.split() == ["extender", "p99", "7.5", "ms", "≤", "5", "missed"]
    assert shown.split() == ["p50", "0.25", "ms"]


def test_a_later_run_replaces_its_own_figures_only(tmp_path: Path) -> None:
    file = tmp_path / "bench" / "results.json"
    for figures in ({"p99": 7.5, "p50": 0.2}, {"p99": 4.0}):
        measurements = Measurements()
        for name, value in figures.items():
            measurements.add(Measurement("extender", name, value, "ms", at_most(5), {"names": 1000}))
        measurements.write(file)
    results = json.loads(file.read_text())["results"]
    assert [(entry["name"], entry["value"], entry["met"]) for entry in results] == [
        ("p50", 0.2, True),
        ("p99", 4.0, True),
    ]
    assert results[0]["details"] == {"names": 1000}
