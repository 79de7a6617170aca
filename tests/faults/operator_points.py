"""Kill points of the operator alone, at its own changes, and which of them a test run takes."""

from __future__ import annotations

from faults.kill_points import KillPoint, sample
from faults.report import Report
from faults.scenarios import USER_AGENTS, Victim
from faults.script import Match, Side
from faults.traffic import Request


def counts(request: Request) -> bool:
    """Whether a request is a change by the operator that something could be lost with."""
    by_operator = Match(user_agent=USER_AGENTS[Victim.OPERATOR]).fits(request)
    return by_operator and request.mutating and "/leases" not in request.path and "/events" not in request.path


def chosen(name: str, changes: int, report: Report, named: frozenset[str]) -> list[KillPoint]:
    """The points to be run: those named, else all or a sample.

    Args:
        name: of what is disturbed.
        changes: that the operator asks for meanwhile.
        report: of the test run.
        named: ids of points that were asked for.
    """
    points = [
        KillPoint(name, Victim.OPERATOR, Victim.OPERATOR, number, side)
        for number in range(1, changes + 1)
        for side in (Side.BEFORE, Side.AFTER)
    ]
    if named:
        return [point for point in points if point.id in named]
    if report.chosen == "all":
        return points
    return sample(points, fixed=report.fixed, rotating=report.rotating, seed=report.seed)
