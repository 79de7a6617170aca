"""The operator process: everything wired together, and ended together.

Whatever ends by itself (a reflector, kopf, the lease, the queue) ends the process with a code that is not 0: a process
that lives but is deaf would be worse. The API server holds all state, so starting again is always safe.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Final

from aiohttp import web

from stowage import __version__
from stowage.observe.reflector import Reflector
from stowage.observe.store import Store
from stowage.run import health, process
from stowage.run.clock import SteadyClock, since_boot
from stowage.run.controller import CLUSTER, Controller
from stowage.run.doorbell import Doorbell
from stowage.run.freshness import Sight, stuck
from stowage.run.lease import Lease, Terms
from stowage.run.metric import Process
from stowage.run.metrics import Metrics
from stowage.run.prometheus_settings import read_settings
from stowage.run.queries import Queries
from stowage.run.queue import Key, WorkQueue
from stowage.run.serving_signals import ServingSignals
from stowage.run.settings import OperatorSettings
from stowage.run.solver import Solver
from stowage.run.webhook_server import AdmissionServer, WebhookOptions
from stowage.transport import Api, paths
from stowage_scheduler.kube.facts import Fact

monotonic: Final = time.monotonic  # noqa: TID251 - the edge of the process: here its clocks are chosen
wall_clock: Final = time.time  # noqa: TID251

LOOK_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class Operator:
    """The parts of one operator process.

    Args:
        api: the connection.
        solver: the solver workers.
        settings: of the process.
        metrics: of the process.
        clock: time of day for decisions; None: the wall clock, steadied.
    """

    def __init__(
        self,
        api: Api,
        solver: Solver,
        settings: OperatorSettings,
        metrics: Metrics,
        clock: Callable[[], float] | None = None,
    ) -> None:
        generator = random.Random()  # noqa: S311 - jitter only
        self._steady = SteadyClock(wall_clock, since_boot)
        clock = clock or self._steady
        self._api = api
        self._solver = solver
        self._settings = settings
        self._metrics = metrics
        self._known: set[Key] = set()  # custom resources that exist: rung when a term begins
        api.observer = metrics.api_request
        api.silence_seconds = settings.watch_silence_seconds
        self.queue = WorkQueue(
            workers=settings.queue_workers,
            generator=generator,
            metrics=metrics,
            bounds={"serving": max(1, settings.queue_workers // 2)},  # passes ask Prometheus: plans do not wait for it
        )
        self.store = Store(now=clock)
        self.reflectors = self.store.reflectors(api, clock=monotonic, generator=generator)
        self.lease = Lease(
            api,
            namespace=settings.namespace,
            name=settings.lease_name,
            identity=settings.identity,
            clock=since_boot,
            now=wall_clock,
            generator=generator,
            terms=Terms(settings.lease_seconds, settings.renew_within_seconds, settings.lease_retry_seconds),
            floor=self._highest_epoch,
            on_gained=self._lead,
            on_lost=self._follow,
        )
        self.doorbell = Doorbell(
            api, self._ring, is_own=self._is_own, generator=generator, audit_seconds=settings.audit_seconds
        )
        self.sight = Sight(self.reflectors, monotonic, lambda: self.doorbell.troubles)
        prometheus = read_settings(settings.prometheus_config)
        self.signals = ServingSignals(
            prometheus,
            clock=clock,
            monotonic=monotonic,
            generator=generator,
            on_query=metrics.asked,
            ring=lambda service: self.queue.add(("serving", service)),
        )
        self.queries = Queries(
            prometheus,
            lambda job, seconds: self.queue.add(("training", job), seconds),
            clock=clock,
            monotonic=monotonic,
            generator=generator,
            on_query=metrics.asked,
        )
        self.controller = Controller(
            api=api.fenced(lambda: self.lease.leading),
            store=self.store,
            solver=solver,
            queue=self.queue,
            lease=self.lease,
            metrics=metrics,
            clock=clock,
            monotonic=monotonic,
            settings=settings,
            sight=self.sight,
            queries=self.queries,
            signals=self.signals,
        )
        self.store.subscribe(self.controller.on_store_event)
        self.webhook = self._webhook(generator) if settings.webhook_port is not None else None
        self._show()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set.

        Raises:
            ExceptionGroup: of whatever ended by itself.
        """
        async with asyncio.TaskGroup() as holding:
            campaign = holding.create_task(self.lease.run(), name="lease")
            try:
                await self._work(stop)
            finally:  # nobody acts any more: only now may another process lead
                campaign.cancel()

    async def _work(self, stop: asyncio.Event) -> None:
        parts = {f"reflector of {kind}": reflector.run() for kind, reflector in self.reflectors.items()}
        parts["doorbell"] = self.doorbell.run()
        parts["sight"] = self._look()
        parts["solver workers"] = self._keep_warm()
        parts["queue"] = self._reconcile()
        parts["queries"] = self.queries.run()
        if self.webhook is not None:
            parts["webhook"] = self.webhook.run()
        try:
            await process.run_parts(parts, stop)
        finally:
            await self.controller.serving.close()
            self.signals.close()

    async def _keep_warm(self) -> None:
        """Load the solver workers beside everything else: the execution of plans need not wait for them."""
        await self._solver.warm()
        await asyncio.Event().wait()

    async def _reconcile(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._say_when_synced())
            await self.queue.run(self.controller.reconcile)

    async def _say_when_synced(self) -> None:
        await self.store.wait_synced()
        logger.info("synced: %d nodes, %d pods", len(self.store.nodes), len(self.store.pods))
        self._ring_known()

    async def _look(self) -> None:
        """Show what is not seen, and look at everything again when that changes."""
        shown: dict[str, str] = {}
        while True:
            reasons = {kind: trouble.reason.value for kind, trouble in self.sight.troubles().items()}
            self._metrics.show_troubles(reasons)
            if reasons != shown:
                shown = reasons
                self.queue.add(CLUSTER)
            await asyncio.sleep(LOOK_SECONDS)

    def _ring(self, kind: str, name: str, gone: bool) -> None:  # noqa: FBT001 - the shape of a Ring
        key = (kind, name)
        if kind == "training":
            self.controller.training.changed(name)
        if gone:
            self._known.discard(key)
        else:
            self._known.add(key)
        self.queue.add(key)

    def _is_own(self, kind: str, name: str, version: str) -> bool:
        """Whether a version is what this process wrote, and has acted on already."""
        if kind == "serving":
            return self.controller.serving.is_own(name, version)
        return kind == "training" and self.controller.training.is_own(name, version)

    def _lead(self, epoch: int) -> None:
        """A term began: look at everything, for what a standby saw it did not act on."""
        self._metrics.epoch.set(epoch)
        self._ring_known()

    def _follow(self) -> None:
        """A term ended: whoever leads now talks to the coordinators, and asks for signals."""
        self._metrics.epoch.set(0)
        self.controller.training.stand_by()
        self.controller.serving.stand_by()

    def _ring_known(self) -> None:
        for key in sorted(self._known):
            self.queue.add(key)
        self.queue.add(CLUSTER)

    async def _highest_epoch(self) -> int:
        """The highest epoch written into any plan."""
        plans = (await self._api.get(paths.PACKING_PLANS)).get("items") or []
        return max((int((plan.get("status") or {}).get("epoch") or 0) for plan in plans), default=0)

    def live(self) -> list[str]:
        """Why the process should be started again: a part of it hangs. A server that is away is no reason."""
        return stuck(self.reflectors, self._settings.watch_age_limit_seconds)

    def ready(self) -> list[str]:
        """Why the process is of no use now; a standby is of use."""
        return [*self.sight.problems(), *(self.webhook.problems() if self.webhook is not None else [])]

    def _webhook(self, generator: random.Random) -> AdmissionServer:
        """The admission webhook; every replica serves it."""
        settings, metrics = self._settings, self._metrics
        return AdmissionServer(
            self._api,
            lambda: self.store.snapshot(wall_clock()) if self.store.synced else None,
            WebhookOptions(
                host=settings.webhook_host,
                port=settings.webhook_port or 0,
                name=settings.webhook_name,
                namespace=settings.namespace,
                secret=settings.webhook_secret,
                configuration=settings.webhook_configuration,
                certificates=settings.webhook_certificates,
            ),
            now=self._api.clock.otherwise(wall_clock),  # replicas share a clock, and API servers judge by it
            generator=generator,
            promql_rules=self.queries.rules,
            on_answer=metrics.webhook_answered,
            on_certificate=metrics.webhook_certificate_expiry.set,
        )

    def _show(self) -> None:
        """Let gauges that follow state read it when they are scraped."""
        self._metrics.leader.set_function(lambda: float(self.lease.leading))
        self._metrics.doorbell_starts.set_function(lambda: float(self.doorbell.starts))
        self._metrics.unheard_changes.set_function(lambda: float(self.doorbell.unheard))
        self._metrics.clock_offset_seconds.set_function(self._steady.offset_seconds)
        self._metrics.silent_promql_rules.set_function(self.queries.silent_rules)
        for kind, reflector in self.reflectors.items():
            self._show_collection(kind, reflector)

    def _show_collection(self, kind: str, reflector: Reflector[Fact]) -> None:
        self._metrics.show_reflector(kind, reflector, monotonic)
        self._metrics.rejected_objects.labels(kind).set_function(lambda: float(self.store.rejected_count(kind)))


async def run(settings: OperatorSettings) -> None:
    """Run an operator until SIGTERM or SIGINT.

    Raises:
        CredentialsError: there is no way to the cluster.
        SettingsError: the file of Prometheus servers and rules cannot be used.
        OSError: the port for metrics is taken.
        ExceptionGroup: a part ended by itself.
    """
    stop = process.stop_on_signals()
    metrics = Metrics(process=Process.OPERATOR)
    api = await Api.connect(
        kubeconfig=settings.kubeconfig, context=settings.context, user_agent=f"stowage-operator/{__version__}"
    )
    async with api, Solver(settings.solver_workers) as solver:
        operator = Operator(api, solver, settings, metrics)
        app = web.Application()
        app.add_routes(health.routes(metrics.registry, live=operator.live, ready=operator.ready))
        async with health.serve(app, settings.metrics_host, settings.metrics_port) as port:
            logger.info(
                "stowage %s for %s; metrics and health on %s:%d", __version__, api.server, settings.metrics_host, port
            )
            await operator.run(stop)
    logger.info("stopped")


def main(settings: OperatorSettings) -> int:
    """Run the operator; returns the exit code."""
    return process.main(run(settings), settings)
