"""Soft rules of the pods that come to a node: preferred pods, wished spread, images.

Weights are those of kube-scheduler's default plugins (1.36), brought to one scale: a node that misses a preferred node
affinity of weight 100 costs 100. Among rules that concern the same pods, those about preferred pods keep the ratios of
InterPodAffinity, and those of spread the ratios of PodTopologySpread. Against all other rules, a domain that has its
fair share of the pods that a rule speaks of counts the rule's full weight.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from math import log

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace

from stowage_scheduler.build import Build
from stowage_scheduler.cluster import LabelSelector, Node, Pod, PodAffinityTerm, Snapshot, SpreadConstraint
from stowage_scheduler.image_locality import ImageLocality
from stowage_scheduler.kube.matching import demanded_labels, matches_pod_term
from stowage_scheduler.kube.standing import counts_nodes, counts_pod
from stowage_scheduler.solve.wishes import MILLI, NO_SOFT_RULES, Ints, SoftRules, Wish

_HARD_POD_AFFINITY_WEIGHT = 1  # default of InterPodAffinity: what required affinity of those that stand counts
_SPREAD_WEIGHT = 50  # of a fair share, from each side: pods that spread over themselves meet twice
_IMAGE_WEIGHT = 50  # ImageLocality has half the weight of NodeAffinity
_LACKS_KEY = 100  # a node that spread knows no domain of is the last to take
_FINE = 1000  # fair shares and logarithms are kept in thousandths


class _Group(Struct):
    """Pods that no soft rule tells apart, and where those stand that no plan touches, by the name of the node."""

    pod: Pod
    index: int | None = None  # of a class
    total: int = 0  # of the class
    standing: Counter[str] = field(default_factory=Counter)
    terminating: Counter[str] = field(default_factory=Counter)


class _Draft(Struct):
    """A wish before its cost is known: `raw` is the cost of a pair as kube-scheduler adds it up."""

    wish: Wish
    raw: int
    share: int  # pods in a domain that has its fair share, in thousandths, and at least one
    weight: int  # what a fair share shall count at most; 0: as much as people wrote


def soft_rules(built: Build, snapshot: Snapshot, arriving: Collection[int]) -> SoftRules:
    """What soft rules say about classes of which pods come to a node.

    Args:
        built: the problem, with the facts of its pods and nodes.
        snapshot: that it was made from; pods that are no part of the problem count too.
        arriving: indices of the classes.
    """
    if not arriving:
        return NO_SOFT_RULES
    return _Gathering(built, snapshot, arriving).rules()


class _Gathering:
    def __init__(self, built: Build, snapshot: Snapshot, arriving: Collection[int]) -> None:
        self.built = built
        self.snapshot = snapshot
        self.arriving = frozenset(arriving)
        self.first = {c.index: built.pods[_uids(c.pending_uids, c.running_uids)[0]] for c in built.problem.classes}
        self.nodes = {node.name: node for node in snapshot.nodes}
        self.groups: list[_Group] = []
        self.labelled: dict[tuple[str, str, str], list[_Group]] = defaultdict(list)
        self.in_namespace: dict[str, list[_Group]] = defaultdict(list)
        self.domains: dict[object, tuple[Mapping[str, int], Ints]] = {}
        self.lacking: dict[frozenset[str], Ints] = {}

    def rules(self) -> SoftRules:
        costs: dict[int, Ints] = {}
        arriving = {index: self.first[index] for index in sorted(self.arriving)}
        wanted = frozenset(image for pod in arriving.values() for image in pod.images if image)
        if wanted and any(node.images for node in self.snapshot.nodes):
            locality = ImageLocality(self.snapshot.nodes, self.built.node_facts, wanted)
            for index, pod in arriving.items():
                scores = locality.scores(pod.images)
                if scores.any():
                    costs[index] = -scores * (_IMAGE_WEIGHT * MILLI // 100)
        wishes: list[Wish] = []
        if any(pod.preferred_pods or pod.affinity_terms for pod in self.snapshot.pods) or any(
            pod.preferred_spread for pod in arriving.values()
        ):
            self._group()
            wishes = [*self._scaled(list(self._company())), *self._scaled(list(self._spread(costs)))]
        return SoftRules(tuple(wishes), costs) if wishes or costs else NO_SOFT_RULES

    def _group(self) -> None:
        """Sort all pods into groups."""
        planned: set[str] = set()
        for pod_class in self.built.problem.classes:
            self.groups.append(_Group(self.first[pod_class.index], pod_class.index, pod_class.total))
            planned.update(_uids(pod_class.pending_uids, pod_class.running_uids))
        alike: dict[object, _Group] = {}
        for pod in self.snapshot.pods:
            where = pod.node or pod.nominated_node
            if where is None or pod.uid in planned or pod.finished:
                continue
            rules = pod.affinity_terms, pod.preferred_pods, pod.preferred_spread
            places = _where(pod) if pod.preferred_spread else ()
            key = (pod.namespace, tuple(pod.labels.items()), *rules, *places)
            if key not in alike:
                alike[key] = _Group(pod)
            group = alike[key]
            group.standing[where] += 1
            if pod.terminating:
                group.terminating[where] += 1
        self.groups += alike.values()
        for group in self.groups:
            self.in_namespace[group.pod.namespace].append(group)
            for label in group.pod.labels.items():
                self.labelled[(group.pod.namespace, *label)].append(group)

    def _company(self) -> Iterator[_Draft]:
        """Preferred affinity and anti-affinity, and required affinity as far as kube-scheduler scores it."""
        holders: dict[tuple[PodAffinityTerm, int], list[_Group]] = defaultdict(list)
        for group in self.groups:
            weights: Counter[PodAffinityTerm] = Counter()
            for one in group.pod.preferred_pods:
                weights[one.term] += one.weight
            for term in group.pod.affinity_terms:
                weights[term] += _HARD_POD_AFFINITY_WEIGHT
            for term, weight in weights.items():
                holders[term, weight].append(group)
        for (term, weight), having in holders.items():
            counted = [group for group in self._matched(term) if self._matches(term, group)]
            domain_of = self._domains(term.topology_key, term.topology_key, self.snapshot.nodes)
            draft = self._draft(domain_of, having, counted, -weight, 0)
            if draft is not None:
                yield draft

    def _matches(self, term: PodAffinityTerm, group: _Group) -> bool:
        return matches_pod_term(term, group.pod, self.snapshot.namespace_labels)

    def _matched(self, term: PodAffinityTerm) -> Iterator[_Group]:
        """Groups that a term may speak of."""
        namespaces = self.in_namespace if term.namespace_selector is not None else set(term.namespaces)
        for namespace in sorted(namespaces):
            yield from self._candidates(namespace, term.selector)

    def _candidates(self, namespace: str, selector: LabelSelector | None) -> Iterable[_Group]:
        labelled = (self.labelled.get((namespace, *label), ()) for label in demanded_labels(selector))
        return min(labelled, key=len, default=self.in_namespace.get(namespace, ()))

    def _spread(self, costs: dict[int, Ints]) -> Iterator[_Draft]:
        """Wished spread of pods that come; what single nodes cost by it is added to `costs`."""
        having: dict[object, list[_Group]] = defaultdict(list)
        found: dict[object, tuple[Pod, SpreadConstraint]] = {}
        for group in self.groups:
            if not group.pod.preferred_spread:
                continue
            asking = replace(group.pod, spread=group.pod.preferred_spread)  # which nodes count depends on all its keys
            if group.index is not None and group.index in self.arriving:
                self._lacking(asking, group.index, costs)
            where, keys = _where(asking), tuple(sorted({one.topology_key for one in asking.spread}))
            for constraint in dict.fromkeys(asking.spread):
                key = asking.namespace, constraint, keys, where
                having[key].append(group)
                found[key] = asking, constraint
        for what, (asking, constraint) in found.items():
            if self.arriving.isdisjoint(_classes(having[what])):
                continue
            alike = self._candidates(asking.namespace, constraint.selector)
            counted = [group for group in alike if counts_pod(constraint, asking.namespace, group.pod)]
            domain_of = self._counting_domains(asking, constraint)
            domains = len(set(domain_of[0].values()))
            draft = self._draft(
                domain_of, having[what], counted, round(_FINE * log(domains + 2)), _SPREAD_WEIGHT, terminating=False
            )
            if draft is not None:
                yield draft

    def _lacking(self, asking: Pod, index: int, costs: dict[int, Ints]) -> None:
        keys = frozenset(one.topology_key for one in asking.spread)
        if keys not in self.lacking:
            self.lacking[keys] = np.array([not keys <= node.labels.keys() for node in self.built.node_facts], np.int64)
        lacks = self.lacking[keys]
        if lacks.any():
            costs[index] = costs.get(index, np.zeros(len(lacks), dtype=np.int64)) + lacks * (_LACKS_KEY * MILLI)

    def _counting_domains(self, asking: Pod, constraint: SpreadConstraint) -> tuple[Mapping[str, int], Ints]:
        """The domains of the nodes that a spread constraint counts; many constraints count the same nodes."""
        keys = tuple(sorted({one.topology_key for one in asking.spread}))
        policies = constraint.honors_affinity, constraint.honors_taints
        where = _where(asking) if any(policies) else ()
        what = constraint.topology_key, keys, policies, where
        if what in self.domains:
            return self.domains[what]
        counted = [node for node in self.snapshot.nodes if counts_nodes(constraint, asking, node)]
        return self._domains(constraint.topology_key, what, counted)

    def _domains(self, key: str, what: object, nodes: Iterable[Node]) -> tuple[Mapping[str, int], Ints]:
        """The domains of nodes by name, and those of the problem's nodes as an array; remembered by `what`."""
        if what not in self.domains:
            values = {node.name: node.labels[key] for node in nodes if key in node.labels}
            numbers = {value: number for number, value in enumerate(sorted(set(values.values())))}
            by_name = {name: numbers[value] for name, value in values.items()}
            array = np.array([by_name.get(node.name, -1) for node in self.built.node_facts], dtype=np.int64)
            self.domains[what] = by_name, array
        return self.domains[what]

    def _draft(
        self,
        domain_of: tuple[Mapping[str, int], Ints],
        having: Collection[_Group],
        counted: Collection[_Group],
        raw: int,
        weight: int,
        *,
        terminating: bool = True,
    ) -> _Draft | None:
        """A wish, if a class that comes has a part in it and could meet anybody."""
        has, counts = _classes(having), _classes(counted)
        if not raw or not having or not counted or self.arriving.isdisjoint(has | counts):
            return None
        by_name, array = domain_of
        domains = max(by_name.values(), default=-1) + 1
        standing = [self._standing(groups, by_name, domains, terminating) for groups in (having, counted)]
        pods = int(standing[1].sum()) + sum(group.total for group in counted)
        share = max(_FINE, _FINE * pods // max(1, domains))
        return _Draft(Wish(0, array, has, counts, standing[0], standing[1]), raw, share, weight)

    @staticmethod
    def _standing(groups: Iterable[_Group], by_name: Mapping[str, int], domains: int, terminating: bool) -> Ints:  # noqa: FBT001
        found = np.zeros(domains + 1, dtype=np.int64)
        for group in groups:
            for name, count in group.standing.items():
                if name in by_name:
                    found[by_name[name]] += count if terminating else count - group.terminating[name]
        return found

    def _scaled(self, drafts: list[_Draft]) -> list[Wish]:
        """The wishes with their costs; those that meet in a class that comes are brought to one scale."""
        scale = list(range(len(drafts)))  # by draft, one of those that it shares its scale with

        def top(number: int) -> int:
            while scale[number] != number:
                number = scale[number]
            return number

        met: dict[int, int] = {}
        for number, draft in enumerate(drafts):
            for index in sorted((draft.wish.having | draft.wish.counted) & self.arriving):
                scale[top(number)] = top(met.setdefault(index, number))
        largest: dict[int, int] = defaultdict(int)
        for number, draft in enumerate(drafts):
            size = draft.share * (draft.raw if draft.weight else 1)
            largest[top(number)] = max(largest[top(number)], size)
        return [
            replace(draft.wish, cost=draft.raw * (draft.weight or 1) * MILLI * _FINE // largest[top(number)])
            for number, draft in enumerate(drafts)
        ]


def _where(pod: Pod) -> tuple[object, ...]:
    """What decides which nodes a spread constraint of a pod counts."""
    return tuple(sorted(pod.node_selector.items())), pod.node_affinity, pod.tolerations


def _classes(groups: Iterable[_Group]) -> frozenset[int]:
    return frozenset(group.index for group in groups if group.index is not None)


def _uids(pending: tuple[str, ...], running: Mapping[int, tuple[str, ...]]) -> list[str]:
    return [*pending, *(uid for uids in running.values() for uid in uids)]
