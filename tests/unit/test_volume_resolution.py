"""What pods learn from claims, volumes and what offers them, from the objects of the API server on."""

from __future__ import annotations

import json

import pytest

from harness.volume_documents import (
    DRIVER,
    WAITING,
    ZONE,
    Document,
    as_list,
    claim,
    csi_driver,
    csi_node,
    node,
    on_host,
    pod,
    storage_class,
    volume,
)
from stowage_scheduler.cluster import ATTACHMENTS, FREE_VOLUMES, Pod, Snapshot, Unmodelled
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.kube.redact import redact
from stowage_scheduler.kube.volume_matching import describe_needs, volumes_admit
from stowage_scheduler.kube.volume_resolution import UNLIMITED

NODES = (node("a", zone="a"), node("b", zone="b"), node("plain"))
EVERYWHERE = {"a", "b", "plain"}
RESOURCE = ATTACHMENTS + DRIVER
IMMEDIATE = storage_class("immediate", waits=False)
BY_HAND = storage_class("by-hand", provisioner="kubernetes.io/no-provisioner")


def snapshot(*items: Document) -> Snapshot:
    return read_dump(json.dumps(as_list(*NODES, *items)).encode()).snapshot


def resolved(*items: Document, name: str = "p") -> Pod:
    found = snapshot(*items)
    assert not found.rejected
    return next(one for one in found.pods if one.name == name)


def admitting(*items: Document, name: str = "p") -> set[str]:
    """The nodes on which the pod's volumes can be used."""
    found = snapshot(*items)
    one = next(one for one in found.pods if one.name == name)
    assert not one.volume_obstacle
    assert not one.unmodelled
    return {node.name for node in found.nodes if volumes_admit(one.volume_needs, node)}


def free(name: str, host: str, **fields: object) -> Document:
    """A local volume that nobody has."""
    parts: Document = {"local": {"path": "/x"}, "driver": None, "phase": "Available", "storage_class": "by-hand"}
    return volume(name, **{"affinity": on_host(host), **parts, **fields})


def wish(name: str = "c", **fields: object) -> Document:
    """A claim for a volume that nobody makes."""
    parts: Document = {"storage_class": "by-hand"}
    return claim(name, **{**parts, **fields})


@pytest.mark.parametrize(
    ("items", "nodes"),
    [
        pytest.param([claim("c", "v"), volume("v")], EVERYWHERE, id="a volume without a place"),
        pytest.param([claim("c", "v"), volume("v", zones=("a",))], {"a"}, id="node affinity of its volume"),
        pytest.param(
            [claim("c", "v"), volume("v", labels={"topology.kubernetes.io/zone": "a"})],
            {"a", "plain"},
            id="a label of the zone; a node without zones is in every zone",
        ),
        pytest.param(
            [claim("c", "v"), volume("v", labels={"topology.kubernetes.io/zone": "a__b"})],
            EVERYWHERE,
            id="a label with several zones",
        ),
        pytest.param(
            [claim("c", "v"), volume("v", labels={"failure-domain.beta.kubernetes.io/zone": "b"})],
            {"b", "plain"},
            id="an old label of the volume matches the new one of nodes",
        ),
        pytest.param(
            [claim("c", "v"), volume("v", labels={"topology.kubernetes.io/zone": "a__"})],
            EVERYWHERE,
            id="a label that nobody can read is passed over",
        ),
        pytest.param(
            [claim("c", "v"), volume("v", labels={"topology.kubernetes.io/region": "r"})],
            {"plain"},
            id="nodes that tell a zone and no region have no region",
        ),
        pytest.param(
            [claim("c", storage_class=WAITING), storage_class()], EVERYWHERE, id="a volume that is made anywhere"
        ),
        pytest.param(
            [claim("c", storage_class=WAITING), storage_class(zones=("b",))], {"b"}, id="a class for one zone"
        ),
        pytest.param(
            [
                claim("c", annotations={"volume.beta.kubernetes.io/storage-class": WAITING}),
                storage_class(zones=("b",)),
            ],
            {"b"},
            id="a class named by the old annotation",
        ),
        pytest.param(
            [
                claim("c", storage_class=WAITING, annotations={"volume.kubernetes.io/selected-node": "a"}),
                storage_class(),
            ],
            {"a"},
            id="a node that was chosen already",
        ),
        pytest.param([wish(), BY_HAND, free("v1", "a"), free("v2", "b")], {"a", "b"}, id="where free volumes are"),
        pytest.param(
            [wish(), BY_HAND, free("v1", "a", size="1Mi"), free("v2", "b")], {"b"}, id="one that is too small"
        ),
        pytest.param(
            [wish(), BY_HAND, free("v1", "a", phase="Released"), free("v2", "b")], {"b"}, id="one that is not free"
        ),
        pytest.param(
            [wish(volumeMode="Block"), BY_HAND, free("v1", "a"), free("v2", "b", volumeMode="Block")],
            {"b"},
            id="one of another mode",
        ),
        pytest.param(
            [wish(modes=("ReadWriteMany",)), BY_HAND, free("v1", "a"), free("v2", "b", modes=("ReadWriteMany",))],
            {"b"},
            id="one for other access",
        ),
        pytest.param(
            [
                wish(selector={"matchLabels": {"tier": "fast"}}),
                BY_HAND,
                free("v1", "a"),
                free("v2", "b", labels={"tier": "fast"}),
            ],
            {"b"},
            id="one that the claim does not select",
        ),
        pytest.param(
            [
                wish(),
                BY_HAND,
                free("v1", "a", claimRef={"namespace": "team", "name": "c"}),
                free("v2", "b"),
                free("v3", "a", claimRef={"namespace": "team", "name": "other"}),
            ],
            {"a"},
            id="the one that is kept for the claim",
        ),
    ],
)
def test_nodes_that_can_use_the_volume(items: list[Document], nodes: set[str]) -> None:
    assert admitting(pod("p", "c"), *items) == nodes


