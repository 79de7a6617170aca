"""Matching agrees with a second, naive reading of the rules over well-formed selectors."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from stowage_scheduler.cluster import (
    Effect,
    HostPort,
    LabelSelector,
    Node,
    NodeSelectorTerm,
    Pod,
    Requirement,
    Taint,
    Toleration,
)
from stowage_scheduler.kube.matching import (
    ANY_ADDRESS,
    matches_node_affinity,
    matches_selector,
    port_conflict,
    tolerates_node,
)

KEYS = st.sampled_from(["a", "b", "example.com/c"])
VALUES = st.sampled_from(["", "x", "y", "5", "12"])
LABELS = st.dictionaries(KEYS, VALUES)
SETS = st.builds(
    Requirement, KEYS, st.sampled_from(["In", "NotIn"]), st.lists(VALUES, min_size=1, max_size=3).map(tuple)
)
PRESENCE = st.builds(Requirement, KEYS, st.sampled_from(["Exists", "DoesNotExist"]))
BOUNDS = st.builds(Requirement, KEYS, st.sampled_from(["Gt", "Lt"]), st.sampled_from([("4",), ("5",), ("07",)]))
SELECTORS = st.builds(
    LabelSelector, st.dictionaries(KEYS, VALUES).map(lambda d: tuple(d.items())), st.lists(SETS | PRESENCE).map(tuple)
)
NAMES = st.builds(Requirement, st.just("metadata.name"), st.sampled_from(["In", "NotIn"]), VALUES.map(lambda v: (v,)))
TERMS = st.builds(
    NodeSelectorTerm,
    st.lists(SETS | PRESENCE | BOUNDS, max_size=2).map(tuple),
    st.lists(NAMES, max_size=1).map(tuple),
)


def holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    """An expression as the set of values that it accepts, None standing for the absent key."""
    present = set(labels.values()) | set(requirement.values)
    accepted: dict[str, set[str | None]] = {
        "In": set(requirement.values),
        "NotIn": {None, *present} - set(requirement.values),
        "Exists": set(present),
        "DoesNotExist": {None},
        "Gt": {v for v in present if v.isdigit() and int(v) > int(requirement.values[0])}
        if requirement.operator == "Gt"
        else set(),
        "Lt": {v for v in present if v.isdigit() and int(v) < int(requirement.values[0])}
        if requirement.operator == "Lt"
        else set(),
    }
    return labels.get(requirement.key) in accepted[requirement.operator]


@given(SELECTORS, LABELS)
def test_label_selectors(selector: LabelSelector, labels: dict[str, str]) -> None:
    wanted = [Requirement(key, "In", (value,)) for key, value in selector.labels]
    naive = not any(not holds(requirement, labels) for requirement in [*wanted, *selector.expressions])
    assert matches_selector(selector, labels) is naive


@given(st.none() | st.lists(TERMS, max_size=3).map(tuple), LABELS, LABELS, VALUES)
def test_node_affinity(
    terms: tuple[NodeSelectorTerm, ...] | None, selector: dict[str, str], labels: dict[str, str], name: str
) -> None:
    matching = [
        term
        for term in terms or ()
        if (term.expressions or term.fields)
        and all(holds(r, labels) for r in term.expressions)
        and all(holds(r, {"metadata.name": name}) for r in term.fields)
    ]
    naive = selector.items() <= labels.items() and (terms is None or bool(matching))
    pod = Pod("ns", "p", "u", {}, node_selector=selector, node_affinity=terms)
    assert matches_node_affinity(pod, Node(name, {}, labels=labels)) is naive


TAINTS = st.builds(Taint, st.sampled_from(["a", "b"]), st.sampled_from(Effect), st.sampled_from(["", "x"]))
TOLERATIONS = st.builds(
    Toleration,
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(["Equal", "Exists"]),
    st.sampled_from(["", "x"]),
    st.sampled_from(["", *Effect]),
)


@given(st.lists(TAINTS, max_size=3), st.lists(TOLERATIONS, max_size=3), st.booleans())
def test_taints(taints: list[Taint], tolerations: list[Toleration], cordoned: bool) -> None:
    keys = ["a", "b", "node.kubernetes.io/unschedulable"]
    covered = {
        (key, effect, value)
        for t in tolerations
        for key in ([t.key] if t.key else keys)
        for effect in ([t.effect] if t.effect else list(Effect))
        for value in (["", "x"] if t.operator == "Exists" else [t.value])
    }
    hard = {(t.key, t.effect, t.value) for t in taints if t.effect != "PreferNoSchedule"}
    if cordoned:
        hard.add((keys[2], Effect.NO_SCHEDULE, ""))
    pod = Pod("ns", "p", "u", {}, tolerations=tuple(tolerations))
    assert tolerates_node(pod, Node("n", {}, taints=tuple(taints), unschedulable=cordoned)) is (hard <= covered)


PORTS = st.builds(
    HostPort, st.sampled_from(["TCP", "UDP"]), st.sampled_from([ANY_ADDRESS, "10.0.0.1", "10.0.0.2"]), st.integers(1, 2)
)
ADDRESSES = {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


@given(st.lists(PORTS, max_size=3), st.lists(PORTS, max_size=3))
def test_host_ports(wanted: list[HostPort], taken: list[HostPort]) -> None:
    def sockets(ports: list[HostPort]) -> set[tuple[str, str, int]]:
        return {(p.protocol, ip, p.port) for p in ports for ip in (ADDRESSES if p.ip == ANY_ADDRESS else {p.ip})}

    assert (port_conflict(wanted, taken) is None) is sockets(wanted).isdisjoint(sockets(taken))
