"""Options of the comparison of autoscalers."""

from __future__ import annotations

import pytest

from stowage.simulate.serving.workloads import WORKLOADS


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("serving benches")
    group.addoption("--workloads", default=",".join(WORKLOADS), help="names, with commas")
    group.addoption("--cold-starts", default="60,120,240", help="seconds, with commas")
    group.addoption("--serving-seed", type=int, default=1, help="of copies, samples and lengths")
    group.addoption("--price", type=float, default=3.5, help="of a GPU-hour")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for option, fixture in (("--workloads", "workload"), ("--cold-starts", "cold_start_seconds")):
        if fixture in metafunc.fixturenames:
            values = [value.strip() for value in metafunc.config.getoption(option).split(",")]
            metafunc.parametrize(fixture, values if fixture == "workload" else [float(value) for value in values])
