"""Asking Prometheus: in threads, within time limits, and not again and again where nobody answers.

The client is prometheus-api-client, which blocks; what it lacks is around it: a bound for time and size of an answer,
a rest for endpoints that fail (a circuit breaker), and turns for tenants who ask the same endpoint.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import requests
from msgspec import Struct
from prometheus_api_client import PrometheusConnect
from urllib3.util.retry import Retry

from stowage.decide.samples import Sample, StaleAnswerError, TooManySamplesError, UnreadableAnswerError, samples_of
from stowage.observe.breaker import Breaker
from stowage.observe.fair_places import FairPlaces
from stowage.observe.prometheus_session import BoundedSession, QueryError, QueryFailure

AT_ONCE: Final = 4
"""Queries to one endpoint …"""
AT_ONCE_OF_TENANT: Final = AT_ONCE - 1
"""… and of one tenant: one place is never taken by slow queries of a single one."""
MOST_BREAKERS: Final = 4096
"""Of askers that failed; beyond that they are forgotten and begin anew."""
TENANT_HEADER: Final = "X-Scope-OrgID"
MAX_TOKEN_BYTES: Final = 16 * 1024
_EVERYBODYS: Final = frozenset({QueryFailure.UNREACHABLE, QueryFailure.REFUSED})
_SPARE_SECONDS: Final = 1.0  # for the thread to come to its own end

logger = logging.getLogger(__name__)

_Call = Callable[[PrometheusConnect], tuple[Sample, ...]]


class Asker(NamedTuple):
    """Who asks: places are shared among tenants, and whoever fails again and again rests alone."""

    tenant: str
    name: str


class Endpoint(Struct, frozen=True):
    """A server that speaks Prometheus's HTTP API.

    Attributes:
        name: by which rules speak of it.
        url: without `/api/v1`.
        token_file: file with a bearer token, read for each request, for tokens are renewed; None: none is sent.
        ca_file: certificates that it is trusted by; None: those of requests.
        timeout_seconds: for one query, from asking to the end of the answer.
        tenant: whose series are asked for, where a server (Mimir, Cortex) holds those of several; None: it does not.
    """

    name: str
    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    timeout_seconds: float = 5.0
    tenant: str | None = None


OnQuery = Callable[[str, str, float], None]
"""Called after each query with the endpoint's name, `ok` or a `QueryFailure`, and the seconds it took."""


