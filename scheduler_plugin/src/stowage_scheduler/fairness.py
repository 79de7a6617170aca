"""Who comes first among equals: weighted dominant resource fairness by progressive filling.

Ghodsi et al., "Dominant Resource Fairness: Fair Allocation of Multiple Resource Types", NSDI 2011, algorithm 1: the
team whose largest share of any resource is least gets the next pod, until the room is used up; shares are divided by
weights. Here all nodes count as one pool. What comes out is a set of waiting pods, those *within their team's share*.
They come before the others of their priority, so a plan places as many of them as can be, moving others if need be, and
fills what is left with whoever fits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from math import lcm

from msgspec import Struct

from stowage_scheduler.cluster import OF_VOLUMES, PODS, Pod
from stowage_scheduler.teams import Membership, Team

_FINE = 10**12  # shares are compared in such parts
Amounts = Mapping[str, int]


class Unit(Struct, frozen=True):
    """Waiting pods that get their places together: a gang, or a single pod. `possible`: some node could hold each."""

    pods: tuple[Pod, ...]
    possible: bool = True

    @property
    def priority(self) -> int:
        """Of the most urgent pod."""
        return max(pod.priority for pod in self.pods)

    @property
    def requests(self) -> dict[str, int]:
        """Of all pods together."""
        return total(pod.requests for pod in self.pods)


class Pool(Struct, frozen=True):
    """What there is to share.

    `capacity` is that of all nodes, `room` what pods that stay leave of the nodes that waiting pods may use. `standing`
    are all pods that hold some of it, those that may move among them; `movable` are these alone. With `may_evict`
    pods of lower priority make room.
    """

    capacity: Amounts
    room: Amounts
    standing: Sequence[Pod]
    movable: Sequence[Pod]
    may_evict: bool = True


def within_share(teams: Sequence[Team], pool: Pool, units: Iterable[Unit]) -> frozenset[str]:
    """UIDs of the waiting pods that are within their team's share.

    Tiers of priority take their turn from high to low; where only one team waits, all its pods are within its share.
    """
    filling = _Filling(teams, pool)
    tiers: dict[int, list[Unit]] = defaultdict(list)
    for unit in units:
        if unit.possible:
            tiers[unit.priority].append(unit)
    found: set[str] = set()
    for priority in sorted(tiers, reverse=True):
        for unit in filling.filled(priority, tiers[priority]):
            found.update(pod.uid for pod in unit.pods)
    return frozenset(found)


class _Filling:
    def __init__(self, teams: Sequence[Team], pool: Pool) -> None:
        self.pool = pool
        self.membership = Membership(teams)
        weights = [*(team.weight for team in teams), 1]
        common = lcm(*weights)
        self.factors = [common // weight for weight in weights]  # so that shares by weight stay whole numbers
        self.held: list[dict[str, int]] = [{} for _ in weights]
        for pod in pool.standing:
            _add(self.held[self.membership.of(pod)], pod.requests)
        self.granted: dict[str, int] = {}

    def filled(self, priority: int, units: Collection[Unit]) -> list[Unit]:
        """The units of one tier that are within their team's share."""
        room = self._room(priority)
        queues: dict[int, list[Unit]] = defaultdict(list)
        # most pods first, as everywhere: within a team the small ones go first
        for unit in sorted(units, key=lambda unit: (self._size(unit), *_age(unit)), reverse=True):
            queues[self.membership.of(unit.pods[0])].append(unit)
        found: list[Unit] = []
        turns = [(self._share(team), team) for team in queues]
        heapify(turns)
        while turns:
            _, team = heappop(turns)
            granted = self._next(queues[team], room)
            if granted is None:
                continue
            for amounts, sign in ((room, -1), (self.held[team], 1), (self.granted, 1)):
                _add(amounts, granted.requests, sign)
            found.append(granted)
            heappush(turns, (self._share(team), team))
        return [*units] if len(queues) == 1 else found

    def _room(self, priority: int) -> dict[str, int]:
        room = dict(self.pool.room)
        for pod in self.pool.movable:
            if pod.priority >= priority or not self.pool.may_evict:
                _add(room, pod.requests, -1)
        _add(room, self.granted, -1)
        return room

    @staticmethod
    def _next(queue: list[Unit], room: Amounts) -> Unit | None:
        """The next unit of a team that the room still holds; what it does not hold now it never will."""
        while queue:
            unit = queue.pop()
            if all(amount <= room.get(name, 0) for name, amount in unit.requests.items() if amount):
                return unit
        return None

    def _share(self, team: int) -> int:
        """The dominant share of a team, by its weight."""
        return self._largest(self.held[team]) * self.factors[team]

    def _size(self, unit: Unit) -> int:
        return self._largest(unit.requests)

    def _largest(self, amounts: Amounts) -> int:
        capacity = self.pool.capacity
        return max((amount * _FINE // capacity[r] for r, amount in amounts.items() if _counts(r, capacity)), default=0)


def dominant(amounts: Amounts, capacity: Amounts) -> tuple[float, str | None]:
    """The largest share of any resource, and of which; of equal ones the first by name."""
    shares = [(amount / capacity[name], name) for name, amount in sorted(amounts.items()) if _counts(name, capacity)]
    share, resource = max(shares, key=lambda one: one[0], default=(0.0, ""))
    return (share, resource) if share else (0.0, None)


def _counts(resource: str, capacity: Amounts) -> bool:
    """Whether a resource is one that teams compete for; the number of pods is not, nor are volumes."""
    return resource != PODS and not resource.startswith(OF_VOLUMES) and capacity.get(resource, 0) > 0


def total(requests: Iterable[Amounts]) -> dict[str, int]:
    """The sum of several amounts."""
    found: dict[str, int] = {}
    for one in requests:
        _add(found, one)
    return found


def _add(amounts: dict[str, int], more: Amounts, sign: int = 1) -> None:
    for name, amount in more.items():
        amounts[name] = amounts.get(name, 0) + sign * amount


def _age(unit: Unit) -> tuple[float, str]:
    return max((pod.created_at, pod.key) for pod in unit.pods)


def tier(priority: int, *, within: bool) -> int:
    """The tier of a pod in a problem with teams: each priority has two, the upper one for those within their share."""
    return 2 * priority + within


def by_priority(tiers: Mapping[int, int]) -> dict[int, int]:
    """Counts of tiers or higher, as counts of priorities or higher."""
    return {one // 2: tiers[one] for one in sorted(tiers, reverse=True)}
