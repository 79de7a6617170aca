"""Errors of the API server, one class per thing that callers do differently.

They carry the names of Kubernetes' own reasons, hence without the suffix Error.
"""

# ruff: noqa: N818
from __future__ import annotations

from typing import ClassVar, Final

import msgspec

DISRUPTION_BUDGET = "DisruptionBudget"  # cause of a 429 answer to an eviction that a budget forbids


class Cause(msgspec.Struct, frozen=True):
    """One entry of `details.causes` of a Kubernetes Status."""

    reason: str = ""
    message: str = ""
    field: str = ""


class CredentialsError(Exception):
    """No usable way to reach a cluster was found: the message says what was tried and what to do."""


class ApiError(Exception):
    """A request that the API server refused, or that did not reach it.

    Args:
        request: what was asked, as `METHOD path`.
        status: HTTP status; 0 when no answer came.
        reason: Kubernetes' machine-readable reason, like `NotFound` or `AlreadyExists`.
        message: the server's words.
        causes: single reasons, as given for refused evictions and invalid objects.
        retry_after_seconds: how long the server asks to wait; None when it does not say.
    """

    def __init__(
        self,
        request: str,
        *,
        status: int,
        reason: str = "",
        message: str = "",
        causes: tuple[Cause, ...] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{request}: {status or 'no answer'} {reason}: {message}")
        self.request = request
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = causes
        self.retry_after_seconds = retry_after_seconds


class Unauthorized(ApiError):
    """401: the credentials are not accepted."""


class Forbidden(ApiError):
    """403: the credentials are accepted, the request is not allowed."""


class NotFound(ApiError):
    """404: the object or the resource type does not exist."""


class Conflict(ApiError):
    """409: the object changed since it was read, already exists, or a precondition failed."""


class Gone(ApiError):
    """410: a resource version or continue token is too old; list again."""


class Invalid(ApiError):
    """The object breaks its schema or a validation rule.

    422, where `causes` names the fields; and 400 and 500, where a field of the object is unknown to its kind, or its
    value is of another type: the same object is refused as long as it is sent.
    """


class TooManyRequests(ApiError):
    """429: the server is busy, or a PodDisruptionBudget forbids an eviction."""

    @property
    def by_disruption_budget(self) -> bool:
        """Whether a PodDisruptionBudget refused, and not an overloaded server."""
        return any(cause.reason == DISRUPTION_BUDGET for cause in self.causes)


class ApiUnavailable(ApiError):
    """A 5xx answer, a broken connection or a time-out: nobody knows whether the request took effect."""


class NotLeading(ApiError):
    """A change that was not sent: this process may not write now.

    Args:
        request: what would have been asked, as `METHOD path`.
    """

    def __init__(self, request: str) -> None:
        super().__init__(request, status=0, reason="NotLeading", message="not sent: another process may lead by now")


class _Details(msgspec.Struct):
    causes: tuple[Cause, ...] | None = None
    retryAfterSeconds: float | None = None  # noqa: N815 - the field's name on the wire


class Status(msgspec.Struct):
    """A Kubernetes Status, as far as errors need it."""

    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None

    BY_CODE: ClassVar[dict[int, type[ApiError]]] = {
        401: Unauthorized,
        403: Forbidden,
        404: NotFound,
        409: Conflict,
        410: Gone,
        422: Invalid,
        429: TooManyRequests,
    }

    def error(self, request: str, *, http_status: int, retry_after: str | None = None) -> ApiError:
        """The typed error for this status.

        Args:
            request: what was asked, as `METHOD path`.
            http_status: used when the body carries no code.
            retry_after: the `Retry-After` header in seconds, used when the body does not say.
        """
        code = self.code or http_status
        details = self.details or _Details()
        wait_seconds = details.retryAfterSeconds
        if not wait_seconds and retry_after is not None and retry_after.isdecimal():
            wait_seconds = float(retry_after)
        kind = self.BY_CODE.get(code, ApiUnavailable if code >= 500 else ApiError)
        message = self.message or ""
        if any(words in message for words in _UNREADABLE):
            kind, message = Invalid, message.partition(_VALUE_FOLLOWS)[0]
        return kind(
            request,
            status=code,
            reason=self.reason or "",
            message=message,
            causes=details.causes or (),
            retry_after_seconds=wait_seconds or None,
        )


_status = msgspec.json.Decoder(Status)
_UNREADABLE: Final = (
    " cannot be handled as a ",  # 400, of an object that is created or replaced
    "failed to create typed patch object ",  # 500, of one that is applied
    "failed to convert new object ",  # 500, of one that is patched or applied: a quantity that is none
)
"""What API servers say of an object that they can not read; their reason is that of many other errors."""
_VALUE_FOLLOWS: Final = ", got &"  # it may be what nobody shall read in a status or a log
WORDS_OF_A_PROXY = 200  # characters of a body that is no Status, kept for the message


def from_response(request: str, http_status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """The typed error for an answer of 400 or more; a body that is no Status is quoted, cut short."""
    try:
        status = _status.decode(body)
    except msgspec.DecodeError:
        status = Status(message=body[:WORDS_OF_A_PROXY].decode(errors="replace").strip())
    return status.error(request, http_status=http_status, retry_after=retry_after)
