"""The rules of one pod, each with what every node lacks for it.

Where a node is closed for good a row lacks more than anybody could free. Where pods close it, the row counts them, and
`marks` say who counts on which nodes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from stowage_scheduler.cluster import Effect, Node, Pod, PodAffinityTerm, SpreadConstraint, Taint, VolumeNeeds
from stowage_scheduler.explain.clauses import Clause, ClauseKind
from stowage_scheduler.explain.situation import Amounts, Situation
from stowage_scheduler.kube.between_pods import affinity_admits
from stowage_scheduler.kube.gpu_facts import island_need, whole_devices
from stowage_scheduler.kube.matching import (
    UNSCHEDULABLE_TAINT,
    matches_pod_term,
    matches_selector,
    matches_terms,
    port_conflict,
    tolerates,
)
from stowage_scheduler.kube.standing import counts_nodes, counts_pod
from stowage_scheduler.kube.volume_matching import describe_needs, volumes_admit
from stowage_scheduler.rules.gpu_islands import admits_on_islands
from stowage_scheduler.rules.gpu_shares import admits_on_devices

CLOSED = 1 << 54  # more than all that ever stands on a node

Marks = Mapping[str, npt.NDArray[np.int64]]
"""By UID of a pod the nodes on which it counts, as often as it counts there."""


class Row(Struct, frozen=True):
    """One rule: what each node lacks for it, and who makes it so.

    `resource`: pods free what they ask for of it. `company`: UIDs of pods that the waiting one wants to be with.
    """

    clause: Clause
    lacking: Amounts
    resource: str = ""
    marks: Marks = {}
    company: frozenset[str] = frozenset()


def rows_of(situation: Situation, pod: Pod, domain: frozenset[int] | None = None) -> Iterator[Row]:
    """The rules of a pod that some node does not meet at once, and all resources.

    Args:
        situation: who stands where.
        pod: it waits.
        domain: numbers of the nodes that its gang is to be on, if that is decided.
    """
    yield from _of_nodes(situation, pod, domain)
    for resource, amount in sorted(pod.requests.items()):
        if amount:
            lacking = min(CLOSED, amount) - situation.free(resource)
            if (lacking > 0).any():
                yield Row(Clause(ClauseKind.RESOURCE, resource), lacking, resource)
    yield from _gpu_devices(situation, pod)
    yield from _host_ports(situation, pod)
    yield from _affinity(situation, pod)
    yield from _own_anti_affinity(situation, pod)
    yield from _anti_affinity_of_others(situation, pod)
    yield from _spread(situation, pod)


def hard_taints(pod: Pod, node: Node) -> Iterator[Taint]:
    """Every taint that closes a node to a pod; a cordon is one."""
    for taint in (UNSCHEDULABLE_TAINT, *node.taints) if node.unschedulable else node.taints:
        if taint.effect is not Effect.PREFER_NO_SCHEDULE and not any(tolerates(one, taint) for one in pod.tolerations):
            yield taint


def _of_nodes(situation: Situation, pod: Pod, domain: frozenset[int] | None) -> Iterator[Row]:
    """Rules that look at a node alone."""
    kind = ClauseKind
    yield from _where(situation, kind.NODE_READY, "", lambda node: not node.ready)
    for key, value in sorted(pod.node_selector.items()):
        yield from _where(situation, kind.NODE_SELECTOR, f"{key}={value}", _lacks_label(key, value))
    terms = pod.node_affinity
    if terms is not None:
        told = describe_needs(VolumeNeeds(terms=(terms,)))
        yield from _where(situation, kind.NODE_AFFINITY, told, lambda node: not matches_terms(terms, node))
    needed = frozenset(pod.needed_features)
    if needed:
        told = ", ".join(sorted(needed))
        yield from _where(situation, kind.NODE_FEATURES, told, lambda node: not needed <= set(node.features))
    yield from _taints(situation, pod)
    needs = pod.volume_needs
    if needs.terms or needs.zones:
        told = describe_needs(needs)
        yield from _where(situation, kind.VOLUMES, told, lambda node: not volumes_admit(needs, node))
    unread = {rejected.node for rejected in situation.outcome.snapshot.rejected}
    if unread:
        yield from _where(situation, kind.READABLE_PODS, "", lambda node: node.name in unread)
    for key in pod.gang.required if pod.gang is not None else ():
        yield from _where(situation, kind.GANG_TOPOLOGY, key, _lacks_key(key))
    if domain is not None and pod.gang is not None:
        outside = [CLOSED * (number not in domain) for number in range(len(situation.nodes))]
        yield Row(Clause(kind.GANG_TOPOLOGY, ",".join(pod.gang.required)), np.array(outside, dtype=np.int64))


def _lacks_label(key: str, value: str) -> Callable[[Node], bool]:
    return lambda node: node.labels.get(key) != value


def _lacks_key(key: str) -> Callable[[Node], bool]:
    return lambda node: key not in node.labels


def _where(situation: Situation, kind: ClauseKind, subject: str, closes: Callable[[Node], bool]) -> Iterator[Row]:
    """A row that closes nodes for good, if there are any."""
    lacking = np.array([CLOSED if closes(node) else 0 for node in situation.nodes], dtype=np.int64)
    if lacking.any():
        yield Row(Clause(kind, subject), lacking)


def _taints(situation: Situation, pod: Pod) -> Iterator[Row]:
    """One row for each taint that one toleration would cover; values of one key are told apart only when alone."""
    nodes: dict[tuple[str, Effect], list[int]] = defaultdict(list)
    values: dict[tuple[str, Effect], set[str]] = defaultdict(set)
    for number, node in enumerate(situation.nodes):
        for taint in hard_taints(pod, node):
            nodes[taint.key, taint.effect].append(number)
            values[taint.key, taint.effect].add(taint.value)
    for (key, effect), numbers in sorted(nodes.items()):
        value = next(iter(values[key, effect])) if len(values[key, effect]) == 1 else ""
        lacking = np.zeros(len(situation.nodes), dtype=np.int64)
        lacking[numbers] = CLOSED
        yield Row(Clause(ClauseKind.TAINT, f"{key}{'=' + value if value else ''}:{effect}"), lacking)


def _gpu_devices(situation: Situation, pod: Pod) -> Iterator[Row]:
    """Where GPUs are shared or have to be of one island: who has one is in the way, be it the right one or not."""
    residents = situation.outcome.residents
    shared = pod.gpu_share is not None or any(one.gpu_share for kept in situation.kept.values() for _, one in kept)
    if not shared and not island_need(pod):
        return
    lacking = [
        int(
            not (
                admits_on_devices(pod, node, residents[node.name])
                and admits_on_islands(pod, node, residents[node.name])
            )
        )
        for node in situation.nodes
    ]
    marks = {
        other.uid: np.array([number])
        for holders in situation.kept.values()
        for number, other in holders
        if lacking[number] and (other.gpu_share is not None or whole_devices(None, other.requests))
    }
    if any(lacking):
        yield Row(Clause(ClauseKind.GPU_DEVICES), np.array(lacking, dtype=np.int64), marks=marks)


def _host_ports(situation: Situation, pod: Pod) -> Iterator[Row]:
    if not pod.host_ports:
        return
    marks = {
        other.uid: np.array([number])
        for holders in situation.kept.values()
        for number, other in holders
        if other.host_ports and port_conflict(pod.host_ports, other.host_ports)
    }
    ports = ", ".join(sorted({str(port.port) for port in pod.host_ports}))
    yield from _counted(situation, Clause(ClauseKind.HOST_PORT, ports), marks)


def _counted(situation: Situation, clause: Clause, marks: Marks) -> Iterator[Row]:
    """A row that lacks as many pods as stand in the way."""
    if marks:
        lacking = np.zeros(len(situation.nodes), dtype=np.int64)
        for numbers in marks.values():
            np.add.at(lacking, numbers, 1)
        yield Row(clause, lacking, marks=marks)


def _affinity(situation: Situation, pod: Pod) -> Iterator[Row]:
    terms = pod.affinity_terms
    if not terms:
        return
    standing = situation.outcome.standing
    lacking = [0 if affinity_admits(pod, node, standing) else CLOSED for node in situation.nodes]
    company = frozenset(
        other.uid for holders in situation.kept.values() for _, other in holders if standing.matches_all(terms, other)
    )
    keys = ", ".join(sorted({term.topology_key for term in terms}))
    yield Row(Clause(ClauseKind.POD_AFFINITY, keys), np.array(lacking, dtype=np.int64), company=company)


def _domains(situation: Situation, key: str) -> Mapping[str, npt.NDArray[np.int64]]:
    """Nodes by value of a label."""
    found: dict[str, list[int]] = defaultdict(list)
    for number, node in enumerate(situation.nodes):
        if key in node.labels:
            found[node.labels[key]].append(number)
    return {value: np.array(numbers) for value, numbers in found.items()}


def _own_anti_affinity(situation: Situation, pod: Pod) -> Iterator[Row]:
    """By key, pods that it must not meet; those on nodes that may not be used never go."""
    standing = situation.outcome.standing
    for key in sorted({term.topology_key for term in pod.anti_affinity_terms}):
        terms = tuple(term for term in pod.anti_affinity_terms if term.topology_key == key)
        domains = _domains(situation, key)
        lacking = np.zeros(len(situation.nodes), dtype=np.int64)
        for term in terms:
            for (_, value), count in standing.matched_by_all(pod, (term,)).items():
                if value in domains:
                    lacking[domains[value]] += count
        if lacking.any():

            def times(other: Pod, terms: tuple[PodAffinityTerm, ...] = terms) -> int:
                return sum(standing.matches_all((term,), other) for term in terms)

            marks = _marks(situation, key, domains, times)
            yield Row(Clause(ClauseKind.POD_ANTI_AFFINITY, key), lacking, marks=marks)


def _marks(
    situation: Situation,
    key: str,
    domains: Mapping[str, npt.NDArray[np.int64]],
    times: Callable[[Pod], int],
) -> Marks:
    """Pods that count in the domain of their node, and how often."""
    found: dict[str, npt.NDArray[np.int64]] = {}
    for holders in situation.kept.values():
        for number, other in holders:
            value = situation.nodes[number].labels.get(key)
            if value is not None and (count := times(other)):
                found[other.uid] = np.repeat(domains[value], count)
    return found


def _anti_affinity_of_others(situation: Situation, pod: Pod) -> Iterator[Row]:
    """By key, pods that must not meet this one."""
    closed = situation.outcome.standing.closing(pod)
    labels = situation.outcome.snapshot.namespace_labels
    for key in sorted({key for key, _ in closed}):
        domains = _domains(situation, key)

        def times(other: Pod, key: str = key) -> int:
            terms = (term for term in other.anti_affinity_terms if term.topology_key == key)
            return sum(matches_pod_term(term, pod, labels) for term in terms)

        marks = _marks(situation, key, domains, times)
        lacking = np.zeros(len(situation.nodes), dtype=np.int64)
        for numbers in marks.values():
            np.add.at(lacking, numbers, 1)
        for value in (value for other, value in closed if other == key and value in domains):
            if not lacking[domains[value]].all():  # by pods on nodes that may not be used
                lacking[domains[value]] = CLOSED
        if lacking.any():
            yield Row(Clause(ClauseKind.ANTI_AFFINITY_OF_OTHERS, key), lacking, marks=marks)


def _spread(situation: Situation, pod: Pod) -> Iterator[Row]:
    """Each constraint: how many of the pods that it counts have to leave a domain before one more may come."""
    if not pod.spread:
        return
    counted = situation.outcome.standing.spread_of(pod)
    same = Counter(constraint.topology_key for constraint in pod.spread)
    for position, (constraint, counts) in enumerate(zip(pod.spread, counted, strict=True)):
        key = constraint.topology_key
        least = min(counts.values()) if counts and len(counts) >= constraint.min_domains else 0
        more = matches_selector(constraint.selector, pod.labels) - least - constraint.max_skew
        lacking = [counts.get(node.labels[key], 0) + more if key in node.labels else CLOSED for node in situation.nodes]
        looked_at = {number for number, node in enumerate(situation.nodes) if counts_nodes(constraint, pod, node)}

        def times(other: Pod, constraint: SpreadConstraint = constraint) -> int:
            return int(not other.terminating and counts_pod(constraint, pod.namespace, other))

        marks = _marks(situation, key, _domains(situation, key), times)
        marks = _standing_on(situation, marks, looked_at)
        subject = key if same[key] == 1 else f"{key}#{position + 1}"
        if max(lacking, default=0) > 0:
            yield Row(Clause(ClauseKind.TOPOLOGY_SPREAD, subject), np.array(lacking, dtype=np.int64), marks=marks)


def _standing_on(situation: Situation, marks: Marks, looked_at: AbstractSet[int]) -> Marks:
    holders: Sequence[tuple[int, Pod]] = [one for kept in situation.kept.values() for one in kept]
    return {pod.uid: marks[pod.uid] for number, pod in holders if number in looked_at and pod.uid in marks}
