"""From pods with rules about each other to relations: who has which role, who stands in which domain.

Pods with the same rules, labels and namespace are one kind, so each rule is held against each kind once. A rule of
which all pods but those of one side stay where they are needs no relation: it closes nodes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from stowage_scheduler.cluster import Gang, LabelSelector, Node, Pod, PodAffinityTerm, Snapshot, SpreadConstraint
from stowage_scheduler.kube.matching import demanded_labels, matches_pod_term
from stowage_scheduler.kube.standing import counts_nodes, counts_pod
from stowage_scheduler.relations import (
    NOBODY,
    OUTSIDE,
    Apart,
    Near,
    Relation,
    Role,
    Spread,
    Tally,
    Within,
    counted,
    with_leading,
)

Roles = tuple[tuple[int, Role], ...]
"""Relations by number, with the role in each."""

# whom kube-scheduler counts; who is nominated counts as if it stood there, for so it will
_EVERYBODY = ("staying", "leaving", "nominated")
_LASTING = ("staying", "nominated")


class _Kind(Struct):
    """Pods that no rule between pods can tell apart, and where they stand, by the name of the node."""

    pod: Pod
    staying: Counter[str] = field(default_factory=Counter)  # no plan touches them
    leaving: Counter[str] = field(default_factory=Counter)  # nor them, but they are on their way out
    nominated: Counter[str] = field(default_factory=Counter)  # nor them, but they are not there yet
    moving: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # UIDs
    waits: bool = False

    @property
    def is_planned(self) -> bool:
        """Whether a plan may place or move one of them."""
        return self.waits or bool(self.moving)


class _Draft(Struct):
    """A relation before there are classes: roles of kinds, and the domains of all nodes of the cluster."""

    relation: Relation
    roles: Mapping[int, Role]
    domain_of: Mapping[str, int]


class Related:
    """The relations of a snapshot.

    Args:
        snapshot: nodes of the whole cluster and labels of namespaces.
        nodes: those of the problem, in its order.
        staying: pods that no plan touches, each with the node where it stands or is nominated to.
        moving: running pods that may move.
        waiting: pods that are planned for.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        nodes: Sequence[Node],
        staying: Iterable[tuple[Pod, str]],
        moving: Iterable[Pod],
        waiting: Iterable[Pod],
    ) -> None:
        self._every = {node.name: node for node in snapshot.nodes}
        self._namespace_labels = snapshot.namespace_labels
        self._nodes = nodes
        self._kinds: list[_Kind] = []
        self._number: dict[object, int] = {}
        self._in_namespace: dict[str, list[int]] = defaultdict(list)
        self._labelled: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        self._numbered: dict[object, Mapping[str, int]] = {}
        self._arrays: dict[int, tuple[int, ...]] = {}  # domains of the problem's nodes, by what they were made from
        for pod, name in staying:
            kind = self._kinds[self._kind(pod)]
            where = kind.nominated if pod.node is None else kind.leaving if pod.terminating else kind.staying
            where[name] += 1
        for pod in moving:
            self._kinds[self._kind(pod)].moving[pod.node or ""].append(pod.uid)
        for pod in waiting:
            self._kinds[self._kind(pod)].waits = True
        self._closed: dict[int, set[int]] = defaultdict(set)  # nodes by kind
        self._spoiled: set[str] = set()
        self._drafts = [*self._apart(), *self._near(), *self._spread(), *self._within()]
        self._roles: list[list[tuple[int, Role]]] = [[] for _ in self._kinds]
        for number, draft in enumerate(self._drafts):
            for one, role in draft.roles.items():
                self._roles[one].append((number, role))

    @property
    def spoiled(self) -> frozenset[str]:
        """UIDs of pods that may move but between which a rule is broken now: they are to stay where they are."""
        return frozenset(self._spoiled)

    @property
    def count(self) -> int:
        """How many relations there are."""
        return len(self._drafts)

    def roles(self, pod: Pod) -> Roles:
        """The roles of a pod."""
        return tuple(self._roles[self._kind(pod)])

    def closed(self, pod: Pod) -> frozenset[int]:
        """Nodes (by number) that pods which stay close to a pod."""
        return frozenset(self._closed[self._kind(pod)])

    def relations(self, roles: Sequence[Mapping[int, Role]]) -> tuple[Relation, ...]:
        """The relations, with the roles of classes by relation."""
        return with_leading(
            [
                replace(draft.relation, domain_of=self._array(draft.domain_of), roles=of_classes)
                for draft, of_classes in zip(self._drafts, roles, strict=True)
            ]
        )

    def _kind(self, pod: Pod) -> int:
        key: tuple[object, ...] = (pod.namespace, tuple(pod.labels.items()))
        if pod.affinity_terms or pod.anti_affinity_terms or pod.spread:
            where = _where_it_counts(pod) if pod.spread else ()
            key = (*key, pod.affinity_terms, pod.anti_affinity_terms, pod.spread, where)
        if pod.gang is not None and pod.gang.required:
            key = (*key, pod.gang, pod.leaving)
        if key not in self._number:
            self._number[key] = len(self._kinds)
            self._in_namespace[pod.namespace].append(len(self._kinds))
            for label in pod.labels.items():
                self._labelled[(pod.namespace, *label)].append(len(self._kinds))
            self._kinds.append(_Kind(pod))
        return self._number[key]

    def _apart(self) -> Iterator[_Draft]:
        holders: dict[PodAffinityTerm, set[int]] = defaultdict(set)
        for number, kind in enumerate(self._kinds):
            for term in kind.pod.anti_affinity_terms:
                holders[term].add(number)
        for term, subjects in holders.items():
            objects = self._matched((term,))
            domain_of = self._by_label(term.topology_key)
            roles = _roles(subjects, objects)
            relation = Apart(
                f"anti-affinity on {term.topology_key}", (), {}, self._standing(roles, domain_of, _EVERYBODY)
            )
            draft = _Draft(relation, roles, domain_of)
            self._close(draft)
            self._spoil(draft)
            if self._any_planned(subjects) and self._any_planned(objects):
                yield draft

    def _near(self) -> Iterator[_Draft]:
        wishes: dict[tuple[PodAffinityTerm, ...], set[int]] = defaultdict(set)
        for number, kind in enumerate(self._kinds):
            if kind.pod.affinity_terms:
                wishes[kind.pod.affinity_terms].add(number)
        for terms, subjects in wishes.items():
            company = self._matched(terms)
            keys = sorted({term.topology_key for term in terms})
            may_begin = self._may_begin(company - subjects, company, keys)
            for key in keys:
                domain_of = self._by_label(key)
                roles = _roles(subjects, company)
                standing = self._standing(roles, domain_of, _EVERYBODY)
                draft = _Draft(Near(f"affinity on {key}", (), {}, standing, may_begin), roles, domain_of)
                self._spoil(draft)
                company_in = frozenset(d for d, (_, both, objects) in self._tallies(draft).items() if both + objects)
                draft.relation = replace(draft.relation, accompanied=company_in)
                if not self._any_planned(company):
                    self._close(draft)
                else:
                    yield draft

    def _may_begin(self, others: set[int], company: set[int], keys: Sequence[str]) -> bool:
        """Whether nobody of the company stands in any domain, and nobody comes but those that follow the first."""
        if any(self._kinds[number].waits for number in others):
            return False
        for number in company:
            kind = self._kinds[number]
            names = {*kind.staying, *kind.leaving, *kind.nominated, *kind.moving} & self._every.keys()
            if any(key in self._every[name].labels for name in names for key in keys):
                return False
        return True

    def _spread(self) -> Iterator[_Draft]:
        subjects: dict[tuple[object, ...], set[int]] = defaultdict(set)
        found: dict[tuple[object, ...], tuple[Pod, SpreadConstraint]] = {}
        for number, kind in enumerate(self._kinds):
            pod = kind.pod
            for constraint in pod.spread:
                keys = tuple(sorted({other.topology_key for other in pod.spread}))
                what = (pod.namespace, constraint, keys, *_where_it_counts(pod))
                subjects[what].add(number)
                found[what] = pod, constraint
        for what, (pod, constraint) in found.items():
            alike = self._candidates(pod.namespace, constraint.selector)
            objects = {n for n in alike if counts_pod(constraint, pod.namespace, self._kinds[n].pod)}
            if not self._any_planned(subjects[what]):
                continue
            key = constraint.topology_key
            domain_of = self._counted(pod, constraint)
            roles = _roles(subjects[what], objects)
            standing = self._standing(roles, domain_of, _LASTING)
            relation = Spread(
                f"spread over {key}",
                (),
                {},
                standing,
                constraint.max_skew,
                len(set(domain_of.values())),
                constraint.min_domains,
            )
            yield _Draft(relation, roles, domain_of)

    def _within(self) -> Iterator[_Draft]:
        gangs: dict[tuple[str, Gang], set[int]] = defaultdict(set)
        for number, kind in enumerate(self._kinds):
            if kind.pod.gang is not None and kind.pod.gang.required and not kind.pod.leaving:
                gangs[kind.pod.namespace, kind.pod.gang].add(number)
        for (_, gang), members in gangs.items():
            if not self._any_planned(members):
                continue
            for key in gang.required:
                domain_of, roles = self._by_label(key), _roles(members, set())
                relation = Within(f"one {key} for gang {gang.name}", (), {}, self._standing(roles, domain_of, _LASTING))
                yield _Draft(relation, roles, domain_of)

    def _matched(self, terms: tuple[PodAffinityTerm, ...]) -> set[int]:
        """Kinds that every term speaks of."""
        first = terms[0]
        namespaces = self._in_namespace if first.namespace_selector is not None else set(first.namespaces)
        return {
            number
            for namespace in namespaces
            for number in self._candidates(namespace, first.selector)
            if all(matches_pod_term(term, self._kinds[number].pod, self._namespace_labels) for term in terms)
        }

    def _candidates(self, namespace: str, selector: LabelSelector | None) -> Sequence[int]:
        """Kinds of a namespace that a selector may select: those with the rarest label that it demands."""
        labelled = (self._labelled.get((namespace, *label), ()) for label in demanded_labels(selector))
        return min(labelled, key=len, default=self._in_namespace.get(namespace, ()))

    def _by_label(self, key: str) -> Mapping[str, int]:
        """Domains of all nodes by the value of a label."""
        if key not in self._numbered:
            self._numbered[key] = _numbered(key, self._every.values())
        return self._numbered[key]

    def _counted(self, pod: Pod, constraint: SpreadConstraint) -> Mapping[str, int]:
        """Domains of the nodes that a spread constraint of a pod counts; many constraints count the same nodes."""
        policies = constraint.honors_affinity, constraint.honors_taints
        what = (constraint.topology_key, policies, tuple(sorted({c.topology_key for c in pod.spread})))
        where = (*what, *(_where_it_counts(pod) if any(policies) else ()))
        if where not in self._numbered:
            nodes = (node for node in self._every.values() if counts_nodes(constraint, pod, node))
            self._numbered[where] = _numbered(constraint.topology_key, nodes)
        return self._numbered[where]

    def _array(self, domain_of: Mapping[str, int]) -> tuple[int, ...]:
        """The domains of the problem's nodes, in their order."""
        if id(domain_of) not in self._arrays:
            self._arrays[id(domain_of)] = tuple(domain_of.get(node.name, OUTSIDE) for node in self._nodes)
        return self._arrays[id(domain_of)]

    def _any_planned(self, kinds: Iterable[int]) -> bool:
        return any(self._kinds[number].is_planned for number in kinds)

    def _standing(
        self, roles: Mapping[int, Role], domain_of: Mapping[str, int], states: Iterable[str]
    ) -> dict[int, Tally]:
        """Pods in some states that no plan touches, by domain."""
        found: dict[int, Tally] = {}
        for number, role in roles.items():
            for state in states:
                where: Counter[str] = getattr(self._kinds[number], state)
                for name, count in where.items():
                    if name in domain_of:
                        domain = domain_of[name]
                        found[domain] = counted(found.get(domain, NOBODY), role, count)
        return found

    def _tallies(self, draft: _Draft) -> dict[int, Tally]:
        """All pods that stand now, by domain."""
        found = dict(draft.relation.standing)
        for number, role in draft.roles.items():
            for name, uids in self._kinds[number].moving.items():
                if name in draft.domain_of:
                    domain = draft.domain_of[name]
                    found[domain] = counted(found.get(domain, NOBODY), role, len(uids))
        return found

    def _close(self, draft: _Draft) -> None:
        """Take the nodes from each kind that pods which stay keep from it."""
        for number, role in draft.roles.items():
            if not self._kinds[number].is_planned:
                continue
            admitted = draft.relation.admitted(draft.relation.standing, role)
            if admitted.but and not admitted.domains:
                continue
            domains = self._array(draft.domain_of)
            self._closed[number].update(place for place, domain in enumerate(domains) if not admitted.has(domain))

    def _spoil(self, draft: _Draft) -> None:
        """Note who may move but stands where a rule between them and others is broken."""
        broken = {
            domain for domain, tally in self._tallies(draft).items() if not draft.relation.holds({domain: tally}, {})
        }
        for number in draft.roles if broken else ():
            for name, uids in self._kinds[number].moving.items():
                if draft.domain_of.get(name, OUTSIDE) in broken:
                    self._spoiled.update(uids)


def _numbered(key: str, nodes: Iterable[Node]) -> Mapping[str, int]:
    """Numbers for the values that nodes have of a label, by the name of the node."""
    values = {node.name: node.labels[key] for node in nodes if key in node.labels}
    numbers = {value: number for number, value in enumerate(sorted(set(values.values())))}
    return {name: numbers[value] for name, value in values.items()}


def _roles(subjects: set[int], objects: set[int]) -> dict[int, Role]:
    """The role of each kind, in the order of kinds."""
    return {
        number: Role.OBJECT if number not in subjects else Role.BOTH if number in objects else Role.SUBJECT
        for number in sorted(subjects | objects)
    }


def _where_it_counts(pod: Pod) -> tuple[object, ...]:
    """What decides which nodes a spread constraint of a pod counts."""
    return tuple(sorted(pod.node_selector.items())), pod.node_affinity, pod.tolerations
