"""Places that several tenants share: they take turns, and none of them has all places at once."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairPlaces:
    """Places of one event loop.

    Who waits is served tenant by tenant, and in the order of coming within a tenant.

    Args:
        places: in all.
        share: of one tenant at once; whoever names no tenant may have all.
    """

    def __init__(self, places: int, share: int) -> None:
        self._free = self._places = places
        self._share = share
        self._taken: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # in the order of turns

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it; an empty name: of no tenant."""
        await self._take(tenant)
        try:
            yield
        finally:
            self._give_back(tenant)

    async def _take(self, tenant: str) -> None:
        if self._may_take(tenant) and tenant not in self._waiting:
            self._free -= 1
            self._taken[tenant] += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(tenant)  # it was this one's turn, and nobody is here any more
            elif tenant in self._waiting:
                self._waiting[tenant].remove(turn)
                self._forget_if_none_waits(tenant)
            raise

    def _give_back(self, tenant: str) -> None:
        self._free += 1
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]
        while (following := next(filter(self._may_take, self._waiting), None)) is not None:
            turns = self._waiting.pop(following)
            self._free -= 1
            self._taken[following] += 1
            turns.popleft().set_result(None)
            if turns:
                self._waiting[following] = turns  # behind the others

    def _may_take(self, tenant: str) -> bool:
        return self._free > 0 and self._taken[tenant] < (self._share if tenant else self._places)

    def _forget_if_none_waits(self, tenant: str) -> None:
        if not self._waiting[tenant]:
            del self._waiting[tenant]
