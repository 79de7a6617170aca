"""Same dump, seed and deterministic budget in 20 processes: the same plan, byte for byte but for `seconds`.

Runs beside each other and with other hash seeds, so that neither timing nor the order of sets may matter.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.instances import dump, paper_instance
from harness.measurements import Record, at_most
from harness.same_plan import plan_bytes

RUNS = 20
AT_ONCE = 3
UNITS = 50.0
DUMPS = {
    "8 nodes x 4, 105 %, 4 priorities": (8, 4, 4, 105, 2),
    "32 nodes x 8, 95 %, 1 priority": (32, 8, 1, 95, 1),
    "100 nodes x 8, 95 %, 4 priorities": (100, 8, 4, 95, 1),
}


@pytest.mark.parametrize("name", DUMPS)
def test_twenty_runs_give_one_plan(name: str, tmp_path: Path, record: Record) -> None:
    document = dump(paper_instance(*DUMPS[name]))
    found = plan_bytes(document, tmp_path, units=UNITS, runs=RUNS, at_once=AT_ONCE)
    assert record("packer", f"distinct plans in {RUNS} runs, {name}", len(found), target=at_most(1), units=UNITS).met
