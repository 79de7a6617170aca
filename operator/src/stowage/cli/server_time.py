"""The time of day that commands go by: the API server's, for this machine's clock may be wrong."""

from __future__ import annotations

import contextlib
import time

from stowage.transport import paths
from stowage.transport.api import Api
from stowage.transport.errors import Forbidden


async def server_time(api: Api) -> float:
    """Seconds since the epoch by the API server's clock; by this machine's where the server does not tell.

    Raises:
        ApiError: nothing was heard of the server yet, and it does not answer.
    """
    if api.clock.now() is None:
        with contextlib.suppress(Forbidden):  # an answer all the same
            await api.get(paths.VERSION)
    return api.clock.otherwise(time.time)()  # noqa: TID251 - only where nothing better is known
