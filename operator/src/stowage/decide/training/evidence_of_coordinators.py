"""Evidence in what is not heard: a coordinator that is away for long, and supervisors that do not come to a barrier.

The coordinator gives those who were gone before an epoch began all the time of the barrier, for their containers may be
starting again. Whether they do, the kubelet says: a supervisor whose container runs and that is not heard is lost.
"""

from __future__ import annotations

from typing import Final

from stowage.api.training_words import Event
from stowage.decide.training.facts import Evidence, JobFacts, SeatFacts
from stowage_worker.membership_state import PREPARING
from stowage_worker.messages import Report

OPERATOR: Final = "operator"
LOST_SECONDS: Final = 60.0
"""A coordinator that is not heard for so long is lost; its pod gets made anew, and training goes on meanwhile."""
LATE_SECONDS: Final = 15.0
"""A supervisor whose container runs has so long to come to the barrier."""


def evidence_of_coordinator(job: JobFacts, now: float) -> tuple[Evidence, ...]:
    """That nobody hears the coordinator, once for each time that it is away."""
    at = job.heard_since + LOST_SECONDS
    if job.heard or now < at or not any(seat.member for seat in job.seats):
        return ()
    return (Evidence(Event.COORDINATOR_LOST, at, OPERATOR, detail=f"not heard for {LOST_SECONDS:.0f} s"),)


def evidence_of_barrier(job: JobFacts, report: Report | None, now: float) -> tuple[tuple[Evidence, ...], float | None]:
    """Supervisors that are late, and when to look again.

    Args:
        job: whose.
        report: of the current epoch.
        now: seconds since 1970.
    """
    if not job.heard or report is None or report.epoch != job.epoch or report.phase != PREPARING:
        return (), None
    by = {seat.seat: _late_at(job, seat) for seat in job.seats if seat.member and not seat.connected}
    late = tuple(
        Evidence(
            Event.SUPERVISOR_LOST,
            at,
            OPERATOR,
            seat=seat,
            epoch=job.epoch,
            detail=f"its container runs, and it did not come to the barrier within {LATE_SECONDS:.0f} s",
        )
        for seat, at in by.items()
        if at is not None and at <= now
    )
    return late, min((at for at in by.values() if at is not None and at > now), default=None)


def _late_at(job: JobFacts, seat: SeatFacts) -> float | None:
    """When a supervisor that is not heard counts as lost; None: its container does not run."""
    if not seat.ready or seat.terminating or seat.ready_since is None:
        return None
    return max(seat.ready_since, job.epoch_at, job.heard_since) + LATE_SECONDS
