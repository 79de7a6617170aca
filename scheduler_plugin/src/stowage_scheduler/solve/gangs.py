"""Places for gangs that need more nodes than one neighbourhood has.

A gang counts only as a whole, so a search that frees a few nodes at a time sees no gain until the last of its
pods has a place. Here one gang at a time is loosened: its pods are placed one by one like any others, by the
ordinary search, while nobody else waits. If all of them found a place and the plan is better for it, it is
kept; if not, nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass, Problem, WholeGang
from stowage_scheduler.solve.search import Search

_MOST_DOMAINS = 6  # each gets an equal share of the time
_STALL = 2  # fruitless changes between filling and gathering until a gang is given up


def place_gangs(search: Search, searching: Callable[[Placement], Search], until: float) -> None:
    """Try to place each gang that waits, those of the highest priority first.

    Args:
        search: gets what is better than its best.
        searching: begins a search from a placement, within the same limits as `search`.
        until: seconds or units of the limit that must be left over.
    """
    waiting = _waiting(search.best)
    for turn, number in enumerate(waiting):
        share = (search.limit.left() - until) / (len(waiting) - turn)
        if share <= 0:
            return
        tries = [(domain, above) for domain in _domains(search.best, number) for above in (False, True)]
        end = search.limit.left() - share
        for left, (domain, above) in zip(range(len(tries), 0, -1), tries, strict=True):
            spare = end + (search.limit.left() - end) * (left - 1) / left
            found = _attempt(search.best, number, searching, spare, domain, above=above)
            if found is not None and found.score() > search.best_score:
                search.adopt(found)
                break


def _domains(placement: Placement, number: int) -> list[frozenset[int]]:
    """Where to look for room for a gang; of its domains those that could hold it, the emptiest first."""
    problem = placement.problem
    gang = problem.gangs[number]
    if not gang.levels:
        return [frozenset(range(len(problem.nodes)))]
    found = [domain for level in gang.levels for domain in level if _holds(problem, number, domain)]
    taken = {domain: sum(sum(placement.on_node[node].values()) for node in domain) / len(domain) for domain in found}
    return sorted(found, key=lambda domain: (taken[domain], sorted(domain)))[:_MOST_DOMAINS]


def _holds(problem: Problem, number: int, domain: frozenset[int]) -> bool:
    gang = problem.gangs[number]
    classes = [problem.classes[index] for index in gang.classes]
    most = [_most(problem, pod_class, domain) for pod_class in classes]
    if gang.need is None:
        return all(count == c.total for c, count in zip(classes, most, strict=True))
    return sum(most) >= gang.need


def _most(problem: Problem, pod_class: PodClass, domain: frozenset[int]) -> int:
    nodes = domain & pod_class.eligible
    return min(pod_class.total, sum(min(pod_class.limit(n), problem.fit(pod_class, n)) for n in nodes))


def _waiting(placement: Placement) -> list[int]:
    """Gangs without a place that could have one, those of the highest priority first."""
    problem = placement.problem
    found = []
    for number, gang in enumerate(problem.gangs):
        classes = [problem.classes[index] for index in gang.classes]
        waits = not any(placement.placed(c) for c in classes) and all(c.preempts for c in classes)
        if waits and problem.might_hold(number, len(problem.nodes)):
            found.append((-max(c.priority for c in classes), sum(c.total for c in classes), number))
    return [number for _, _, number in sorted(found)]


def _attempt(
    best: Placement,
    number: int,
    searching: Callable[[Placement], Search],
    until: float,
    domain: frozenset[int],
    *,
    above: bool,
) -> Placement | None:
    """The placement with the gang in place on nodes of a domain, None when too few of its pods found one.

    With `above` its pods count more than others of their priority: one of them may take the place of several.
    """
    loose = _loosened(best, number, domain, above=above)
    start = best.within(loose)
    target = start.placed_by_priority()
    total = 0
    for priority in loose.priorities:
        total += sum(loose.classes[i].total for i in _members(best, number) if loose.classes[i].priority == priority)
        target[priority] += total
    search = searching(start)
    search.place(target, until, stall=_STALL)
    found = search.best
    if sum(found.placed_of[index] for index in _members(best, number)) < best.problem.least_of(number):
        return None
    found = found.within(best.problem)
    return found if found.within_limits() else None


def _members(placement: Placement, number: int) -> tuple[int, ...]:
    return placement.problem.gangs[number].classes


def _loosened(best: Placement, number: int, domain: frozenset[int], *, above: bool) -> Problem:
    """The problem in which one gang is none, keeps to a domain and waits alone. Tiers are twice as fine."""
    problem = best.problem
    members = set(_members(best, number))
    classes = []
    for pod_class in problem.classes:
        if pod_class.index in members:
            tier = 2 * pod_class.priority + above
            nodes = pod_class.eligible & domain
            classes.append(replace(pod_class, gang=None, priority=tier, eligible=nodes))
        else:
            kept = max(0, best.placed(pod_class) - pod_class.running_total)
            classes.append(replace(pod_class, pending=kept, priority=2 * pod_class.priority))
    gangs = list(problem.gangs)
    gangs[number] = WholeGang(gangs[number].name, ())
    fixed = {2 * priority: count for priority, count in problem.fixed.items()}
    return replace(problem, classes=tuple(classes), gangs=tuple(gangs), fixed=fixed)
