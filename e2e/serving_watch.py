"""How many replicas a service asked for while a story was played."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise

from serving_scene import Service

POLL_SECONDS = 0.5


@dataclass
class Watch:
    """Counts of one or more roles, in the order of `roles`; one entry for each time that any of them changed."""

    roles: tuple[str, ...]
    counts: list[tuple[int, ...]] = field(default_factory=list)

    def of(self, role: str) -> list[int]:
        """How the count of a role went, without repetition."""
        place = self.roles.index(role)
        found = [one[place] for one in self.counts]
        return [count for number, count in enumerate(found) if not number or count != found[number - 1]]

    def most(self, role: str) -> int:
        """The highest count of a role."""
        return max(self.of(role))

    def changes(self, role: str) -> int:
        """How often the count of a role changed."""
        return len(self.of(role)) - 1

    def falls(self, role: str) -> bool:
        """Whether the count of a role ever became less."""
        return any(later < earlier for earlier, later in pairwise(self.of(role)))

    def is_one_hill(self, role: str) -> bool:
        """Whether the count of a role never rose after it had fallen."""
        found = self.of(role)
        top = found.index(max(found))
        up, down = found[: top + 1], found[top:]
        return up == sorted(up) and down == sorted(down, reverse=True)


@contextlib.asynccontextmanager
async def watched(service: Service, *roles: str) -> AsyncIterator[Watch]:
    """Look at a service all through the block; by default at its role `unified`."""
    watch = Watch(roles or ("unified",))
    done = asyncio.Event()
    looking = asyncio.create_task(_look(service, watch, done))
    try:
        yield watch
    finally:
        done.set()
        await looking


async def _look(service: Service, watch: Watch, done: asyncio.Event) -> None:
    while not done.is_set():
        known = {one["name"]: one["desired"] for one in (await service.status()).get("roles", [])}
        now = tuple(known[name] for name in watch.roles)
        if not watch.counts or watch.counts[-1] != now:
            watch.counts.append(now)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), POLL_SECONDS)
