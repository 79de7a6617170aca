"""The indexed answers about rules of other pods equal those of looking at every pair of pods."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from stowage_scheduler.cluster import DisruptionBudget, LabelSelector, Node, Pod, PodAffinityTerm, Requirement, Snapshot
from stowage_scheduler.entanglement import ClosedDomains, entangled
from stowage_scheduler.kube.budgets import Budgets, budgets_of
from stowage_scheduler.kube.matching import matches_pod_term, matches_selector

KEYS = st.sampled_from(["app", "tier"])
VALUES = st.sampled_from(["x", "x", "y"])
NAMESPACES = st.sampled_from(["a", "b"])
LABELS = st.dictionaries(KEYS, VALUES, max_size=2)
SELECTORS = st.builds(
    lambda labels, expressions: LabelSelector(tuple(sorted(labels.items())), tuple(expressions)),
    LABELS,
    st.lists(
        st.builds(lambda key, value: Requirement(key, "In", (value,)), KEYS, VALUES)
        | st.builds(lambda key: Requirement(key, "Exists"), KEYS),
        max_size=1,
    ),
)
TERMS = st.builds(
    PodAffinityTerm,
    st.sampled_from(["zone", "kubernetes.io/hostname"]),
    st.one_of(st.just(LabelSelector()), SELECTORS, st.none()),
    st.lists(NAMESPACES, max_size=1).map(tuple),
    st.none() | st.builds(lambda value: LabelSelector((("team", value),)), VALUES) | st.just(LabelSelector()),
)
NODES = tuple(
    Node(f"n{number}", {}, labels={"kubernetes.io/hostname": f"n{number}", **({"zone": zone} if zone else {})})
    for number, zone in enumerate(["z1", "z1", "z2", None])
)
PODS = st.lists(
    st.tuples(
        NAMESPACES,
        LABELS,
        st.none() | st.sampled_from([node.name for node in NODES]),
        st.none() | st.sampled_from([node.name for node in NODES]),
        st.sampled_from(["Pending", "Running", "Succeeded"]),
        st.lists(TERMS, max_size=2).map(tuple),
        st.lists(TERMS, max_size=2).map(tuple),
        st.lists(SELECTORS, max_size=1).map(tuple),
    ),
    max_size=5,
)
TEAMS = st.dictionaries(NAMESPACES, st.dictionaries(st.just("team"), VALUES, max_size=1), max_size=3)


def snapshot_of(pods: list[tuple[object, ...]], teams: dict[str, dict[str, str]]) -> Snapshot:
    made = []
    for number, (namespace, labels, node, nominated, phase, affinity, anti_affinity, spread) in enumerate(pods):
        pod = Pod(namespace, f"p{number}", f"u{number}", {}, node=node, nominated_node=nominated)  # type: ignore[arg-type]
        fields = {"phase": phase, "labels": labels, "spread_selectors": spread}
        made.append(replace(pod, **fields, affinity_terms=affinity, anti_affinity_terms=anti_affinity))
    return Snapshot(0.0, nodes=NODES, pods=tuple(made), namespace_labels=teams)


@settings(max_examples=300)
@given(PODS, TEAMS)
def test_entangled(pods: list[tuple[object, ...]], teams: dict[str, dict[str, str]]) -> None:
    snapshot = snapshot_of(pods, teams)
    expected = {
        other.uid
        for pod in snapshot.pods
        if not pod.finished
        for other in snapshot.pods
        if any(matches_pod_term(term, other, teams) for term in pod.affinity_terms)
        or (
            other.namespace == pod.namespace
            and any(matches_selector(selector, other.labels) for selector in pod.spread_selectors)
        )
    }
    assert entangled(snapshot) == expected


@settings(max_examples=300)
@given(PODS, TEAMS)
def test_closed_nodes(pods: list[tuple[object, ...]], teams: dict[str, dict[str, str]]) -> None:
    snapshot = snapshot_of(pods, teams)
    usable = {node.name: node for node in NODES[:3]}
    closed = ClosedDomains(snapshot, usable)
    for pod in snapshot.pods:
        expected = set()
        for other in snapshot.pods:
            where = next((node for node in NODES if node.name == (other.node or other.nominated_node)), None)
            if other.uid == pod.uid or other.finished or where is None:
                continue
            for term in other.anti_affinity_terms:
                value = where.labels.get(term.topology_key)
                if value is not None and matches_pod_term(term, pod, teams):
                    expected |= {name for name, node in usable.items() if node.labels.get(term.topology_key) == value}
        assert closed.closed_nodes(pod) == expected


@given(PODS, st.lists(st.tuples(NAMESPACES, st.none() | SELECTORS), max_size=4))
def test_budgets(pods: list[tuple[object, ...]], wanted: list[tuple[str, LabelSelector | None]]) -> None:
    found = [DisruptionBudget(namespace, f"b{n}", f"b{n}", selector) for n, (namespace, selector) in enumerate(wanted)]
    index = Budgets(found)
    for pod in snapshot_of(pods, {}).pods:
        assert index.of(pod) == budgets_of(pod, found)
