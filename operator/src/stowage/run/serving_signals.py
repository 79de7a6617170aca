"""Signals of served models: each role's engines are asked for together, and a `View` is made of what they said.

What is kept here comes back by itself: after a start, or when nobody asked for long, the past is asked for once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from stowage.api.model_service import ModelService
from stowage.api.model_service_engine import Engine
from stowage.api.model_service_reasons import ServiceReason
from stowage.decide.samples import Sample
from stowage.decide.serving.signals_pod import Counting
from stowage.decide.serving.signals_problem import Problem, problem_of
from stowage.decide.serving.signals_role import KEPT_SECONDS, RoleSignals, Rules, Standing, looked, recalled
from stowage.decide.serving.view import ReplicaView, View
from stowage.observe.prometheus import OnQuery, Prometheus
from stowage.observe.prometheus_session import QueryError, QueryFailure
from stowage.observe.serving.names import EngineNames, Signal, names_of
from stowage.observe.serving.queries import MAX_PODS, batches, deployment_of, of_deployments, of_pods, within
from stowage.observe.serving.scrapes import FIELDS, pod_samples
from stowage.run.prometheus_settings import PrometheusSettings

LATE_SECONDS: Final = 60.0
"""Samples that come so late, by remote write, are still asked for."""
LONGEST_WINDOW_SECONDS: Final = 300.0
"""Where the last answer is longer ago, the past is asked for in coarser steps."""
PAST_STEP_SECONDS: Final = 20.0
PAST_SAMPLES: Final = 30_000
"""Of one answer about the past, as expected; the limit is higher."""
MOST_PAST_QUERIES: Final = 8
PAST_TRIES: Final = 3
UNANSWERED_SECONDS: Final = 30.0
"""Without an answer for so long, the endpoint counts as not reachable, though what is known may be fresh."""
_SPARE_SECONDS: Final = 1.5
_ASKED_TOO_MUCH: Final = frozenset({QueryFailure.INVALID, QueryFailure.TOO_LARGE, QueryFailure.UNREADABLE})
_GAUGES: Final = {"waiting": Signal.WAITING, "running": Signal.RUNNING}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServingPod:
    """A pod of a role, as the API server has it.

    Attributes:
        name: of the pod.
        uid: of the pod.
        is_ready: it takes requests.
        is_draining: it takes none any more, and finishes those that it has.
        asked_at: when it was made, seconds since 1970.
    """

    name: str
    uid: str
    is_ready: bool
    is_draining: bool
    asked_at: float


@dataclass(frozen=True, slots=True)
class Look:
    """A role, as Prometheus shows it.

    Attributes:
        view: what decisions are made from; without scrapes where nothing can be known.
        requests: by pod, those that wait and run in its newest sample, where that is fresh; draining pods too.
        problem: what is wrong with the signals; None: nothing.
        message: which series, pods or endpoint that is; empty where nothing is wrong.
    """

    view: View
    requests: Mapping[str, int]
    problem: ServiceReason | None
    message: str


class _Role:
    """What is known of one role: of this engine, from this endpoint."""

    def __init__(self, engine: Engine, endpoint: str) -> None:
        self.engine = engine
        self.endpoint = endpoint
        self.names: EngineNames = names_of(engine)
        self.signals = RoleSignals()
        self.batch = MAX_PODS
        self.past_tries = 0


@dataclass(frozen=True, slots=True)
class _Question:
    service: ModelService
    role: str
    pods: Sequence[ServingPod]
    standing: Standing
    rules: Rules
    now: float

    @property
    def namespace(self) -> str:
        return self.service.namespace

    @property
    def port(self) -> int:
        return self.service.spec.engine.answers_at


class ServingSignals:
    """The signals of all services of this process.

    Args:
        settings: servers, by name.
        clock: wall clock, seconds since 1970.
        monotonic: seconds that only go forward.
        generator: source of the jitter.
        on_query: told of each query.
    """

    def __init__(
        self,
        settings: PrometheusSettings,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        generator: random.Random,
        on_query: OnQuery = lambda _endpoint, _outcome, _seconds: None,
    ) -> None:
        self._servers = {
            name: Prometheus(endpoint, clock=clock, monotonic=monotonic, generator=generator, on_query=on_query)
            for name, endpoint in settings.endpoints.items()
        }
        self._roles: dict[tuple[str, str], _Role] = {}

    async def look(
        self,
        service: ModelService,
        role: str,
        pods: Sequence[ServingPod],
        desired: int,
        cold_start_seconds: float,
        now: float,
        *,
        kv_tokens: int = 0,
    ) -> Look:
        """Ask for a role, and say what is known of it.

        It takes little longer than the endpoint's time limit, and no fault of the endpoint raises.

        Args:
            service: of the role.
            role: its name.
            pods: of the role, all variants, also those that drain.
            desired: replicas that are asked for.
            cold_start_seconds: what a new replica is expected to take until it is ready.
            now: seconds since 1970.
            kv_tokens: that a replica's KV cache holds, by its profile, for engines that do not tell; 0: not known.
        """
        known = self._known(service, role)
        question = _Question(
            service, role, pods, _standing(pods, desired), _rules(service, known.names, kv_tokens), now
        )
        server = self._servers.get(known.endpoint)
        failure: Problem | None = None
        if server is None:
            words = f"the operator's settings have no Prometheus of the name {known.endpoint}"
            failure = (ServiceReason.UNKNOWN_ENDPOINT, words)
        else:
            error = await self._ask(server, known, question)
            answered_at = known.signals.looked_at
            if error is not None and (answered_at is None or now - answered_at > UNANSWERED_SECONDS):
                failure = (ServiceReason.PROMETHEUS_UNREACHABLE, f"Prometheus {known.endpoint}: {error}")
        return _look(known, question, cold_start_seconds, failure)

    def forget(self, service_uid: str) -> None:
        """Nothing is known of this service any more."""
        for key in [key for key in self._roles if key[0] == service_uid]:
            del self._roles[key]

    def clear(self) -> None:
        """Know nothing: somebody else leads now."""
        self._roles.clear()

    def close(self) -> None:
        """Ask nothing any more."""
        for server in self._servers.values():
            server.close()

    def _known(self, service: ModelService, role: str) -> _Role:
        key = (service.metadata.uid or service.key, role)
        engine, endpoint = service.spec.engine, service.spec.metrics.prometheus
        known = self._roles.get(key)
        if known is None or known.engine != engine or known.endpoint != endpoint:
            known = self._roles[key] = _Role(engine, endpoint)
        return known

    async def _ask(self, server: Prometheus, known: _Role, question: _Question) -> QueryError | None:
        """Ask for what is new, and for the past first where it is not known; what went wrong, if anything."""
        limit_seconds = server.endpoint.timeout_seconds + _SPARE_SECONDS
        try:
            async with asyncio.timeout(limit_seconds):
                if known.past_tries < PAST_TRIES and not _is_followed(known.signals, question.now):
                    await self._recall(server, known, question)
                return await self._follow(server, known, question)
        except QueryError as error:
            return error
        except TimeoutError:
            return QueryError(QueryFailure.TIMED_OUT, f"no answers within {limit_seconds:g} s")

    async def _recall(self, server: Prometheus, known: _Role, question: _Question) -> None:
        """Ask for the past, in stretches that make answers of a size that can be read.

        Raises:
            QueryError: there is no answer, and another try may have one.
        """
        before = known.signals.looked_at
        end = question.now - LATE_SECONDS
        begin = max(question.now - KEPT_SECONDS, before if before is not None else 0.0)
        known.past_tries += 1
        series = len(known.names.without_histograms) * max(1, len(question.pods))
        seconds = max(PAST_STEP_SECONDS, PAST_SAMPLES / series * PAST_STEP_SECONDS)
        count = min(MOST_PAST_QUERIES, math.ceil((end - begin) / seconds))
        selector = of_deployments(known.names.without_histograms, question.namespace, _deployments(question))
        ends = [end - number * seconds for number in range(count)]
        asked = [
            server.ask_past(selector, max(begin, one - seconds + PAST_STEP_SECONDS), one, PAST_STEP_SECONDS)
            for one in ends
        ]
        try:
            answers = await _all(asked)
        except QueryError as error:
            if error.failure not in _ASKED_TOO_MUCH and known.past_tries < PAST_TRIES:
                raise
            logger.warning("%s: its demand until now is not known: %s", question.service.key, error)
            known.past_tries = PAST_TRIES
            return
        samples = [one for answer in reversed(answers) for one in answer]
        known.past_tries = PAST_TRIES
        since = {pod: one.newest.at for pod, one in known.signals.pods.items()}
        found = pod_samples(
            samples,
            known.names,
            question.namespace,
            pods=None,
            port=question.port,
            since=since,
            until=end,
            is_partial=True,
        )
        known.signals = recalled(found, PAST_STEP_SECONDS, question.rules, known.signals)

    async def _follow(self, server: Prometheus, known: _Role, question: _Question) -> QueryError | None:
        """Ask for what was scraped since the last answer, and a little further back for what came late."""
        now, before = question.now, known.signals.looked_at
        window = LATE_SECONDS if before is None else min(LONGEST_WINDOW_SECONDS, now - before + LATE_SECONDS)
        lately = {pod for pod, one in known.signals.pods.items() if one.newest.at > now - window}
        wanted = {one.name for one in question.pods} | lately
        selectors = (of_pods(known.names.all_series, question.namespace, one) for one in batches(wanted, known.batch))
        asked = [server.ask(within(one, window)) for one in selectors]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        samples: list[Sample] = []
        error: QueryError | None = None
        for answer in answers:
            if isinstance(answer, QueryError):
                error = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                samples += answer
        if error is not None and error.failure is QueryFailure.TOO_LARGE:
            known.batch = max(1, known.batch // 2)
        if error is not None and len(answers) == sum(isinstance(one, QueryError) for one in answers):
            return error
        since = {pod: one.newest.at for pod, one in known.signals.pods.items()}
        found = pod_samples(
            samples, known.names, question.namespace, pods=wanted, port=question.port, since=since, until=now
        )
        known.signals = looked(known.signals, found, question.standing, question.rules, now)
        known.past_tries = 0 if error is None else known.past_tries
        return error


def _is_followed(signals: RoleSignals, now: float) -> bool:
    return signals.looked_at is not None and now - signals.looked_at <= LONGEST_WINDOW_SECONDS - LATE_SECONDS


async def _all(asked: Sequence[Coroutine[Any, Any, tuple[Sample, ...]]]) -> list[tuple[Sample, ...]]:
    """All answers.

    Raises:
        QueryError: one of them is none; the others are not waited for any more.
    """
    tasks = [asyncio.ensure_future(one) for one in asked]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _standing(pods: Sequence[ServingPod], desired: int) -> Standing:
    return Standing(
        ready=frozenset(one.name for one in pods if one.is_ready and not one.is_draining),
        draining=frozenset(one.name for one in pods if one.is_draining),
        starting=frozenset(one.name for one in pods if not one.is_ready and not one.is_draining),
        desired=desired,
    )


def _rules(service: ModelService, names: EngineNames, kv_tokens: int) -> Rules:
    arrivals = Signal.ARRIVED if Signal.ARRIVED in names.parts else Signal.COMPLETED
    wanted = (arrivals, Signal.PROMPT_TOKENS, Signal.GENERATED_TOKENS)
    expected = frozenset(FIELDS[one] for one in wanted if one in names.parts)
    counting = Counting(names.prompts_at_end, expected)
    return Rules(counting, service.spec.metrics.stale_after.seconds, float(kv_tokens))


def _deployments(question: _Question) -> set[str]:
    spec = question.service.spec.role(question.role)
    variants = spec.variants if spec is not None else ()
    of_spec = {f"{question.service.name}-{question.role}-{one.name}" for one in variants}
    return of_spec | {name for one in question.pods if (name := deployment_of(one.name)) is not None}


def _look(known: _Role, question: _Question, cold_start_seconds: float, failure: Problem | None) -> Look:
    signals, rules, now = known.signals, question.rules, question.now
    counts_requests = {Signal.ARRIVED, Signal.COMPLETED} & known.names.parts.keys()
    problem = failure or _problem(known, question)
    sizes = [rules.kv_of(one.newest)[1] for one in signals.pods.values()]
    usual = median(known_sizes) if (known_sizes := [one for one in sizes if one]) else rules.kv_tokens
    replicas = tuple(_replica(one, signals, rules, usual, now) for one in question.pods if not one.is_draining)
    view = View(
        now, question.standing.desired, replicas, signals.scrapes if counts_requests else (), cold_start_seconds
    )
    requests = {
        one.name: round(count.newest.requests)
        for one in question.pods
        if (count := signals.pods.get(one.name)) is not None
        and count.newest.requests is not None
        and now - count.newest.at <= rules.stale_after_seconds
    }
    return Look(view, requests, problem[0] if problem else None, problem[1] if problem else "")


def _replica(pod: ServingPod, signals: RoleSignals, rules: Rules, usual: float, now: float) -> ReplicaView:
    count = signals.pods.get(pod.name)
    age_seconds = max(0.0, now - pod.asked_at)
    if count is None:
        return ReplicaView(pod.name, pod.is_ready, age_seconds, 0, 0, 0, round(usual))
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


def _problem(known: _Role, question: _Question) -> Problem | None:
    names, standing, stale = known.names, question.standing, question.rules.stale_after_seconds
    if not {Signal.ARRIVED, Signal.COMPLETED} & names.parts.keys():
        words = "engine.metrics names neither requestsArrived nor requestsCompleted, so no requests can be counted"
        return ServiceReason.SIGNALS_MISSING, words
    words_of = {name: names.words(signal) for name, signal in _GAUGES.items()}
    words_of |= {field: names.words(signal) for signal, field in FIELDS.items()}
    due = [
        one.name
        for one in question.pods
        if one.is_ready and not one.is_draining and question.now - one.asked_at > 2 * stale
    ]
    found = problem_of(known.signals, due, question.rules, words_of, question.now)
    if found is not None or standing.is_empty:
        return found
    scrapes = known.signals.scrapes
    if scrapes and question.now - scrapes[-1].at <= stale:
        return None
    if not standing.ready:
        return ServiceReason.SIGNALS_MISSING, "no replica is ready, so none says how it is"
    return ServiceReason.SIGNALS_MISSING, "the replicas that are ready have not been scraped yet"
