"""What the demo sees of the cluster while it waits: pods by priority, and how far plans are."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct

from stowage.api.packing_plan import PackingPlan
from stowage.api.reasons import PolicyCondition, PolicyReason
from stowage.demo.workload import NAMESPACE
from stowage.transport import paths
from stowage.transport.api import Api

POLL_SECONDS = 0.4
QUIET_SECONDS = 3.0  # how long nothing may change before the cluster counts as settled
RESTING = {PolicyReason.WATCHING, PolicyReason.NO_BETTER_PLAN, PolicyReason.REPLAN_LIMIT}
STUCK = {
    PolicyReason.EXTENDER_UNAVAILABLE,
    PolicyReason.SOLVER_FAILED,
    PolicyReason.NOT_SUPPORTED,
    PolicyReason.INVALID_SPEC,
    PolicyReason.NO_MATCHING_NODE,
}

Document = dict[str, Any]


class DemoError(Exception):
    """The demo cannot go on: the message says what did not happen, and where to look."""


class Sight(Struct, frozen=True):
    """The demo's pods and plans at one moment; pods are counted by their own priority."""

    running: Mapping[int, int]
    pending: Mapping[int, int]  # found unschedulable by kube-scheduler
    unsettled: int  # neither running nor found unschedulable: on their way
    plans: tuple[PackingPlan, ...] = ()  # oldest first
    policy_reason: str = ""  # of condition Ready

    @property
    def pods(self) -> int:
        """Pods that exist."""
        return sum(self.running.values()) + sum(self.pending.values()) + self.unsettled

    @property
    def active(self) -> PackingPlan | None:
        """The plan that has not ended, if any."""
        open_plans = (plan for plan in self.plans if plan.status.phase is None or not plan.status.phase.ended)
        return next(open_plans, None)


def at_or_above(counts: Mapping[int, int], priority: int) -> int:
    """Number of pods of a priority or higher."""
    return sum(count for one, count in counts.items() if one >= priority)


async def look(api: Api, policy_name: str | None = None) -> Sight:
    """Counts pods, and reads plans when a policy is given."""
    answer = await api.get(paths.in_namespace(paths.PODS, NAMESPACE), {"limit": "0"})
    running: Counter[int] = Counter()
    pending: Counter[int] = Counter()
    unsettled = 0
    for pod in answer["items"]:
        priority = int(pod["spec"].get("priority", 0))
        if "deletionTimestamp" in pod["metadata"]:
            unsettled += 1
        elif pod["status"].get("phase") == "Running":
            running[priority] += 1
        elif _unschedulable(pod):
            pending[priority] += 1
        else:
            unsettled += 1
    if policy_name is None:
        return Sight(running=running, pending=pending, unsettled=unsettled)
    listed = await api.get(paths.PACKING_PLANS)
    plans = sorted((PackingPlan.parse_stored(item) for item in listed["items"]), key=lambda plan: plan.name)
    policy = await api.get(paths.packing_policy(policy_name))
    return Sight(
        running=running,
        pending=pending,
        unsettled=unsettled,
        plans=tuple(plan for plan in plans if plan.spec.policy == policy_name),
        policy_reason=_ready_reason(policy),
    )


def _unschedulable(pod: Document) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(one["type"] == "PodScheduled" and one.get("reason") == "Unschedulable" for one in conditions)


def _ready_reason(policy: Document) -> str:
    conditions = policy.get("status", {}).get("conditions", ())
    return next((str(one.get("reason")) for one in conditions if one["type"] == PolicyCondition.READY), "")


async def wait_until_scheduled(
    api: Api, pod_count: int, *, timeout_seconds: float, show: Callable[[Sight], None]
) -> Sight:
    """Waits until every pod runs or has been found unschedulable, and stays so for a moment.

    Raises:
        DemoError: that did not happen in time.
    """

    def settled(sight: Sight) -> bool:
        return sight.pods == pod_count and sight.unsettled == 0

    return await _wait(lambda: look(api), settled, timeout_seconds=timeout_seconds, show=show)


async def wait_until_packed(
    api: Api, policy_name: str, pod_count: int, *, timeout_seconds: float, show: Callable[[Sight], None]
) -> Sight:
    """Waits until a plan has ended, none is active, the operator rests, and every pod runs or stays pending.

    Raises:
        DemoError: that did not happen in time.
    """

    def settled(sight: Sight) -> bool:
        if sight.policy_reason in STUCK:
            raise DemoError(f"the operator cannot go on: {sight.policy_reason}")
        rests = sight.policy_reason in RESTING and sight.active is None
        worked = bool(sight.plans) or sight.policy_reason == PolicyReason.NO_BETTER_PLAN or not sight.pending
        return rests and worked and sight.pods == pod_count and sight.unsettled == 0

    return await _wait(lambda: look(api, policy_name), settled, timeout_seconds=timeout_seconds, show=show)


async def _wait(
    look_again: Callable[[], Awaitable[Sight]],
    settled: Callable[[Sight], bool],
    *,
    timeout_seconds: float,
    show: Callable[[Sight], None],
) -> Sight:
    deadline = _now() + timeout_seconds
    last: Sight | None = None
    since = _now()
    while True:
        sight = await look_again()
        show(sight)
        if last is None or not settled(sight) or (sight.running, sight.pending) != (last.running, last.pending):
            since = _now()
        last = sight
        if settled(sight) and _now() - since >= QUIET_SECONDS:
            return sight
        if _now() > deadline:
            raise DemoError(
                f"the cluster did not settle within {timeout_seconds:.0f} s: {sum(sight.running.values())} pods run, "
                f"{sum(sight.pending.values())} are pending, {sight.unsettled} are on their way, "
                f"policy: {sight.policy_reason or 'no condition Ready yet'}"
            )
        await asyncio.sleep(POLL_SECONDS)


def _now() -> float:
    return time.monotonic()  # noqa: TID251 - the edge of the process: how long a person waits
