"""Rules between pods in ints: who stands apart, who keeps company, who spreads, counted by domain.

A relation has a part of the nodes in each of its domains and counts the pods that have the rule, those that it
speaks of, and those that are both. Pods of one class have the same role in each relation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from stowage_scheduler.problem import PodClass, Problem

OUTSIDE = -1  # a node in no domain of a relation


class Role(IntEnum):
    """What a pod is to a relation; the place of its count in a tally."""

    SUBJECT = 0  # has the rule
    BOTH = 1  # has it, and it speaks of the pod as well
    OBJECT = 2  # the rule of others speaks of it

    @property
    def obeys(self) -> bool:
        """Whether the pod has the rule."""
        return self is not Role.OBJECT

    @property
    def counts(self) -> bool:
        """Whether the rule speaks of the pod."""
        return self is not Role.SUBJECT


Tally = tuple[int, int, int]  # pods in a domain by role
NOBODY: Tally = (0, 0, 0)


class Relation(Struct, frozen=True):
    """One rule between pods.

    `domain_of[n]` is the domain of node `n`, or `OUTSIDE`. `roles` are those of classes, `standing` counts pods that
    no plan touches, by domain.
    """

    name: str
    domain_of: tuple[int, ...]
    roles: Mapping[int, Role]
    standing: Mapping[int, Tally]

    @property
    def nodes_of(self) -> Mapping[int, tuple[int, ...]]:
        """Nodes by domain."""
        return _nodes_of(self.domain_of)

    @property
    def is_serial(self) -> bool:
        """Whether a pod may be admitted because others came, so that the order of arrivals matters."""
        return True

    def admitted(self, tallies: Mapping[int, Tally], role: Role) -> Admitted:
        """The domains that one more pod may come to."""
        raise NotImplementedError

    def holds(self, tallies: Mapping[int, Tally], arrivals: Mapping[int, Tally]) -> bool:
        """Whether the rule holds; `arrivals` are the pods that have it and come to a node, by domain."""
        raise NotImplementedError


@lru_cache(maxsize=64)  # many relations share their domains
def _nodes_of(domain_of: tuple[int, ...]) -> Mapping[int, tuple[int, ...]]:
    found: dict[int, list[int]] = {}
    for node, domain in enumerate(domain_of):
        if domain != OUTSIDE:
            found.setdefault(domain, []).append(node)
    return {domain: tuple(nodes) for domain, nodes in found.items()}


class Admitted(Struct, frozen=True):
    """Domains: those listed, or with `but` all others and nodes outside of every domain."""

    domains: frozenset[int]
    but: bool

    def has(self, domain: int) -> bool:
        """Whether a domain, or being outside of all, is among them."""
        return (domain in self.domains) != self.but


_ANYWHERE = Admitted(frozenset(), but=True)


class Apart(Relation, frozen=True):
    """Required anti-affinity: who has the rule shares no domain with another pod of which it speaks."""

    @property
    def is_serial(self) -> bool:
        """No: fewer pods are never in the way."""
        return False

    @property
    def is_by_node(self) -> bool:
        """Whether each node is a domain of its own."""
        return len(self.nodes_of) == len(self.domain_of)

    @property
    def is_of_one_class(self) -> bool:
        """Whether all it says is that a node takes one pod of one class."""
        return self.is_by_node and list(self.roles.values()) == [Role.BOTH]

    def admitted(self, tallies: Mapping[int, Tally], role: Role) -> Admitted:
        """Domains without anybody whom the pod must not meet."""
        closed = frozenset(domain for domain, tally in tallies.items() if not _apart(counted(tally, role)))
        return Admitted(closed, but=True)

    def holds(self, tallies: Mapping[int, Tally], arrivals: Mapping[int, Tally]) -> bool:
        """Whether nobody meets whom they must not meet; who met before the plan and stays is no fault of it."""
        del arrivals
        return all(_apart(tally) or tally == self.standing.get(domain) for domain, tally in tallies.items())


class Near(Relation, frozen=True):
    """Required affinity: who has the rule comes only to a domain with a pod of which it speaks.

    `may_begin`: nobody of whom it speaks stands anywhere, so the first pod that matches its own rule is free to
    choose, and all others follow it. `accompanied` are the domains with company when the plan was made. `leading` are
    the classes that are company and may come first: they do not wait for those that wait for them.
    """

    may_begin: bool = False
    accompanied: frozenset[int] = frozenset()
    leading: frozenset[int] = frozenset()

    def admitted(self, tallies: Mapping[int, Tally], role: Role) -> Admitted:
        """Domains with company."""
        if not role.obeys:
            return _ANYWHERE
        company = frozenset(domain for domain, (_, both, objects) in tallies.items() if both + objects)
        if not company and self.may_begin and role is Role.BOTH:
            return Admitted(frozenset(self.nodes_of), but=False)
        return Admitted(company, but=False)

    def holds(self, tallies: Mapping[int, Tally], arrivals: Mapping[int, Tally]) -> bool:
        """Whether those that come find company that was there before them, and nobody loses the last of it."""
        begun = 0
        for domain, (subjects, both, objects) in tallies.items():
            alone = self.standing.get(domain, NOBODY)[Role.SUBJECT]  # they were before, or the domain is accompanied
            if subjects and not both + objects and (subjects > alone or domain in self.accompanied):
                return False
            if domain in arrivals and not both - arrivals[domain][Role.BOTH] + objects:
                begun += 1
        return begun <= self.may_begin


def with_leading(relations: Sequence[Relation]) -> tuple[Relation, ...]:
    """The relations, with the classes that lead in each of affinity."""
    wants: dict[int, set[int]] = {}
    for relation in relations:
        if isinstance(relation, Near):
            company = {index for index, role in relation.roles.items() if role.counts}
            for index, role in relation.roles.items():
                if role.obeys:
                    wants.setdefault(index, set()).update(company)
    return tuple(
        replace(relation, leading=_leading(relation, wants)) if isinstance(relation, Near) else relation
        for relation in relations
    )


def _leading(relation: Near, wants: Mapping[int, set[int]]) -> frozenset[int]:
    followers = {index for index, role in relation.roles.items() if role.obeys}
    found = set()
    for index, role in relation.roles.items():
        reached, edge = {index}, [index]
        while edge:
            fresh = wants.get(edge.pop(), set()) - reached
            reached |= fresh
            edge += fresh
        if role is Role.OBJECT and reached.isdisjoint(followers):
            found.add(index)
    return frozenset(found)


class Spread(Relation, frozen=True):
    """A topology spread constraint (KEP-895).

    It holds where pods come that have it; others may come and go as they like. `domains` is the number of eligible
    domains.
    """

    max_skew: int = 1
    domains: int = 0
    min_domains: int = 1

    def least(self, tallies: Mapping[int, Tally]) -> int:
        """The smallest count of any eligible domain, as kube-scheduler takes it."""
        counted = [both + objects for _, both, objects in tallies.values()]
        if self.domains < self.min_domains or self.domains > len(counted):
            return 0
        return min(counted, default=0)

    def admitted(self, tallies: Mapping[int, Tally], role: Role) -> Admitted:
        """Domains that are not ahead of the smallest by more than the skew."""
        if not role.obeys:
            return _ANYWHERE
        most = self.max_skew + self.least(tallies) - role.counts
        if most < 0:
            return Admitted(frozenset(), but=False)
        full = frozenset(domain for domain, (_, both, objects) in tallies.items() if both + objects > most)
        return Admitted(full, but=True)

    def holds(self, tallies: Mapping[int, Tally], arrivals: Mapping[int, Tally]) -> bool:
        """Whether no domain is too far ahead to which pods come that have the rule."""
        most = self.least(tallies) + self.max_skew
        return all(sum(tallies[domain][Role.BOTH :]) <= most for domain in arrivals)


class Within(Relation, frozen=True):
    """All pods that have the rule stand in one domain: a gang in one rack."""

    @property
    def is_serial(self) -> bool:
        """No: fewer pods are in no more domains."""
        return False

    def admitted(self, tallies: Mapping[int, Tally], role: Role) -> Admitted:
        """The domain where the first one stands; any, as long as there is none."""
        del role
        chosen = frozenset(domain for domain, tally in tallies.items() if any(tally))
        if len(chosen) > 1:  # some that run are apart: nobody can join them
            return Admitted(frozenset(), but=False)
        return Admitted(chosen or frozenset(self.nodes_of), but=False)

    def holds(self, tallies: Mapping[int, Tally], arrivals: Mapping[int, Tally]) -> bool:
        """Whether whoever comes stands with all others."""
        return not arrivals or sum(any(tally) for tally in tallies.values()) == 1


class Tallies:
    """Counts by relation and domain of everything that stands; mutable, kept up to date by who places pods."""

    def __init__(self, problem: Problem) -> None:
        """Begin with the pods that no plan touches."""
        self.problem = problem
        self.of: list[dict[int, Tally]] = [dict(relation.standing) for relation in problem.relations]
        self.changed = set(range(len(problem.relations)))  # not known to hold since they changed

    def copy(self) -> Tallies:
        """An independent copy."""
        twin = Tallies.__new__(Tallies)
        twin.problem = self.problem
        twin.of = [dict(tallies) for tallies in self.of]
        twin.changed = set(self.changed)
        return twin

    def add(self, pod_class: PodClass, node: int, count: int) -> None:
        """Count `count` more pods (fewer, when negative) of a class on a node."""
        for number, role in self.problem.roles_of[pod_class.index]:
            domain = self.problem.relations[number].domain_of[node]
            if domain != OUTSIDE:
                tallies = self.of[number]
                tallies[domain] = counted(tallies.get(domain, NOBODY), role, count)
            self.changed.add(number)

    def admits(self, pod_class: PodClass, node: int) -> bool:
        """Whether every relation lets one more pod of a class come to a node."""
        for number, role in self.problem.roles_of[pod_class.index]:
            relation = self.problem.relations[number]
            if not relation.admitted(self.of[number], role).has(relation.domain_of[node]):
                return False
        return True

    def admitted(self, pod_class: PodClass) -> Sequence[tuple[Relation, Admitted]]:
        """For each relation of a class, which domains one more pod of it may come to."""
        return [
            (self.problem.relations[number], self.problem.relations[number].admitted(self.of[number], role))
            for number, role in self.problem.roles_of[pod_class.index]
        ]


def counted(tally: Tally, role: Role, count: int = 1) -> Tally:
    """A tally with `count` more pods of a role."""
    subjects, both, objects = tally
    match role:
        case Role.SUBJECT:
            return subjects + count, both, objects
        case Role.BOTH:
            return subjects, both + count, objects
        case Role.OBJECT:
            return subjects, both, objects + count


def clash(one: Role, other: Role) -> bool:
    """Whether anti-affinity keeps two pods of these roles out of one domain."""
    return (one.obeys and other.counts) or (one.counts and other.obeys)


def _apart(tally: Tally) -> bool:
    """Whether nobody in a domain meets whom they must not meet."""
    subjects, both, objects = tally
    if both:
        return both == 1 and not subjects and not objects
    return not (subjects and objects)
