"""The controller: every cause only rings a key, and one `reconcile` answers for all of them.

Keys are `("policy", name)`, `("plan", name)`, `("training", "namespace/name")`, `("serving", "namespace/name")`,
`("profile", name)` and `("cluster",)`, which stands for all of them.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Final

from stowage.act.listing import keys_in
from stowage.act.plans import list_plans, plan_names
from stowage.act.policies import list_policies
from stowage.act.taints import release
from stowage.api.names import SCHEDULER_NAME
from stowage.decide.reservation import holder_of, keeps_nodes, leftovers
from stowage.observe.store import Store
from stowage.run.extender_pulse import Pulses
from stowage.run.freshness import Sight
from stowage.run.lease import Lease, term_of
from stowage.run.metrics import Metrics
from stowage.run.queries import Queries
from stowage.run.queue import Key, WorkQueue
from stowage.run.reconcile_plan import PlanReconciler
from stowage.run.reconcile_policy import PolicyReconciler
from stowage.run.reconcile_serving import ServingReconciler
from stowage.run.reconcile_training import TrainingReconciler
from stowage.run.serving_signals import ServingSignals
from stowage.run.settings import OperatorSettings
from stowage.run.solver import Solver
from stowage.transport import Api, NotLeading, paths
from stowage_scheduler.kube.ledger import POD_GROUP_KINDS

CLUSTER: Final[Key] = ("cluster",)
SYNC_POLL_SECONDS: Final = 1.0
LOOK_AT_ALL_SECONDS: Final = 60.0  # in case a ring was lost: nothing depends on events alone
JOB_LOOKS_A_SECOND: Final = 20.0
PLAN_DELAY_SECONDS: Final = 0.1  # one pass for the many events of one change
POLICY_DELAY_SECONDS: Final = 0.5
PROFILE_DELAY_SECONDS: Final = 5.0
"""Many services may begin to name a profile at once."""


logger = logging.getLogger(__name__)


def pause_seconds(jobs: int) -> float:
    """Between two looks, when all jobs or services are looked at in case a ring was lost; half of the time at most."""
    return min(1 / JOB_LOOKS_A_SECOND, LOOK_AT_ALL_SECONDS / 2 / max(1, jobs))


class Controller:
    """Reconciles policies, plans, jobs and services, only while this process leads.

    Args:
        api: the connection, fenced by the lease: what is asked of it when the term is over is not sent.
        store: facts of the cluster.
        solver: the solver workers.
        queue: where keys are rung.
        lease: of the leader.
        metrics: of the process.
        clock: wall clock, seconds since the epoch.
        monotonic: seconds that only go forward.
        settings: of the process.
        sight: what is not seen now: then nothing new is begun.
        queries: the PromQL rules of training jobs.
        signals: what services' engines say of themselves.
    """

    def __init__(
        self,
        *,
        api: Api,
        store: Store,
        solver: Solver,
        queue: WorkQueue,
        lease: Lease,
        metrics: Metrics,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        settings: OperatorSettings,
        sight: Sight,
        queries: Queries,
        signals: ServingSignals,
    ) -> None:
        self._api = api
        self._sight = sight
        self._store = store
        self._queue = queue
        self._lease = lease
        self._may_touch_nodes = not settings.watch_namespaces
        self._pulses = pulses = Pulses(api, namespace=settings.namespace, clock=monotonic)
        self._extenders = 0
        self._plans = PlanReconciler(
            api=api,
            store=store,
            lease=lease,
            metrics=metrics,
            clock=clock,
            settings=settings,
            pulses=pulses,
            sight=sight,
        )
        self._policies = PolicyReconciler(
            api=api,
            store=store,
            solver=solver,
            lease=lease,
            metrics=metrics,
            clock=clock,
            settings=settings,
            generator=random.SystemRandom(),
            pulses=pulses,
            sight=sight,
        )

        self.training = TrainingReconciler(
            api=api,
            store=store,
            lease=lease,
            metrics=metrics,
            clock=clock,
            settings=settings,
            ring=lambda job, seconds: queue.add(("training", job), seconds),
            queries=queries,
            generator=random.Random(),  # noqa: S311 - jitter only
        )

        self.serving = ServingReconciler(
            api=api,
            store=store,
            lease=lease,
            metrics=metrics,
            clock=clock,
            settings=settings,
            ring=lambda service, seconds: queue.add(("serving", service), seconds),
            signals=signals,
            solve=lambda question: solver.mix(question, settings.seed),
            on_profile=lambda name: queue.add(("profile", name), PROFILE_DELAY_SECONDS),
        )

        metrics.extenders.set_function(lambda: float(self._extenders if lease.leading else 0))
        metrics.scheduler_waiting_pods.set_function(self._waiting_for_scheduler)

    async def reconcile(self, key: Key) -> float | None:
        """Bring one key up to date; returns after how many seconds to look again, None: at the next ring."""
        if not self._lease.leading:
            return None  # whoever gains the lease rings everything
        if not self._store.synced and not self._sight.troubles():
            return SYNC_POLL_SECONDS  # a start takes a moment; when it can not end, policies shall say why
        try:
            return await self._reconcile(key)
        except NotLeading as error:
            logger.info("%s: %s", "/".join(key), error)
            return None

    async def _reconcile(self, key: Key) -> float | None:
        match key:
            case ("plan" | "training" | "serving", _) if not self._store.synced:
                return SYNC_POLL_SECONDS  # what is not listed yet would seem to be gone
            case ("plan", name):
                policy = self._plans.under_way.get(name)
                again = await self._plans.reconcile(name)
                if policy is not None and name not in self._plans.under_way:
                    self._queue.add(("policy", policy))  # the next plan may be made
                return again
            case ("training", job):
                return await self.training.reconcile(job)
            case ("serving", service):
                return await self.serving.reconcile(service)
            case ("profile", name):
                await self.serving.reconcile_profile(name)
                return None
            case ("policy", name):
                again, plans = await self._policies.reconcile(name)
                for plan in plans:
                    self._queue.add(("plan", plan))
                return again
            case _:
                return await self._ring_all()

    def on_store_event(self, kind: str, key: str) -> None:
        """Ring what a change of the cluster may concern."""
        self.training.on_store_event(kind, key)
        self.serving.on_store_event(kind, key)
        for plan in self._plans.under_way:
            self._queue.add(("plan", plan), PLAN_DELAY_SECONDS)
        pod = self._store.pods.get(key) if kind == "Pod" else None
        asks = pod is not None and pod.node is None and (pod.gated or pod.unschedulable_since is not None)
        asks = asks or kind in POD_GROUP_KINDS  # pods may have waited for it, and count as waiting only now
        for policy, waiting in self._policies.waiting.items():
            if asks or waiting:
                self._queue.add(("policy", policy), POLICY_DELAY_SECONDS)

    async def _ring_all(self) -> float:
        for policy in await list_policies(self._api):
            self._queue.add(("policy", policy.name))
        for name in await plan_names(self._api):
            self._queue.add(("plan", name))
        # jobs that were deleted while nobody led have pods that somebody has to let go, and nothing else that rings
        jobs = sorted({*await keys_in(self._api, paths.TRAINING_JOBS), *self.training.with_pods()})
        for number, job in enumerate(jobs):  # all at once would keep what happens meanwhile waiting
            self._queue.add(("training", job), number * pause_seconds(len(jobs)))
        services = await keys_in(self._api, paths.MODEL_SERVICES)
        for number, service in enumerate(services):
            self._queue.add(("serving", service), number * pause_seconds(len(services)))
        self._extenders = len(await self._pulses.alive())
        if self._store.synced:
            await self._sweep()
        return LOOK_AT_ALL_SECONDS

    def _waiting_for_scheduler(self) -> float:
        """Pods that only the scheduler with the extender can bind."""
        pods = self._store.pods.values()
        waiting = (pod for pod in pods if pod.node is None and pod.scheduler_name == SCHEDULER_NAME)
        return float(sum(not pod.finished and not pod.terminating for pod in waiting))

    async def _sweep(self) -> None:
        """Take away the taints of plans that do not run: what a crash, or a plan deleted under way, left behind."""
        leads = term_of(self._lease)
        nodes = tuple(self._store.nodes.values())  # before the plans: a taint is never older than its plan
        if not any(holder_of(node) for node in nodes):
            return
        running = {plan.metadata.uid or "" for plan in await list_plans(self._api) if keeps_nodes(plan)}
        left = leftovers(nodes, running)
        if left and not self._may_touch_nodes:
            logger.warning(
                "nodes are kept for plans that do not run; `stowage doctor --fix` frees them: %s", sorted(left)
            )
            return
        for node, uid in left.items():
            logger.info("node %s was kept for a plan that does not run: %s", node, uid)
            await release(self._api, node, uid=uid, leads=leads)
