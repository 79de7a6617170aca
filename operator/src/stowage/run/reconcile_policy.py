"""One pass over one policy: look at the pods that wait, pack when they call for it, write the plan."""

from __future__ import annotations

import logging
import random
import string
from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from stowage.act.events import Subject, announce
from stowage.act.plans import StaleLeader, create_plan, delete_plan, list_plans, write_status
from stowage.act.policies import get_policy, list_policies, write_policy_status
from stowage.api.packing_plan import PackingPlan, PlanSteering
from stowage.api.packing_plan_status import PackingPlanStatus
from stowage.api.packing_policy import PackingPolicy
from stowage.api.resource import InvalidObjectError
from stowage.decide import scope as scoping
from stowage.decide.announcements import left_pending
from stowage.decide.consolidation import Calm, after_search, consolidation
from stowage.decide.document import first_status, plan_document, stale_for, steering_of
from stowage.decide.policy_status import PolicyView, policy_status
from stowage.decide.power_words import without_figures
from stowage.decide.team_shares import team_shares
from stowage.decide.trace import trace_id
from stowage.decide.trigger import Considered, Memory, Trigger, fingerprint, remembered, ripens_at, trigger
from stowage.observe.store import Store
from stowage.run.consolidator import Consolidator
from stowage.run.extender_pulse import Pulses
from stowage.run.freshness import ALL_SEEN, Sight
from stowage.run.lease import Lease, term_of
from stowage.run.logs import traced
from stowage.run.metrics import Metrics
from stowage.run.policy_metrics import PolicyMetrics
from stowage.run.settings import OperatorSettings
from stowage.run.solver import Solver, SolverError
from stowage.transport import Api, ApiError, NotLeading
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.packing import Packing, Reason

PACKINGS_PER_PASS = 2  # an answer that the cluster overtook is thrown away once, then later
ENDED_PLANS_KEPT = 20
SYNC_POLL_SECONDS = 1.0

logger = logging.getLogger(__name__)


class _Answer(Struct, frozen=True):
    """What the solver said of `scene`; no packing when it failed, or when the cluster overtook it every time."""

    scene: Snapshot
    packing: Packing | None = None
    error: str = ""


class _Question(Struct, frozen=True):
    """What is packed, for whom, how its plan is steered, and the trace of the decision.

    `others` are plans whose nodes are left alone, `empties` the nodes that a consolidation is for.
    """

    policy: PackingPolicy
    scene: Snapshot
    others: tuple[PackingPlan, ...]
    options: PackOptions
    steering: PlanSteering
    trace: str
    empties: tuple[str, ...] = ()


class _Decision(Struct, frozen=True):
    """What came of a question: what the policy says now, and the packing, if there is one."""

    view: PolicyView
    packing: Packing | None


