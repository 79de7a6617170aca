"""The way to the API server: typed errors, paths, and a thin wrapper over the official asyncio client."""

from __future__ import annotations

from stowage.transport.api import Api
from stowage.transport.errors import (
    ApiError,
    ApiUnavailable,
    Cause,
    Conflict,
    CredentialsError,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    NotLeading,
    TooManyRequests,
    Unauthorized,
)

__all__ = [
    "Api",
    "ApiError",
    "ApiUnavailable",
    "Cause",
    "Conflict",
    "CredentialsError",
    "Forbidden",
    "Gone",
    "Invalid",
    "NotFound",
    "NotLeading",
    "TooManyRequests",
    "Unauthorized",
]
