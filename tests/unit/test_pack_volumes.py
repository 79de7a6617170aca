"""Plans for pods with volumes: who goes where, who stays, and what people are told."""

from __future__ import annotations

import json

import pytest

from harness.volume_documents import (
    WAITING,
    Document,
    as_list,
    claim,
    csi_node,
    node,
    on_host,
    pod,
    storage_class,
    volume,
)
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.immovable import Immovable
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.movability import Movability
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.pack import pack
from stowage_scheduler.packing import Packing, Reason
from stowage_scheduler.rules import Outcome
from stowage_scheduler.rules.volumes import Volumes
from stowage_scheduler.slots import slot_class

BUDGET = Budget(deterministic_units=20, workers=1)
IN_A = volume("v", zones=("a",))
TWO_ZONES = (node("a", zone="a", cpu="4"), node("b", zone="b", cpu="4"))


def snapshot(*items: Document) -> Snapshot:
    found = read_dump(json.dumps(as_list(*items)).encode()).snapshot
    assert not found.rejected
    return found


def packed(*items: Document, options: PackOptions | None = None) -> Packing:
    packing = pack(snapshot(*items), options or PackOptions(), BUDGET, 1, lambda: 0.0)
    assert not packing.faults
    return packing


def places(packing: Packing) -> dict[str, str]:
    return {one.pod.name: one.node for one in packing.assignments}


def test_a_pod_goes_where_its_volume_is() -> None:
    assert places(packed(*TWO_ZONES, pod("p", "c"), claim("c", "v"), volume("v", zones=("b",)))) == {"p": "b"}


def test_replicas_of_one_template_go_where_their_own_volumes_are() -> None:
    items = [pod("p", "c"), claim("c", "v"), IN_A, pod("q", "d"), claim("d", "w"), volume("w", zones=("b",))]
    assert places(packed(*TWO_ZONES, *items)) == {"p": "a", "q": "b"}


def test_others_make_room_where_the_volume_is() -> None:
    """Only zone a will do, and what stands there moves to zone b."""
    items = [pod("small", on="a", cpu="2"), pod("p", "c", cpu="3"), claim("c", "v"), IN_A]
    assert places(packed(*TWO_ZONES, *items)) == {"small": "b", "p": "a"}


def test_a_pod_moves_within_the_zone_of_its_volume() -> None:
    nodes = [*TWO_ZONES, node("a2", zone="a", cpu="4")]
    items = [pod("db", "c", on="a", cpu="2"), claim("c", "v"), IN_A, pod("large", "d", cpu="4"), claim("d", "w")]
    found = packed(*nodes, *items, volume("w", zones=("a",)), pod("fixed", on="a2", cpu="1"), node("b2", zone="b"))
    assert places(found)["db"] in {"a", "a2"}
    assert places(found)["large"] in {"a", "a2"}
    assert not found.unplaced


def test_a_node_attaches_no_more_volumes_than_its_driver_allows() -> None:
    items: list[Document] = []
    for number in range(3):
        items += [pod(f"p{number}", f"c{number}", cpu="1"), claim(f"c{number}", f"v{number}")]
        items += [volume(f"v{number}")]
    found = packed(*TWO_ZONES, *items, csi_node("a", 1), csi_node("b", 1))
    assert sorted(places(found).values()) == ["a", "b"]
    assert [one.reason for one in found.unplaced] == [Reason.VOLUME_LIMIT]
    assert "1 volume of disk.example.com more on node" in found.unplaced[0].help


def test_a_volume_that_is_detached_makes_room_for_another() -> None:
    """Both nodes have CPU enough; the driver attaches one volume to a, and three to b, where the new pod can not be."""
    items = [pod("old", "c", on="a"), claim("c", "v"), volume("v"), pod("new", "d"), claim("d", "w")]
    found = packed(*TWO_ZONES, *items, volume("w", zones=("a",)), csi_node("a", 1), csi_node("b", 3))
    assert places(found) == {"old": "b", "new": "a"}
    assert [step.after for step in found.steps] == [(), ("s001",)]


def test_pods_that_wait_for_free_volumes_get_one_each() -> None:
    """Node a has two disks and room for one pod, until what stands there moves to b, which has none."""
    items = [pod("small", on="a", cpu="2"), storage_class("disks", provisioner="kubernetes.io/no-provisioner")]
    for name in "pqr":
        disk = volume(f"v-{name}", driver=None, local={"path": "/x"}, affinity=on_host("a" if name != "r" else "c"))
        disk["spec"]["storageClassName"], disk["status"]["phase"] = "disks", "Available"
        items += [pod(name, f"c-{name}", cpu="2"), claim(f"c-{name}", storage_class="disks"), disk]
    found = packed(*TWO_ZONES, *items)
    assert places(found) == {"small": "b", "p": "a", "q": "a"}
    assert [one.pod.name for one in found.unplaced] == ["r"]


