"""Same dump, seed and deterministic budget: the same plan, byte for byte but for `seconds`.

The full check, 20 runs of larger dumps, is `pytest tests/bench/test_packer_repeatability.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.instances import dump, paper_instance
from harness.same_plan import plan_bytes

DUMPS = {
    "small enough for the exact model": (8, 4, 4, 100, 2),
    "larger than the exact model": (24, 6, 2, 97, 3),
}


@pytest.mark.parametrize("arguments", DUMPS.values(), ids=DUMPS.keys())
def test_plans_repeat_in_other_processes(arguments: tuple[int, int, int, int, int], tmp_path: Path) -> None:
    document = dump(paper_instance(*arguments))
    assert len(plan_bytes(document, tmp_path, units=1.0, runs=3, at_once=3)) == 1
