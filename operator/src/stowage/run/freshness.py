"""Whether what the extender knows can be trusted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from stowage.observe.reflector import Reflector

STALE_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class Freshness:
    """Whether the reservation table follows the cluster; says so when that changes.

    It does not before the first lists are complete, and not when a watch has been down for `STALE_SECONDS`.
    A watch without events is no reason: bookmarks come once a minute only.

    Args:
        reflectors: by what they follow.
        clock: the reflectors' clock.
    """

    def __init__(self, reflectors: Mapping[str, Reflector[Any]], clock: Callable[[], float]) -> None:
        self._reflectors = reflectors
        self._clock = clock
        self._fresh: bool | None = None

    def __call__(self) -> bool:
        """Whether pods may be steered."""
        return not self.problems()

    def problems(self) -> list[str]:
        """What is not followed, one sentence each."""
        now = self._clock()
        found = []
        for kind, reflector in self._reflectors.items():
            since = reflector.disconnected_since
            if not reflector.synced:
                found.append(f"the first list of {kind} is not complete: every pod is admitted everywhere")
            elif since is not None and now - since >= STALE_SECONDS:
                found.append(f"no watch of {kind} for {STALE_SECONDS:g} s: every pod is admitted everywhere")
        self._tell(found)
        return found

    async def keep_looking(self) -> None:
        """Notice each change in time, also when nobody asks."""
        while True:
            self.problems()
            await asyncio.sleep(LOOK_SECONDS)

    def _tell(self, found: list[str]) -> None:
        fresh = not found
        if fresh and not self._fresh:
            logger.info("following %s: pods of active plans are steered", " and ".join(self._reflectors))
        elif self._fresh and not fresh:
            for problem in found:
                logger.warning("%s", problem)
        if fresh or self._fresh is not None:
            self._fresh = fresh
