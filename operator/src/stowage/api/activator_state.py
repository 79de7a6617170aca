"""What an activator says of the requests that come to it, as JSON between it and the operator."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

STATE_PATH: Final = "/state"
"""Of its status port; with `?version=N&seconds=S` it answers when the version is no longer N, or after S seconds."""
MOST_STATE_SECONDS: Final = 60.0
"""An answer is kept back no longer."""

Count = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]


class ActivatorState(msgspec.Struct, frozen=True, rename="camel"):
    """How an activator is.

    Attributes:
        version: it rises with every change of the counts, and begins at 0 with the process.
        waiting: requests that wait for a replica.
        running: requests that a replica works on, through it.
        oldest_seconds: for how long the first of those that wait has waited; 0: none does.
        idle_seconds: since the last request left; 0 while one is there, None: none has come since it was started.
    """

    version: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    waiting: Count
    running: Count
    oldest_seconds: Seconds = 0.0
    idle_seconds: Seconds | None = None
