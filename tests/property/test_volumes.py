"""Random clusters with claims and volumes: an independent checker has the last word on every plan."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.facts import packed
from harness.plan_checker import problems
from harness.volume_documents import (
    WAITING,
    Document,
    as_list,
    claim,
    csi_driver,
    csi_node,
    node,
    on_host,
    pod,
    quota,
    storage_class,
    volume,
)
from stowage.cli.plan import document
from stowage_scheduler.cluster import Node, Pod, Rejected, ResourceQuota, Snapshot
from stowage_scheduler.kube.claim_lookup import Storage
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.kube.facts import Fact, fact_of
from stowage_scheduler.kube.ledger import Ledger
from stowage_scheduler.kube.redact import redact
from stowage_scheduler.kube.snapshot import assemble
from stowage_scheduler.kube.volume_facts import Claim, CSIDriver, CSINode, StorageClass, Volume
from stowage_scheduler.options import Budget, PackOptions

BUDGET = Budget(deterministic_units=1.0)
MODES = st.sampled_from([("ReadWriteOnce",), ("ReadWriteMany",), ("ReadWriteOncePod",)])
ZONES = ("a", "b")
NODES = ("a0", "a1", "b0", "b1")


SORTS = st.sampled_from(
    [
        "zonal",
        "zonal",
        "labelled",
        "anywhere",
        "anywhere",
        "local",
        "going",
        WAITING,
        "in-a",
        "in-a",
        "by-hand",
        "missing",
    ]
)


@st.composite
def clusters(draw: st.DrawFn) -> list[Document]:
    """Four tight nodes in two zones, and pods with claims of every sort; what stands, stands where it may."""
    items = [node(name, zone=name[0], cpu="4") for name in NODES]
    items += [csi_node(name, draw(st.integers(1, 2))) for name in NODES if draw(st.booleans())]
    items += [storage_class(), storage_class("in-a", zones=("a",)), storage_class("at-once", waits=False)]
    items += [storage_class("by-hand", provisioner="kubernetes.io/no-provisioner")]
    for number in range(draw(st.integers(0, 2))):
        local = {"local": {"path": "/x"}, "affinity": on_host(draw(st.sampled_from(NODES)))}
        items.append(volume(f"free{number}", driver=None, phase="Available", storage_class="by-hand", **local))
    zones: dict[str, str] = {}  # of claims that are bound to one
    names: list[str] = []
    room = dict.fromkeys(NODES, 4)
    for number in range(draw(st.integers(2, 10))):
        sort = draw(st.none() | SORTS)
        share = bool(names) and draw(st.integers(0, 4)) == 0
        used = [draw(st.sampled_from(names))] if share else []
        if sort is not None:
            used.append(f"c{number}")
            names.append(f"c{number}")
            items += a_claim(draw, f"c{number}", sort, zones)
        cpu = draw(st.integers(1, 3))
        fits = [n for n in NODES if room[n] >= cpu and all(zones.get(one, n[0]) == n[0] for one in used)]
        stands = sort not in {WAITING, "in-a", "by-hand"} and draw(st.booleans())
        on = draw(st.sampled_from(fits)) if fits and stands else None
        if on is not None:
            room[on] -= cpu
        ephemeral = draw(st.sampled_from([None] * 5 + ["scratch"]))
        items.append(pod(f"p{number}", *used, on=on, cpu=str(cpu), ephemeral=ephemeral))
        if ephemeral:
            items.append(claim(f"p{number}-scratch", storage_class=WAITING, owner=f"p{number}"))
    return items


def a_claim(draw: st.DrawFn, name: str, sort: str, zones: dict[str, str]) -> list[Document]:
    """A claim of some sort, with its volume if it has one; notes the zone that it is bound to."""
    if sort == "missing":
        return []
    if sort in {WAITING, "in-a", "by-hand"}:
        return [claim(name, storage_class=sort)]
    place, modes = draw(st.sampled_from(ZONES)), draw(MODES)
    fields: dict[str, Any] = {}
    if sort in {"zonal", "labelled"}:
        zones[name] = place
        fields = {"zones": (place,)} if sort == "zonal" else {"labels": {"topology.kubernetes.io/zone": place}}
    elif sort == "local":
        fields = {"driver": None, "hostPath": {"path": "/x"}}
    return [
        claim(name, f"v-{name}", modes=modes, deleted=sort == "going"),
        volume(f"v-{name}", modes=modes, **fields),
    ]


def snapshot(items: list[Document]) -> Snapshot:
    return read_dump(json.dumps(as_list(*items)).encode()).snapshot


@settings(max_examples=200)
@given(clusters())
def test_no_plan_sends_a_pod_where_its_volumes_can_not_follow(items: list[Document]) -> None:
    packing = packed(snapshot(items), PackOptions(), BUDGET)
    assert not packing.faults
    assert problems(as_list(*items), document(packing)) == []


@given(clusters(), st.randoms(use_true_random=False))
def test_the_order_of_objects_carries_no_meaning(items: list[Document], generator: random.Random) -> None:
    assert snapshot(generator.sample(items, len(items))) == snapshot(items)


@given(clusters())
def test_redacting_changes_no_fact(items: list[Document]) -> None:
    redacted = redact(as_list(*items, quota(hard={"pods": "1"}, used={"pods": "2"}, scopes=["NotTerminating"])))
    again = read_dump(json.dumps(redacted).encode()).snapshot
    assert msgspec.structs.replace(again, quotas=()) == snapshot(items)
    assert again.quotas[0].exceeded == ("pods",)


def facts_of(items: list[Document]) -> dict[tuple[str, str], Fact]:
    found: dict[tuple[str, str], Fact] = {}
    for item in items:
        fact = fact_of(decode_object(item["kind"], json.dumps(item).encode()))
        meta = item["metadata"]
        key = f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else meta["name"]
        found[item["kind"], key] = fact
    return found


KINDS = ("PersistentVolumeClaim", "PersistentVolume", "StorageClass", "CSINode", "CSIDriver", "ResourceQuota")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(clusters(), st.sampled_from(KINDS), st.data())
def test_a_broken_object_is_told_and_costs_no_more_than_itself(
    items: list[Document], kind: str, data: st.DataObject
) -> None:
    """Any part of an object of storage becomes anything: pods and nodes are read, and at most that object is not."""
    broken = json.loads(json.dumps([*items, quota(hard={"pods": "1"}), csi_driver()]))
    of_kind = [item for item in broken if item["kind"] == kind]
    assume(of_kind)
    part: Any = data.draw(st.sampled_from(of_kind))
    while isinstance(part, dict) and part:
        key = data.draw(st.sampled_from(sorted(set(part) - {"kind", "apiVersion"}) or sorted(part)))
        if not isinstance(part[key], dict) or data.draw(st.booleans()):
            part[key] = data.draw(ANYTHING)
            break
        part = part[key]
    found = snapshot(broken)
    assert len(found.rejected) <= 1
    assert [one.name for one in found.pods] == [one.name for one in snapshot(items).pods]
    assert len(found.nodes) == len(NODES)


@settings(max_examples=50)
@given(clusters(), clusters(), st.randoms(use_true_random=False))
def test_a_ledger_knows_what_a_snapshot_from_scratch_knows(
    before: list[Document], after: list[Document], generator: random.Random
) -> None:
    """One cluster becomes another, change by change, in any order, with looks in between."""
    ledger, facts = Ledger(), facts_of(before)
    for (kind, name), fact in facts.items():
        ledger.put(kind, name, fact)
    target = facts_of([*after, quota()])
    changes = [(key, target.get(key)) for key in sorted({*facts, *target})]
    generator.shuffle(changes)
    for number, (key, new) in enumerate(changes):
        if new is None:
            facts.pop(key)
            ledger.drop(*key)
        else:
            facts[key] = new
            ledger.put(*key, new)
        if number % 3 == 0:
            assert ledger.snapshot(1.0) == from_scratch(facts)
    assert ledger.snapshot(1.0) == from_scratch(facts)
    assert ledger.snapshot(1.0).pods is ledger.snapshot(2.0).pods
    assert ledger.snapshot(1.0).nodes is ledger.snapshot(2.0).nodes


def from_scratch(facts: dict[tuple[str, str], Fact]) -> Snapshot:
    def of(kind: type[Any]) -> tuple[Any, ...]:
        return tuple(fact for fact in facts.values() if isinstance(fact, kind))

    storage = Storage(of(Claim), of(Volume), of(StorageClass), of(CSINode), of(CSIDriver))
    rejected: list[Rejected] = []
    return assemble(1.0, nodes=of(Node), pods=of(Pod), storage=storage, quotas=of(ResourceQuota), rejected=rejected)


SEEN = [
    node("a0", zone="a"),
    node("b0", zone="b"),
    *(csi_node("a0", 1), csi_node("b0", 1)),
    *(claim("c", "v"), volume("v", zones=("a",))),
    *(claim("d", "w"), volume("w", zones=("a",))),
]


@pytest.mark.parametrize(
    ("items", "ends", "words"),
    [
        pytest.param([pod("p", "c")], {"p": "b0"}, "where volume v is not", id="the wrong zone"),
        pytest.param([pod("p", "x")], {"p": "a0"}, "without claim", id="no claim"),
        pytest.param([pod("p", "c"), pod("q", "d")], {"p": "a0", "q": "a0"}, "attaches 2 volumes", id="too many"),
        pytest.param([pod("p", "c", on="a0"), pod("q", "c", on="a0")], {"p": "b0", "q": "a0"}, "shares", id="shared"),
        pytest.param([pod("p", ephemeral="s", on="a0")], {"p": "b0"}, "ephemeral", id="ephemeral"),
    ],
)
def test_the_checker_sees_what_is_wrong(items: list[Document], ends: dict[str, str], words: str) -> None:
    start = {item["metadata"]["name"]: item["spec"].get("nodeName") for item in items}
    moves = [{"pod": f"team/{p}", "from": start[p], "to": to} for p, to in ends.items() if start[p] and start[p] != to]
    plan: Document = {
        "assignments": [{"pod": f"team/{name}", "node": place} for name, place in ends.items()],
        "moves": moves,
        "evictions": [],
        "unplaced": [],
        "steps": [],
        "certified": False,
        "placedByPriority": {"0": len(ends)},
        "bound": {"0": len(ends)},
    }
    assert any(words in one for one in problems(as_list(*SEEN, *items), plan))
