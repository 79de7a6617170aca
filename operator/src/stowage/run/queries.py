"""PromQL rules of training jobs: each rule is asked once for all jobs that name it, and rings those that it concerns.

What is remembered here comes back by itself: after a start, or a gap, a rule's past is asked for once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Mapping
from typing import Final

from msgspec import Struct

from stowage.api.training_job import TrainingJob
from stowage.api.training_words import JobPhase
from stowage.decide.training.job_facts import promql_rules
from stowage.decide.training.promql_rules import (
    Hold,
    PromqlRule,
    Queried,
    Subject,
    firing_of,
    held,
    held_in_the_past,
    subjects_of,
)
from stowage.observe.prometheus import OnQuery, Prometheus
from stowage.observe.prometheus_session import QueryError, QueryFailure
from stowage.run.prometheus_settings import PrometheusSettings

SETTLE_SECONDS: Final = 3.0
"""From the first job to the first query: a new leader looks at all jobs first."""
SILENT_SECONDS: Final = 60.0
"""Without an answer for so long, what was known is old, and the jobs say so."""
PAST_SECONDS: Final = 86_400.0
PAST_POINTS: Final = 500
SPREAD_SECONDS: Final = 5.0
"""Over which jobs are rung that all have to say the same."""
_ASKED_TOO_MUCH: Final = frozenset({QueryFailure.INVALID, QueryFailure.TOO_LARGE, QueryFailure.UNREADABLE})

_STILL: Final = frozenset({JobPhase.SUSPENDED, JobPhase.PAUSED, JobPhase.SUCCEEDED, JobPhase.FAILED})

Ring = Callable[[str, float], None]
"""Told the key of a job and after how many seconds to look at it."""

logger = logging.getLogger(__name__)


class _Listener(Struct, frozen=True):
    """A job that names rules: what of each rule concerns it, and since when it runs as it runs."""

    subjects: Mapping[str, tuple[Subject, ...]]
    epoch_at: float


class _Followed:
    """What is known of one rule."""

    def __init__(self, rule: PromqlRule) -> None:
        self.rule = rule
        self.forget()

    def forget(self) -> None:
        self.holds: dict[Subject, Hold] = {}
        self.fired: set[Subject] = set()
        self.asked_since: float | None = None
        self.answered_at: float | None = None
        self.is_silent = False
        self.last_words = ""

    @property
    def silent_seconds(self) -> float:
        """Without an answer for longer, the rule is silent."""
        return max(SILENT_SECONDS, 4 * self.rule.every_seconds)


class Queries:
    """All rules of this process.

    Args:
        settings: servers and rules.
        ring: called when a job has to be looked at.
        clock: wall clock, seconds since 1970.
        monotonic: seconds that only go forward.
        generator: source of the jitter.
        on_query: told of each query.
    """

    def __init__(
        self,
        settings: PrometheusSettings,
        ring: Ring,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        generator: random.Random,
        on_query: OnQuery = lambda _endpoint, _outcome, _seconds: None,
    ) -> None:
        self.rules = settings.rules
        self._ring = ring
        self._clock = clock
        self._monotonic = monotonic
        self._generator = generator
        self._servers = {
            name: Prometheus(endpoint, clock=clock, monotonic=monotonic, generator=generator, on_query=on_query)
            for name, endpoint in settings.endpoints.items()
        }
        self._followed = {name: _Followed(rule) for name, rule in settings.rules.items()}
        self._listeners: dict[str, _Listener] = {}
        self._listened_since: float | None = None

    def listen(self, job: TrainingJob) -> None:
        """Ask for a job from now on, as its spec and its status have it; asked again it changes nothing."""
        runs = job.status.phase not in _STILL
        names = [name for name in promql_rules(job.spec.recovery) if runs and name in self.rules]
        subjects = {name: subjects_of(self.rules[name], job) for name in names}
        if not any(subjects.values()):
            self.forget(job.key)
            return
        if self._listened_since is None:
            self._listened_since = self._monotonic()
        epoch_at = job.status.epoch_at
        self._listeners[job.key] = _Listener(subjects, epoch_at.timestamp() if epoch_at is not None else 0.0)

    def forget(self, key: str) -> None:
        """Nothing is asked for this job any more."""
        self._listeners.pop(key, None)

    def clear(self) -> None:
        """Ask nothing: somebody else leads now."""
        self._listeners.clear()
        self._listened_since = None
        for followed in self._followed.values():
            followed.forget()

    def queried(self, job: TrainingJob) -> Queried:
        """What the rules that a job names say of it."""
        names = promql_rules(job.spec.recovery)
        known = [name for name in names if name in self.rules and self.rules[name].serves(job.namespace)]
        silent = tuple(name for name in known if self._followed[name].is_silent)
        now = self._clock()
        firing = tuple(
            one
            for name in known
            if name not in silent
            for one in firing_of(self.rules[name], self._followed[name].holds, subjects_of(self.rules[name], job), now)
        )
        return Queried(firing, tuple(name for name in names if name not in known), silent)

    def remembered(self) -> int:
        """For how many jobs and pods a rule is known to hold."""
        return sum(len(one.holds) for one in self._followed.values())

    def silent_rules(self) -> float:
        """How many rules have jobs and no answer."""
        return float(sum(one.is_silent for one in self._followed.values()))

    async def run(self) -> None:
        """Ask until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for followed in self._followed.values():
                    group.create_task(self._follow(followed), name=f"rule {followed.rule.name}")
                await asyncio.Event().wait()
        finally:
            self.close()

    def close(self) -> None:
        """Ask nothing any more."""
        for server in self._servers.values():
            server.close()

    async def _follow(self, followed: _Followed) -> None:
        while True:
            if self._listened_since is not None and self._monotonic() - self._listened_since >= SETTLE_SECONDS:
                await self.poll(followed.rule.name)
                pause_seconds = followed.rule.every_seconds
            else:
                pause_seconds = SETTLE_SECONDS / 2
            await asyncio.sleep(pause_seconds * self._generator.uniform(0.9, 1.0))

    async def poll(self, name: str) -> None:
        """Ask one rule once, and ring the jobs for which it begins or ceases to fire."""
        followed = self._followed[name]
        rule = followed.rule
        jobs = {
            subject: key for key, listener in self._listeners.items() for subject in listener.subjects.get(name, ())
        }
        if not jobs:
            followed.forget()
            return
        if followed.asked_since is None:
            followed.asked_since = self._monotonic()
        try:
            before = await self._before(followed, jobs)
            samples = await self._servers[rule.endpoint].ask(rule.question)
        except QueryError as error:
            self._failed(followed, error, jobs)
            return
        if followed.asked_since is None:
            return  # somebody else leads by now
        now = self._clock()
        followed.holds = held(rule, samples, before, jobs, now)
        fired = {one for one, hold in followed.holds.items() if now - hold.since >= rule.for_seconds}
        changed, followed.fired = fired ^ followed.fired, fired
        followed.answered_at = self._monotonic()
        if followed.last_words:
            logger.info("rule %s: answered again", name)
            followed.last_words = ""
        self._set_silent(followed, jobs, silent=False)
        for key in {jobs[subject] for subject in changed if subject in jobs}:
            self._ring(key, 0.0)

    async def _before(self, followed: _Followed, jobs: Mapping[Subject, str]) -> Mapping[Subject, Hold]:
        """What the rule held for until now; asked for where it is not remembered."""
        rule, answered_at = followed.rule, followed.answered_at
        if answered_at is not None and self._monotonic() - answered_at < followed.silent_seconds:
            return followed.holds
        end = self._clock()
        oldest = min(self._listeners[key].epoch_at for key in jobs.values())
        begin = max(end - PAST_SECONDS, oldest - rule.for_seconds - rule.every_seconds)
        if end - begin < 2 * rule.every_seconds:
            return {}
        near = max(begin, end - PAST_POINTS * rule.every_seconds)
        try:
            found = await self._past(rule, jobs, near, end)
            all_along = {one for one, hold in found.items() if hold.since - near < 2 * rule.every_seconds}
            if near > begin and all_along:
                found |= await self._past(rule, all_along, begin, end)
        except QueryError as error:
            if error.failure not in _ASKED_TOO_MUCH:
                raise
            logger.warning("rule %s: what it gave until now is not known: %s", rule.name, error)
            return {}
        return found

    async def _past(
        self, rule: PromqlRule, wanted: Collection[Subject], begin: float, end: float
    ) -> dict[Subject, Hold]:
        """What a rule has held for between two times, as far as `PAST_POINTS` can tell.

        Points that are further apart than the rule is asked show as one hold what came and went between them.
        """
        step_seconds = max(rule.every_seconds, (end - begin) / PAST_POINTS)
        past = await self._servers[rule.endpoint].ask_past(rule.question, begin, end, step_seconds)
        return held_in_the_past(rule, past, wanted, end, step_seconds)

    def _failed(self, followed: _Followed, error: QueryError, jobs: Mapping[Subject, str]) -> None:
        if error.failure is not QueryFailure.RESTING and error.failure.value != followed.last_words:
            followed.last_words = error.failure.value
            logger.warning("rule %s: no answer: %s", followed.rule.name, error)
        since = followed.answered_at if followed.answered_at is not None else followed.asked_since
        if since is not None and self._monotonic() - since >= followed.silent_seconds:
            followed.holds, followed.fired = {}, set()
            self._set_silent(followed, jobs, silent=True)

    def _set_silent(self, followed: _Followed, jobs: Mapping[Subject, str], *, silent: bool) -> None:
        if followed.is_silent == silent:
            return
        followed.is_silent = silent
        for key in set(jobs.values()):
            self._ring(key, SPREAD_SECONDS * self._generator.random())
