"""What pods learn from claims, volumes and what offers them, from the objects of the API server on."""

from __future__ import annotations

import json

import pytest

from harness.volume_documents import (
    WAITING,
    ZONE,
    Document,
    as_list,
    claim,
    csi_driver,
    on_host,
    pod,
    storage_class,
    volume,
)
from stowage_scheduler.cluster import Unmodelled
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.kube.redact import redact
from stowage_scheduler.kube.volume_matching import describe_needs
from unit.volume_cases import BY_HAND, EVERYWHERE, IMMEDIATE, LIMIT, NODES, admitting, free, resolved, snapshot, wish


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
