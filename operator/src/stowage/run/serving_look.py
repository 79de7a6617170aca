"""What is known of a role of a served model, as a `View` and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Final

from stowage.api.model_service import ModelService
from stowage.api.model_service_reasons import ServiceReason
from stowage.api.model_service_role import DECODE
from stowage.api.model_service_scaling import Recommender
from stowage.decide.serving.signals_pod import Counting
from stowage.decide.serving.signals_problem import Problem, problem_of, seldom, wanting
from stowage.decide.serving.signals_role import RoleSignals, Rules, Standing
from stowage.decide.serving.view import ReplicaView, View
from stowage.decide.serving.warm_spares import told_spares
from stowage.observe.serving.names import EngineNames, Signal
from stowage.observe.serving.scrapes import OF_COUNTERS

_GAUGES: Final = {"waiting": Signal.WAITING, "running": Signal.RUNNING}


@dataclass(frozen=True, slots=True)
class ServingPod:
    """A pod of a role, as the API server has it.

    Attributes:
        name: of the pod.
        uid: of the pod.
        is_ready: it takes requests.
        is_draining: it takes none any more, and finishes those that it has; or it is a spare, and takes none yet.
        asked_at: when it was made, seconds since 1970.
        ready_at: since when it has been ready, seconds since 1970; None: it is not, or nobody tells.
    """

    name: str
    uid: str
    is_ready: bool
    is_draining: bool
    asked_at: float
    ready_at: float | None = None

    def is_due(self, now: float, seconds: float, *, was_seen: bool) -> bool:
        """Whether it takes requests, was made twice so many seconds ago, and has been seen or answered for as many.

        One that was seen, and was not ready for a moment, may have too much to do to be scraped: it is missed at once.
        """
        since = self.asked_at if self.ready_at is None or was_seen else self.ready_at
        return self.is_ready and not self.is_draining and now - self.asked_at > 2 * seconds and now - since > seconds


@dataclass(frozen=True, slots=True)
class Look:
    """A role, as Prometheus shows it.

    Attributes:
        view: what decisions are made from; without scrapes where nothing can be known.
        requests: by pod, those that wait and run in its newest sample, where none is overdue; draining pods too.
        sampled_at: of each of these samples, the time, seconds since 1970.
        problem: what is wrong with the signals, so that nothing may fall; None: nothing.
        message: which series, pods or endpoint that is; without a problem, what else is missing.
        is_awaited: nothing is known yet, and the first answers are on their way.
    """

    view: View
    requests: Mapping[str, int]
    sampled_at: Mapping[str, float]
    problem: ServiceReason | None
    message: str
    is_awaited: bool = False


@dataclass(frozen=True)
class Question:
    """What is asked of one role.

    Attributes:
        service: of the role.
        role: its name.
        pods: of the role, as the API server has them.
        desired: replicas that are asked for.
        names: of the engine's series.
        kv_tokens: that a replica's KV cache holds where its engine does not tell; 0: not known.
        now: seconds since 1970.
    """

    service: ModelService
    role: str
    pods: Sequence[ServingPod]
    desired: int
    names: EngineNames
    kv_tokens: int
    now: float

    @property
    def namespace(self) -> str:
        """Of the service, and of all series that are asked for."""
        return self.service.metadata.namespace or ""

    @property
    def port(self) -> int:
        """Where the engine answers."""
        return self.service.spec.engine.answers_at

    @cached_property
    def standing(self) -> Standing:
        """The pods by what they do."""
        pods = self.pods
        return Standing(
            ready=frozenset(one.name for one in pods if one.is_ready and not one.is_draining),
            draining=frozenset(one.name for one in pods if one.is_draining),
            starting=frozenset(one.name for one in pods if not one.is_ready and not one.is_draining),
            desired=self.desired,
        )

    @cached_property
    def rules(self) -> Rules:
        """How samples are taken."""
        parts = self.names.parts
        arrivals = Signal.ARRIVED if Signal.ARRIVED in parts else Signal.COMPLETED
        wanted = (arrivals, Signal.PROMPT_TOKENS, Signal.GENERATED_TOKENS)
        counting = Counting(
            prompts_at_end=self.names.prompts_at_end,
            expected=frozenset(OF_COUNTERS[one] for one in wanted if one in parts),
        )
        return Rules(counting, self.service.spec.metrics.stale_after.seconds, float(self.kv_tokens))

    @property
    def counts_requests(self) -> bool:
        """Whether any series says how many requests came or ended: without, nothing can be decided."""
        return bool({Signal.ARRIVED, Signal.COMPLETED} & self.names.parts.keys())


def look_of(signals: RoleSignals, question: Question, cold_start_seconds: float, failure: Problem | None) -> Look:
    """A role, from what is known of it.

    Args:
        signals: what that is.
        question: what was asked.
        cold_start_seconds: what a new replica is expected to take until it is ready.
        failure: why there is no answer; None: there is one.
    """
    rules, now = question.rules, question.now
    problem = failure or _problem(signals, question)
    sizes = [rules.kv_of(one.newest)[1] for one in signals.pods.values()]
    usual = median(known_sizes) if (known_sizes := [one for one in sizes if one]) else rules.kv_tokens
    replicas = tuple(_replica(one, signals, rules, usual, now) for one in question.pods if not one.is_draining)
    scrapes = signals.scrapes if question.counts_requests else ()
    spares = told_spares(question.service, question.role)
    view = View(now, question.desired, replicas, scrapes, cold_start_seconds, spares)
    current = {
        one.name: count.newest
        for one in question.pods
        if (count := signals.pods.get(one.name)) is not None and rules.is_current(count, now)
    }
    return Look(
        view=view,
        requests={pod: round(newest.requests or 0.0) for pod, newest in current.items()},
        sampled_at={pod: newest.at for pod, newest in current.items()},
        problem=problem[0] if problem is not None else None,
        message=problem[1] if problem is not None else _wanting(signals, question),
    )


def _wanting(signals: RoleSignals, question: Question) -> str:
    """What targets and recommenders would use and the engine does not tell; nothing falls or rises for it."""
    spec, names = question.service.spec, question.names
    wanted: dict[str, Signal] = {}
    if spec.slo is not None and spec.slo.time_to_first_token is not None and question.role != DECODE:
        wanted["ttft_counts"] = Signal.TTFT
    if Recommender.SATURATION in spec.scaling.recommenders:
        wanted["kv_share"] = Signal.KV_SHARE
    words = {name: names.words(signal) for name, signal in wanted.items() if signal in names.parts}
    found = wanting(signals, question.standing.ready, words.keys(), words)
    return "; ".join(one for one in (found, seldom(signals, question.standing.ready)) if one)


def _replica(pod: ServingPod, signals: RoleSignals, rules: Rules, usual: float, now: float) -> ReplicaView:
    count = signals.pods.get(pod.name)
    age_seconds = max(0.0, now - pod.asked_at)
    if count is None:
        ready_seconds = None if pod.ready_at is None else max(0.0, now - pod.ready_at)
        return ReplicaView(pod.name, pod.is_ready, age_seconds, 0, 0, 0, round(usual), ready_seconds)
    newest = count.newest
    used, capacity = rules.kv_of(newest)
    return ReplicaView(
        name=pod.name,
        is_ready=pod.is_ready,
        age_seconds=age_seconds,
        waiting=round(newest.waiting or 0.0),
        running=round(newest.running or 0.0),
        kv_tokens_in_use=round(used),
        kv_tokens_capacity=round(capacity or usual),
    )


def _problem(signals: RoleSignals, question: Question) -> Problem | None:
    names, standing, stale = question.names, question.standing, question.rules.stale_after_seconds
    if not question.counts_requests:
        words = "engine.metrics names neither requestsArrived nor requestsCompleted, so no requests can be counted"
        return ServiceReason.SIGNALS_MISSING, words
    words_of = {name: names.words(signal) for name, signal in _GAUGES.items()}
    words_of |= {field: names.words(signal) for signal, field in OF_COUNTERS.items()}
    due = [one.name for one in question.pods if one.is_due(question.now, stale, was_seen=one.name in signals.pods)]
    found = problem_of(signals, due, question.rules, words_of, question.now)
    if found is not None or standing.is_empty:
        return found
    scrapes = signals.scrapes
    if scrapes and question.now - scrapes[-1].at <= stale:
        return None
    if not standing.ready:
        return ServiceReason.SIGNALS_MISSING, "no replica is ready, so none says how it is"
    return ServiceReason.SIGNALS_MISSING, "the replicas that are ready have not been scraped yet"
