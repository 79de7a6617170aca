"""From teams to tiers of a problem: waiting pods beyond their team's share come after all others of their priority."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.fairness import Amounts, Pool, Unit, tier, total, within_share
from stowage_scheduler.options import PackOptions


class Kind(Protocol):
    """What is read of the key of a class."""

    @property
    def requests(self) -> tuple[tuple[str, int], ...]:
        """Of one pod."""

    @property
    def priority(self) -> int:
        """Of all pods."""

    @property
    def eligible(self) -> frozenset[int]:
        """Nodes that may receive one."""

    @property
    def gang(self) -> int | None:
        """That the pods are placed with."""


_K = TypeVar("_K", bound=Kind)


def in_tiers(
    groups: Mapping[_K, list[Pod]],
    options: PackOptions,
    nodes: Sequence[Node],
    used: Sequence[Amounts],
    staying: Iterable[tuple[Pod, str]],
) -> dict[_K, list[Pod]]:
    """The groups of pods with tiers for priorities, cut where only some pods are within their team's share.

    Args:
        groups: pods by class, those that may move and those that wait.
        options: with teams.
        nodes: of the problem.
        used: by node, what pods take that stay.
        staying: those pods, with their nodes.
    """
    names = {node.name for node in nodes}
    movable = [pod for pods in groups.values() for pod in pods if pod.node is not None]
    left = [
        {name: amount - used[number].get(name, 0) for name, amount in node.allocatable.items()}
        for number, node in enumerate(nodes)
    ]
    reach = frozenset().union(*(key.eligible for key, pods in groups.items() if pods[-1].node is None))
    pool = Pool(
        capacity=total(node.allocatable for node in nodes),
        room=total({name: max(0, amount) for name, amount in left[number].items()} for number in sorted(reach)),
        standing=[*(pod for pod, where in staying if where in names), *movable],
        movable=movable,
        may_evict=options.evict_lower_priority,
    )
    within = within_share(options.teams, pool, _units(groups, left))
    found: dict[_K, list[Pod]] = defaultdict(list)
    for key, pods in groups.items():
        for pod in pods:
            upper = pod.node is not None or pod.uid in within
            found[_with_tier(key, tier(key.priority, within=upper))].append(pod)
    return found


def _units(groups: Mapping[_K, list[Pod]], left: Sequence[Amounts]) -> Iterator[Unit]:
    gangs: dict[int, list[tuple[Pod, bool]]] = defaultdict(list)
    for key, pods in groups.items():
        waiting = [pod for pod in pods if pod.node is None]
        possible = bool(waiting) and any(_holds(left[number], key.requests) for number in key.eligible)
        if key.gang is not None:
            gangs[key.gang] += [(pod, possible) for pod in waiting]
        else:
            yield from (Unit((pod,), possible) for pod in waiting)
    for members in gangs.values():
        pods_of_gang = sorted((pod for pod, _ in members), key=lambda pod: pod.key)
        yield Unit(tuple(pods_of_gang), all(possible for _, possible in members))


def _holds(left: Amounts, requests: tuple[tuple[str, int], ...]) -> bool:
    return all(amount <= left.get(name, 0) for name, amount in requests if amount)


def _with_tier(key: _K, priority: int) -> _K:
    return cast("_K", replace(cast("Struct", key), priority=priority))
