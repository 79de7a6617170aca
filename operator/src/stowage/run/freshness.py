"""Whether what a process knows can be trusted, and whether it must be started again.

A process that lost sight of the cluster says so and does nothing that it might regret; it is not started again for
that, since a new one would see no more. It is when its own parts hang.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from stowage.observe.reflector import Reflector
from stowage.observe.trouble import Trouble, TroubleReason

STALE_SECONDS: Final = 10.0
DOUBT_SECONDS: Final = 2.0
DOUBT_LASTS_SECONDS: Final = 10.0
BLIND_SECONDS: Final = 3.0  # a watch that is resumed sooner has missed nothing that counts
LOOK_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


def stuck(reflectors: Mapping[str, Reflector[Any]], limit_seconds: float) -> list[str]:
    """Why a process should be started again, one sentence each.

    Args:
        reflectors: by what they follow.
        limit_seconds: how long one may do nothing; longer than a silent watch is left alone.
    """
    seconds = {kind: reflector.stuck_seconds() for kind, reflector in reflectors.items()}
    return [f"following {kind} hangs for {age:.0f} s" for kind, age in seconds.items() if age > limit_seconds]


class Sight:
    """What a process does not see now, and why.

    Args:
        reflectors: by what they follow.
        clock: the reflectors' clock.
        beside: troubles of what is followed by other means.
    """

    def __init__(
        self,
        reflectors: Mapping[str, Reflector[Any]],
        clock: Callable[[], float],
        beside: Callable[[], Mapping[str, Trouble]] = dict,
    ) -> None:
        self._reflectors = reflectors
        self._clock = clock
        self._beside = beside
        self._told: dict[str, TroubleReason] = {}
        self._doubts: dict[str, float] = {}  # since when

    @property
    def complete(self) -> bool:
        """Whether facts are as new as they can be: nobody decides on older ones."""
        return not any(map(self._lost, self._reflectors.values()))

    def troubles(self) -> Mapping[str, Trouble]:
        """What is not followed, and why; empty when all is."""
        lost = {
            kind: reflector.trouble or Trouble(TroubleReason.UNREACHABLE, "not connected yet")
            for kind, reflector in self._reflectors.items()
            if self._lost(reflector) and (reflector.trouble is not None or reflector.synced)
        }
        found = {**lost, **self._beside()}
        self._tell(found)
        return found

    def degraded(self) -> Mapping[str, str]:
        """The same in words, by what is not followed."""
        return {kind: str(trouble) for kind, trouble in self.troubles().items()}

    def problems(self) -> list[str]:
        """The same as sentences."""
        words = [f"{kind} is not followed: {why}" for kind, why in self.degraded().items()]
        if not words and not all(reflector.synced for reflector in self._reflectors.values()):
            words = ["first lists are not complete"]
        return words

    def doubt(self, kind: str) -> None:
        """The server was asked and knows more than the watch of a kind has told.

        A moment later it will have told. A watch that is doubted for longer is frozen, and is left.
        """
        if kind not in self._reflectors:
            return
        now = self._clock()
        since = self._doubts.setdefault(kind, now)
        if now - since > DOUBT_LASTS_SECONDS:  # an old doubt, long dispelled
            self._doubts[kind] = now
        elif now - since >= DOUBT_SECONDS:
            del self._doubts[kind]
            self._reflectors[kind].distrust(f"the server told of changes {now - since:.0f} s ago")

    def _lost(self, reflector: Reflector[Any]) -> bool:
        since = reflector.disconnected_since
        return since is not None and self._clock() - since >= BLIND_SECONDS

    def _tell(self, found: Mapping[str, Trouble]) -> None:
        reasons = {kind: trouble.reason for kind, trouble in found.items()}
        if reasons == self._told:
            return
        if reasons:
            words = ", ".join(f"{kind} ({reason})" for kind, reason in reasons.items())
            logger.warning("degraded, nothing new is begun: not followed: %s", words)
        else:
            logger.info("everything is followed again")
        self._told = reasons


ALL_SEEN: Final = Sight({}, lambda: 0.0)  # of parts that follow nothing


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
            why = f" ({reflector.trouble})" if reflector.trouble is not None else ""
            if not reflector.synced:
                found.append(f"the first list of {kind} is not complete: every pod is admitted everywhere{why}")
            elif since is not None and now - since >= STALE_SECONDS:
                found.append(f"no watch of {kind} for {STALE_SECONDS:g} s: every pod is admitted everywhere{why}")
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
