"""One pass over one plan: read, decide, write the intent, act."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from stowage.act.events import Subject, announce
from stowage.act.plans import (
    AbortedMeanwhile,
    StaleLeader,
    abort_unreadable,
    get_plan,
    list_plans,
    wake_pods,
    write_status,
)
from stowage.act.pods import pods_on
from stowage.act.policies import get_policy
from stowage.api.names import TRACE_ANNOTATION
from stowage.api.packing_plan import PackingPlan, PlanSteering
from stowage.api.packing_plan_status import PlanPhase, StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage.api.resource import InvalidObjectError
from stowage.decide.announcements import announcements, departures
from stowage.decide.consolidation import overtaken
from stowage.decide.execution import Advance, advance
from stowage.decide.plan_facts import PlanFacts
from stowage.decide.plan_status import next_status, plan_facts, policy_facts
from stowage.decide.reservation import SETTLE_SECONDS, keeps_nodes, reservation, targets
from stowage.decide.scope import rival_of
from stowage.decide.situation import Situation
from stowage.observe.store import Store
from stowage.run.extender_pulse import Pulses
from stowage.run.freshness import ALL_SEEN, Sight
from stowage.run.lease import Lease, term_of
from stowage.run.logs import traced
from stowage.run.metrics import Metrics
from stowage.run.plan_actions import PlanActions
from stowage.run.settings import OperatorSettings
from stowage.transport import Api, NotFound, paths
from stowage_scheduler.packing import Action, Step

TRY_AGAIN_SECONDS = 1.0
WAKE_AGAIN_SECONDS = 1.0  # by then the extender has seen the plan end, whatever came first
WAKE_WITHIN_SECONDS = 10.0
logger = logging.getLogger(__name__)


class PlanReconciler:
    """Carries plans out. What it remembers only saves requests: a new process goes on without it.

    Args:
        api: the connection.
        store: facts of the cluster.
        lease: of the leader; nothing is written without it.
        metrics: of the process.
        clock: wall clock, seconds since the epoch.
        settings: of the process.
        pulses: which extenders live.
        sight: what is not seen now: then nothing new is begun.
    """

    def __init__(
        self,
        *,
        api: Api,
        store: Store,
        lease: Lease,
        metrics: Metrics,
        clock: Callable[[], float],
        settings: OperatorSettings,
        pulses: Pulses,
        sight: Sight = ALL_SEEN,
    ) -> None:
        self._api = api
        self._store = store
        self._lease = lease
        self._metrics = metrics
        self._clock = clock
        self._scheduler_lease = paths.lease(settings.scheduler_lease_namespace, settings.scheduler_lease_name)
        self._identity = settings.identity
        self._may_touch_nodes = not settings.watch_namespaces
        self._actions = PlanActions(api, metrics, clock)
        self._pulses = pulses
        self._sight = sight
        self._starting = asyncio.Lock()  # one plan at a time: two would not see each other start
        self._reserved_at: dict[str, float] = {}  # when all taints of a plan were first seen, by its UID
        self._uids: dict[str, str] = {}  # of plans under way, by name
        self._woken: dict[str, float] = {}  # when pods of a running plan were last woken, by its name
        self.under_way: dict[str, str] = {}  # plans that have not ended: name and policy

    async def reconcile(self, name: str) -> float | None:
        """Take a plan as far as it goes now; returns after how many seconds to look again."""
        leads = term_of(self._lease)
        try:
            plan = await get_plan(self._api, name)
        except InvalidObjectError as error:
            return await self._abort(name, error, leads)
        if not leads():
            return None
        if plan is None or plan.metadata.uid != self._uids.get(name, plan.metadata.uid):
            self._forget(name)
        if plan is None:
            return None
        with traced(plan.metadata.annotations.get(TRACE_ANNOTATION, "")):
            return await self._go_on(plan, leads)

    async def _go_on(self, plan: PackingPlan, leads: Callable[[], bool]) -> float | None:
        name = plan.name
        if plan.status.phase is not None and plan.status.phase.ended:
            return await self._after_end(plan, leads)
        self.under_way[name] = plan.spec.policy
        self._uids[name] = plan.metadata.uid or ""
        if plan.status.phase is PlanPhase.RUNNING:
            return await self._advance(plan, leads)
        async with self._starting:
            return await self._advance(plan, leads)

    async def _advance(self, plan: PackingPlan, leads: Callable[[], bool]) -> float | None:
        facts = plan_facts(plan)
        situation = await self._situation(plan, facts)
        decision = advance(facts, situation)
        if not decision.write:
            logger.warning("plan %s belongs to epoch %d, this is %d", plan.name, facts.epoch, situation.epoch)
            return None
        if not decision.phase.ended and (not self._sight.complete or await self._is_behind(facts, decision)):
            return TRY_AGAIN_SECONDS  # nothing but an end is decided on facts that are old
        try:
            written = await write_status(
                self._api,
                plan,
                lambda fresh: next_status(fresh, decision, situation.now),
                epoch=situation.epoch,
                leads=leads,
            )
        except StaleLeader as error:
            logger.warning("%s", error)
            return None
        except AbortedMeanwhile:
            return 0.0
        self._count(facts, decision)
        if not leads():
            return None
        again_seconds, evicted = await self._act(written, facts, decision, leads)
        told = (*announcements(facts, decision), *departures(facts, evicted))
        await announce(self._api, Subject.of_plan(written), told, identity=self._identity, now=situation.now)
        return again_seconds

    async def _abort(self, name: str, error: InvalidObjectError, leads: Callable[[], bool]) -> float | None:
        self._forget(name)
        now, epoch = self._clock(), self._lease.epoch
        over = await abort_unreadable(self._api, name, error, epoch=epoch, now=now, leads=leads)
        return None if over else TRY_AGAIN_SECONDS

    async def _situation(self, plan: PackingPlan, facts: PlanFacts) -> Situation:
        policy = await get_policy(self._api, plan.spec.policy)
        starting = plan.status.phase is not PlanPhase.RUNNING
        plans = await list_plans(self._api) if starting else ()
        rival = rival_of(plan, plans) if starting else None
        steered = facts.steering is PlanSteering.EXTENDER
        snapshot = self._store.snapshot(self._clock())
        return Situation(
            snapshot=snapshot,
            policy=policy_facts(policy) if policy is not None else None,
            now=self._clock(),
            epoch=self._lease.epoch,
            leader=await self._leading_scheduler() if steered else None,
            extenders=await self._pulses.alive() if steered else None,
            reserved=starting and not steered and await self._is_reserved(facts),
            keepers=frozenset(other.metadata.uid or "" for other in plans if keeps_nodes(other)),
            attempts=self._actions.attempts(facts.uid),
            rival=rival.name if rival is not None else "",
            overtaken=overtaken(facts, policy, snapshot),
        )

    async def _is_behind(self, facts: PlanFacts, decision: Advance) -> bool:
        """Whether pods were bound, where this pass makes room or sends pods, that the store has not heard of."""
        places = {slot.id: slot.node for slot in facts.slots}
        nodes = {places[step.slot] for step in decision.evict if step.slot is not None}
        nodes |= {binding.node for binding in decision.bind} | {step.node for step in decision.ungate}
        return await self._unknown_on(facts, nodes)

    async def _unknown_on(self, facts: PlanFacts, nodes: Iterable[str]) -> bool:
        """Whether the server knows pods on nodes that the store does not know there."""
        on_nodes = await asyncio.gather(*(pods_on(self._api, node) for node in sorted(nodes)))
        known = {pod.uid for pod in self._store.pods.values() if pod.node is not None}
        heard_of = {one.name for one in self._store.rejected if one.kind == "Pod"}  # though they make no sense
        if all(uid in known or key in heard_of for pods in on_nodes for uid, key in pods.items()):
            return False
        logger.warning("plan %s: waiting until the watch of pods tells of pods that were bound meanwhile", facts.name)
        self._sight.doubt("Pod")
        return True

    async def _is_reserved(self, facts: PlanFacts) -> bool:
        """Whether the taints of a plan hold: seen for long enough, and every pod on the nodes is in the store."""
        if not reservation(facts, self._store.nodes.values()).complete:
            self._reserved_at.pop(facts.uid, None)
            return False
        since = self._reserved_at.setdefault(facts.uid, self._clock())
        if self._clock() - since < SETTLE_SECONDS:
            return False
        return not await self._unknown_on(facts, targets(facts))

    async def _leading_scheduler(self) -> str | None:
        """Who holds the lease of the second scheduler; None when there is no such lease."""
        try:
            lease = await self._api.get(self._scheduler_lease)
        except NotFound:
            return None
        return (lease.get("spec") or {}).get("holderIdentity") or None

    async def _act(
        self, plan: PackingPlan, facts: PlanFacts, decision: Advance, leads: Callable[[], bool]
    ) -> tuple[float | None, tuple[Step, ...]]:
        """Do what is on record, or give back what the plan kept.

        Returns:
            After how many seconds to look again, and the steps whose pods were evicted.
        """
        if decision.phase.ended:
            logger.info("plan %s: %s, %s: %s", plan.name, decision.phase, decision.reason, decision.message)
            return await self._after_end(plan, leads), ()
        again_seconds = decision.requeue_after_seconds
        if decision.reserve:
            until = self._clock() + decision.timeout_seconds
            await self._actions.reserve(facts, decision.reserve, until=until, over=decision.reserve_over, leads=leads)
        if decision.wake:
            again_seconds = await self._wake(plan)
        if not leads():
            return again_seconds, ()
        sooner_seconds, evicted = await self._actions.carry_out(facts, decision)
        return again_seconds if sooner_seconds is None else sooner_seconds, evicted

    async def _wake(self, plan: PackingPlan) -> float:
        """Wake pods that may take a slot now, once in a while until none of them sleeps."""
        if not self._may_touch_nodes:
            return WAKE_AGAIN_SECONDS
        now = self._clock()
        if now - self._woken.get(plan.name, 0.0) >= WAKE_AGAIN_SECONDS:
            self._woken[plan.name] = now
            await wake_pods(self._api, plan, mark=f"{now:.0f}")
        return WAKE_AGAIN_SECONDS

    def _forget(self, name: str) -> None:
        """Keep nothing of a plan that has ended or is gone."""
        self.under_way.pop(name, None)
        self._woken.pop(name, None)
        uid = self._uids.pop(name, "")
        self._actions.forget(uid)
        self._reserved_at.pop(uid, None)

    async def _after_end(self, plan: PackingPlan, leads: Callable[[], bool]) -> float | None:
        """Give back what the plan kept, and wake the pods that waited; a node's taint that goes wakes them, too.

        With an extender they are woken twice, for it may see the end after the first time.
        """
        self._forget(plan.name)
        finished = plan.status.finished_at
        age = self._clock() - finished.timestamp() if finished is not None else WAKE_WITHIN_SECONDS
        if age >= WAKE_WITHIN_SECONDS:
            return None  # what a crash has left behind is swept with the rest
        if not self._may_touch_nodes:
            return None
        if plan.spec.steering is PlanSteering.BIND:
            await self._actions.release(plan_facts(plan), leads=leads)
            return None
        await wake_pods(self._api, plan, mark="" if age < WAKE_AGAIN_SECONDS else "again")
        return WAKE_AGAIN_SECONDS - age if age < WAKE_AGAIN_SECONDS else None

    def _count(self, facts: PlanFacts, decision: Advance) -> None:
        moved = sum(
            1
            for step in facts.steps
            if step.action is Action.EVICT
            and step.slot is not None
            and facts.status_of(step).state is not StepState.DONE
            and (after := decision.step_status.get(step.id)) is not None
            and after.state is StepState.DONE
            and after.reason is StepReason.BOUND
        )
        self._metrics.moves.inc(moved)
        if decision.reason is PlanReason.COMPLETED:
            self._metrics.emptied_nodes.inc(len(facts.empties))
        if decision.phase.ended:
            self._metrics.plans.labels(decision.phase.value).inc()
            since = decision.started_at if decision.started_at is not None else facts.created_at
            self._metrics.plan_seconds.labels(decision.phase.value).observe(max(0.0, self._clock() - since))
