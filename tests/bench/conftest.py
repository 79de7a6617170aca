"""What all benches share: `record` takes a figure; at the end come one table and `build/bench/results.json`.

def test_snapshot(record: Record) -> None:
    measurement = record("snapshot", "full", 0.42, "s", target=at_most(1))
    assert measurement.met
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from harness.measurements import RESULTS, Measurement, Measurements, Record, Target

WIDTH = 140
TAKEN = pytest.StashKey[Measurements]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benches")
    group.addoption("--jobs", type=int, default=500, help="training jobs of the fleet")
    group.addoption("--failing-seconds", type=float, default=300.0, help="three of four jobs that train fail within")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TAKEN] = Measurements()


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Takes figures: `record(bench, name, value, unit, target=at_most(5), nodes=1000)`."""
    measurements = request.config.stash[TAKEN]

    def take(
        bench: str, name: str, value: float, unit: str = "", *, target: Target | None = None, **details: Any
    ) -> Measurement:
        measurement = Measurement(bench, name, value, unit, target, details)
        measurements.add(measurement)
        return measurement

    return take


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(config: pytest.Config) -> Iterator[None]:
    yield
    measurements = config.stash[TAKEN]
    if measurements.taken:
        console = Console(file=sys.stdout, width=WIDTH)
        console.print()
        measurements.print(console)
        measurements.write()
        console.print(f"written to {RESULTS.relative_to(config.rootpath)}")
