"""How many seats of a job are how: from its pods and from what its coordinator says of their supervisors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from stowage.api.training_job_status import Seat, SeatSummary
from stowage_scheduler.cluster import Pod
from stowage_worker.membership_state import FINISHED, RUNNING
from stowage_worker.messages import Report, SeatState


def seat_summary(seats: tuple[Seat, ...], current: Mapping[str, Pod], report: Report | None) -> SeatSummary | None:
    """Counts of seats; None: there are none.

    Args:
        seats: that have a pod or shall have one.
        current: the pod that counts for each of them, by seat.
        report: the coordinator's latest.
    """
    if not seats:
        return None
    said = {one.seat: one for one in report.seats} if report is not None else {}
    return SeatSummary(**Counter(_how(current.get(one.seat), said.get(one.seat)) for one in seats))


def _how(pod: Pod | None, heard: SeatState | None) -> str:
    if pod is None:
        return "vacant"
    if pod.phase == "Succeeded":
        return "finished"
    if pod.node is None:
        return "waiting"
    if heard is None or heard.pod != pod.uid or not heard.connected:
        return "starting"
    return {RUNNING: "running", FINISHED: "finished"}.get(heard.state, "connected")
