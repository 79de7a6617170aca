"""The catalogue of metrics: every name, unit and label in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

FAST_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
WORK_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Followed(Protocol):
    """What a reflector shows of itself."""

    last_event_at: float
    disconnected_since: float | None
    lists: int
    repeated: int
    on_failure: Callable[[str], None]


class Metrics:
    """The metrics of one process.

    Labels take values from closed sets only (reasons, outcomes, kinds), never names of pods or plans.

    Args:
        registry: where they are registered; None: a registry of their own.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._shown: set[tuple[str, str]] = set()
        self.plans = self._counter("plans", "Plans that ended, by outcome (the phase they ended in)", "outcome")
        self.plan_seconds = self._histogram("plan_execution_seconds", "From approval to the end of a plan", "outcome")
        self.solve_seconds = self._histogram("solve_seconds", "Time spent packing, by stage; `total` is all", "stage")
        self.solver_timeouts = self._counter("solver_timeouts", "Solver workers killed because they overran")
        self.packer_faults = self._counter(
            "packer_faults", "Answers of the search that its own checks refused: a mistake in Stowage"
        )
        self.moves = self._counter("moves", "Moves done: the replacement of an evicted pod is bound as planned")
        self.evictions = self._counter("evictions", "Answers to evictions: done, gone, blocked, failed", "outcome")
        self.bindings = self._counter("bindings", "Answers to bindings: bound, elsewhere, gone, failed", "outcome")
        self.ungatings = self._counter("ungatings", "Answers to letting a gang's pod go: done, gone, failed", "outcome")
        self.pending_pods = self._gauge("pending_pods", "Pods that the last packing left pending", "reason")
        self.rejected_objects = self._gauge("rejected_objects", "Objects left out because they make no sense", "kind")
        self.queue_keys = self._gauge("queue_depth", "Keys that wait in the work queue, delayed ones included")
        self.reconcile_seconds = self._histogram("reconcile_seconds", "Reconciling one key", "kind", "outcome")
        self.watch_age_seconds = self._gauge("watch_age_seconds", "Since the last event or bookmark", "collection")
        self.lists = self._gauge(
            "watch_lists", "Full lists since the start; each after the first is a lost watch", "collection"
        )
        self.api_requests = self._counter(
            "api_requests", "Requests to the API server; status 0: no answer", "method", "status"
        )
        self.watch_failures = self._counter(
            "watch_failures", "Failed lists and watches, by what is followed and reason", "collection", "reason"
        )
        self.watch_connected = self._gauge(
            "watch_connected", "1 while a watch is open, or was a moment ago", "collection"
        )
        self.watch_repeated_events = self._gauge(
            "watch_repeated_events", "Events that told nothing new: repeated or overtaken ones", "collection"
        )
        self.degraded = self._gauge(
            "degraded", "1 while something is not followed: nothing new is begun", "collection", "reason"
        )
        self.doorbell_starts = self._gauge("doorbell_starts", "How often the watch of policies and plans was started")
        self.unheard_changes = self._gauge(
            "doorbell_unheard_changes", "Changes of policies and plans that only the audit has told"
        )
        self.failing_keys = self._gauge("queue_failing_keys", "Keys whose last work failed, and which come back later")
        self.clock_offset_seconds = self._gauge(
            "clock_offset_seconds", "How far the wall clock is ahead of the steady one; not nought after it was set"
        )
        self.api_request_seconds = self._histogram(
            "api_request_seconds", "Until the API server's whole answer; watches are left out", "method"
        )
        self.leader = self._gauge("leader", "1 while this process holds the lease")
        self.epoch = self._gauge("leader_epoch", "Epoch of the lease while this process holds it")
        self.extender_seconds = self._histogram(
            "extender_request_seconds", "Answering the scheduler, by verb", "verb", buckets=FAST_SECONDS
        )
        self.extender_answers = self._counter(
            "extender_answers", "Answers to the scheduler, by verb and outcome", "verb", "outcome"
        )
        self.extender_leases = self._gauge("extender_slot_leases", "Slots leased to pods and not yet bound")
        self.extender_fresh = self._gauge(
            "extender_fresh", "1 while pods and plans are followed; 0: every pod is admitted everywhere"
        )
        self.extender_open_slots = self._gauge("extender_open_slots", "Slots of active plans that wait for a pod")

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

    def show_reflector(self, kind: str, reflector: Followed, clock: Callable[[], float]) -> None:
        """Let the gauges of one collection read its reflector when they are scraped."""
        self.watch_age_seconds.labels(kind).set_function(lambda: clock() - reflector.last_event_at)
        self.lists.labels(kind).set_function(lambda: float(reflector.lists))
        self.watch_connected.labels(kind).set_function(lambda: float(reflector.disconnected_since is None))
        self.watch_repeated_events.labels(kind).set_function(lambda: float(reflector.repeated))
        reflector.on_failure = lambda reason: self.watch_failures.labels(kind, reason).inc()

    def show_troubles(self, reasons: Mapping[str, str]) -> None:
        """Show what is not followed now, reasons by collection; what was shown before is nought."""
        for labels in self._shown:
            self.degraded.labels(*labels).set(0)
        self._shown |= set(reasons.items())
        for labels in reasons.items():
            self.degraded.labels(*labels).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"stowage_{name}_total", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"stowage_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = WORK_SECONDS) -> Histogram:
        return Histogram(f"stowage_{name}", text, labels, registry=self.registry, buckets=buckets)
