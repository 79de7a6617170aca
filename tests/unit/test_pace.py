"""A burst at once, then so much a second."""

from __future__ import annotations

import pytest

from stowage.run.pace import Pace


@pytest.mark.parametrize(
    ("taken", "waits"),
    [
        pytest.param([(0, 100), (0, 900)], [0, 0], id="a burst is free"),
        pytest.param([(0, 1000), (0, 100)], [0, 1], id="beyond it there is a wait"),
        pytest.param([(0, 1000), (5, 500)], [0, 0], id="what time gave back is free"),
        pytest.param([(0, 1000), (999, 1000), (999, 100)], [0, 0, 1], id="and no more than a burst"),
        pytest.param([(0, 1000), (0, 300), (1, 0)], [0, 3, 2], id="a debt is paid in time"),
        pytest.param([(9, 1000), (3, 0)], [0, 0], id="a clock that goes back gives nothing"),
    ],
)
def test_how_long_to_wait(taken: list[tuple[float, float]], waits: list[float]) -> None:
    now = 0.0
    pace = Pace(100.0, 1000.0, lambda: now)
    found = []
    for at, size in taken:
        now = at
        found.append(pace.wait_seconds(size))
    assert found == pytest.approx(waits)
