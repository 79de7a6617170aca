"""When the operator first heard of evidence, and for how long the job had been still by then: on its own clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from stowage_worker import evidence, messages

MOST: Final = 256
"""Of the evidence of one report; the first that comes is what a recovery is measured from."""


class Heard(Struct, frozen=True):
    """One line of a coordinator's evidence.

    Attributes:
        event: the coordinator's word.
        seat: that it is about; empty: of none.
        rank: that it is about; below nought: of none.
        at: when it was first heard, seconds since 1970.
        quiet_seconds: nothing was heard of the seat, or no step was made, for so long before that.
    """

    event: str
    seat: str
    rank: int
    at: float
    quiet_seconds: float = 0.0


def heard_of(report: messages.Report, before: Sequence[Heard], now: float) -> tuple[Heard, ...]:
    """What is known once `report` has come; what was known before keeps its time.

    Args:
        report: the latest.
        before: what was known of the same epoch.
        now: seconds since 1970.
    """
    known = {(one.event, one.seat, one.rank): one for one in before}
    silent = {one.seat: one.silent_seconds for one in report.seats}

    def quiet(one: messages.Evidence) -> float:
        if one.event == evidence.SUPERVISOR_LOST:
            return silent.get(one.seat, 0.0)
        return report.progress.since_step_seconds if one.event == evidence.HANG else 0.0

    return tuple(
        known.get((one.event, one.seat, one.rank)) or Heard(one.event, one.seat, one.rank, now, max(0.0, quiet(one)))
        for one in report.evidence[:MOST]
    )
