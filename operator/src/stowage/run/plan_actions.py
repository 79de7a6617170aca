"""The requests of one pass over a plan, sent side by side; what the server answered is remembered for the next pass.

The memory only saves requests: a new process goes on without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from stowage.act.answers import CONFLICT_RETRY_SECONDS, Answer, Reply
from stowage.act.bindings import bind
from stowage.act.evictions import evict
from stowage.act.gates import ungate
from stowage.act.taints import release, reserve
from stowage.api.packing_plan import PlanSteering
from stowage.api.reasons import StepReason
from stowage.decide.bindings import Binding
from stowage.decide.execution import Advance
from stowage.decide.plan_facts import Attempt, PlanFacts
from stowage.decide.reservation import targets
from stowage.run.metrics import Metrics
from stowage.transport import Api
from stowage_scheduler.packing import Step

GRANTED_RETRY_SECONDS = 2.0  # a granted request shows in the watch long before
_EVICTION_REASONS = {
    Answer.BLOCKED_BY_BUDGET: StepReason.DISRUPTION_BUDGET,
    Answer.THROTTLED: StepReason.THROTTLED,
    Answer.FAILED: StepReason.EVICTION_FAILED,
    Answer.REFUSED: StepReason.EVICTION_REFUSED,
}
_ARRIVAL_REASONS = {
    Answer.THROTTLED: StepReason.BINDING_FAILED,
    Answer.FAILED: StepReason.BINDING_FAILED,
    Answer.REFUSED: StepReason.BINDING_REFUSED,
}
_TOLD = frozenset({*_EVICTION_REASONS, *_ARRIVAL_REASONS})
_CHANGED = frozenset({Answer.CHANGED, Answer.ELSEWHERE})
_LANDED = frozenset({Answer.EVICTED, Answer.BOUND, Answer.UNGATED, Answer.GONE})

logger = logging.getLogger(__name__)


class PlanActions:
    """Acts for plans.

    Args:
        api: the connection.
        metrics: of the process.
        clock: wall clock, seconds since the epoch.
    """

    def __init__(self, api: Api, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._api = api
        self._metrics = metrics
        self._clock = clock
        self._attempts: dict[str, dict[str, Attempt]] = {}  # by plan UID, then step or slot

    def attempts(self, plan_uid: str) -> Mapping[str, Attempt]:
        """What was asked for so far."""
        return self._attempts.get(plan_uid, {})

    def forget(self, plan_uid: str) -> None:
        """Keep nothing of a plan."""
        self._attempts.pop(plan_uid, None)

    async def carry_out(self, facts: PlanFacts, decision: Advance) -> tuple[float | None, tuple[Step, ...]]:
        """Send what an advance asks for, once its status is written.

        Returns:
            After how many seconds to look at the plan again because of an answer, at once when it has to be told; and
            the steps whose pods were evicted.
        """
        leaving = (*decision.evict, *decision.restart)
        tolerate = facts.uid if facts.steering is PlanSteering.BIND else None
        evicted, bound, ungated = await asyncio.gather(
            asyncio.gather(*(self._evict(facts, step) for step in leaving)),
            asyncio.gather(*(self._bind(facts, binding) for binding in decision.bind)),
            asyncio.gather(*(self._ungate(facts, step, tolerate) for step in decision.ungate)),
        )
        answers = {*evicted, *bound, *ungated}
        again_seconds = CONFLICT_RETRY_SECONDS if answers & _CHANGED else None
        if answers & _TOLD:
            again_seconds = 0.0
        asked = zip(leaving, evicted, strict=True)
        return again_seconds, tuple(step for step, answer in asked if answer is Answer.EVICTED)

    async def reserve(
        self, facts: PlanFacts, nodes: Iterable[str], *, until: float, over: frozenset[str], leads: Callable[[], bool]
    ) -> None:
        """Taint nodes for a plan; `over` are UIDs whose taint may be replaced."""
        logger.info("plan %s: keeping %d nodes", facts.name, len(nodes := sorted(nodes)))
        await asyncio.gather(
            *(reserve(self._api, node, uid=facts.uid, until=until, over=over, leads=leads) for node in nodes)
        )

    async def release(self, facts: PlanFacts, *, leads: Callable[[], bool]) -> None:
        """Give the nodes of a plan back."""
        await asyncio.gather(*(release(self._api, node, uid=facts.uid, leads=leads) for node in sorted(targets(facts))))

    async def _evict(self, facts: PlanFacts, step: Step) -> Answer:
        reply = await evict(self._api, step.pod)
        self._metrics.evictions.labels(reply.answer.value).inc()
        what = f"step {step.id}: eviction of {step.pod.key}"
        return self._remember(facts, step.id, what, reply, _EVICTION_REASONS.get(reply.answer))

    async def _bind(self, facts: PlanFacts, binding: Binding) -> Answer:
        reply = await bind(self._api, binding.pod, binding.node)
        self._metrics.bindings.labels(reply.answer.value).inc()
        what = f"slot {binding.slot}: binding of {binding.pod.key} to {binding.node}"
        return self._remember(facts, binding.attempt_key, what, reply, _ARRIVAL_REASONS.get(reply.answer))

    async def _ungate(self, facts: PlanFacts, step: Step, tolerate: str | None) -> Answer:
        reply = await ungate(self._api, step.pod, step.node, tolerate=tolerate)
        self._metrics.ungatings.labels(reply.answer.value).inc()
        what = f"step {step.id}: letting {step.pod.key} go to {step.node}"
        return self._remember(facts, step.id, what, reply, _ARRIVAL_REASONS.get(reply.answer))

    def _remember(self, facts: PlanFacts, key: str, what: str, reply: Reply, reason: StepReason | None) -> Answer:
        wait = GRANTED_RETRY_SECONDS if reply.answer in _LANDED else reply.retry_after_seconds
        self._attempts.setdefault(facts.uid, {})[key] = Attempt(self._clock(), wait, reason, reply.message)
        level = logging.INFO if reply.answer in _LANDED else logging.WARNING
        logger.log(level, "plan %s, %s: %s %s", facts.name, what, reply.answer, reply.message)
        return reply.answer
