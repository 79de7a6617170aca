"""Ranks that are slower than the others, as the status shows them: evidence, and no reason to act."""

from __future__ import annotations

import math

from stowage.api.training_job_status import MAX_STRAGGLERS, Seat, Straggler
from stowage_worker.messages import Report, Straggling

_MOST_SECONDS = 1e9


def stragglers_of(report: Report, seats: tuple[Seat, ...]) -> tuple[Straggler, ...]:
    """The slowest ranks that a coordinator told of, slowest first; numbers that make no sense are left out."""
    nodes = {seat.seat: seat.node for seat in seats}
    found = [one for one in report.stragglers if one.seat in nodes and one.rank >= 0 and _is_sound(one)]
    return tuple(
        Straggler(
            rank=one.rank,
            seat=one.seat,
            node=nodes[one.seat],
            step_seconds=f"{one.step_seconds_median:.3f}",
            wait_seconds=f"{one.wait_seconds_median:.3f}",
            ratio=f"{one.ratio:.2f}",
        )
        for one in found[:MAX_STRAGGLERS]
    )


def _is_sound(one: Straggling) -> bool:
    numbers = (one.step_seconds_median, one.wait_seconds_median, one.ratio)
    return all(math.isfinite(number) and 0 <= number < _MOST_SECONDS for number in numbers)
