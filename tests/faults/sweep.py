"""One run of a scenario, disturbed at one kill point or not at all, judged by the oracles."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from faults import oracles
from faults.kill_points import KillPoint
from faults.lab import Lab
from faults.scenarios import USER_AGENTS, Scenario, Victim, Workload
from faults.script import Hold, Match
from faults.traffic import Exchange
from faults.watch_log import WatchLog, watch_log
from harness.waiting import eventually
from harness.workbench import Workbench, is_unschedulable
from stowage.transport import NotFound, paths

POLL_SECONDS = 0.02
SET_UP_SECONDS = 60.0
CONVERGE_SECONDS = 90.0
QUIET_SECONDS = 1.2  # longer than the operator's last look at a plan that has ended
SETTLE_SECONDS = 30.0
PACKING_SECONDS = 1.0  # within it the operator gives a packing to its workers
RESERVED_TAINT = "stowage.dev/reserved"
GANG_GATE = "stowage.dev/gang"

Document = dict[str, Any]


@dataclass
class Outcome:
    """What came of one run.

    Attributes:
        point: where the kill was; None: undisturbed.
        killed: the point was reached.
        request: the request that was held then.
        end_state: placed pods by owner and priority.
        problems: what the oracles found.
        changes: how many changes each process asked for since the policy is there, leases left out.
        evictions: how many pods were evicted.
        plans: phases and reasons of the plans.
        seconds: from the policy to the end state.
        total_seconds: of the whole run, with setting up and clearing.
    """

    point: KillPoint | None
    killed: bool = False
    request: str = ""
    end_state: oracles.EndState = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    changes: dict[Victim, int] = field(default_factory=dict)
    evictions: int = 0
    plans: list[str] = field(default_factory=list)
    seconds: float = 0.0
    total_seconds: float = 0.0


@dataclass
class Run:
    """What is known of a run while it lasts."""

    prefix: str
    pods: WatchLog
    plans: WatchLog
    since: int  # index of its first request at the proxy
    outcome: Outcome
    began: int = 0  # index of the first request after the policy


class NotReached(Exception):  # noqa: N818 - it is told as a problem of the run
    """Something was waited for in vain; the message says what, and what was seen last."""


class Sweep:
    """Runs of one scenario in one lab, one after the other.

    Args:
        lab: the processes.
        bench: a namespace; its cluster has the scenario's nodes and priority classes.
        scenario: what to run.
        nodes: the nodes as they are at the start.
    """

    def __init__(self, lab: Lab, bench: Workbench, scenario: Scenario, nodes: list[Document]) -> None:
        self._lab = lab
        self._bench = bench
        self._scenario = scenario
        self._nodes = nodes
        self._runs = 0

    async def run(self, point: KillPoint | None = None, *, quiet_seconds: float = QUIET_SECONDS) -> Outcome:
        """Sets the scenario up, disturbs it at the point, waits for the end, judges, clears.

        Args:
            point: where to kill; None: nowhere.
            quiet_seconds: for how long nobody may ask for a change at the end.
        """
        self._runs += 1
        began = _clock()
        outcome = Outcome(point)
        pods = watch_log(self._lab.api, paths.in_namespace(paths.PODS, self._bench.namespace))
        plans = watch_log(self._lab.api, paths.PACKING_PLANS)
        async with pods as pod_log, plans as plan_log:
            prefix = f"{self._scenario.name}-{self._runs:03d}"
            run = Run(prefix, pod_log, plan_log, len(self._lab.proxy.exchanges), outcome)
            try:
                await self._set_up(run)
                await self._carry_out(run)
                await self._quiet(quiet_seconds)
            except NotReached as error:
                outcome.problems.append(str(error))
            finally:
                self._lab.proxy.clear()
            await self._judge(run)
            await self._clear(run)
            self._lab.proxy.forget_bodies()
        outcome.total_seconds = _clock() - began
        return outcome

    async def _set_up(self, run: Run) -> None:
        running, waiting = self._scenario.running, self._scenario.waiting
        await self._create(run, running)
        count = sum(workload.replicas for workload in running)
        await _until(lambda: sum(oracles.end_state(run.pods.objects).values()) == count, SET_UP_SECONDS, "pods run")
        await self._create(run, waiting)
        names = {f"{run.prefix}-{workload.name}" for workload in waiting}
        count = sum(workload.replicas for workload in waiting)

        def found_no_room() -> bool:
            waits = [pod for pod in run.pods.objects if pod["metadata"]["labels"]["app"] in names]
            return sum(is_unschedulable(pod) or bool(pod["spec"].get("schedulingGates")) for pod in waits) == count

        await _until(found_no_room, SET_UP_SECONDS, "the others find no room")

    async def _create(self, run: Run, workloads: tuple[Workload, ...]) -> None:
        for collection, document in self._scenario.documents(workloads, run.prefix):
            await self._bench.create(paths.in_namespace(collection, self._bench.namespace), document)

    async def _carry_out(self, run: Run) -> None:
        """Lets the plan begin, kills at the point, and waits for the end state."""
        began = _clock()
        point, proxy = run.outcome.point, self._lab.proxy
        rule = None
        if point is not None and point.trigger is not Victim.SOLVER:
            rule = proxy.add(Match.nth(point.number, mutating=True, where=_by(point.trigger)), Hold(point.side))
        if point is not None and point.trigger is Victim.SOLVER:
            self._lab.pause_workers()
        run.began = len(proxy.exchanges)
        await self._lab.api.create(paths.PACKING_POLICIES, self._scenario.policy_document(run.prefix))
        if point is not None and point.trigger is Victim.SOLVER:
            await self._kill_workers(run, point.number)
        elif point is not None:
            await _until(
                lambda: bool(proxy.held(rule)) or self._converged(run), CONVERGE_SECONDS, "the point is reached"
            )
            if not proxy.held(rule):  # what comes after the end counts too: nodes are given back then
                await self._quiet(QUIET_SECONDS, unless=lambda: bool(proxy.held(rule)))
            for held in proxy.held(rule):
                self._lab.kill(point.victim)
                run.outcome.killed = True
                asked = held.exchange.request
                run.outcome.request = f"{asked.method} {asked.path}"
                if point.victim is point.trigger:
                    held.drop()
                else:
                    held.release()
                await self._lab.restart(point.victim)
        await _until(lambda: self._converged(run), CONVERGE_SECONDS, "the end state is reached", self._state_of(run))
        run.outcome.seconds = _clock() - began
        if run.outcome.killed:
            await self._given_back()

    async def _given_back(self) -> None:
        """Waits until no node is kept for a plan: a process that was killed just after the end is still starting."""

        async def none_kept() -> bool:
            nodes = (await self._lab.api.get(paths.NODES))["items"]
            return not any(oracles.leftovers((), nodes, (), RESERVED_TAINT, GANG_GATE))

        try:
            await eventually(none_kept, timeout_seconds=SETTLE_SECONDS, what="no node is kept for a plan")
        except AssertionError as error:
            raise NotReached(str(error)) from error

    async def _kill_workers(self, run: Run, times: int) -> None:
        """Kills the solver's workers in the middle of a packing, several times in a row.

        They are stopped first: a packing that is given to them meanwhile begins and cannot end.
        """
        killed: set[int] = set()
        for _ in range(times):

            def others(killed: set[int] = killed) -> bool:
                return bool(set(self._lab.workers()) - killed) or self._converged(run)

            await _until(others, CONVERGE_SECONDS, "workers run")
            self._lab.pause_workers()
            await asyncio.sleep(PACKING_SECONDS)
            killed |= set(self._lab.workers())
            self._lab.kill(Victim.SOLVER)
            run.outcome.killed = True

    def _converged(self, run: Run) -> bool:
        """Whether every pod has its place, and no plan is under way."""
        ended = all(plan.get("status", {}).get("phase") in {"Done", "Aborted", "Superseded"} for plan in _own(run))
        return ended and self._end_state(run) == self._scenario.expected()

    def _end_state(self, run: Run) -> oracles.EndState:
        found = oracles.end_state(run.pods.objects)
        return {(owner.replace(f"{run.prefix}-", ""), value): count for (owner, value), count in found.items()}

    def _state_of(self, run: Run) -> Callable[[], str]:
        return lambda: f"placed: {dict(self._end_state(run))}; plans: {_phases(run)}"

    async def _quiet(self, seconds: float, *, unless: Callable[[], bool] = lambda: False) -> None:
        """Waits until nobody has asked for a change for so long, or until something else happens."""
        proxy = self._lab.proxy
        deadline = _clock() + SETTLE_SECONDS
        index, since = len(proxy.exchanges), _clock()
        while _clock() - since < seconds and not unless():
            await asyncio.sleep(POLL_SECONDS)
            busy = oracles.still_writing(proxy.exchanges[index:])
            if busy and _clock() > deadline:
                raise NotReached(f"still writing {SETTLE_SECONDS:g} s after the end: {sorted(set(busy))}")
            if busy:
                index, since = len(proxy.exchanges), _clock()

    async def _judge(self, run: Run) -> None:
        outcome, scenario = run.outcome, self._scenario
        exchanges = self._lab.proxy.exchanges[run.since :]
        by_operator = [exchange for exchange in exchanges if _by(Victim.OPERATOR)(exchange.request)]
        outcome.end_state = self._end_state(run)
        outcome.evictions = len(oracles.departures(by_operator))
        outcome.plans = _phases(run)
        since_policy = self._lab.proxy.exchanges[run.began :]
        outcome.changes = {
            victim: sum(exchange.request.mutating and _by(victim)(exchange.request) for exchange in since_policy)
            for victim in USER_AGENTS
        }
        nodes = (await self._lab.api.get(paths.NODES))["items"]
        budgets = {f"{run.prefix}-{one.name}": one.kept for one in scenario.workloads if one.kept is not None}
        outcome.problems += [
            *oracles.other_end_state(scenario.expected(), outcome.end_state),
            *oracles.evicted_twice(by_operator),
            *oracles.evicted_without_uid(by_operator),
            *oracles.oversubscribed(run.pods.changes, self._nodes),
            *oracles.bound_twice(run.pods.changes),
            *oracles.budget_overdrawn(run.pods.changes, budgets),
            *oracles.rules_broken(run.pods.objects, nodes),
            *oracles.leftovers(_own(run), nodes, run.pods.objects, RESERVED_TAINT, GANG_GATE),
            *self._lab.new_alarms(),
            *self._lab.dead(),
        ]

    async def _clear(self, run: Run) -> None:
        """Removes what the run made; the processes stay."""
        api, namespace = self._lab.api, self._bench.namespace
        await _remove(api.delete, paths.packing_policy(run.prefix))
        for collection in (paths.REPLICA_SETS, paths.DISRUPTION_BUDGETS):
            await api.delete(paths.in_namespace(collection, namespace), {"propagationPolicy": "Background"})
        pods = paths.in_namespace(paths.PODS, namespace)
        await api.delete(pods, {"gracePeriodSeconds": 0})
        await api.delete(paths.PACKING_PLANS)
        await _until(lambda: not run.pods.objects and not run.plans.objects, SET_UP_SECONDS, "all is cleared")


def _by(victim: Victim) -> Callable[[Any], bool]:
    """Whether a request is one of a process, other than about leases."""
    match = Match(user_agent=USER_AGENTS[victim])
    return lambda request: match.fits(request) and not oracles.is_lease(Exchange(request, 0.0))


def _own(run: Run) -> list[Document]:
    return [plan for plan in run.plans.objects if plan["spec"]["policy"] == run.prefix]


def _phases(run: Run) -> list[str]:
    statuses = [plan.get("status", {}) for plan in _own(run)]
    words = [f"{status.get('phase')} {status.get('reason')}: {status.get('message', '')}" for status in statuses]
    return [" ".join(one.split()) for one in words]


async def _until(
    condition: Callable[[], bool], seconds: float, what: str, state: Callable[[], str] = lambda: ""
) -> None:
    deadline = _clock() + seconds
    while not condition():
        if _clock() > deadline:
            raise NotReached(f"{what}: not within {seconds:g} s; {state()}")
        await asyncio.sleep(POLL_SECONDS)


async def _remove(delete: Callable[[str], Any], path: str) -> None:
    with contextlib.suppress(NotFound):
        await delete(path)


def _clock() -> float:
    return time.monotonic()  # noqa: TID251
