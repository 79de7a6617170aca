"""Signals of served models: each role's engines are asked for together, and a `View` is made of what they said.

What is kept here comes back by itself: after a start, or when nobody asked for long, the past is asked for once.
A look waits for answers where they come soon. Where an endpoint was slow, looks take what is known, and their services
are rung when the answer is there: a pass is worth more than a second of waiting.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from stowage.api.model_service import ModelService
from stowage.api.model_service_engine import Engine
from stowage.api.model_service_reasons import ServiceReason
from stowage.decide.samples import MAX_SAMPLES, Sample
from stowage.decide.serving.request_sizes import Lengths
from stowage.decide.serving.signals_problem import Problem
from stowage.decide.serving.signals_role import KEPT_SECONDS, RoleSignals, looked, recalled
from stowage.observe.prometheus import Asker, OnQuery, Prometheus
from stowage.observe.prometheus_session import QueryError, QueryFailure
from stowage.observe.serving.names import EngineNames, names_of
from stowage.observe.serving.queries import MAX_PODS, batches, deployment_of, groups_of, of_deployments, of_pods, within
from stowage.observe.serving.scrapes import pod_samples
from stowage.run.prometheus_settings import PrometheusSettings
from stowage.run.serving_lengths import lengths_by
from stowage.run.serving_look import Look, Question, ServingPod, look_of

__all__ = ["Look", "ServingPod", "ServingSignals"]

ASKED_EVERY_SECONDS: Final = 2.0
LATE_SECONDS: Final = 60.0
"""Samples that come so late, by remote write, are still asked for."""
LEAST_WINDOW_SECONDS: Final = 10.0
LONGEST_WINDOW_SECONDS: Final = 300.0
"""Where the last answer is longer ago, the past is asked for in coarser steps."""
PAST_STEP_SECONDS: Final = 20.0
PAST_SAMPLES: Final = 30_000
"""Of one answer about the past, as expected; the limit is higher."""
MOST_PAST_QUERIES: Final = 16
PAST_TRIES: Final = 3
UNANSWERED_SECONDS: Final = 30.0
"""Without an answer for so long, the endpoint counts as not reachable, though what is known may be fresh."""
PATIENCE_SECONDS: Final = 1.0
"""A look waits no longer for answers, and not at all where the last ones of its endpoint took longer: many passes that
wait for one endpoint would keep those of others waiting."""
AWAITED_SECONDS: Final = 10.0
"""First answers are worth so long without a decision: a new leader would tell of signals that are missing."""
_SPARE_SECONDS: Final = 1.5
_HOPELESS: Final = frozenset({QueryFailure.INVALID, QueryFailure.UNREADABLE})

logger = logging.getLogger(__name__)


class _Role:
    """What is known of one role: of this engine, from this endpoint."""

    def __init__(self, engine: Engine, endpoint: str, now: float) -> None:
        self.first_at = now
        self.engine = engine
        self.endpoint = endpoint
        self.names: EngineNames = names_of(engine)
        self.signals = RoleSignals()
        self.batch = MAX_PODS
        self.past_tries = 0
        self.past_samples = PAST_SAMPLES
        self.answered_at: float | None = None
        """When the last asking ended, with answers or without."""
        self.error: QueryError | None = None
        self.asking: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class _Answers:
    """Of several questions: all samples, the last error, and how many were answered."""

    samples: list[Sample]
    error: QueryError | None
    count: int


class ServingSignals:
    """The signals of all services of this process.

    Args:
        settings: servers, by name.
        clock: wall clock, seconds since 1970.
        monotonic: seconds that only go forward.
        generator: source of the jitter.
        on_query: told of each query.
        ring: told the key of a service whose answers came after its look was over.
        patience_seconds: for so long a look waits for answers.
    """

    def __init__(
        self,
        settings: PrometheusSettings,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        generator: random.Random,
        on_query: OnQuery = lambda _endpoint, _outcome, _seconds: None,
        ring: Callable[[str], None] = lambda _key: None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._monotonic = monotonic
        self._ring = ring
        self._slow: set[str] = set()  # endpoints whose last answers took too long to be waited for
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

        It waits no longer than `patience_seconds`, and no fault of the endpoint raises. Who asks again and again gets
        what is known; the endpoint is asked again `ASKED_EVERY_SECONDS` after its last answers at the soonest.

        Args:
            service: of the role.
            role: its name.
            pods: of the role, all variants, also those that drain.
            desired: replicas that are asked for.
            cold_start_seconds: what a new replica is expected to take until it is ready.
            now: seconds since 1970.
            kv_tokens: that a replica's KV cache holds, by its profile, for engines that do not tell; 0: not known.
        """
        known = self._known(service, role, now)
        question = Question(service, role, pods, desired, known.names, kv_tokens, now)
        server = self._servers.get(known.endpoint)
        failure: Problem | None = None
        if server is None:
            words = f"the operator's settings have no Prometheus of the name {known.endpoint}"
            failure = (ServiceReason.UNKNOWN_ENDPOINT, words)
        else:
            await self._answers(server, known, question)
            error, answered_at = known.error, known.signals.looked_at
            if error is not None and (answered_at is None or now - answered_at > UNANSWERED_SECONDS):
                failure = (ServiceReason.PROMETHEUS_UNREACHABLE, f"Prometheus {known.endpoint}: {error}")
        is_awaited = known.answered_at is None and server is not None and now - known.first_at < AWAITED_SECONDS
        return replace(look_of(known.signals, question, cold_start_seconds, failure), is_awaited=is_awaited)

    async def lengths(self, service: ModelService, role: str) -> tuple[Lengths | None, Lengths | None]:
        """How long prompts and outputs of a role's requests were in the last hour; None where that is not known."""
        server = self._servers.get(service.spec.metrics.prometheus)
        return (None, None) if server is None else await lengths_by(server, service, role)

    def forget(self, service_uid: str) -> None:
        """Nothing is known of this service any more."""
        for key in [key for key in self._roles if key[0] == service_uid]:
            self._drop(key)

    def clear(self) -> None:
        """Know nothing: somebody else leads now."""
        for key in list(self._roles):
            self._drop(key)

    def _drop(self, key: tuple[str, str]) -> None:
        known = self._roles.pop(key)
        if known.asking is not None:
            known.asking.cancel()

    def close(self) -> None:
        """Ask nothing any more."""
        self.clear()
        for server in self._servers.values():
            server.close()

    def _known(self, service: ModelService, role: str, now: float) -> _Role:
        key = (service.metadata.uid or service.key, role)
        engine, endpoint = service.spec.engine, service.spec.metrics.prometheus
        known = self._roles.get(key)
        if known is None or known.engine != engine or known.endpoint != endpoint:
            if known is not None:
                self._drop(key)
            self._forget_old(key[0], now)
            known = self._roles[key] = _Role(engine, endpoint, now)
        return known

    def _forget_old(self, uid: str, now: float) -> None:
        """Roles that are gone from a service's spec have no end of their own: nobody asks for them any more."""
        for key, one in list(self._roles.items()):
            if (
                key[0] == uid
                and one.asking is None
                and (one.answered_at is None or now - one.answered_at > KEPT_SECONDS)
            ):
                self._drop(key)

    async def _answers(self, server: Prometheus, known: _Role, question: Question) -> None:
        """Ask, unless somebody does or did a moment ago, and wait for the answers where they are expected soon."""
        _collect(known)
        if known.asking is None:
            if known.answered_at is not None and 0 <= question.now - known.answered_at < ASKED_EVERY_SECONDS:
                return
            known.asking = asyncio.create_task(self._take_answers(server, known, question))
        is_slow = known.endpoint in self._slow
        await asyncio.wait({known.asking}, timeout=0.0 if is_slow else self._patience_seconds)
        _collect(known)

    async def _take_answers(self, server: Prometheus, known: _Role, question: Question) -> None:
        began, was_slow = self._monotonic(), known.endpoint in self._slow
        known.error = await self._ask(server, known, question)
        known.answered_at = self._clock()
        is_slow = self._monotonic() - began > self._patience_seconds
        if is_slow:
            self._slow.add(known.endpoint)
        else:
            self._slow.discard(known.endpoint)
        if is_slow or was_slow:
            self._ring(question.service.key)

    async def _ask(self, server: Prometheus, known: _Role, question: Question) -> QueryError | None:
        """Ask for what is new, and for the past where it is not known; what went wrong, if anything."""
        limit_seconds = server.endpoint.timeout_seconds + _SPARE_SECONDS
        asks_for_past = known.past_tries < PAST_TRIES and not _is_followed(known.signals, question.now)
        try:
            async with asyncio.timeout(limit_seconds):
                past, answers = await asyncio.gather(
                    _all(_of_past(server, known, question) if asks_for_past else []),
                    _all(_of_late(server, known, question)),
                )
                return await self._take(known, question, past if asks_for_past else None, answers)
        except TimeoutError:
            return QueryError(QueryFailure.TIMED_OUT, f"no answers within {limit_seconds:g} s")

    async def _take(
        self, known: _Role, question: Question, past: _Answers | None, answers: _Answers
    ) -> QueryError | None:
        """Take what came; nothing while the past may still be had, for it has to come first."""
        if answers.error is not None and answers.error.failure is QueryFailure.TOO_LARGE:
            known.batch = max(1, known.batch // 2)
        elif answers.error is None and 4 * len(answers.samples) < MAX_SAMPLES * answers.count:
            known.batch = min(MAX_PODS, 2 * known.batch)  # it was a long gap that made them too large
        if answers.error is not None and not answers.count:
            return answers.error
        signals = known.signals
        if past is not None:
            if past.error is None:
                known.past_samples = PAST_SAMPLES  # the next gap may be longer, and of more pods
                signals = await asyncio.to_thread(_with_past, signals, known.names, question, past.samples)
            elif past.error.failure not in _HOPELESS and known.past_tries + 1 < PAST_TRIES:
                known.past_tries += answers.count > 0  # else the server may be away as a whole
                if past.error.failure is QueryFailure.TOO_LARGE:
                    known.past_samples //= 8
                return past.error
            else:
                logger.warning("%s: its demand until now is not known: %s", question.service.key, past.error)
                known.past_tries = PAST_TRIES
        known.signals = await asyncio.to_thread(_with_late, signals, known.names, question, answers.samples)
        if _is_followed(known.signals, question.now):
            known.past_tries = 0
        return answers.error


def _collect(known: _Role) -> None:
    """Take the end of an asking that is over; what is no fault of the endpoint is raised here."""
    if known.asking is not None and known.asking.done():
        ended, known.asking = known.asking, None
        if not ended.cancelled():
            ended.result()


def _is_followed(signals: RoleSignals, now: float) -> bool:
    return signals.looked_at is not None and now - signals.looked_at <= LONGEST_WINDOW_SECONDS - LATE_SECONDS


async def _all(asked: Sequence[Coroutine[Any, Any, tuple[Sample, ...]]]) -> _Answers:
    """All answers, and the last error."""
    samples: list[Sample] = []
    error: QueryError | None = None
    count = 0
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(answer, QueryError):
            error = answer
        elif isinstance(answer, BaseException):
            raise answer
        else:
            samples += answer
            count += 1
    return _Answers(samples, error, count)


def _of_past(server: Prometheus, known: _Role, question: Question) -> list[Coroutine[Any, Any, tuple[Sample, ...]]]:
    """Questions about the past, in stretches that make answers of a size that can be read."""
    names, deployments, groups = known.names.without_histograms, _deployments(question), _groups(question)
    if not deployments and not groups:  # a role that is gone from the spec, and so are its pods
        return []
    end = question.now - LATE_SECONDS
    before = known.signals.looked_at
    begin = question.now - KEPT_SECONDS if before is None else max(question.now - KEPT_SECONDS, before)
    series = len(names) * max(1, len(question.pods))
    known.past_samples = min(known.past_samples, math.ceil((end - begin) / PAST_STEP_SECONDS) * series)
    steps = max(1, known.past_samples // series)
    seconds = steps * PAST_STEP_SECONDS
    count = min(MOST_PAST_QUERIES, math.ceil((end - begin) / seconds))
    selector = of_deployments(names, question.namespace, deployments, groups)
    ends = [end - number * seconds for number in reversed(range(count))]
    return [
        server.ask_past(
            selector, max(begin, one - seconds + PAST_STEP_SECONDS), one, PAST_STEP_SECONDS, _asker(question)
        )
        for one in ends
    ]


def _of_late(server: Prometheus, known: _Role, question: Question) -> list[Coroutine[Any, Any, tuple[Sample, ...]]]:
    """Questions about what was scraped since the last answer, also of pods that went meanwhile."""
    now, before, pods = question.now, known.signals.looked_at, known.signals.pods
    since = now if before is None else before
    followed = [one.newest.at for one in pods.values() if since - one.newest.at <= LATE_SECONDS]
    reach = now - min(followed) + 1.0 if followed else now - since + LATE_SECONDS
    window = min(LONGEST_WINDOW_SECONDS, max(LEAST_WINDOW_SECONDS, reach))
    wanted = _asked_for(known.signals, question)
    selectors = (of_pods(known.names.all_series, question.namespace, one) for one in batches(wanted, known.batch))
    return [server.ask(within(one, window), _asker(question)) for one in selectors]


def _asker(question: Question) -> Asker:
    return Asker(question.namespace, question.service.name)


def _asked_for(signals: RoleSignals, question: Question) -> set[str]:
    """The pods of the role, and those that went and may have counted since."""
    since = question.now - LONGEST_WINDOW_SECONDS
    return {one.name for one in question.pods} | {pod for pod, one in signals.pods.items() if one.newest.at > since}


def _with_past(signals: RoleSignals, names: EngineNames, question: Question, samples: list[Sample]) -> RoleSignals:
    found = pod_samples(
        samples,
        names,
        question.namespace,
        pods=None,
        port=question.port,
        since=_newest(signals),
        until=question.now - LATE_SECONDS,
        is_partial=True,
    )
    return recalled(found, PAST_STEP_SECONDS, question.rules, signals)


def _with_late(signals: RoleSignals, names: EngineNames, question: Question, samples: list[Sample]) -> RoleSignals:
    found = pod_samples(
        samples,
        names,
        question.namespace,
        pods=_asked_for(signals, question),
        port=question.port,
        since=_newest(signals),
        until=question.now,
    )
    return looked(signals, found, question.standing, question.rules, question.now)


def _newest(signals: RoleSignals) -> dict[str, float]:
    return {pod: one.newest.at for pod, one in signals.pods.items()}


def _deployments(question: Question) -> set[str]:
    spec = question.service.spec.role(question.role)
    variants = [one for one in spec.variants if one.group is None] if spec is not None else []
    of_spec = {f"{question.service.name}-{question.role}-{one.name}" for one in variants}
    return of_spec | {name for one in question.pods if (name := deployment_of(one.name)) is not None}


def _groups(question: Question) -> set[str]:
    spec = question.service.spec.role(question.role)
    variants = [one for one in spec.variants if one.group is not None] if spec is not None else []
    of_spec = {f"{question.service.name}-{question.role}-{one.name}" for one in variants}
    return of_spec | {name for one in question.pods if (name := groups_of(one.name)) is not None}
