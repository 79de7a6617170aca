"""How many pods of each class each node could hold at most, by all rules that say so without a choice.

Room, host ports and devices of pods that stay, and the domains that rules between pods close whatever else is decided:
where no company can be, where no gang fits, where spread never allows more. All of it holds for every plan.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from stowage_scheduler.devices.limits import DeviceLimits
from stowage_scheduler.kube.matching import port_conflict
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.relations import OUTSIDE, Near, Relation, Role, Spread, Within

Ints = npt.NDArray[np.int64]


def reach(problem: Problem) -> Ints:
    """Most pods by class and node, `[c, n]`, when no other class is in the way; never less than run there."""
    free = np.array(problem.free, dtype=np.int64).reshape(len(problem.nodes), len(problem.resources))
    most = np.zeros((len(problem.classes), len(problem.nodes)), dtype=np.int64)
    numbers: dict[frozenset[int], Ints] = {}
    for pod_class in problem.classes:
        nodes = numbers.get(pod_class.eligible)
        if nodes is None:
            nodes = numbers[pod_class.eligible] = np.array(sorted(pod_class.eligible), dtype=np.int64)
        fits = np.full(len(nodes), 1 if pod_class.ports or pod_class.alone else pod_class.total, dtype=np.int64)
        for resource, amount in enumerate(pod_class.requests):
            if amount:
                np.minimum(fits, free[nodes, resource] // amount, out=fits)
        most[pod_class.index, nodes] = fits
        _close_ports(problem, pod_class, most)
    running = runs(problem)
    np.maximum(most, running, out=most)
    for limits in problem.device_limits:
        _keep_to_devices(problem, limits, most)
    for _ in range(2):  # who finds no place is no company: once more for those who want it
        for relation in problem.relations:
            _close_domains(problem, relation, most, running)
    return most


def runs(problem: Problem) -> Ints:
    """Running pods by class and node, `[c, n]`."""
    found = np.zeros((len(problem.classes), len(problem.nodes)), dtype=np.int64)
    for pod_class in problem.classes:
        for node, count in pod_class.running.items():
            found[pod_class.index, node] = count
    return found


def members(relation: Relation, *, counts: bool = False, obeys: bool = False) -> list[int]:
    """Classes with a role; those that have the rule (`obeys`), that it speaks of (`counts`), or both."""
    roles = relation.roles.items()
    return [index for index, role in roles if (role.counts or not counts) and (role.obeys or not obeys)]


def least_at_most(relation: Spread, most: Ints) -> int:
    """The largest that the smallest count of any domain of a spread constraint can be."""
    domains = set(relation.domain_of) - {OUTSIDE} | set(relation.standing)
    if relation.domains < relation.min_domains or relation.domains > len(domains):
        return 0
    counts = standing(relation) + in_domains(relation, most[members(relation, counts=True)].sum(axis=0))
    return min((int(counts[domain]) for domain in domains), default=0)


def standing(relation: Relation) -> Ints:
    """Pods that a rule speaks of and no plan touches, by domain."""
    found = np.zeros(1 + max([0, *relation.domain_of, *relation.standing]), dtype=np.int64)
    for domain, tally in relation.standing.items():
        found[domain] = sum(tally[Role.BOTH :])
    return found


def in_domains(relation: Relation, by_node: Ints) -> Ints:
    """Sums over domains of what nodes have; as long as `standing`."""
    domain_of = np.array(relation.domain_of, dtype=np.int64)
    found = np.zeros(1 + max([0, *relation.domain_of, *relation.standing]), dtype=np.int64)
    inside = domain_of != OUTSIDE
    np.add.at(found, domain_of[inside], by_node[inside])
    return found


def _close_ports(problem: Problem, pod_class: PodClass, most: Ints) -> None:
    """Nodes whose ports are taken by pods that stay."""
    if pod_class.ports and problem.ports:
        taken = [n for n in pod_class.eligible if problem.ports[n] and port_conflict(pod_class.ports, problem.ports[n])]
        most[pod_class.index, taken] = 0


def _keep_to_devices(problem: Problem, limits: DeviceLimits, most: Ints) -> None:
    """No more than the devices of a node hold beside pods that stay; who runs there is no newcomer."""
    known: dict[object, int] = {}
    for index, need in limits.needs.items():
        for node in np.flatnonzero(most[index]).tolist():
            wanted = int(most[index, node])
            situation = need, limits.nodes.get(node), node in limits.sliced, wanted
            if situation not in known:
                held = wanted
                while held and not limits.admit(node, {}, {index: held}):
                    held -= 1
                known[situation] = held
            most[index, node] = min(wanted, known[situation] + problem.classes[index].running.get(node, 0))


def _close_domains(problem: Problem, relation: Relation, most: Ints, running: Ints) -> None:
    """Take away what no plan can have because of one rule between pods."""
    if isinstance(relation, Spread):
        _keep_level(relation, most, running)
    elif isinstance(relation, Within):
        _keep(relation, members(relation), _roomy(problem, relation, most), most, running)
    elif isinstance(relation, Near):
        _keep(relation, members(relation, obeys=True), _accompanied(relation, most), most, running)


def _keep(
    relation: Relation, classes: Sequence[int], domains: Collection[int] | None, most: Ints, running: Ints
) -> None:
    """Let classes come only to some domains; None: to all."""
    if domains is not None:
        closed = [n for n, domain in enumerate(relation.domain_of) if domain != OUTSIDE and domain not in domains]
        for index in classes:
            most[index, closed] = running[index, closed]


def _keep_level(relation: Spread, most: Ints, running: Ints) -> None:
    """No more in a domain than the skew allows beyond the smallest, or than run there."""
    left = np.maximum(0, least_at_most(relation, most) + relation.max_skew - standing(relation))
    domain_of = np.array(relation.domain_of, dtype=np.int64)
    inside = domain_of != OUTSIDE
    for index in members(relation, counts=True, obeys=True):
        limit = np.maximum(left, in_domains(relation, running[index]))
        most[index, inside] = np.minimum(most[index, inside], limit[domain_of[inside]])


def _roomy(problem: Problem, relation: Within, most: Ints) -> set[int] | None:
    """Domains that could hold as much of a gang as comes together; None: nobody knows."""
    gangs = {problem.classes[index].gang for index in relation.roles}
    number = next(iter(gangs), None)
    if number is None or len(gangs) > 1 or any(problem.classes[index].running for index in relation.roles):
        return None
    gang = problem.gangs[number]
    if set(gang.classes) != set(relation.roles):
        return None
    classes = [problem.classes[index] for index in gang.classes]
    totals = np.array([c.total for c in classes], dtype=np.int64)
    wanted = totals @ np.array([c.requests for c in classes], dtype=np.int64).reshape(len(classes), -1)
    begun = {domain for domain, tally in relation.standing.items() if any(tally)}
    found = set()
    for domain, nodes in relation.nodes_of.items():
        here = np.minimum(totals, most[np.ix_(gang.classes, nodes)].sum(axis=1))
        if gang.need is not None:
            holds = int(here.sum()) >= gang.need
        else:
            room = np.array([problem.free[node] for node in nodes], dtype=np.int64).sum(axis=0)
            holds = bool((here >= totals).all() and (room >= wanted).all())
        if holds and begun <= {domain}:
            found.add(domain)
    return found


def _accompanied(relation: Near, most: Ints) -> frozenset[int] | None:
    """Domains that have or may get company; None: nobody knows.

    Where all company could leave, the next pod that is company for itself might begin anywhere.
    """
    begins = any(role is Role.BOTH for role in relation.roles.values())
    stays = any(sum(tally[Role.BOTH :]) for tally in relation.standing.values())
    if begins and not stays:
        return None
    others = [index for index, role in relation.roles.items() if role is Role.OBJECT]
    reached = {relation.domain_of[node] for node in np.flatnonzero(most[others].sum(axis=0)).tolist()}
    return relation.accompanied | reached