def test_all_volumes_have_to_admit_the_node() -> None:
    both = [claim("c", "v"), volume("v", zones=("a", "b")), claim("d", "w"), volume("w", zones=("b", "c"))]
    assert admitting(pod("p", "c", "d"), *both) == {"b"}


@pytest.mark.parametrize(
    ("items", "words"),
    [
        pytest.param([claim("other")], "claim c does not exist", id="a claim that is missing"),
        pytest.param([claim("c", "v", phase="Lost"), volume("v")], "claim c has lost its volume", id="lost"),
        pytest.param(
            [claim("c", "v", deleted=True), volume("v")],
            "claim c is being deleted",
            id="a claim that is going",
        ),
        pytest.param([claim("c", "v"), volume("w")], "volume v of claim c does not exist", id="a volume that is gone"),
        pytest.param(
            [claim("c", storage_class="immediate"), IMMEDIATE], "claim c has no volume yet", id="not bound at once"
        ),
        pytest.param([claim("c"), IMMEDIATE], "claim c has no volume yet", id="no class"),
        pytest.param(
            [claim("c", storage_class="none"), IMMEDIATE], "claim c has no volume yet", id="a class that is not there"
        ),
        pytest.param(
            [claim("c", "v", bound=False, storage_class=WAITING), storage_class(), volume("v")],
            "claim c has no volume yet",
            id="a binding that is not finished",
        ),
        pytest.param([wish(), BY_HAND], "no volume is free for claim c", id="nothing is free"),
        pytest.param(
            [wish(annotations={"volume.kubernetes.io/selected-node": "a"}), BY_HAND, free("v", "a")],
            "no volume is free for claim c",
            id="a node was chosen, and nobody makes the volume",
        ),
    ],
)
@pytest.mark.parametrize("on", [None, "a"])
def test_volumes_that_can_not_be_had(items: list[Document], words: str, on: str | None) -> None:
    assert resolved(pod("p", "c", on=on), *items).volume_obstacle == words


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        pytest.param("p", "", id="made for the pod"),
        pytest.param("q", "claim p-scratch was not made for this pod", id="made for another"),
        pytest.param(None, "claim p-scratch was not made for this pod", id="made by hand"),
    ],
)
def test_the_claim_of_an_ephemeral_volume_belongs_to_its_pod(owner: str | None, words: str) -> None:
    found = resolved(
        pod("p", ephemeral="scratch"),
        claim("p-scratch", "v", owner=owner),
        volume("v", zones=("a",), labels={"topology.kubernetes.io/zone": "b"}),
    )
    assert found.volume_obstacle == words
    assert not found.volume_needs.zones, "VolumeZone looks at claims that pods name"


def test_the_claim_of_an_ephemeral_volume_comes_a_moment_later() -> None:
    found = resolved(pod("p", ephemeral="scratch"), claim("other"))
    assert found.volume_obstacle == "claim p-scratch is not made yet"


