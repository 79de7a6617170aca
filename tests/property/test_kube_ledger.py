"""Whatever changes in whatever order: a ledger's snapshot is the one that is assembled from scratch."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stowage_scheduler.cluster import (
    CPU,
    DisruptionBudget,
    Gang,
    Node,
    OwnerRef,
    Pod,
    PriorityClass,
    Rejected,
    Snapshot,
    Workload,
)
from stowage_scheduler.kube.facts import Fact, Namespace
from stowage_scheduler.kube.ledger import WORKLOAD_KINDS, Ledger
from stowage_scheduler.kube.pod_group_facts import GroupFact
from stowage_scheduler.kube.snapshot import assemble

NAMES = st.sampled_from(["a", "b", "b-1"])
NODE_NAMES = st.sampled_from(["n1", "n2", "n3"])
UIDS = st.sampled_from(["u1", "u2", "u3", "u4", "u5", "u6"])
FACTS = st.one_of(
    st.builds(lambda name, cpu: Node(name, {CPU: cpu}), NODE_NAMES, st.integers(1, 2)),
    st.builds(
        lambda namespace, name, uid, node, phase, gang: Pod(
            namespace, name, uid, {CPU: 1}, node=node, phase=phase, gang=gang
        ),
        NAMES,
        NAMES,
        UIDS,
        st.none() | NODE_NAMES,
        st.sampled_from(["Pending", "Running", "Succeeded"]),
        st.none() | st.builds(lambda name: Gang(name, 0, elastic=True, unknown=True), NAMES),
    ),
    st.builds(GroupFact, NAMES, NAMES, st.integers(1, 3)),
    st.builds(
        lambda kind, name, uid, owner, revision: Workload(
            kind, "a", name, uid, owner=OwnerRef("Deployment", "d", owner) if owner else None, revision=revision
        ),
        st.sampled_from(sorted(WORKLOAD_KINDS)),
        NAMES,
        UIDS,
        st.none() | UIDS,
        st.none() | st.integers(1, 3),
    ),
    st.builds(lambda name, allowed: DisruptionBudget("a", name, name, None, allowed), NAMES, st.integers(0, 1)),
    st.builds(PriorityClass, NAMES, st.integers(0, 2)),
    st.builds(lambda name, team: Namespace(name, {"team": team}), NAMES, NAMES),
)


def kind_of(fact: Fact) -> str:
    match fact:
        case Workload():
            return fact.kind
        case DisruptionBudget():
            return "PodDisruptionBudget"
        case GroupFact():
            return "PodGroup"
        case _:
            return type(fact).__name__


def name_of(fact: Fact) -> str:
    namespace = getattr(fact, "namespace", None)
    name = fact.gang if isinstance(fact, GroupFact) else fact.name
    return f"{namespace}/{name}" if namespace else name


CHANGES = st.lists(
    st.tuples(FACTS, st.sampled_from(["put", "put", "put", "refuse", "drop", "drop", "look"])), max_size=40
)


class FromScratch:
    """What a ledger should know, kept in the simplest way."""

    def __init__(self) -> None:
        self.facts: dict[tuple[str, str], Fact] = {}
        self.refused: dict[tuple[str, str], Rejected] = {}

    def change(self, ledger: Ledger, fact: Fact, action: str) -> bool:
        """Do the same to both; whether the ledger says that something changed."""
        place = kind_of(fact), name_of(fact)
        rejected = Rejected(*place, "spec", "-1", "it must be positive")
        match action:
            case "put":
                self.facts[place] = fact
                self.refused.pop(place, None)
                return ledger.put(*place, fact)
            case "refuse":
                self.facts.pop(place, None)
                self.refused[place] = rejected
                return ledger.refuse(*place, rejected)
            case _:
                self.facts.pop(place, None)
                self.refused.pop(place, None)
                return ledger.drop(*place)

    def snapshot(self, now: float) -> Snapshot:
        """Assembled anew."""

        def of(kind: type[Any]) -> list[Any]:
            return [fact for fact in self.facts.values() if isinstance(fact, kind)]

        return assemble(
            now,
            nodes=of(Node),
            pods=of(Pod),
            workloads=of(Workload),
            budgets=of(DisruptionBudget),
            pod_groups=of(GroupFact),
            priority_classes=of(PriorityClass),
            namespace_labels={namespace.name: namespace.labels for namespace in of(Namespace)},
            rejected=self.refused.values(),
        )


def content(snapshot: Snapshot) -> bytes:
    return msgspec.msgpack.encode(snapshot)


@given(CHANGES)
def test_a_snapshot_equals_the_one_made_from_scratch(changes: list[tuple[Fact, str]]) -> None:
    ledger, plain = Ledger(), FromScratch()
    for number, (fact, action) in enumerate(changes):
        if action == "look":
            assert content(ledger.snapshot(number)) == content(plain.snapshot(number))
        else:
            plain.change(ledger, fact, action)
    assert content(ledger.snapshot(0.0)) == content(plain.snapshot(0.0))
    assert {key: ledger.pods[key] for key in sorted(ledger.pods)} == {
        name: fact for (kind, name), fact in sorted(plain.facts.items()) if kind == "Pod"
    }


@given(CHANGES)
def test_a_snapshot_that_was_taken_never_changes(changes: list[tuple[Fact, str]]) -> None:
    ledger, plain = Ledger(), FromScratch()
    taken: list[tuple[Snapshot, bytes]] = []
    for fact, action in changes:
        if action != "look":
            plain.change(ledger, fact, action)
        snapshot = ledger.snapshot(0.0)
        taken.append((snapshot, content(plain.snapshot(0.0))))
        assert content(snapshot) == taken[-1][1]
    assert all(content(snapshot) == before for snapshot, before in taken)


@given(CHANGES)
def test_it_says_that_something_changed_exactly_when_something_did(changes: list[tuple[Fact, str]]) -> None:
    ledger, plain = Ledger(), FromScratch()
    for fact, action in changes:
        before = dict(plain.facts), dict(plain.refused)
        changed = plain.change(ledger, fact, action)
        assert changed == (before != (plain.facts, plain.refused))


@given(CHANGES.filter(bool))
def test_what_has_not_changed_is_shared(changes: list[tuple[Fact, str]]) -> None:
    ledger, plain = Ledger(), FromScratch()
    for fact, _ in changes:
        plain.change(ledger, fact, "put")
    first = ledger.snapshot(0.0)
    ledger.put("PriorityClass", "new", PriorityClass("new", 1))
    second = ledger.snapshot(1.0)
    uids = [fact.uid for fact in plain.facts.values() if isinstance(fact, Pod)]
    twins = len(set(uids)) < len(uids)
    workload_uids = [fact.uid for fact in plain.facts.values() if isinstance(fact, Workload)]
    if not twins and len(set(workload_uids)) == len(workload_uids):
        shared = ("nodes", "pods", "workloads", "budgets", "namespace_labels", "rejected")
        assert all(getattr(first, name) is getattr(second, name) for name in shared)
