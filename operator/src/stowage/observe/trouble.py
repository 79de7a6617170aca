"""Why a collection is not followed, as a value: for conditions, metrics and the text of /readyz."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

from stowage.transport import ApiError

SERVER_ERRORS: Final = 500


class TroubleReason(StrEnum):
    """What kept a collection from being followed."""

    FORBIDDEN = "Forbidden"
    """403: a role lost a right, or never had it."""
    UNAUTHORIZED = "Unauthorized"
    """401: the credentials are not accepted."""
    NOT_SERVED = "NotServed"
    """404: the server has no such resource; its definition was deleted."""
    THROTTLED = "Throttled"
    """429: the server asks to slow down."""
    EXPIRED = "Expired"
    """410: the version that was known is too old; a new list mends it."""
    SILENT = "Silent"
    """An answer did not come in time, or an open watch said nothing for longer than bookmarks take."""
    UNREACHABLE = "Unreachable"
    """No connection, or it broke."""
    SERVER_ERROR = "ServerError"
    """5xx: the server is in trouble itself."""
    REFUSED = "Refused"
    """Any other answer that is no success."""


_BY_STATUS: Final = {
    401: TroubleReason.UNAUTHORIZED,
    403: TroubleReason.FORBIDDEN,
    404: TroubleReason.NOT_SERVED,
    410: TroubleReason.EXPIRED,
    429: TroubleReason.THROTTLED,
}


class Trouble(Struct, frozen=True):
    """Why, and in the server's words."""

    reason: TroubleReason
    message: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def trouble_of(error: ApiError) -> Trouble:
    """What an error means for whoever follows a collection."""
    if error.status == 0:
        reason = TroubleReason.SILENT if error.reason == "Timeout" else TroubleReason.UNREACHABLE
    elif error.status >= SERVER_ERRORS:
        reason = TroubleReason.SERVER_ERROR
    else:
        reason = _BY_STATUS.get(error.status, TroubleReason.REFUSED)
    return Trouble(reason, str(error))
