"""The instruments of a process, made from the catalogue."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from stowage import __version__
from stowage.run import activator_catalogue, catalogue, serving_catalogue, training_catalogue
from stowage.run.metric import Metric, Process

MOST_AT_NOUGHT: Final = 128


class Followed(Protocol):
    """What a reflector shows of itself."""

    last_event_at: float
    disconnected_since: float | None
    lists: int
    repeated: int
    on_failure: Callable[[str], None]


class StateCounter(Collector):
    """A counter that a part of the process keeps itself, read when it is scraped.

    Args:
        metric: its entry in the catalogue.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._sources: dict[tuple[str, ...], Callable[[], float]] = {}

    def set_function(self, source: Callable[[], float], *labels: str) -> None:
        """Read the series of these label values from `source`; it never falls while the process lives."""
        self._sources[labels] = source

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The series as they are now."""
        family = self._family()
        for labels, source in self._sources.items():
            family.add_metric(labels, source())
        yield family

    def describe(self) -> Iterator[CounterMetricFamily]:
        """The name, for the registry."""
        yield self._family()

    def _family(self) -> CounterMetricFamily:
        name = self._metric.name.removesuffix("_total")
        return CounterMetricFamily(name, self._metric.text, labels=self._metric.label_names)


class Metrics:
    """The metrics of one process.

    Args:
        registry: where they are registered; None: a registry of their own.
        process: whose metrics are shown; None: those of all processes.
    """

    def __init__(self, registry: CollectorRegistry | None = None, *, process: Process | None = None) -> None:
        # or each counter has one more series, which the catalogue would have to name
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry or CollectorRegistry()
        self._process = process
        self._shown: set[tuple[str, str]] = set()
        self.packings = self._counter(catalogue.PACKINGS)
        self.solve_seconds = self._histogram(catalogue.SOLVE)
        self.event_to_plan_seconds = self._histogram(catalogue.EVENT_TO_PLAN)
        self.gap_pods = self._gauge(catalogue.GAP)
        self.pending_pods = self._gauge(catalogue.PENDING)
        self.packer_faults = self._counter(catalogue.PACKER_FAULTS)
        self.solver_failures = self._counter(catalogue.SOLVER_FAILURES)
        self.rejected_objects = self._gauge(catalogue.REJECTED)
        self.plans = self._counter(catalogue.PLANS)
        self.plan_seconds = self._histogram(catalogue.PLAN_EXECUTION)
        self.planned_pods = self._gauge(catalogue.PLANNED)
        self.moves = self._counter(catalogue.MOVES)
        self.consolidations = self._counter(catalogue.CONSOLIDATIONS)
        self.emptied_nodes = self._counter(catalogue.EMPTIED)
        self.evictions = self._counter(catalogue.EVICTIONS)
        self.bindings = self._counter(catalogue.BINDINGS)
        self.ungatings = self._counter(catalogue.UNGATINGS)
        self.training_jobs = self._gauge(training_catalogue.JOBS)
        self.training_phase_age_seconds = self._gauge(training_catalogue.PHASE_AGE)
        self.training_ended_jobs = self._counter(training_catalogue.ENDED)
        self.training_recoveries = self._counter(training_catalogue.RECOVERIES)
        self.training_restarts = self._counter(training_catalogue.RESTARTS)
        self.training_detection_seconds = self._histogram(training_catalogue.DETECTION)
        self.training_recovery_seconds = self._histogram(training_catalogue.REPAIR)
        self.training_productive_seconds = self._counter(training_catalogue.PRODUCTIVE)
        self.training_lost_seconds = self._counter(training_catalogue.LOST)
        self.training_goodput_ratio = self._gauge(training_catalogue.GOODPUT)
        self.training_checkpoint_age_seconds = self._gauge(training_catalogue.CHECKPOINT_AGE)
        self.training_spare_pods = self._gauge(training_catalogue.SPARES)
        self.training_straggling_ranks = self._gauge(training_catalogue.STRAGGLING)
        self.training_cordoned_nodes = self._gauge(training_catalogue.CORDONED)
        self.coordinator_links = self._gauge(training_catalogue.LINKS)
        self.coordinator_reconnects = self._kept(training_catalogue.RECONNECTS)
        self.serving_services = self._gauge(serving_catalogue.SERVICES)
        self.serving_roles = self._gauge(serving_catalogue.ROLES)
        self.serving_replicas = self._gauge(serving_catalogue.REPLICAS)
        self.serving_decisions = self._counter(serving_catalogue.DECISIONS)
        self.serving_signal_age_seconds = self._gauge(serving_catalogue.SIGNAL_AGE)
        self.serving_cached_nodes = self._gauge(serving_catalogue.CACHED_NODES)
        self.serving_attainment_ratio = self._gauge(serving_catalogue.ATTAINMENT)
        self.serving_cold_start_seconds = self._gauge(serving_catalogue.COLD_START)
        self.serving_drain_seconds = self._histogram(serving_catalogue.DRAIN)
        self.serving_held_requests = self._gauge(serving_catalogue.HELD)
        self.activator_requests = self._counter(activator_catalogue.REQUESTS)
        self.activator_waiting_requests = self._gauge(activator_catalogue.WAITING)
        self.activator_running_requests = self._gauge(activator_catalogue.RUNNING)
        self.activator_wait_seconds = self._histogram(activator_catalogue.WAIT)
        self.queue_keys = self._gauge(catalogue.QUEUE_DEPTH)
        self.failing_keys = self._gauge(catalogue.FAILING_KEYS)
        self.reconcile_seconds = self._histogram(catalogue.RECONCILE)
        self.leader = self._gauge(catalogue.LEADER)
        self.epoch = self._gauge(catalogue.EPOCH)
        self.query_seconds = self._histogram(catalogue.QUERY)
        self.silent_promql_rules = self._gauge(catalogue.SILENT_RULES)
        self.clock_offset_seconds = self._gauge(catalogue.CLOCK_OFFSET)
        self.watch_age_seconds = self._gauge(catalogue.WATCH_AGE)
        self.watch_connected = self._gauge(catalogue.WATCH_CONNECTED)
        self.watch_failures = self._counter(catalogue.WATCH_FAILURES)
        self.lists = self._kept(catalogue.WATCH_LISTS)
        self.watch_repeated_events = self._kept(catalogue.WATCH_REPEATED)
        self.degraded = self._gauge(catalogue.DEGRADED)
        self.doorbell_starts = self._kept(catalogue.DOORBELL_STARTS)
        self.unheard_changes = self._kept(catalogue.UNHEARD)
        self.api_requests = self._counter(catalogue.API_REQUESTS)
        self.api_request_seconds = self._histogram(catalogue.API_SECONDS)
        self.extenders = self._gauge(catalogue.EXTENDERS)
        self.scheduler_waiting_pods = self._gauge(catalogue.SCHEDULER_WAITING)
        self.extender_seconds = self._histogram(catalogue.EXTENDER_SECONDS)
        self.extender_answers = self._counter(catalogue.EXTENDER_ANSWERS)
        self.extender_leases = self._gauge(catalogue.EXTENDER_LEASES)
        self.extender_open_slots = self._gauge(catalogue.EXTENDER_OPEN_SLOTS)
        self.extender_fresh = self._gauge(catalogue.EXTENDER_FRESH)
        self.webhook_answers = self._counter(catalogue.WEBHOOK_ANSWERS)
        self.webhook_seconds = self._histogram(catalogue.WEBHOOK_SECONDS)
        self.webhook_certificate_expiry = self._gauge(catalogue.WEBHOOK_EXPIRY)
        build = self._gauge(catalogue.BUILD)
        if process is not None:
            build.labels(__version__, process.value, platform.python_version()).set(1)
            ProcessCollector(registry=self.registry)

    def queue_depth(self, keys: int) -> None:
        """Set the number of waiting keys."""
        self.queue_keys.set(keys)

    def reconciled(self, kind: str, outcome: str, seconds: float) -> None:
        """Record one reconciliation."""
        self.reconcile_seconds.labels(kind, outcome).observe(seconds)

    def queue_failing(self, keys: int) -> None:
        """Set the number of keys in back-off."""
        self.failing_keys.set(keys)

    def api_request(self, method: str, status: int, seconds: float) -> None:
        """Record one request to the API server."""
        self.api_requests.labels(method, str(status)).inc()
        if method != "WATCH":
            self.api_request_seconds.labels(method).observe(seconds)

    def asked(self, endpoint: str, outcome: str, seconds: float) -> None:
        """Record one query to Prometheus."""
        self.query_seconds.labels(endpoint, outcome).observe(seconds)

    def webhook_answered(self, kind: str, outcome: str, seconds: float) -> None:
        """Record one review of an object."""
        self.webhook_answers.labels(kind, outcome).inc()
        self.webhook_seconds.labels(kind).observe(seconds)

    def show_reflector(self, kind: str, reflector: Followed, clock: Callable[[], float]) -> None:
        """Let the metrics of one collection read its reflector when they are scraped."""
        self.watch_age_seconds.labels(kind).set_function(lambda: clock() - reflector.last_event_at)
        self.lists.set_function(lambda: float(reflector.lists), kind)
        self.watch_connected.labels(kind).set_function(lambda: float(reflector.disconnected_since is None))
        self.watch_repeated_events.set_function(lambda: float(reflector.repeated), kind)
        reflector.on_failure = lambda reason: self.watch_failures.labels(kind, reason).inc()

    def show_troubles(self, reasons: Mapping[str, str]) -> None:
        """Show what is not followed now, reasons by collection; what was shown before is nought."""
        for labels in self._shown:
            self.degraded.labels(*labels).set(0)
        self._shown |= set(reasons.items())
        for labels in reasons.items():
            self.degraded.labels(*labels).set(1)

    def _where(self, metric: Metric) -> CollectorRegistry | None:
        """The registry, if this process shows the metric; code that several processes share may set the others too."""
        return self.registry if self._process is None or self._process in metric.processes else None

    def _counter(self, metric: Metric) -> Counter:
        counter = Counter(metric.name, metric.text, metric.label_names, registry=self._where(metric))
        for values in _known(metric):  # `increase` sees the first one only if the series was at nought before
            counter.labels(*values)
        return counter

    def _gauge(self, metric: Metric) -> Gauge:
        return Gauge(metric.name, metric.text, metric.label_names, registry=self._where(metric))

    def _histogram(self, metric: Metric) -> Histogram:
        names, where = metric.label_names, self._where(metric)
        return Histogram(metric.name, metric.text, names, registry=where, buckets=metric.buckets)

    def _kept(self, metric: Metric) -> StateCounter:
        counter = StateCounter(metric)
        where = self._where(metric)
        if where is not None:
            where.register(counter)
        return counter


def _known(metric: Metric) -> tuple[tuple[str, ...], ...]:
    """All label values of a metric, if they are known and few."""
    if not metric.labels or not all(label.closed for label in metric.labels):
        return ()
    found = tuple(itertools.product(*(label.values for label in metric.labels)))
    return found if len(found) <= MOST_AT_NOUGHT else ()
