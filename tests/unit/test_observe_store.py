"""The store of facts, told of changes as reflectors tell it."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.observe.reflector import Absent, Event, ObjectKey, Present, Refused
from stowage.observe.store import COLLECTIONS, Store
from stowage_scheduler.cluster import CPU, DisruptionBudget, Node, Pod, PriorityClass, Rejected, Workload
from stowage_scheduler.kube.facts import Fact, Namespace


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    return Store(now=clock)


def present(fact: Any) -> Present[Fact]:
    return Present(ObjectKey(getattr(fact, "namespace", ""), fact.name), fact)


def refused(kind: str, namespace: str, name: str) -> Refused:
    return Refused(ObjectKey(namespace, name), Rejected(kind, name, "spec", "-1", "it must be positive"))


def replica_set(replicas: int, uid: str = "u1") -> Workload:
    return Workload("ReplicaSet", "a", "web", uid, replicas=replicas)


def tell(store: Store, *events: tuple[str, Event[Fact]]) -> None:
    for kind, event in events:
        store.handle(kind, event)


def changed_at(store: Store) -> float | None:
    workload = store.workload("ReplicaSet", "a", "web")
    assert workload is not None
    return workload.replicas_changed_at


def test_a_snapshot_holds_every_kind_of_fact(store: Store) -> None:
    pod, budget = Pod("a", "web-1", "p1", {CPU: 1}, node="n1"), DisruptionBudget("a", "web", "b1", None)
    priority_class, node = PriorityClass("high", 10), Node("n1", {CPU: 4})
    tell(
        store,
        ("Pod", present(pod)),
        ("Node", present(node)),
        ("ReplicaSet", present(replica_set(2))),
        ("PodDisruptionBudget", present(budget)),
        ("PriorityClass", present(priority_class)),
        ("Namespace", present(Namespace("a", {"team": "x"}))),
    )
    snapshot = store.snapshot(5.0)
    assert (snapshot.now, snapshot.nodes, snapshot.pods) == (5.0, (node,), (pod,))
    assert (snapshot.workloads, snapshot.budgets) == ((replica_set(2),), (budget,))
    assert (snapshot.priority_classes, snapshot.namespace_labels) == ((priority_class,), {"a": {"team": "x"}})
    assert (store.pods, store.nodes) == ({"a/web-1": pod}, {"n1": node})


def test_what_is_gone_is_gone(store: Store) -> None:
    tell(store, ("Node", present(Node("n1", {}))), ("Node", Absent(ObjectKey("", "n1"))))
    assert store.snapshot(5.0).nodes == ()


def test_an_object_that_makes_no_sense_replaces_what_was_known_and_is_counted(store: Store) -> None:
    tell(store, ("Node", present(Node("n1", {}))), ("Node", refused("Node", "", "n1")))
    snapshot = store.snapshot(5.0)
    assert (snapshot.nodes, [rejected.name for rejected in snapshot.rejected]) == ((), ["n1"])
    assert (store.rejected_count("Node"), store.rejected_count("Pod")) == (1, 0)


@pytest.mark.parametrize("end", [present(Node("n1", {})), Absent(ObjectKey("", "n1"))], ids=["mended", "deleted"])
def test_a_refusal_ends_with_its_cause(store: Store, end: Event[Fact]) -> None:
    tell(store, ("Node", refused("Node", "", "n1")), ("Node", end))
    assert store.rejected == ()


def test_objects_of_one_name_but_several_kinds_are_kept_apart(store: Store) -> None:
    deployment = Workload("Deployment", "a", "web", "u2", replicas=9)
    tell(store, ("ReplicaSet", present(replica_set(2))), ("Deployment", present(deployment)))
    tell(store, ("ReplicaSet", Absent(ObjectKey("a", "web"))))
    assert store.snapshot(5.0).workloads == (deployment,)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param([replica_set(2)], None, id="creation or first list"),
        pytest.param([replica_set(2), replica_set(2)], None, id="a change of something else"),
        pytest.param([replica_set(2), replica_set(3)], 1002.0, id="scaled"),
        pytest.param([replica_set(2), replica_set(3), replica_set(3)], 1002.0, id="scaled, then something else"),
        pytest.param([replica_set(2), replica_set(3), replica_set(2)], 1003.0, id="scaled and back"),
        pytest.param([replica_set(2), replica_set(3, uid="u2")], None, id="deleted and created again unseen"),
    ],
)
def test_when_replicas_changed(store: Store, clock: Clock, seen: list[Workload], expected: float | None) -> None:
    for workload in seen:
        clock.seconds += 1.0
        tell(store, ("ReplicaSet", present(workload)))
    assert changed_at(store) == expected


def test_subscribers_hear_the_kind_and_the_key_after_the_change(store: Store) -> None:
    heard: list[tuple[str, str, bool]] = []
    store.subscribe(lambda kind, key: heard.append((kind, key, key in store.pods)))
    tell(
        store,
        ("Pod", present(Pod("a", "web-1", "p1", {}))),
        ("Pod", refused("Pod", "a", "web-1")),
        ("Pod", Absent(ObjectKey("a", "web-1"))),
    )
    assert heard == [("Pod", "a/web-1", True), ("Pod", "a/web-1", False), ("Pod", "a/web-1", False)]


def test_a_store_that_nothing_fills_is_not_synced(store: Store) -> None:
    assert not store.synced
    assert len({collection.path for collection in COLLECTIONS}) == len(COLLECTIONS)


def test_an_event_that_changes_no_fact_rings_nobody_and_keeps_the_snapshot(store: Store) -> None:
    heard: list[tuple[str, str]] = []
    tell(store, ("Pod", present(Pod("a", "web-1", "p1", {CPU: 1}))), ("Node", refused("Node", "", "n1")))
    before = store.snapshot(5.0)
    store.subscribe(lambda kind, key: heard.append((kind, key)))
    tell(
        store,
        ("Pod", present(Pod("a", "web-1", "p1", {CPU: 1}))),
        ("Node", refused("Node", "", "n1")),
        ("Job", Absent(ObjectKey("a", "never-there"))),
    )
    assert heard == []
    assert store.snapshot(6.0).pods is before.pods
