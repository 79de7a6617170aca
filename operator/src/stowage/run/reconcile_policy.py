"""One pass over one policy: look at the pods that wait, pack when they call for it, write the plan."""

from __future__ import annotations

import logging
import random
import string
from collections import Counter
from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from stowage.act.plans import StaleLeader, create_plan, delete_plan, list_plans, write_status
from stowage.act.policies import get_policy, list_policies, write_policy_status
from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_plan_status import PackingPlanStatus
from stowage.api.packing_policy import PackingPolicy
from stowage.api.resource import InvalidObjectError
from stowage.decide import scope as scoping
from stowage.decide.document import first_status, plan_document, stale_for, steering_of
from stowage.decide.policy_status import PolicyView, policy_status
from stowage.decide.trigger import Considered, Memory, Trigger, fingerprint, remembered, trigger
from stowage.observe.store import Store
from stowage.run.extender_pulse import Pulses
from stowage.run.freshness import ALL_SEEN, Sight
from stowage.run.lease import Lease, term_of
from stowage.run.metrics import Metrics
from stowage.run.settings import OperatorSettings
from stowage.run.solver import Solver, SolverError, SolverTimeout
from stowage.transport import Api, ApiError
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.packing import Packing

PACKINGS_PER_PASS = 2  # an answer that the cluster overtook is thrown away once, then later
ENDED_PLANS_KEPT = 20
SYNC_POLL_SECONDS = 1.0

logger = logging.getLogger(__name__)


class _Answer(Struct, frozen=True):
    """What the solver said of `scene`; no packing when it failed, or when the cluster overtook it every time."""

    scene: Snapshot
    packing: Packing | None = None
    error: str = ""


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
        self._metrics = metrics
        self._clock = clock
        self._seed = settings.seed
        self._generator = generator
        self._pulses = pulses
        self._sight = sight
        self._memory: dict[str, Memory] = {}  # by policy UID
        self._pending: dict[str, Counter[str]] = {}  # what the last packing of each policy left, by reason
        self._reasons: set[str] = set()  # that were ever shown
        self.waiting: dict[str, int] = {}  # policies, and how many pods wait in each

    async def reconcile(self, name: str) -> tuple[float | None, tuple[str, ...]]:
        """Look after a policy.

        Returns:
            After how many seconds to look again, and the plans to look at now.
        """
        leads = term_of(self._lease)
        policies = await list_policies(self._api)
        alive = {one.metadata.uid for one in policies}
        self._memory = {uid: memory for uid, memory in self._memory.items() if uid in alive}
        plans = await list_plans(self._api)
        own = [plan for plan in plans if plan.spec.policy == name]
        policy = next((one for one in policies if one.name == name), None)
        if policy is None or policy.metadata.deletion_timestamp is not None:
            self.waiting.pop(name, None)
            self._pending.pop(name, None)
            self._show_pending()
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
        facts = Considered(scene, tuple(plans), memory, mark)
        seen = trigger(policy, facts, self._clock())
        self.waiting[policy.name] = seen.pending
        view = structs.replace(view, trigger=seen, fruitless=bool(memory.fruitless))
        created = None
        asleep = policy.spec.paused or not view.scope.nodes
        if seen.due and view.active is None and not asleep and leads():
            answer = await self._pack(policy, scene, others, scoping.options(policy, left, nodes))
            if answer.packing is not None and answer.packing.changes_anything:
                words = await self._overtaken(policy, leads)
                if words is not None:
                    logger.info("policy %s: the answer is dropped: %s", policy.name, words)
                    return SYNC_POLL_SECONDS, ()
                try:
                    created = await self._create(policy, answer.packing, answer.scene, leads)
                except ApiError as error:  # a webhook may refuse it, or take too long: people shall read that
                    await self._write(policy, structs.replace(view, refused=str(error)), leads)
                    raise
                view = structs.replace(view, active=created, plans=(*view.plans, created))
            found = created is not None
            if answer.packing is not None or answer.error:
                # a packer that failed says nothing about the cluster: only the growing pause holds it back
                known = "" if answer.error else mark
                memory = remembered(memory, seen, known, self._clock(), found=found)
                self._memory[policy.metadata.uid or ""] = memory
            view = structs.replace(view, error=answer.error, fruitless=bool(memory.fruitless))
            seen = structs.replace(seen, look_again_seconds=SYNC_POLL_SECONDS if not found else None)
        if not seen.pending:
            self._pending.pop(policy.name, None)
        self._show_pending()
        await self._write(policy, view, leads)
        for plan in view.outdated:  # they are counted by now
            if leads():
                await delete_plan(self._api, plan)
        again = None if view.active is not None or asleep else seen.look_again_seconds
        return again, tuple(plan.name for plan in (created, view.active) if plan is not None)

    async def _write(self, policy: PackingPolicy, view: PolicyView, leads: Callable[[], bool]) -> None:
        now = self._clock()
        await write_policy_status(self._api, policy, lambda fresh: policy_status(fresh, view, now), leads=leads)

    async def _pack(
        self, policy: PackingPolicy, scene: Snapshot, others: Sequence[PackingPlan], options: PackOptions
    ) -> _Answer:
        """A packing that still fits the cluster when it is ready."""
        budget = Budget(
            seconds=policy.spec.budget.time.seconds, certify_seconds=policy.spec.budget.certify_within.seconds
        )
        for _ in range(PACKINGS_PER_PASS):
            try:
                packing = await self._solver.solve(scene, options, budget, self._seed)
            except SolverError as error:
                if isinstance(error, SolverTimeout):
                    self._metrics.solver_timeouts.inc()
                logger.warning("policy %s: %s", policy.name, error)
                return _Answer(scene, error=str(error))
            self._count(policy, packing)
            now_pods = {pod.uid: pod for pod in self._store.pods.values()}
            stale = stale_for(packing, now_pods)
            if stale is None:
                return _Answer(scene, packing)
            logger.info("policy %s: the answer is stale, packing again: %s", policy.name, stale)
            scene = scoping.without_planned(self._store.snapshot(self._clock()), others)
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
        if fresh.metadata.generation != before.generation or fresh.spec != policy.spec:
            return "the policy was changed meanwhile"
        return None

    async def _create(
        self, policy: PackingPolicy, packing: Packing, scene: Snapshot, leads: Callable[[], bool]
    ) -> PackingPlan:
        suffix = "".join(self._generator.choices(string.ascii_lowercase + string.digits, k=4))
        steering = steering_of(policy, await self._pulses.alive())
        document = plan_document(packing, policy, scene, steering=steering, suffix=suffix, now=self._clock())
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

    def _count(self, policy: PackingPolicy, packing: Packing) -> None:
        if packing.faults:
            self._metrics.packer_faults.inc()
            logger.error("policy %s: the checks refused an answer: %s", policy.name, "; ".join(packing.faults[:3]))
        self._metrics.solve_seconds.labels("total").observe(packing.seconds)
        for stage, seconds in packing.stages.items():
            self._metrics.solve_seconds.labels(stage).observe(seconds)
        self._pending[policy.name] = Counter(entry.reason.value for entry in packing.unplaced)

    def _show_pending(self) -> None:
        """Pods that the last packings left, over all policies; a reason that is gone stays, at nought."""
        total: Counter[str] = sum(self._pending.values(), Counter())
        self._reasons.update(total)
        for reason in self._reasons:
            self._metrics.pending_pods.labels(reason).set(total[reason])


def _ended(plan: PackingPlan) -> bool:
    return plan.status.phase is not None and plan.status.phase.ended
