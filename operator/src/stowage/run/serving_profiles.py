"""PerformanceProfiles that services name, as decisions use them: each asked for once, and again when it changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from stowage.act.serving import get_profile
from stowage.api.model_service import ModelService
from stowage.api.resource import InvalidObjectError
from stowage.decide.serving.performance import Performance
from stowage.decide.serving.profile_resource import performance_of
from stowage.transport import Api

AGAIN_SECONDS: Final = 600.0
"""A profile is asked for anew after so long, in case a change went unheard …"""
MISSING_SECONDS: Final = 30.0
"""… and one that is not there after so long."""

logger = logging.getLogger(__name__)


class _Asked(Struct, frozen=True):
    performance: Performance | None
    at: float
    fault: str = ""


class Profiles:
    """The profiles of all services.

    Args:
        api: the connection.
        clock: seconds since 1970.
        on_named: told the name of a profile that a service names from now on, or no more.
    """

    def __init__(
        self, api: Api, clock: Callable[[], float], on_named: Callable[[str], None] = lambda _name: None
    ) -> None:
        self._api = api
        self._clock = clock
        self._on_named = on_named
        self._asked: dict[str, _Asked] = {}
        self._named_by: dict[str, frozenset[str]] = {}  # by key of a service
        self._changes = 0

    async def of(self, service: ModelService) -> Mapping[str, Performance]:
        """The profiles that a service names, by name; those that are not there or cannot be used are left out."""
        named = frozenset(
            one.profile for role in service.spec.roles for one in role.variants if one.profile is not None
        )
        self._names(service.key, named)
        found = {name: await self._performance(name) for name in sorted(named)}
        return {name: one for name, one in found.items() if one is not None}

    def changed(self, name: str) -> tuple[str, ...]:
        """A profile came, changed or is gone; the keys of the services that name it."""
        self._asked.pop(name, None)
        self._changes += 1
        return tuple(sorted(key for key, named in self._named_by.items() if name in named))

    def services(self, name: str) -> int:
        """How many services name a profile, of those that were looked at."""
        return sum(name in named for named in self._named_by.values())

    def _names(self, key: str, named: frozenset[str]) -> None:
        before = self._named_by.get(key, frozenset())
        self._named_by[key] = named
        for name in sorted(before ^ named):
            self._on_named(name)

    def forget(self, key: str) -> None:
        """The service is gone; so are profiles that nobody else names."""
        self._names(key, frozenset())
        self._named_by.pop(key, None)
        named = frozenset().union(*self._named_by.values())
        self._asked = {name: one for name, one in self._asked.items() if name in named}

    def clear(self) -> None:
        """Somebody else leads: what is known will be old."""
        self._asked.clear()
        self._named_by.clear()
        self._changes += 1

    async def _performance(self, name: str) -> Performance | None:
        before, now = self._asked.get(name), self._clock()
        if before is not None:
            lasts = MISSING_SECONDS if before.performance is None else AGAIN_SECONDS
            if now - before.at < lasts:
                return before.performance
        performance, fault, changes = None, "", self._changes
        try:
            profile = await get_profile(self._api, name)
            performance = performance_of(profile.spec) if profile is not None else None
        except (InvalidObjectError, ValueError) as error:  # the latter: of its curves together
            fault = str(error)
            if before is None or before.fault != fault:
                logger.warning("PerformanceProfile %s cannot be used: %s", name, fault)
        if self._changes == changes:  # else the answer may be older than what was told meanwhile
            self._asked[name] = _Asked(performance, now, fault)
        return performance


def kv_tokens(service: ModelService, profiles: Mapping[str, Performance]) -> Mapping[str, int]:
    """By role, what the KV cache of a replica holds by the first profile that it has: not every engine tells."""
    found = {}
    for role in service.spec.roles:
        named = [profiles[one.profile] for one in role.variants if one.profile is not None and one.profile in profiles]
        found[role.name] = named[0].kv_capacity_tokens if named else 0
    return found
