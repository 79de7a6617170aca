"""The extender process: kube-scheduler's questions on one port, pods and plans from the API server.

It holds nothing that the API server does not: after a start it steers again as soon as its lists are complete. Until
then, and whenever it loses sight of the cluster, it admits every pod everywhere.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web
from pydantic import Field

from stowage import __version__
from stowage.api.durations import instant
from stowage.api.fields import ResourceName
from stowage.api.names import API_VERSION, EXTENDER_MANAGER
from stowage.api.packing_plan_status import ExtenderStatus
from stowage.api.resource import part_to_document
from stowage.observe.reflector import Reflector
from stowage.run import health, process
from stowage.run.extender_feed import Feed, read_pod
from stowage.run.extender_plans import read_plan
from stowage.run.extender_pulse import Pulse
from stowage.run.freshness import Freshness, stuck
from stowage.run.metric import Process
from stowage.run.metrics import Metrics
from stowage.run.queue import Key, WorkQueue
from stowage.run.settings import Port, ProcessSettings
from stowage.transport import Api, paths
from stowage_scheduler.extender import Outcome, make_app
from stowage_scheduler.reservations import LEASE_SECONDS, Reservations

UNFINISHED: Final = "status.phase!=Succeeded,status.phase!=Failed"  # what has ended holds no room
UNTIL_FRESH_SECONDS: Final = 0.25
MANAGER_LENGTH: Final = 128  # the API server takes no longer field manager

monotonic: Final = time.monotonic  # noqa: TID251 - the edge of the process: here its clocks are chosen
wall_clock: Final = time.time  # noqa: TID251

logger = logging.getLogger(__name__)


class ExtenderSettings(ProcessSettings):
    """Settings of `stowage extender`."""

    host: str = Field(default="127.0.0.1", description="address where kube-scheduler asks; it is not authenticated")
    port: Port = 8900
    metrics_port: Port = 8901
    holder: ResourceName = Field(
        default_factory=socket.gethostname,
        validate_default=True,
        description="name in the status of plans: the host name of the kube-scheduler beside it",
    )
    lease_seconds: float = Field(
        default=LEASE_SECONDS, gt=0, le=3600, description="a slot stays promised for so long to a pod not seen bound"
    )


class Extender:
    """The parts of one extender process.

    Args:
        api: the connection.
        settings: of the process.
        metrics: of the process.
    """

    def __init__(self, api: Api, settings: ExtenderSettings, metrics: Metrics) -> None:
        generator = random.Random()  # noqa: S311 - jitter only
        self._api = api
        self._settings = settings
        self._metrics = metrics
        self._acknowledged: dict[str, str] = {}  # UIDs of plans, by name
        api.observer = metrics.api_request
        api.silence_seconds = settings.watch_silence_seconds
        self.table = Reservations(monotonic, settings.lease_seconds)
        self.feed = Feed(self.table, on_active=lambda name: self.queue.add(("plan", name)), now=wall_clock)
        self.queue = WorkQueue(workers=1, generator=generator, metrics=metrics)
        self.pods = Reflector(
            api,
            paths.PODS,
            decode=read_pod,
            on_event=self.feed.on_pod,
            clock=monotonic,
            generator=generator,
            query={"fieldSelector": UNFINISHED},
        )
        self.plans = Reflector(
            api,
            paths.PACKING_PLANS,
            decode=read_plan,
            on_event=self.feed.on_plan,
            clock=monotonic,
            generator=generator,
        )
        self.reflectors: Mapping[str, Reflector[Any]] = {"Pod": self.pods, "PackingPlan": self.plans}
        self.fresh = Freshness(self.reflectors, monotonic)
        self.pulse = Pulse(api, namespace=settings.namespace, holder=settings.holder, sees=self.fresh, now=wall_clock)
        self._show()

    def app(self) -> web.Application:
        """What kube-scheduler talks to; health and metrics are there too."""
        return make_app(
            lambda: self.table,
            fresh=self.fresh,
            clock=monotonic,
            answered=self._answered,
            routes=self.health_routes(),
        )

    def health_routes(self) -> list[web.RouteDef]:
        """/metrics, /healthz and /readyz."""
        return health.routes(self._metrics.registry, live=self.live, ready=self.fresh.problems)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow pods and plans until `stop` is set.

        Raises:
            ExceptionGroup: of whatever ended by itself.
        """
        parts = {f"reflector {kind}": reflector.run() for kind, reflector in self.reflectors.items()}
        parts["pulse"] = self.pulse.run()
        parts |= {"acknowledging": self.queue.run(self._acknowledge), "watchfulness": self.fresh.keep_looking()}
        await process.run_parts(parts, stop)

    def live(self) -> list[str]:
        """Why the process should be started again: a part of it hangs. A server that is away is no reason."""
        return stuck(self.reflectors, self._settings.watch_age_limit_seconds)

    async def _acknowledge(self, key: Key) -> float | None:
        """Tell the operator that a plan's slots are kept; it evicts nobody before that."""
        name = key[1]
        plan = self.feed.plan(name)
        if plan is None or not plan.active:
            return None
        uid, holder = plan.slots.uid, self._settings.holder
        if self._acknowledged.get(name) == uid or holder in plan.observed_by:
            return None
        if not self.fresh():
            return UNTIL_FRESH_SECONDS
        seen = ExtenderStatus(holder=holder, observed_plan=uid, at=instant(wall_clock()))
        document = {
            "apiVersion": API_VERSION,
            "kind": "PackingPlan",
            "metadata": {"name": name, "uid": uid},  # the UID keeps it off a later plan of the same name
            "status": {"extenders": [part_to_document(seen)]},
        }
        # one manager per holder: applied by one manager, the entry of a second extender would replace the first
        manager = f"{EXTENDER_MANAGER}-{holder}"[:MANAGER_LENGTH]
        await self._api.apply(paths.packing_plan_status(name), document, field_manager=manager)
        known = {other: seen for other, seen in self._acknowledged.items() if self.feed.plan(other) is not None}
        self._acknowledged = {**known, name: uid}
        logger.info("plan %s is acknowledged as %s", name, holder, extra={"plan": name})
        return None

    def _answered(self, verb: str, outcome: Outcome, seconds: float) -> None:
        self._metrics.extender_answers.labels(verb, outcome.value).inc()
        self._metrics.extender_seconds.labels(verb).observe(seconds)

    def _show(self) -> None:
        """Let gauges that follow state read it when they are scraped."""
        metrics = self._metrics
        metrics.extender_leases.set_function(lambda: float(len(self.table.leases())))
        metrics.extender_open_slots.set_function(lambda: float(self.table.open_slots))
        metrics.extender_fresh.set_function(lambda: float(self.fresh()))
        for kind, reflector in self.reflectors.items():
            metrics.show_reflector(kind, reflector, monotonic)


async def run(settings: ExtenderSettings) -> None:
    """Run an extender until SIGTERM or SIGINT.

    Raises:
        CredentialsError: there is no way to the cluster.
        OSError: a port is taken.
        ExceptionGroup: a part ended by itself.
    """
    stop = process.stop_on_signals()
    metrics = Metrics(process=Process.EXTENDER)
    api = await Api.connect(
        kubeconfig=settings.kubeconfig, context=settings.context, user_agent=f"stowage-extender/{__version__}"
    )
    async with api:
        extender = Extender(api, settings, metrics)
        probes = web.Application()
        probes.add_routes(extender.health_routes())
        async with (
            health.serve(extender.app(), settings.host, settings.port) as port,
            health.serve(probes, settings.metrics_host, settings.metrics_port) as probe_port,
        ):
            logger.info(
                "stowage %s for %s; the scheduler asks on %s:%d; metrics and health on %s:%d",
                *(__version__, api.server, settings.host, port, settings.metrics_host, probe_port),
            )
            await extender.run(stop)
    logger.info("stopped")


def main(settings: ExtenderSettings) -> int:
    """Run the extender; returns the exit code."""
    return process.main(run(settings), settings)