@pytest.mark.parametrize(
    ("items", "why"),
    [
        pytest.param([claim("c", "v"), IN_A], None, id="a volume of its own"),
        pytest.param(
            [claim("c", "v"), volume("v", driver=None, local={"path": "/x"})], Immovable.LOCAL_STORAGE, id="a local one"
        ),
        pytest.param([claim("c", "v"), IN_A, pod("q", "c", on="a")], Immovable.SHARED_VOLUME, id="a shared one"),
        pytest.param([claim("c", "v", deleted=True), IN_A], Immovable.VOLUME_UNAVAILABLE, id="a claim that is going"),
        pytest.param([], Immovable.NOT_MODELLED, id="nobody knows the claim"),
    ],
)
def test_who_stays(items: list[Document], why: Immovable | None) -> None:
    found = snapshot(*TWO_ZONES, pod("p", "c", on="a"), *items)
    assert Movability(found, PackOptions()).immovable(found.pods[0]) is why


def test_the_data_of_an_ephemeral_volume_goes_with_its_pod() -> None:
    items = [pod("p", ephemeral="scratch", on="a"), claim("p-scratch", "v", owner="p"), IN_A]
    found = snapshot(*TWO_ZONES, *items)
    assert Movability(found, PackOptions()).immovable(found.pods[0]) is Immovable.EPHEMERAL_VOLUME


WAITS = [pod("p", "c"), claim("c", storage_class=WAITING), storage_class(zones=("b",))]


def test_a_volume_is_made_where_the_pod_goes() -> None:
    assert places(packed(*TWO_ZONES, *WAITS)) == {"p": "b"}


def test_nobody_but_kube_scheduler_binds_a_pod_whose_volume_is_to_be_chosen() -> None:
    found = packed(*TWO_ZONES, *WAITS, options=PackOptions(binds=True))
    assert not found.assignments
    assert [one.reason for one in found.unplaced] == [Reason.UNBOUND_VOLUME]


@pytest.mark.parametrize(
    ("items", "reason", "words"),
    [
        pytest.param(
            [claim("c", "v"), volume("v", zones=("z",))],
            Reason.VOLUME_NODE_AFFINITY,
            "topology.kubernetes.io/zone=z",
            id="a zone without nodes",
        ),
        pytest.param([claim("d")], Reason.VOLUME_UNAVAILABLE, "claim c does not exist", id="no claim"),
    ],
)
def test_people_are_told_why(items: list[Document], reason: Reason, words: str) -> None:
    found = packed(*TWO_ZONES, pod("p", "c"), *items)
    assert [(one.reason, words in one.help) for one in found.unplaced] == [(reason, True)], found.unplaced


def test_a_gang_says_which_volume_it_waits_for() -> None:
    labels = {"stowage.dev/gang": "ring", "stowage.dev/gang-size": "2"}
    found = packed(*TWO_ZONES, pod("p", "c", labels=labels), pod("q", labels=labels), claim("d"))
    told = {one.pod.name: (one.reason, one.help) for one in found.unplaced}
    assert told["p"] == (Reason.VOLUME_UNAVAILABLE, "its volumes: claim c does not exist")
    assert told["q"] == (
        Reason.GANG_HELD_BACK,
        "gang ring waits as a whole for pod team/p: claim c does not exist",
    )


@pytest.mark.parametrize(
    ("where", "volumes", "broken"),
    [
        pytest.param("a", [claim("c", "v"), IN_A], [], id="the right zone"),
        pytest.param("b", [claim("c", "v"), IN_A], ["its volumes can not be used on node b"], id="the wrong zone"),
        pytest.param("a", [claim("d")], ["claim c does not exist"], id="no volume at all"),
    ],
)
def test_a_finished_plan_is_checked(where: str, volumes: list[Document], broken: list[str]) -> None:
    outcome = Outcome(snapshot(*TWO_ZONES, pod("p", "c"), *volumes), PackOptions(), {"uid-p": where})
    assert [violation.detail for violation in Volumes().check(outcome)] == broken


def test_the_extender_finds_the_class_of_a_pod_although_it_knows_no_claims() -> None:
    parts = [*TWO_ZONES, pod("p", "c"), claim("c", "v"), IN_A, csi_node("a", 1)]
    with_claims, alone = snapshot(*parts), snapshot(*TWO_ZONES, pod("p", "c"))
    assert with_claims.pods[0].requests != alone.pods[0].requests
    assert slot_class(with_claims.pods[0]) == slot_class(alone.pods[0])


def test_a_slot_of_a_pod_with_an_ephemeral_volume_is_for_it_alone() -> None:
    found = snapshot(*TWO_ZONES, pod("p", ephemeral="s"), pod("q", ephemeral="s"), pod("r"), pod("s"))
    kinds = [slot_class(one) for one in found.pods]
    assert kinds[0] != kinds[1]
    assert kinds[2] == kinds[3]
