"""Options of the benches of the packer."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("packing benches")
    group.addoption(
        "--grid", choices=("sample", "all"), default="sample", help="runs of each cell: a few, or all seeds"
    )
    group.addoption("--budget", default="", help="of the grid alone, with commas: 1s, 10s, or units as in 0.8u")
