"""Kill points of the operator alone, at its own changes: which of them a test run takes, and what is done there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from faults.kill_points import KillPoint, sample
from faults.lab import OPERATOR_LEASE, Lab
from faults.proxy import FaultProxy
from faults.report import Report
from faults.scenarios import USER_AGENTS, Victim
from faults.script import Match, Rule, Side
from faults.traffic import Request
from harness.waiting import eventually

QUIET_SECONDS: Final = 1.5
LEASE: Final = Match(path=f"/leases(/{OPERATOR_LEASE[1]})?$", user_agent=USER_AGENTS[Victim.OPERATOR])


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
    """Kill the operator while a rule holds its change, and start another one; which change, None: none is held.

    Returns once the other one leads: what has not begun is quiet too.
    """
    killed = None
    for held in lab.proxy.held(rule):
        before = _leaders(lab.proxy)
        lab.kill(Victim.OPERATOR)
        killed = f"{held.exchange.request.method} {held.exchange.request.path}"
        held.drop()
        await lab.restart(Victim.OPERATOR)

        async def leads(before: frozenset[str] = before) -> bool:
            return bool(_leaders(lab.proxy) - before)

        await eventually(leads, timeout_seconds=60, what="the operator that was started again leads")
    return killed


async def is_quiet(proxy: FaultProxy) -> bool:
    """Whether the operator asks for no change for a while, although it is at work: it looks after its lease."""
    index = len(proxy.exchanges)
    await asyncio.sleep(QUIET_SECONDS)

    async def at_work() -> bool:
        return bool(proxy.seen(LEASE, since=index))

    await eventually(at_work, what="the operator looks after its lease")
    return not any(counts(exchange.request) for exchange in proxy.exchanges[index:])


def _leaders(proxy: FaultProxy) -> frozenset[str]:
    """The processes that have held the lease."""
    written = (one for one in proxy.seen(replace(LEASE, mutating=True)) if one.took_effect)
    return frozenset(str(one.request.document["spec"]["holderIdentity"]) for one in written)
