"""Kill points of the operator alone, at its own changes: which of them a test run takes, and what is done there."""

from __future__ import annotations

import asyncio
from typing import Final

from faults.kill_points import KillPoint, sample
from faults.lab import Lab
from faults.proxy import FaultProxy
from faults.report import Report
from faults.scenarios import USER_AGENTS, Victim
from faults.script import Match, Rule, Side
from faults.traffic import Request

QUIET_SECONDS: Final = 1.5


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


async def kill_and_restart(lab: Lab, rule: Rule | None) -> str | None:
    """Kill the operator while a rule holds its change, and start another one; which change, None: none is held."""
    killed = None
    for held in lab.proxy.held(rule):
        lab.kill(Victim.OPERATOR)
        killed = f"{held.exchange.request.method} {held.exchange.request.path}"
        held.drop()
        await lab.restart(Victim.OPERATOR)
    return killed


async def is_quiet(proxy: FaultProxy) -> bool:
    """Whether the operator asks for no change for a while."""
    index = len(proxy.exchanges)
    await asyncio.sleep(QUIET_SECONDS)
    return not any(counts(exchange.request) for exchange in proxy.exchanges[index:])
