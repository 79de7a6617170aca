"""Which steps of a sequence have to wait for each other because of rules between pods.

Anti-affinity asks for departures alone: whoever was in the way has to be gone. While nobody leaves whom others want
to be with, affinity asks for the first that came to the domain. Otherwise it matters who came and went before, so
the steps of such a rule follow each other as in the sequence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from stowage_scheduler.problem import Problem
from stowage_scheduler.relations import OUTSIDE, Apart, Near, Role, clash
from stowage_scheduler.sequence import Arrival, Event, Start


def between_pods(problem: Problem, starts: Sequence[Start], events: Sequence[Event]) -> Mapping[int, frozenset[int]]:
    """By step, the earlier steps that it must follow.

    Args:
        problem: with its relations.
        starts: the steps of a sequence.
        events: what came and went, in the same order.
    """
    needs: dict[int, set[int]] = defaultdict(set)
    for relation in problem.relations:
        mine = [(event, relation.roles[i]) for event in events if (i := event.pod_class.index) in relation.roles]
        if isinstance(relation, Apart):
            _after_those_in_the_way(relation.domain_of, mine, needs)
        elif isinstance(relation, Near) and all(event.arrives or not role.counts for event, role in mine):
            _after_the_first(relation, mine, needs)
        elif mine and relation.is_serial:
            _one_after_the_other(starts, [event for event, _ in mine], needs)
    return {
        step: frozenset(other for other in others if _group(starts, other) != _group(starts, step))
        for step, others in needs.items()
    }


def _after_those_in_the_way(
    domain_of: Sequence[int], events: Sequence[tuple[Event, Role]], needs: dict[int, set[int]]
) -> None:
    gone: dict[int, list[tuple[int, Role]]] = defaultdict(list)
    for event, role in events:
        domain = domain_of[event.node]
        if domain == OUTSIDE:
            continue
        if event.arrives:
            needs[event.step].update(step for step, other in gone[domain] if clash(role, other) and step != event.step)
        else:
            gone[domain].append((event.step, role))


def _after_the_first(relation: Near, events: Sequence[tuple[Event, Role]], needs: dict[int, set[int]]) -> None:
    first: dict[int, int] = {}
    for event, role in events:
        domain = relation.domain_of[event.node]
        if event.arrives and role.obeys and domain not in relation.accompanied and domain in first:
            needs[event.step].add(first[domain])
        if event.arrives and role.counts:
            first.setdefault(domain, event.step)


def _one_after_the_other(starts: Sequence[Start], events: Sequence[Event], needs: dict[int, set[int]]) -> None:
    before: set[int] = set()
    now: set[int] = set()
    together: object = None
    for event in events:
        group = _group(starts, event.step)
        if group != together:
            before, now, together = now, set(), group
        now.add(event.step)
        needs[event.step].update(before - now)


def _group(starts: Sequence[Start], step: int) -> tuple[str, int]:
    """Pods of a gang arrive together, everybody else alone."""
    part = starts[step].part
    if isinstance(part, Arrival) and part.pod_class.gang is not None:
        return "gang", part.pod_class.gang
    return "step", step