@pytest.mark.parametrize(
    "items",
    [
        pytest.param([], id="a file without claims"),
        pytest.param([claim("c", "v")], id="a file without volumes"),
        pytest.param([claim("c", storage_class=WAITING)], id="a file without classes"),
        pytest.param(
            [claim("c", "v"), volume("v", driver=None, awsElasticBlockStore={"volumeID": "x"})], id="an in-tree volume"
        ),
        pytest.param(
            [
                claim("c", "v"),
                volume("v", affinity={"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}),
            ],
            id="node affinity by a field",
        ),
        pytest.param(
            [claim("c", storage_class=WAITING), storage_class(provisioner="kubernetes.io/aws-ebs")],
            id="an in-tree provisioner",
        ),
        pytest.param(
            [claim("c", storage_class=WAITING), storage_class(), csi_driver(storageCapacity=True)],
            id="a driver that tracks capacity",
        ),
    ],
)
def test_what_is_left_to_kube_scheduler(items: list[Document]) -> None:
    assert resolved(pod("p", "c"), *items).unmodelled == (Unmodelled.VOLUMES,)


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


ONE = ("ReadWriteOncePod",)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        pytest.param([], "", id="nobody"),
        pytest.param(
            [pod("o", "c", on="b")], "claim c is for one pod at a time, and team/o has it", id="one that runs"
        ),
        pytest.param(
            [pod("o", "c", on="b", deletionTimestamp="2026-01-01T00:00:00Z")],
            "claim c is for one pod at a time, and team/o has it",
            id="one that is going",
        ),
        pytest.param([{**pod("o", "c", on="b"), "status": {"phase": "Succeeded"}}], "", id="one that has ended"),
        pytest.param(
            [pod("o", "c")], "claim c is for one pod at a time, and team/o has it", id="one that waits before"
        ),
        pytest.param([pod("q", "c")], "", id="one that waits behind"),
    ],
)
def test_a_claim_for_one_pod(others: list[Document], words: str) -> None:
    found = resolved(pod("p", "c"), *others, claim("c", "v", modes=ONE), volume("v", modes=ONE))
    assert found.volume_obstacle == words


MANY = ("ReadWriteMany",)


@pytest.mark.parametrize(
    ("items", "nodes", "stays"),
    [
        pytest.param([claim("c", "v"), volume("v")], {"b"}, True, id="one node at a time"),
        pytest.param(
            [claim("c", "v"), volume("v", modes=("ReadWriteOnce", "ReadOnlyMany"))],
            EVERYWHERE,
            False,
            id="a volume for many nodes",
        ),
        pytest.param([claim("c", "v"), volume("v", driver=None, nfs={})], EVERYWHERE, False, id="nothing to attach"),
        pytest.param(
            [claim("c", "v"), volume("v"), csi_driver(attachRequired=False)],
            EVERYWHERE,
            False,
            id="a driver that mounts",
        ),
        pytest.param([claim("c", "v"), volume("v"), csi_driver()], {"b"}, True, id="a driver that attaches"),
    ],
)
def test_pods_that_share_a_volume(items: list[Document], nodes: set[str], stays: bool) -> None:
    pods = [pod("p", "c"), pod("o", "c", on="b")]
    assert admitting(*pods, *items) == nodes
    assert resolved(*pods, *items, name="o").shared_volume is stays


def test_a_pod_that_is_going_keeps_nobody_at_its_node() -> None:
    leaving = pod("o", "c", on="b", deletionTimestamp="2026-01-01T00:00:00Z")
    assert admitting(pod("p", "c"), leaving, claim("c", "v"), volume("v")) == EVERYWHERE


def test_of_pods_that_share_a_volume_and_wait_the_first_is_planned_for() -> None:
    items = [pod("p", "c"), pod("q", "c"), claim("c", "v"), volume("v")]
    assert [resolved(*items, name=name).unmodelled for name in "pq"] == [(), (Unmodelled.VOLUMES,)]


def attached(*items: Document) -> dict[str, int]:
    """By pod, what it attaches through the driver."""
    return {one.name: one.requests.get(RESOURCE, 0) for one in snapshot(*items).pods}


LIMIT = [csi_node("a", 3), csi_node("b")]


def test_attachments_are_a_resource_where_a_driver_has_a_limit() -> None:
    found = snapshot(pod("p", "c", "d"), claim("c", "v"), volume("v"), claim("d", "w"), volume("w"), *LIMIT)
    assert found.pods[0].requests == {"pods": 1, "cpu": 1000, RESOURCE: 2}
    assert [one.allocatable[RESOURCE] for one in found.nodes] == [3, UNLIMITED, UNLIMITED]


def test_without_limits_nothing_is_counted() -> None:
    found = snapshot(pod("p", "c"), claim("c", "v"), volume("v"), csi_node("a"))
    assert RESOURCE not in found.pods[0].requests
    assert RESOURCE not in found.nodes[0].allocatable


