"""What rings, and how soon."""

from __future__ import annotations

from typing import Any, cast

import pytest

from stowage.run.controller import LOOK_AT_ALL_SECONDS, pause_seconds
from stowage.run.doorbell import Doorbell
from stowage.transport import Api


def test_what_we_wrote_ourselves_does_not_ring_but_its_end_does() -> None:
    rung: list[tuple[Any, ...]] = []
    bell = Doorbell(
        cast("Api", None), lambda *ring: rung.append(ring), is_own=lambda *said: said == ("training", "team/a", "7")
    )
    for name, version, gone in (
        ("team/a", "6", False),
        ("team/a", "7", False),
        ("team/b", "7", False),
        ("team/a", "7", True),
    ):
        bell._heard("training", name, version, gone)
    assert rung == [("training", "team/a", False), ("training", "team/b", False), ("training", "team/a", True)]


@pytest.mark.parametrize(
    ("jobs", "seconds"),
    [
        pytest.param(0, 0.05, id="none"),
        pytest.param(500, 0.05, id="twenty a second"),
        pytest.param(2_000, LOOK_AT_ALL_SECONDS / 2 / 2_000, id="so many that they would not be done in time"),
    ],
)
def test_looks_at_all_jobs_are_spread(jobs: int, seconds: float) -> None:
    assert pause_seconds(jobs) == seconds
