"""Signals of served models: each role's engines are asked for together, and a `View` is made of what they said.

What is kept here comes back by itself: after a start, or when nobody asked for long, the past is asked for once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from stowage.api.model_service import ModelService
from stowage.api.model_service_engine import Engine
from stowage.api.model_service_reasons import ServiceReason
from stowage.decide.samples import Sample
from stowage.decide.serving.signals_problem import Problem
from stowage.decide.serving.signals_role import KEPT_SECONDS, RoleSignals, looked, recalled
from stowage.observe.prometheus import OnQuery, Prometheus
from stowage.observe.prometheus_session import QueryError, QueryFailure
from stowage.observe.serving.names import EngineNames, names_of
from stowage.observe.serving.queries import MAX_PODS, batches, deployment_of, of_deployments, of_pods, within
from stowage.observe.serving.scrapes import pod_samples
from stowage.run.prometheus_settings import PrometheusSettings
from stowage.run.serving_look import Look, Question, ServingPod, look_of

__all__ = ["Look", "ServingPod", "ServingSignals"]

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

logger = logging.getLogger(__name__)


class _Role:
    """What is known of one role: of this engine, from this endpoint."""

    def __init__(self, engine: Engine, endpoint: str) -> None:
        self.engine = engine
        self.endpoint = endpoint
        self.names: EngineNames = names_of(engine)
        self.signals = RoleSignals()
        self.batch = MAX_PODS
        self.past_tries = 0


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
        question = Question(service, role, pods, desired, known.names, kv_tokens, now)
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
        return look_of(known.signals, question, cold_start_seconds, failure)

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

    async def _ask(self, server: Prometheus, known: _Role, question: Question) -> QueryError | None:
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

    async def _recall(self, server: Prometheus, known: _Role, question: Question) -> None:
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

    async def _follow(self, server: Prometheus, known: _Role, question: Question) -> QueryError | None:
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


def _deployments(question: Question) -> set[str]:
    spec = question.service.spec.role(question.role)
    variants = spec.variants if spec is not None else ()
    of_spec = {f"{question.service.name}-{question.role}-{one.name}" for one in variants}
    return of_spec | {name for one in question.pods if (name := deployment_of(one.name)) is not None}