@pytest.mark.parametrize(
    ("items", "counts"),
    [
        pytest.param(
            [pod("p", "c"), claim("c", storage_class=WAITING), storage_class()], {"p": 1}, id="a volume to be made"
        ),
        pytest.param(
            [pod("p", "c"), claim("c", "v"), volume("v", driver="other")], {"p": 0}, id="a driver without a limit"
        ),
        pytest.param(
            [pod("p", "c", on="a"), pod("q", "c", on="a"), claim("c", "v"), volume("v")],
            {"p": 1, "q": 0},
            id="pods that stay attach a volume once",
        ),
        pytest.param(
            [pod("p", "c", on="a"), pod("q", "c", on="a"), claim("c", "v", modes=MANY), volume("v", modes=MANY)],
            {"p": 1, "q": 1},
            id="pods that may move take it along",
        ),
        pytest.param(
            [
                pod("p", "c", on="a"),
                {**pod("q", "c", on="a"), "status": {"phase": "Failed"}},
                claim("c", "v"),
                volume("v"),
            ],
            {"p": 1, "q": 0},
            id="a pod that has ended holds nothing",
        ),
        pytest.param(
            [pod("p", "c", "c"), claim("c", "v"), volume("v")],
            {"p": 1},
            id="a claim that is mounted twice",
        ),
        pytest.param(
            [pod("p", "c", on="a"), claim("c", "v", bound=False), volume("v")],
            {"p": 1},
            id="a pod that stands with a claim which is not bound yet",
        ),
        pytest.param(
            [pod("p", "c", on="a"), claim("c", storage_class="immediate"), IMMEDIATE],
            {"p": 1},
            id="a pod that stands with a claim whose volume is not made yet",
        ),
        pytest.param(
            [pod("p", "c", on="a"), claim("c", "v", storage_class="immediate"), IMMEDIATE, volume("w")],
            {"p": 1},
            id="a pod that stands with a claim whose volume is gone: its class tells the driver",
        ),
        pytest.param(
            [pod("p", "c", on="a"), claim("c", "v", deleted=True), volume("v")],
            {"p": 1},
            id="a pod that stands with a claim that is being deleted",
        ),
        pytest.param([pod("p", "c", on="a"), claim("d", "v"), volume("v")], {"p": 0}, id="a claim that is not there"),
    ],
)
def test_what_counts_as_an_attachment(items: list[Document], counts: dict[str, int]) -> None:
    assert attached(*items, *LIMIT) == counts


@pytest.mark.parametrize(
    "source", [{"local": {"path": "/x"}}, {"hostPath": {"path": "/x"}}], ids=["a local volume", "a path of the host"]
)
def test_data_on_a_node_stays_there(source: Document) -> None:
    found = resolved(pod("p", "c", on="a"), claim("c", "v"), volume("v", driver=None, affinity=on_host("a"), **source))
    assert found.local_volume


@pytest.mark.parametrize(
    ("affinity", "stays"),
    [
        pytest.param(on_host("a"), True, id="by a label that names nodes"),
        pytest.param(
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["a", "b"]}]},
            False,
            id="two nodes",
        ),
        pytest.param(
            {"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["a"]}]}, False, id="a zone of one node"
        ),
        pytest.param(
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["b"]}]},
            False,
            id="all nodes but one",
        ),
    ],
)
def test_a_volume_that_names_one_node_is_as_good_as_a_local_one(affinity: Document, stays: bool) -> None:
    items = [claim("c", "v"), volume("v", affinity=affinity)]
    assert resolved(pod("p", "c", on="a"), *items).local_volume is stays
    assert not resolved(pod("p", "c"), *items).local_volume, "a pod that waits keeps nothing yet"


def test_needs_are_told_to_people() -> None:
    found = resolved(
        pod("p", "c"), claim("c", "v"), volume("v", zones=("a",), labels={"topology.kubernetes.io/region": "r__s"})
    )
    assert describe_needs(found.volume_needs) == "topology.kubernetes.io/zone=a, topology.kubernetes.io/region=r|s"


def test_a_dump_keeps_what_is_read_and_nothing_else() -> None:
    items = [pod("p", "c", "d"), claim("c", "v"), volume("v", zones=("a",)), claim("d", storage_class=WAITING)]
    items += [storage_class(zones=("a",)), csi_driver(storageCapacity=True), *LIMIT]
    document = redact(as_list(*NODES, *items))
    assert read_dump(json.dumps(document).encode()).snapshot == snapshot(*items)
    assert "secret" not in json.dumps(document)
