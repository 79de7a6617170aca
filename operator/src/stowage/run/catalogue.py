"""The catalogue of metrics: every name, unit and label in one place.

From it come the instruments (`stowage.run.metrics`), docs/metrics.md and the dashboards
(`tools/metrics_reference.py`); alerts and dashboards may speak of nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from stowage.act.answers import Answer
from stowage.api.names import SCHEDULER_NAME
from stowage.api.packing_plan_status import PlanPhase
from stowage.observe.prometheus_session import QueryFailure
from stowage.observe.store import COLLECTIONS
from stowage.observe.trouble import TroubleReason
from stowage.run.activator_catalogue import ACTIVATOR, OF_ACTIVATORS
from stowage.run.metric import OPERATOR, Kind, Label, Metric, Process, Unit
from stowage.run.metric import counter as _counter
from stowage.run.metric import gauge as _gauge
from stowage.run.metric import histogram as _seconds
from stowage.run.serving_catalogue import OF_SERVING
from stowage.run.training_catalogue import OF_TRAINING
from stowage_scheduler.extender import Outcome
from stowage_scheduler.packing import Reason

FAST_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
PLAN_SECONDS: Final = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)

EXTENDER: Final = frozenset({Process.EXTENDER})
BOTH: Final = OPERATOR | EXTENDER
ALL: Final = BOTH | ACTIVATOR


class Packed(StrEnum):
    """What a packing came to."""

    CERTIFIED = "certified"  # no plan places more
    UNCERTIFIED = "uncertified"  # the budget ended before that was known
    FAILED = "failed"


class Searched(StrEnum):
    """What a look for nodes to empty came to."""

    FOUND = "found"
    NOTHING = "nothing"
    OVERTAKEN = "overtaken"  # a pod began to wait, or the cluster changed
    FAILED = "failed"


class SolverFailure(StrEnum):
    """Why a packing failed."""

    OVERRAN = "overran"  # the worker was killed
    DIED = "died"
    RAISED = "raised"


class Reviewed(StrEnum):
    """What the webhook answered."""

    ALLOWED = "Allowed"
    DENIED = "Denied"
    FAILED = "Failed"


def _values(values: Iterable[StrEnum]) -> tuple[str, ...]:
    return tuple(one.value for one in values)


_ENDED: Final = Label("outcome", _values(phase for phase in PlanPhase if phase.ended))
_OPEN_PHASE: Final = Label("phase", _values(phase for phase in PlanPhase if not phase.ended))
_SEARCH_STAGES: Final = (
    "greedy",
    "repair",
    "bound",
    "least",
    "exchange",
    "place",
    "exact",
    "gangs",
    "combine",
    "calm",
    "tail",
)
_STAGE: Final = Label("stage", ("build", *_SEARCH_STAGES, "check", "total"))
_EVICTED: Final = Label(
    "outcome", _values(a for a in Answer if a not in {Answer.BOUND, Answer.UNGATED, Answer.ELSEWHERE})
)
_BOUND: Final = Label(
    "outcome", _values(a for a in Answer if a not in {Answer.EVICTED, Answer.UNGATED, Answer.BLOCKED_BY_BUDGET})
)
_UNGATED: Final = Label(
    "outcome", _values(a for a in Answer if a not in {Answer.EVICTED, Answer.BOUND, Answer.BLOCKED_BY_BUDGET})
)
_REASON: Final = Label("reason", _values(Reason))
_COLLECTED: Final = (*(one.kind for one in COLLECTIONS), "PackingPlan")
_KIND: Final = Label("kind", tuple(one.kind for one in COLLECTIONS))
_COLLECTION: Final = Label("collection", _COLLECTED)
_RESOURCES: Final = ("packingpolicies", "packingplans", "trainingjobs", "modelservices", "performanceprofiles")
_FOLLOWED: Final = Label("collection", (*_COLLECTED, *_RESOURCES))
_TROUBLE: Final = Label("reason", _values(TroubleReason))
_METHOD: Final = Label("method", ("GET", "POST", "PUT", "PATCH", "DELETE", "WATCH"))
_STATUS: Final = Label("status", open_for="the status codes of HTTP, and 0 where no answer came")
_KEY: Final = Label("kind", ("policy", "plan", "training", "serving", "profile", "cluster"))
_WORKED: Final = Label("outcome", ("ok", "error"))
_VERB: Final = Label("verb", ("filter", "preempt"))
_ANSWERED: Final = Label("outcome", _values(Outcome))
_REVIEWED_KIND: Final = Label(
    "kind", ("PackingPolicy", "PackingPlan", "TrainingJob", "ModelService", "PerformanceProfile", "Other")
)


def _of_process(name: str, kind: Kind, unit: Unit, text: str) -> Metric:
    return Metric(f"process_{name}", kind, unit, text, (), ALL, ours=False)


# packing
PACKINGS: Final = _counter(
    "packings", Unit.TIMES, "Packings, by whether no plan places more", Label("outcome", _values(Packed))
)
SOLVE: Final = _seconds("solve", "Time spent packing, by stage; `total` is all of them", _STAGE)
EVENT_TO_PLAN: Final = _seconds(
    "event_to_plan",
    "From when kube-scheduler gave up on a pod to the first plan that places it; the oldest pod of each plan",
    buckets=PLAN_SECONDS,
)
GAP: Final = _gauge(
    "packing_gap_pods", Unit.PODS, "Pods that the last packings may have missed: the bound less the pods placed"
)
PENDING: Final = _gauge("pending_pods", Unit.PODS, "Pods that the last packings left pending, by reason", _REASON)
PACKER_FAULTS: Final = _counter(
    "packer_faults", Unit.TIMES, "Answers of the search that its own checks refused: a mistake in Stowage"
)
SOLVER_FAILURES: Final = _counter(
    "solver_failures", Unit.TIMES, "Packings without an answer", Label("reason", _values(SolverFailure))
)
REJECTED: Final = _gauge("rejected_objects", Unit.OBJECTS, "Objects left out because they make no sense", _KIND)

# plans
PLANS: Final = _counter("plans", Unit.PLANS, "Plans that ended, by outcome (the phase they ended in)", _ENDED)
PLAN_EXECUTION: Final = _seconds(
    "plan_execution", "From the start to the end of a plan, by outcome", _ENDED, buckets=PLAN_SECONDS
)
PLANNED: Final = _gauge(
    "planned_pods", Unit.PODS, "Pending pods that have a place in a plan which has not ended, by its phase", _OPEN_PHASE
)
MOVES: Final = _counter("moves", Unit.PODS, "Moves done: the replacement of an evicted pod is bound as planned")
CONSOLIDATIONS: Final = _counter(
    "consolidations",
    Unit.TIMES,
    "Looks for nodes to empty while nothing waits, by what came of it",
    Label("outcome", _values(Searched)),
)
EMPTIED: Final = _counter("emptied_nodes", Unit.NODES, "Nodes that plans made for it have emptied")
EVICTIONS: Final = _counter("evictions", Unit.REQUESTS, "Answers to evictions", _EVICTED)
BINDINGS: Final = _counter("bindings", Unit.REQUESTS, "Answers to bindings", _BOUND)
UNGATINGS: Final = _counter("ungatings", Unit.REQUESTS, "Answers to letting a gang's pod go", _UNGATED)

# the operator's own work
QUEUE_DEPTH: Final = _gauge(
    "queue_depth", Unit.KEYS, "Keys that wait in the work queue, delayed ones included", processes=BOTH
)
FAILING_KEYS: Final = _gauge(
    "queue_failing_keys", Unit.KEYS, "Keys whose last work failed, and which come back later", processes=BOTH
)
RECONCILE: Final = _seconds("reconcile", "Reconciling one key", _KEY, _WORKED, processes=BOTH)
LEADER: Final = _gauge("leader", Unit.BOOLEAN, "1 while this process holds the lease")
EPOCH: Final = _gauge("leader_epoch", Unit.NUMBER, "Epoch of the lease while this process holds it")
CLOCK_OFFSET: Final = _gauge(
    "clock_offset_seconds",
    Unit.SECONDS,
    "How far the wall clock is ahead of the steady one; not nought after it was set",
)
BUILD: Final = _gauge(
    "build_info",
    Unit.BOOLEAN,
    "1; which version runs, in its labels",
    Label("version", open_for="the versions that run"),
    Label("process", _values(Process)),
    Label("python", open_for="the Python versions that run"),
    processes=ALL,
)

# seeing the cluster
WATCH_AGE: Final = _gauge(
    "watch_age_seconds", Unit.SECONDS, "Since the last event or bookmark of a watch", _COLLECTION, processes=BOTH
)
WATCH_CONNECTED: Final = _gauge(
    "watch_connected", Unit.BOOLEAN, "1 while a watch is open, or was a moment ago", _COLLECTION, processes=BOTH
)
WATCH_FAILURES: Final = _counter(
    "watch_failures", Unit.TIMES, "Failed lists and watches, by what is followed", _COLLECTION, _TROUBLE, processes=BOTH
)
WATCH_LISTS: Final = _counter(
    "watch_lists", Unit.TIMES, "Full lists; each after the first is a lost watch", _COLLECTION, processes=BOTH
)
WATCH_REPEATED: Final = _counter(
    "watch_repeated_events",
    Unit.EVENTS,
    "Events that told nothing new: repeated or overtaken ones",
    _COLLECTION,
    processes=BOTH,
)
DEGRADED: Final = _gauge(
    "degraded", Unit.BOOLEAN, "1 while something is not followed: nothing new is begun", _FOLLOWED, _TROUBLE
)
DOORBELL_STARTS: Final = _counter(
    "doorbell_starts", Unit.TIMES, "How often the watch of the custom resources was started"
)
UNHEARD: Final = _counter(
    "doorbell_unheard_changes", Unit.EVENTS, "Changes of custom resources that only the audit has told"
)
API_REQUESTS: Final = _counter(
    "api_requests", Unit.REQUESTS, "Requests to the API server; status 0: no answer", _METHOD, _STATUS, processes=BOTH
)
API_SECONDS: Final = _seconds(
    "api_request", "Until the API server's whole answer; watches are left out", _METHOD, processes=BOTH
)

# asking Prometheus
QUERY: Final = _seconds(
    "query",
    "Asking Prometheus, by endpoint and outcome; `resting`: it was not asked, for it had failed again and again",
    Label("endpoint", open_for="the names of the endpoints in the settings"),
    Label("outcome", ("ok", *_values(QueryFailure))),
)
SILENT_RULES: Final = _gauge(
    "silent_promql_rules", Unit.NUMBER, "PromQL rules that jobs name and that have had no answer for a minute"
)

# steering by the extender
EXTENDERS: Final = _gauge("extenders", Unit.PROCESSES, "Extenders that live, as the leading operator sees them")
SCHEDULER_WAITING: Final = _gauge(
    "scheduler_waiting_pods", Unit.PODS, f"Pods of the scheduler `{SCHEDULER_NAME}` that are not bound"
)
EXTENDER_SECONDS: Final = _seconds(
    "extender_request", "Answering the scheduler, by verb", _VERB, processes=EXTENDER, buckets=FAST_SECONDS
)
EXTENDER_ANSWERS: Final = _counter(
    "extender_answers",
    Unit.REQUESTS,
    "Answers to the scheduler, by verb and outcome",
    _VERB,
    _ANSWERED,
    processes=EXTENDER,
)
EXTENDER_LEASES: Final = _gauge(
    "extender_slot_leases", Unit.PODS, "Slots leased to pods and not yet bound", processes=EXTENDER
)
EXTENDER_OPEN_SLOTS: Final = _gauge(
    "extender_open_slots", Unit.PODS, "Slots of active plans that wait for a pod", processes=EXTENDER
)
EXTENDER_FRESH: Final = _gauge(
    "extender_fresh",
    Unit.BOOLEAN,
    "1 while pods and plans are followed; 0: every pod is admitted everywhere",
    processes=EXTENDER,
)

# admission
WEBHOOK_ANSWERS: Final = _counter(
    "webhook_answers", Unit.REQUESTS, "Reviews of objects", _REVIEWED_KIND, Label("outcome", _values(Reviewed))
)
WEBHOOK_SECONDS: Final = _seconds("webhook_request", "Reviewing one object", _REVIEWED_KIND, buckets=FAST_SECONDS)
WEBHOOK_EXPIRY: Final = _gauge(
    "webhook_certificate_expiry_timestamp_seconds",
    Unit.UNIX_TIME,
    "When the webhook's certificate ends; 0 without a webhook",
)

# of the process itself, by prometheus_client
OF_PROCESS: Final = (
    _of_process("resident_memory_bytes", Kind.GAUGE, Unit.BYTES, "Resident memory, without the solver's workers"),
    _of_process("virtual_memory_bytes", Kind.GAUGE, Unit.BYTES, "Virtual memory"),
    _of_process("cpu_seconds_total", Kind.COUNTER, Unit.SECONDS, "CPU time, without the solver's workers"),
    _of_process("start_time_seconds", Kind.GAUGE, Unit.UNIX_TIME, "When the process was started"),
    _of_process("open_fds", Kind.GAUGE, Unit.FILES, "Open file descriptors"),
    _of_process("max_fds", Kind.GAUGE, Unit.FILES, "File descriptors that may be open"),
)

CATALOGUE: Final[tuple[Metric, ...]] = (
    *(PACKINGS, SOLVE, EVENT_TO_PLAN, GAP, PENDING, PACKER_FAULTS, SOLVER_FAILURES, REJECTED),
    *(PLANS, PLAN_EXECUTION, PLANNED, MOVES, CONSOLIDATIONS, EMPTIED, EVICTIONS, BINDINGS, UNGATINGS),
    *OF_TRAINING,
    *OF_SERVING,
    *(QUEUE_DEPTH, FAILING_KEYS, RECONCILE, LEADER, EPOCH, CLOCK_OFFSET, BUILD),
    *(WATCH_AGE, WATCH_CONNECTED, WATCH_FAILURES, WATCH_LISTS, WATCH_REPEATED),
    *(DEGRADED, DOORBELL_STARTS, UNHEARD, API_REQUESTS, API_SECONDS),
    *(QUERY, SILENT_RULES),
    *(EXTENDERS, SCHEDULER_WAITING),
    *(EXTENDER_SECONDS, EXTENDER_ANSWERS, EXTENDER_LEASES, EXTENDER_OPEN_SLOTS, EXTENDER_FRESH),
    *(WEBHOOK_ANSWERS, WEBHOOK_SECONDS, WEBHOOK_EXPIRY),
    *OF_ACTIVATORS,
    *OF_PROCESS,
)
"""All metrics, in the order of the reference."""