class Prometheus:
    """One endpoint.

    Args:
        endpoint: where and how.
        clock: wall clock, seconds since 1970: the time that queries are evaluated at, and that answers must be of.
        monotonic: seconds that only go forward.
        generator: source of the jitter.
        on_query: told of each query.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        generator: random.Random,
        on_query: OnQuery = lambda _endpoint, _outcome, _seconds: None,
    ) -> None:
        self.endpoint = endpoint
        self._clock = clock
        self._monotonic = monotonic
        self._on_query = on_query
        self._generator = generator
        self._breaker = Breaker(monotonic, generator, least_askers=2)
        self._breakers: dict[Asker, Breaker] = {}  # of those whose last query failed
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix=f"prometheus {endpoint.name}")
        self._places = FairPlaces(AT_ONCE, AT_ONCE_OF_TENANT)
        self._of_thread = threading.local()
        self._sessions: list[BoundedSession] = []

    async def ask(self, query: str, asker: Asker | None = None) -> tuple[Sample, ...]:
        """What a query gives now.

        Args:
            query: in PromQL.
            asker: who asks; None: nobody who shares the endpoint with others.

        Raises:
            QueryError: it has no answer, or an old one.
        """
        now = self._clock()

        def call(client: PrometheusConnect) -> tuple[Sample, ...]:
            found = client.custom_query(query, params={**self._limits(), "time": f"{now:.3f}"})
            return samples_of(found, now)

        return await self._answer(call, asker)

    async def ask_past(
        self, query: str, begin: float, end: float, step_seconds: float, asker: Asker | None = None
    ) -> tuple[Sample, ...]:
        """What a query gave between two times, seconds since 1970, every `step_seconds`; samples by series and time.

        Raises:
            QueryError: it has no answer.
        """
        since, until = datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(end, UTC)

        def call(client: PrometheusConnect) -> tuple[Sample, ...]:
            return samples_of(
                client.custom_query_range(query, since, until, f"{step_seconds:g}", params=self._limits())
            )

        return await self._answer(call, asker)

    def close(self) -> None:
        """Ask nothing any more; threads that still wait end by their own time limits."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for session in self._sessions:
            session.close()

    def _limits(self) -> dict[str, str]:
        """The server too shall stop when nobody waits any more."""
        return {"timeout": f"{self.endpoint.timeout_seconds:g}s"}

    async def _answer(self, call: _Call, asker: Asker | None) -> tuple[Sample, ...]:
        began = self._monotonic()
        outcome = "ok"
        try:
            async with self._places.place(asker.tenant if asker is not None else ""):
                return await self._tried(call, asker)
        except QueryError as error:
            outcome = error.failure.value
            raise
        finally:
            self._on_query(self.endpoint.name, outcome, self._monotonic() - began)

    async def _tried(self, call: _Call, asker: Asker | None) -> tuple[Sample, ...]:
        """Ask where neither the endpoint nor the asker rests; after a rest one query tries alone."""
        own = self._breakers.get(asker) if asker is not None else None
        breakers = [one for one in (self._breaker, own) if one is not None]
        for one in breakers:
            if one.rests:
                raise QueryError(QueryFailure.RESTING, f"{self.endpoint.name} failed {one.failures} times in a row")
        trials = [one.begin() for one in breakers]
        try:
            samples = await self._in_thread(call)
        except QueryError as error:
            if error.failure.of_endpoint:
                self._failed(error, asker)
            raise
        finally:
            for one, is_trial in zip(breakers, trials, strict=True):
                one.end(is_trial=is_trial)
        self._breaker.succeeded()
        if asker is not None:
            self._breakers.pop(asker, None)
        return samples

    def _failed(self, error: QueryError, asker: Asker | None) -> None:
        asked, is_everybodys = error.retry_after_seconds, asker is None or error.failure in _EVERYBODYS
        name = "" if asker is None else f"{asker.tenant}/{asker.name}"
        rest_seconds = self._breaker.failed(name, asked, is_everybodys=is_everybodys)
        who = f"prometheus {self.endpoint.name}"
        if asker is not None:
            if asker not in self._breakers and len(self._breakers) >= MOST_BREAKERS:
                self._breakers.clear()
            own = self._breakers.setdefault(asker, Breaker(self._monotonic, self._generator))
            own_seconds = own.failed(name, asked, is_everybodys=True)
            if rest_seconds is None and own_seconds is not None:
                rest_seconds, who = own_seconds, f"{who}, asked for {name}"
        if rest_seconds is not None:
            logger.warning("%s: %s; asked again in %.0f s", who, error, rest_seconds)

    async def _in_thread(self, call: _Call) -> tuple[Sample, ...]:
        limit_seconds = self.endpoint.timeout_seconds + _SPARE_SECONDS
        try:
            async with asyncio.timeout(limit_seconds):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._call, call)
        except TimeoutError as error:
            raise QueryError(QueryFailure.TIMED_OUT, f"no answer within {limit_seconds:g} s") from error

    def _call(self, call: _Call) -> tuple[Sample, ...]:
        """In a thread: the library's answer as samples, its errors as ours."""
        try:
            return call(self._client())
        except requests.Timeout as error:
            raise QueryError(QueryFailure.TIMED_OUT, f"no answer within {self.endpoint.timeout_seconds:g} s") from error
        except requests.JSONDecodeError as error:
            raise QueryError(QueryFailure.UNREADABLE, "the answer is not JSON") from error
        except requests.RequestException as error:
            raise QueryError(QueryFailure.UNREACHABLE, f"{type(error).__name__}: {_reason(error)}") from error
        except StaleAnswerError as error:
            raise QueryError(QueryFailure.STALE, str(error)) from error
        except TooManySamplesError as error:
            raise QueryError(QueryFailure.TOO_LARGE, str(error)) from error
        except UnreadableAnswerError as error:
            raise QueryError(QueryFailure.UNREADABLE, str(error)) from error
        except (
            ValueError,
            KeyError,
            TypeError,
            IndexError,
            RecursionError,
        ) as error:
            raise QueryError(QueryFailure.UNREADABLE, "the answer is none of Prometheus's API") from error

    def _client(self) -> PrometheusConnect:
        """This thread's own client, with the token as it is now."""
        client: PrometheusConnect | None = getattr(self._of_thread, "client", None)
        if client is None:
            session = BoundedSession(self._monotonic, self.endpoint.timeout_seconds)
            session.verify = str(self.endpoint.ca_file) if self.endpoint.ca_file is not None else True
            client = PrometheusConnect(
                url=self.endpoint.url.rstrip("/"),
                session=session,
                retry=Retry(0, read=False),  # whoever asks comes back anyway
                timeout=self.endpoint.timeout_seconds,
            )
            self._of_thread.client = client
            self._sessions.append(session)
        client.headers = self._headers()
        return client

    def _headers(self) -> dict[str, str]:
        path, tenant = self.endpoint.token_file, self.endpoint.tenant
        headers = {} if tenant is None else {TENANT_HEADER: tenant}
        if path is None:
            return headers
        try:
            with path.open("rb") as file:
                token = file.read(MAX_TOKEN_BYTES).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            words = f"the token of {self.endpoint.name} cannot be read: {type(error).__name__}"
            raise QueryError(QueryFailure.REFUSED, words) from error
        if not token or not token.isprintable() or " " in token:
            raise QueryError(QueryFailure.REFUSED, f"the token of {self.endpoint.name} is none")
        return {**headers, "Authorization": f"Bearer {token}"}


def _reason(error: requests.RequestException) -> str:
    """The innermost cause: what is around it repeats addresses and objects."""
    inner: BaseException = error
    while True:
        further = inner.__cause__ or inner.__context__
        if further is None:
            return str(inner)
        inner = further
