"""The catalogue of metrics: every name, unit and label in one place."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

FAST_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
WORK_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The metrics of one process.

    Labels take values from closed sets only (reasons, outcomes, kinds), never names of pods or plans.

    Args:
        registry: where they are registered; None: a registry of their own.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.plans = self._counter("plans", "Plans that ended, by outcome (the phase they ended in)", "outcome")
        self.plan_seconds = self._histogram("plan_execution_seconds", "From approval to the end of a plan", "outcome")
        self.solve_seconds = self._histogram("solve_seconds", "Time spent packing, by stage; `total` is all", "stage")
        self.solver_timeouts = self._counter("solver_timeouts", "Solver workers killed because they overran")
        self.packer_faults = self._counter(
            "packer_faults", "Answers of the search that its own checks refused: a mistake in Stowage"
        )
        self.moves = self._counter("moves", "Moves done: the replacement of an evicted pod is bound as planned")
        self.evictions = self._counter("evictions", "Answers to evictions: done, gone, blocked, failed", "outcome")
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

    def api_request(self, method: str, status: int, seconds: float) -> None:  # noqa: ARG002 - the shape of an observer
        """Record one request to the API server."""
        self.api_requests.labels(method, str(status)).inc()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"stowage_{name}_total", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"stowage_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = WORK_SECONDS) -> Histogram:
        return Histogram(f"stowage_{name}", text, labels, registry=self.registry, buckets=buckets)
