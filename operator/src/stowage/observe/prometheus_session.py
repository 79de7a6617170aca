"""The HTTP side of a query: bounded in time and size, without redirects, with errors that name no secret."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
MAX_ERROR_BYTES: Final = 8 * 1024
MAX_WORDS: Final = 200
_CHUNK_BYTES: Final = 64 * 1024
_OK: Final = 200
_FAILED: Final = 500
_REFUSES_EVERYBODY: Final = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 407, 429})
"""Answers that have nothing to do with the query."""


class QueryFailure(StrEnum):
    """Why a query has no answer."""

    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    REFUSED = "refused"  # by the server, whatever is asked: its address, our token, too many requests
    INVALID = "invalid"  # the query itself
    FAILED = "failed"  # in the server
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"
    STALE = "stale"
    RESTING = "resting"  # not asked: it has failed again and again

    @property
    def of_endpoint(self) -> bool:
        """Whether the next query to this endpoint is likely to fail too."""
        return self in {self.UNREACHABLE, self.TIMED_OUT, self.REFUSED, self.FAILED}


class QueryError(Exception):
    """A query has no answer.

    Args:
        failure: why, one of a closed set.
        words: one line for the log, without tokens.
        retry_after_seconds: how long the server asked us to wait.
    """

    def __init__(self, failure: QueryFailure, words: str, retry_after_seconds: float | None = None) -> None:
        self.failure = failure
        self.retry_after_seconds = retry_after_seconds
        super().__init__(plain(words))


def plain(words: str) -> str:
    """One short line of printable characters: what a server says may be anything."""
    line = "".join(one if one.isprintable() else " " for one in words[: 2 * MAX_WORDS])
    return line if len(line) <= MAX_WORDS else line[: MAX_WORDS - 1] + "…"


class BoundedSession(requests.Session):
    """A session whose answers end: by the clock, by their size, and where they point elsewhere.

    It knows no proxies, netrc files or certificates of the environment: the settings say all.

    Args:
        monotonic: seconds that only go forward.
        seconds: for one answer, from sending to its last byte.
    """

    def __init__(self, monotonic: Callable[[], float], seconds: float) -> None:
        super().__init__()
        self.trust_env = False
        self.headers["Accept-Encoding"] = "identity"
        self._monotonic = monotonic
        self._seconds = seconds

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere: a token is meant for one server."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # noqa: ANN401
        """Send, and read the whole answer within the bounds.

        Raises:
            QueryError: there is no answer of status 200 within them.
            requests.RequestException: the server was not reached.
        """
        until = self._monotonic() + self._seconds
        options["stream"] = True
        response = super().send(request, **options)
        try:
            well = response.status_code == _OK
            body = self._read(response, MAX_ANSWER_BYTES if well else MAX_ERROR_BYTES, until)
            if not well:
                raise refused(response.status_code, body, response.headers.get("Retry-After"))
            if len(body) > MAX_ANSWER_BYTES:
                raise QueryError(QueryFailure.TOO_LARGE, f"the answer has more than {MAX_ANSWER_BYTES} bytes")
        finally:
            response.close()
        response.raw = io.BytesIO(body)
        return response

    def _read(self, response: requests.Response, most_bytes: int, until: float) -> bytes:
        """The body, at most a chunk more than `most_bytes` of it."""
        body = bytearray()
        try:
            while len(body) <= most_bytes:
                if self._monotonic() >= until:
                    raise QueryError(QueryFailure.TIMED_OUT, f"no whole answer within {self._seconds:g} s")
                chunk = response.raw.read1(_CHUNK_BYTES, decode_content=True)
                if not chunk:
                    break
                body += chunk
        except ReadTimeoutError as error:
            raise QueryError(QueryFailure.TIMED_OUT, "the answer stopped midway") from error
        except (HTTPError, OSError) as error:
            raise QueryError(QueryFailure.UNREACHABLE, f"the answer broke off: {type(error).__name__}") from error
        return bytes(body)


def refused(status: int, body: bytes, retry_after: str | None = None) -> QueryError:
    """The error that an answer of another status than 200 stands for; the server's own words where it has any."""
    try:
        document = json.loads(body)
        told = document.get("error", "") if isinstance(document, dict) else ""
    except (ValueError, RecursionError):
        told = ""
    words = f"HTTP {status}" + (f": {told}" if isinstance(told, str) and told else "")
    seconds = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else None
    if status >= _FAILED:
        return QueryError(QueryFailure.FAILED, words, seconds)
    return QueryError(QueryFailure.REFUSED if status in _REFUSES_EVERYBODY else QueryFailure.INVALID, words, seconds)
