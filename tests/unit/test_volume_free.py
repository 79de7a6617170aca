"""Free volumes that nobody makes: a resource of their nodes, or left to kube-scheduler."""

from __future__ import annotations

import pytest

from harness.volume_documents import (
    ZONE,
    Document,
    on_host,
    pod,
    volume,
)
from stowage_scheduler.cluster import FREE_VOLUMES, Unmodelled
from unit.volume_cases import BY_HAND, free, resolved, snapshot, wish


def test_two_pods_that_may_get_the_same_free_volume_are_planned_one_after_the_other() -> None:
    items = [pod("p", "c"), pod("q", "d"), pod("r", "e"), wish("c"), wish("d"), wish("e", size="2Gi"), BY_HAND]
    items += [free("v1", "a"), free("v2", "b"), free("v3", "a", size="2Gi")]
    assert [resolved(*items, name=name).unmodelled for name in "pqr"] == [
        (),
        (Unmodelled.VOLUMES,),
        (Unmodelled.VOLUMES,),
    ]
    alone = [
        pod("p", "c"),
        pod("q", "d"),
        wish("c", selector={"matchLabels": {"for": "c"}}),
        wish("d", size="2Gi"),
        BY_HAND,
    ]
    alone += [free("v1", "a", labels={"for": "c"}), free("v2", "b", size="2Gi")]
    assert [resolved(*alone, name=name).unmodelled for name in "pq"] == [(), ()]


POOL = FREE_VOLUMES + "by-hand"


def offered(*items: Document) -> dict[str, int]:
    return {one.name: one.allocatable[POOL] for one in snapshot(*items).nodes if POOL in one.allocatable}


def test_volumes_that_will_all_do_are_a_resource_of_their_nodes() -> None:
    items = [pod("p", "c"), pod("q", "d", "e"), wish("c"), wish("d"), wish("e"), BY_HAND]
    nowhere = {
        "matchExpressions": [*on_host("a")["matchExpressions"], {"key": ZONE, "operator": "In", "values": ["b"]}]
    }
    items += [free("v1", "a"), free("v2", "a"), free("v3", "b"), free("v4", "gone"), free("v5", "a", affinity=nowhere)]
    assert [resolved(*items, name=name).requests.get(POOL) for name in "pq"] == [1, 2]
    assert [resolved(*items, name=name).unmodelled for name in "pq"] == [(), ()]
    assert offered(*items) == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("size", "volumes"),
    [
        pytest.param(
            "1Gi",
            [free("v1", "a"), volume("v2", driver=None, nfs={}, phase="Available", storage_class="by-hand")],
            id="one can be used everywhere",
        ),
        pytest.param(
            "1Gi",
            [free("v1", "a"), free("v2", "b", affinity={"matchExpressions": [{"key": ZONE, "operator": "Exists"}]})],
            id="one can be used in every zone",
        ),
        pytest.param("2Gi", [free("v1", "a"), free("v2", "b", size="2Gi")], id="one claim can have but one of them"),
    ],
)
def test_other_free_volumes_are_no_resource(size: str, volumes: list[Document]) -> None:
    items = [pod("p", "c"), pod("q", "d"), wish("c"), wish("d", size=size), BY_HAND, *volumes]
    assert offered(*items) == {}
    assert [resolved(*items, name=name).unmodelled for name in "pq"] == [(), (Unmodelled.VOLUMES,)]


def test_two_claims_of_a_pod_that_may_get_the_same_free_volume_are_left_to_kube_scheduler() -> None:
    items = [
        pod("p", "c", "d"),
        wish("c"),
        wish("d", size="2Gi"),
        BY_HAND,
        free("v1", "a"),
        free("v2", "a", size="2Gi"),
    ]
    assert resolved(*items).unmodelled == (Unmodelled.VOLUMES,)
