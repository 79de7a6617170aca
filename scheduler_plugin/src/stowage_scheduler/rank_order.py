"""Ranks of a gang side by side: which of its pods gets which of the places that the packing found.

Pods of one class are interchangeable, so this costs the packing nothing. Ranks that follow each other shall stand on
one node, else in one domain of the innermost kind, and so on: the sum of the distances between neighbours is made
small. Distances in a tree of domains are an ultrametric, where no path through all places is shorter than the one that
leaves each domain only when it is done with it. So for one class of pods it is enough to sort. Where pods of the gang
run already, or differ, the least sum is found by dynamic programming over the places that are left, and by swaps where
that has too many states.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from math import comb

from msgspec import Struct

from stowage_scheduler.assign import Change
from stowage_scheduler.build import Build
from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.gangs import GangKey, GangState, gang_key, rank_of

USUAL_LEVELS = (
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/block",
    "topology.kubernetes.io/rack",
)
"""Node labels that tell how near two nodes are, the widest first, for gangs that name none."""

Path = tuple[str, ...]
"""The domains of a node from the widest to the node itself."""

_MOST_STATES = 1_000  # of one rank; more take longer than they are worth
_MOST_CHOICES = 500_000  # of all ranks together
_MOST_SWAPS = 20_000


class Seat(Struct, frozen=True):
    """A pod in the order of ranks: where it stands already, or the class whose places it may get one of."""

    path: Path | None = None
    kind: int = 0


def distance(one: Path, other: Path) -> int:
    """Levels up to the innermost domain that two places share: 0 on one node, 1 in one rack, and so on."""
    shared = 0
    for mine, theirs in zip(one, other, strict=True):
        if mine != theirs:
            break
        shared += 1
    return len(one) - shared


def in_rank_order(build: Build, made: tuple[Change, ...]) -> tuple[Change, ...]:
    """The changes with the places of each gang dealt out by rank; where nobody has a rank the same tuple.

    Args:
        build: what the changes were made for.
        made: all of them; those of pods that wait may get other places of their class.
    """
    if not build.gangs:
        return made
    numbers: dict[GangKey, list[int]] = defaultdict(list)
    for number, change in enumerate(made):
        pod = build.pods[change.uid]
        key = gang_key(pod)
        if key is not None and pod.node is None and change.target is not None:
            numbers[key].append(number)
    result = list(made)
    for key, mine in numbers.items():
        if any(rank_of(pod) is not None for pod in build.gangs[key].waiting):
            dealt = _deal(build, build.gangs[key], [made[number] for number in mine])
            for number, change in zip(mine, dealt, strict=True):
                result[number] = change
    return tuple(result)


def _deal(build: Build, gang: GangState, made: Sequence[Change]) -> list[Change]:
    """The arrivals of one gang: the lowest ranks of each class come, and neighbours stand close."""
    coming = _lowest(build, gang, made)
    paths = _paths(gang, build.node_facts)
    number_of = {node.name: number for number, node in enumerate(build.node_facts)}
    places: dict[int, Counter[int]] = defaultdict(Counter)
    for change in made:
        if change.target is not None:
            places[change.class_index][change.target] += 1
    seats = [
        (rank, pod.name, Seat(paths[number_of[pod.node]]), "")
        for pod in gang.running
        if (rank := rank_of(pod)) is not None and pod.node in number_of
    ]
    seats += [
        (rank, pod.name, Seat(kind=index), pod.uid)
        for index, pods in coming.items()
        for pod in pods
        if (rank := rank_of(pod)) is not None
    ]
    seats.sort(key=lambda seat: (seat[0], seat[1]))
    free = {index: Counter({paths[node]: n for node, n in nodes.items()}) for index, nodes in places.items()}
    chosen = dict(zip([uid for *_, uid in seats], arranged([seat for _, _, seat, _ in seats], free), strict=True))
    node_at = {path: number for number, path in enumerate(paths)}
    found: list[Change] = []
    for index, pods in coming.items():
        left = free[index] - Counter(chosen[pod.uid] for pod in pods if pod.uid in chosen)
        rest = iter(sorted(left.elements()))
        found += [
            Change(pod.uid, index, None, node_at[chosen[pod.uid] if pod.uid in chosen else next(rest)]) for pod in pods
        ]
    return found


def _lowest(build: Build, gang: GangState, made: Sequence[Change]) -> dict[int, list[Pod]]:
    """By class the pods that come, as many as the packing chose: those of the lowest ranks, then those without one."""
    waiting = {pod.uid: pod for pod in gang.waiting}
    found: dict[int, list[Pod]] = {}
    for index, count in sorted(Counter(change.class_index for change in made).items()):
        pods = [waiting[uid] for uid in build.problem.classes[index].pending_uids if uid in waiting]
        ranked = sorted(pods, key=lambda pod: (rank_of(pod) is None, rank_of(pod) or 0))
        found[index] = ranked[:count]
    return found


def _paths(gang: GangState, nodes: Sequence[Node]) -> list[Path]:
    """Where each node is. Domains of a kind that has fewer of them are wider."""
    keys = tuple({*gang.required, *gang.preferred}) or USUAL_LEVELS
    values = {key: {node.labels[key] for node in nodes if key in node.labels} for key in keys}
    kinds = [key for key in keys if values[key]]
    if keys != USUAL_LEVELS:
        kinds.sort(key=lambda key: (len(values[key]), key))
    # a node without the label is near to no other
    return [(*(node.labels.get(key, f"\0{node.name}") for key in kinds), node.name) for node in nodes]


def arranged(seats: Sequence[Seat], free: Mapping[int, Counter[Path]]) -> list[Path]:
    """A place for each seat, so that the distances between neighbours add up to little.

    Args:
        seats: in the order of ranks.
        free: by class, how many pods of it go to each place; there may be more of them than seats.

    Returns:
        Places in the order of `seats`, for those that stand already where they stand.
    """
    open_seats = Counter(seat.kind for seat in seats if seat.path is None)
    alike = len(open_seats) == 1 and not any(seat.path for seat in seats)
    if alike and all(free[kind].total() == count for kind, count in open_seats.items()):
        (kind,) = open_seats
        return sorted(free[kind].elements())
    return _by_states(seats, free) or _by_swaps(seats, free)


def _by_states(seats: Sequence[Seat], free: Mapping[int, Counter[Path]]) -> list[Path] | None:
    """The least sum: what is best from here on depends on the last place and on those that are left alone."""
    kinds = sorted(free)
    places = [(kind, path) for kind in kinds for path in sorted(free[kind])]
    if len(places) > _MOST_STATES:  # each could be the first one taken
        return None
    looked_at = 0
    state = tuple(free[kind][path] for kind, path in places)
    # by (last place, what is left): the cost so far, and the places taken, linked backwards
    best: dict[tuple[Path | None, tuple[int, ...]], tuple[int, tuple[Path, object] | None]] = {(None, state): (0, None)}
    for seat in seats:
        further: dict[tuple[Path | None, tuple[int, ...]], tuple[int, tuple[Path, object] | None]] = {}
        for (last, left), (cost, taken) in best.items():
            for path, after in _choices(seat, places, left):
                total = cost + (distance(last, path) if last is not None else 0)
                key = path, after
                if key not in further or total < further[key][0]:
                    further[key] = total, (path, taken)
                looked_at += 1
                if len(further) > _MOST_STATES or looked_at > _MOST_CHOICES:
                    return None
        best = further
    link: object = min(best.items(), key=lambda item: (item[1][0], item[0]))[1][1]
    found: list[Path] = []
    while isinstance(link, tuple):
        found.append(link[0])
        link = link[1]
    return found[::-1]


def _choices(
    seat: Seat, places: Sequence[tuple[int, Path]], left: tuple[int, ...]
) -> Iterator[tuple[Path, tuple[int, ...]]]:
    if seat.path is not None:
        yield seat.path, left
        return
    for number, (kind, path) in enumerate(places):
        if kind == seat.kind and left[number]:
            yield path, (*left[:number], left[number] - 1, *left[number + 1 :])


def _by_swaps(seats: Sequence[Seat], free: Mapping[int, Counter[Path]]) -> list[Path]:
    """From several beginnings, change places between two of a class as long as that helps."""
    rest = {kind: iter(sorted(paths.elements())) for kind, paths in free.items()}
    in_order = [seat.path if seat.path is not None else next(rest[seat.kind]) for seat in seats]
    beginnings = (in_order, _nearest(seats, free), _nearest(seats[::-1], free)[::-1])
    return min((_swapped(seats, begin) for begin in beginnings), key=neighbour_distance)


def _nearest(seats: Sequence[Seat], free: Mapping[int, Counter[Path]]) -> list[Path]:
    """Each on the place that is nearest to the one before; of equal ones the first."""
    left = {kind: sorted(paths.elements()) for kind, paths in free.items()}
    found: list[Path] = []
    for seat in seats:
        path = seat.path
        if path is None:
            mine = left[seat.kind]
            path = mine.pop(_nearest_to(found[-1], mine) if found else 0)
        found.append(path)
    return found


def _nearest_to(place: Path, others: Sequence[Path]) -> int:
    """Which of some places, in their order, is the first of the nearest ones: those that share most stand beside it."""
    at = bisect_left(others, place)
    near = min(distance(place, other) for other in others[max(0, at - 1) : at + 1])
    return bisect_left(others, place[: len(place) - near])


def _swapped(seats: Sequence[Seat], found: list[Path]) -> list[Path]:
    by_kind: dict[int, list[int]] = defaultdict(list)
    for number, seat in enumerate(seats):
        if seat.path is None:
            by_kind[seat.kind].append(number)
    if sum(comb(len(mine), 2) for mine in by_kind.values()) > _MOST_SWAPS:  # not one round, and a long list
        return found
    pairs = [pair for mine in by_kind.values() for pair in combinations(mine, 2)]
    for _ in range(_MOST_SWAPS // max(1, len(pairs))):
        better = False
        for one, other in pairs:
            if found[one] == found[other]:
                continue
            before = _around(found, one, other)
            found[one], found[other] = found[other], found[one]
            if _around(found, one, other) < before:
                better = True
            else:
                found[one], found[other] = found[other], found[one]
        if not better:
            break
    return found


def _around(found: Sequence[Path], *numbers: int) -> int:
    """The distances to the neighbours of some places."""
    pairs = {(n, n + 1) for number in numbers for n in (number - 1, number) if 0 <= n < len(found) - 1}
    return sum(distance(found[one], found[other]) for one, other in pairs)


def neighbour_distance(places: Sequence[Path]) -> int:
    """The sum of the distances between places that follow each other."""
    return sum(distance(one, other) for one, other in pairwise(places))