class PolicyReconciler:
    """Plans for policies.

    Args:
        api: the connection.
        store: facts of the cluster.
        solver: the solver workers.
        lease: of the leader; nothing is written without it.
        metrics: of the process.
        clock: wall clock, seconds since the epoch.
        settings: of the process.
        generator: names plans.
        pulses: which extenders live.
        sight: what is not seen now: then nothing is planned.
    """

    def __init__(
        self,
        *,
        api: Api,
        store: Store,
        solver: Solver,
        lease: Lease,
        metrics: Metrics,
        clock: Callable[[], float],
        settings: OperatorSettings,
        generator: random.Random,
        pulses: Pulses,
        sight: Sight = ALL_SEEN,
    ) -> None:
        self._api = api
        self._store = store
        self._solver = solver
        self._lease = lease
        self._numbers = PolicyMetrics(metrics, lambda: lease.leading)
        self._consolidator = Consolidator(solver, store, metrics, clock, settings.seed)
        self._clock = clock
        self._identity = settings.identity
        self._seed = settings.seed
        self._namespaces = settings.watch_namespaces
        self._generator = generator
        self._pulses = pulses
        self._sight = sight
        self._memory: dict[str, Memory] = {}  # by policy UID
        self._told: dict[str, dict[str, Reason]] = {}  # why pods stay pending, as told last: by policy, then pod UID
        self.waiting: dict[str, int] = {}  # policies, and how many pods wait in each

    async def reconcile(self, name: str) -> tuple[float | None, tuple[str, ...]]:
        """Look after a policy.

        Returns:
            After how many seconds to look again, and the plans to look at now.
        """
        leads = term_of(self._lease)
        policies = [scoping.within(one, self._namespaces) for one in await list_policies(self._api)]
        alive = {one.metadata.uid for one in policies}
        self._memory = {uid: memory for uid, memory in self._memory.items() if uid in alive}
        self._consolidator.know(policies)
        plans = await list_plans(self._api)
        self._numbers.under_way(plans)
        own = [plan for plan in plans if plan.spec.policy == name]
        policy = next((one for one in policies if one.name == name), None)
        if policy is None or policy.metadata.deletion_timestamp is not None:
            self.waiting.pop(name, None)
            self._told.pop(name, None)
            self._numbers.rests(name)
            return None, tuple(plan.name for plan in own if not _ended(plan))
        snapshot = self._store.snapshot(self._clock())
        scope = scoping.scopes(policies, snapshot.nodes)[name]
        active = next((plan for plan in own if not _ended(plan)), None)
        view = PolicyView(
            scope=scope,
            trigger=Trigger(due=False),
            plans=own,
            active=active,
            moves_last_hour=scoping.moves_last_hour(own, self._clock()),
            outdated=self._outdated(own),
            degraded=self._sight.degraded(),
            teams=team_shares(policy, snapshot, scope.nodes),
            remark=without_figures(policy, [node for node in snapshot.nodes if node.name in scope.nodes]),
        )
        if view.degraded:
            await self._write(policy, view, leads)
            return SYNC_POLL_SECONDS, ()
        return await self._plan(policy, plans, snapshot, view, leads)

    async def _plan(
        self,
        policy: PackingPolicy,
        plans: Sequence[PackingPlan],
        snapshot: Snapshot,
        view: PolicyView,
        leads: Callable[[], bool],
    ) -> tuple[float | None, tuple[str, ...]]:
        others = [plan for plan in plans if plan.spec.policy != policy.name and not _ended(plan)]
        left = scoping.moves_left(policy, view.plans, self._clock())
        scene = scoping.without_planned(snapshot, others)
        nodes = scoping.free_nodes(view.scope, others)
        memory = self._memory.get(policy.metadata.uid or "", Memory())
        mark = fingerprint(policy, scene, left, nodes)
        facts = Considered(scene, tuple(plans), memory, mark, ripens_at(policy, scene, nodes))
        seen = trigger(policy, facts, self._clock())
        self.waiting[policy.name] = seen.pending
        view = structs.replace(view, trigger=seen, fruitless=bool(memory.fruitless))
        asleep = policy.spec.paused or not view.scope.nodes
        packing, trace = None, ""
        if seen.due and view.active is None and not asleep and leads():
            trace = trace_id(policy.metadata.uid or "", mark, self._clock())
            steering = steering_of(policy, await self._pulses.alive(), taints=not self._namespaces)
            options = scoping.options(policy, left, nodes, binds=steering is PlanSteering.BIND)
            question = _Question(policy, scene, tuple(others), options, steering, trace)
            with traced(trace):
                decision = await self._decide(question, view, memory, mark, leads)
            if decision is None:
                return SYNC_POLL_SECONDS, ()
            view, packing = decision.view, decision.packing
        if not seen.pending:
            self._numbers.rests(policy.name)
        calm = Calm(scene, nodes, view.plans, view.active, seen.pending, left, mark)
        view = await self._consolidate(policy, calm, view, others, leads)
        await self._write(policy, view, leads)
        if packing is not None and leads():
            await self._tell(policy, packing, trace)
        for plan in view.outdated:  # they are counted by now
            if leads():
                await delete_plan(self._api, plan)
        looks = (view.trigger.look_again_seconds, view.consolidation.look_again_seconds)
        again = (
            None if view.active is not None or asleep else min((one for one in looks if one is not None), default=None)
        )
        return again, () if view.active is None else (view.active.name,)

    async def _decide(
        self, question: _Question, view: PolicyView, memory: Memory, mark: str, leads: Callable[[], bool]
    ) -> _Decision | None:
        """Pack, and write the plan if there is one; None when the answer came too late."""
        policy, seen = question.policy, view.trigger
        logger.info("policy %s: packing, %d pods ask for it", policy.name, len(seen.pods))
        answer = await self._pack(question)
        created = None
        if answer.packing is not None and answer.packing.changes_anything:
            words = await self._overtaken(policy, leads)
            if words is not None:
                logger.info("policy %s: the answer is dropped: %s", policy.name, words)
                return None
            try:
                created = await self._create(question, answer.packing, answer.scene, leads)
            except ApiError as error:  # a webhook may refuse it, or take too long: people shall read that
                await self._write(policy, structs.replace(view, refused=str(error)), leads)
                raise
            new = [pod for pod in seen.pods if pod.uid not in memory.considered]
            self._numbers.planned(new, answer.packing, self._clock())
            view = structs.replace(view, active=created, plans=(*view.plans, created))
        found = created is not None
        if answer.packing is not None or answer.error:
            # a packer that failed says nothing about the cluster: only the growing pause holds it back
            known = "" if answer.error else mark
            memory = remembered(memory, seen, known, self._clock(), found=found)
            self._memory[policy.metadata.uid or ""] = memory
        seen = structs.replace(seen, look_again_seconds=SYNC_POLL_SECONDS if not found else None)
        view = structs.replace(view, trigger=seen, error=answer.error, fruitless=bool(memory.fruitless))
        return _Decision(view, answer.packing)

    async def _consolidate(
        self,
        policy: PackingPolicy,
        calm: Calm,
        view: PolicyView,
        others: Sequence[PackingPlan],
        leads: Callable[[], bool],
    ) -> PolicyView:
        """Write a plan that empties nodes, if it is quiet and there are some."""
        calm = structs.replace(calm, looked=self._consolidator.looked(policy))
        intent = consolidation(policy, calm, self._clock())
        if not intent.due or not calm.nodes or not leads():
            return structs.replace(view, consolidation=intent)
        steering = steering_of(policy, await self._pulses.alive(), taints=not self._namespaces)
        options = scoping.options(policy, intent.moves, calm.nodes, binds=steering is PlanSteering.BIND)
        trace = trace_id(policy.metadata.uid or "", calm.fingerprint, self._clock())
        with traced(trace):
            found = await self._consolidator.search(policy, calm.snapshot, options, calm.fingerprint)
            if found is not None and await self._overtaken(policy, leads) is None:
                question = _Question(policy, calm.snapshot, tuple(others), options, steering, trace, found.nodes)
                try:
                    created = await self._create(question, found.packing, calm.snapshot, leads)
                    view = structs.replace(view, active=created, plans=(*view.plans, created))
                except NotLeading:
                    raise  # nobody refused it
                except ApiError as error:
                    self._consolidator.refused(policy, str(error))
        calm = structs.replace(calm, active=view.active, looked=self._consolidator.looked(policy))
        return structs.replace(view, consolidation=after_search(consolidation(policy, calm, self._clock())))

    async def _tell(self, policy: PackingPolicy, packing: Packing, trace: str) -> None:
        """Say on pods why they stay pending, when that is new."""
        now, before = self._clock(), self._told.get(policy.name, {})
        events = left_pending(packing.unplaced, before, policy.name, now)
        await announce(self._api, Subject.of_policy(policy, trace), events, identity=self._identity, now=now)
        reasons = {one.pod.uid: one.reason for one in packing.unplaced}
        kept = {uid: reason for uid, reason in before.items() if uid in reasons}
        self._told[policy.name] = kept | {event.pod.uid: reasons[event.pod.uid] for event in events}

    async def _write(self, policy: PackingPolicy, view: PolicyView, leads: Callable[[], bool]) -> None:
        now = self._clock()
        await write_policy_status(self._api, policy, lambda fresh: policy_status(fresh, view, now), leads=leads)

    async def _pack(self, question: _Question) -> _Answer:
        """A packing that still fits the cluster when it is ready."""
        policy, scene = question.policy, question.scene
        budget = Budget(
            seconds=policy.spec.budget.time.seconds, certify_seconds=policy.spec.budget.certify_within.seconds
        )
        for _ in range(PACKINGS_PER_PASS):
            try:
                packing = await self._solver.solve(scene, question.options, budget, self._seed)
            except SolverError as error:
                self._numbers.failed(error)
                logger.warning("policy %s: %s", policy.name, error)
                return _Answer(scene, error=str(error))
            self._numbers.packed(policy.name, packing)
            if packing.faults:
                logger.error("policy %s: the checks refused an answer: %s", policy.name, "; ".join(packing.faults[:3]))
            now_pods = {pod.uid: pod for pod in self._store.pods.values()}
            stale = stale_for(packing, now_pods)
            if stale is None:
                return _Answer(scene, packing)
            logger.info("policy %s: the answer is stale, packing again: %s", policy.name, stale)
            scene = scoping.without_planned(self._store.snapshot(self._clock()), question.others)
        return _Answer(scene)

    async def _overtaken(self, policy: PackingPolicy, leads: Callable[[], bool]) -> str | None:
        """Why a plan must not be written any more: a packing takes time, and people change their mind meanwhile."""
        try:
            fresh = await get_policy(self._api, policy.name)
        except InvalidObjectError as error:
            return str(error)
        before = policy.metadata
        if not leads():
            return "the lease was lost meanwhile"
        if fresh is None or fresh.metadata.uid != before.uid:
            return "the policy was deleted meanwhile"
        spec = scoping.within(fresh, self._namespaces).spec
        if fresh.metadata.generation != before.generation or spec != policy.spec:
            return "the policy was changed meanwhile"
        return None

    async def _create(
        self, question: _Question, packing: Packing, scene: Snapshot, leads: Callable[[], bool]
    ) -> PackingPlan:
        policy, trace = question.policy, question.trace
        suffix = "".join(self._generator.choices(string.ascii_lowercase + string.digits, k=4))
        document = plan_document(
            packing,
            policy,
            scene,
            steering=question.steering,
            suffix=suffix,
            now=self._clock(),
            trace=trace,
            empties=question.empties,
        )
        plan = await create_plan(self._api, document)
        numbers = first_status(packing)

        def with_numbers(fresh: PackingPlan) -> PackingPlanStatus:
            wanted = {name: getattr(numbers, name) for name in numbers.model_fields_set}
            return fresh.status.model_copy(update=wanted)

        logger.info("policy %s: plan %s, %d steps", policy.name, plan.name, len(plan.spec.steps))
        try:
            return await write_status(self._api, plan, with_numbers, epoch=self._lease.epoch, leads=leads)
        except StaleLeader as error:
            logger.warning("%s", error)
            return plan

    def _outdated(self, own: Sequence[PackingPlan]) -> tuple[PackingPlan, ...]:
        """Ended plans beyond the newest, to be deleted; those of the last hour count moves, so they stay."""
        now = self._clock()
        ended = sorted((plan for plan in own if _ended(plan)), key=lambda plan: plan.name, reverse=True)
        return tuple(
            plan
            for plan in ended[ENDED_PLANS_KEPT:]
            if (finished := plan.status.finished_at) is None or now - finished.timestamp() > scoping.HOUR_SECONDS
        )


def _ended(plan: PackingPlan) -> bool:
    return plan.status.phase is not None and plan.status.phase.ended
