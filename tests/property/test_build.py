"""What is decided once for many pods and nodes is what each of them would be told alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.facts import OPTIONS, gang, node, pod, snapshot
from property.test_between_pods import clusters
from stowage_scheduler import build as building
from stowage_scheduler import eligible as eligibility
from stowage_scheduler.build import Build, build
from stowage_scheduler.cluster import (
    GPU_MILLI,
    ClaimUse,
    DisruptionBudget,
    Effect,
    Gang,
    GpuShare,
    LabelSelector,
    Node,
    NodeSelectorTerm,
    OwnerRef,
    Pod,
    PodAffinityTerm,
    Requirement,
    Snapshot,
    SpreadConstraint,
    Taint,
    Toleration,
    VolumeNeeds,
)
from stowage_scheduler.eligible import READ_UNASKED, Eligible
from stowage_scheduler.options import PackOptions
from stowage_scheduler.rules import RULES

LABELS = [{}, {"app": "web"}, {"app": "web", "tier": "a"}]
SSD = NodeSelectorTerm(expressions=(Requirement("disk", "In", ("ssd",)),))
BY_NAME = NodeSelectorTerm(fields=(Requirement("metadata.name", "In", ("n0", "n2")),))
BY_HOST = NodeSelectorTerm(expressions=(Requirement("kubernetes.io/hostname", "NotIn", ("n1",)),))


def a_cluster(seed: int) -> Snapshot:
    """Six nodes of few shapes, and pods that differ in few things each, some of them in only one."""
    chance = random.Random(seed)
    nodes = [
        node(
            f"n{number}",
            chance.choice([900, 1000]),
            labels={"kubernetes.io/hostname": f"n{number}", **chance.choice([{}, {"disk": "ssd"}, {"disk": "hdd"}])},
            taints=chance.choice([(), (), (Taint("dedicated", Effect.NO_SCHEDULE, "x"),)]),
            ready=chance.random() < 0.9,
        )
        for number in range(6)
    ]
    pods = [a_pod(chance, number) for number in range(chance.randint(1, 16))]
    budget = DisruptionBudget("default", "b", "uid-b", LabelSelector((("tier", "a"),)), chance.randint(0, 2))
    waiting = gang("ring", 2, 300) if chance.random() < 0.3 else []
    return snapshot(*nodes, *pods, *waiting, budgets=(budget,))


def a_pod(chance: random.Random, number: int) -> Pod:
    """A web server like all others, but for one thing or two."""

    def rarely(usual: object, *others: object) -> Any:
        return chance.choice(others) if chance.random() < 0.1 else usual

    one = pod(
        f"web-{number}",
        rarely(100, 200, 950),
        on=chance.choice([None, *(f"n{n}" for n in range(6))]),
        labels=rarely(LABELS[0], *LABELS),
        priority=rarely(0, 5),
        node_selector=rarely({}, {"disk": "ssd"}, {"kubernetes.io/hostname": "n1"}),
        node_affinity=rarely(None, (SSD,), (BY_NAME,), (BY_HOST,)),
        tolerations=rarely((), (Toleration("dedicated", "Exists"),)),
        volume_needs=rarely(VolumeNeeds(), VolumeNeeds(zones=(("disk", ("ssd",)),))),
        annotations=rarely({}, {"stowage.dev/restart-seconds": "90"}, {"stowage.dev/do-not-disrupt": "true"}),
        terminating=chance.random() < 0.05,
        claims=rarely((), (ClaimUse("c", ephemeral=True),)),
    )
    owner = rarely(one.owner, None, OwnerRef("StatefulSet", "db", "uid-db"))
    return replace(one, created_at=one.created_at - chance.choice([0, 0, 7_200, 100_000]), owner=owner)


def apart(cluster: Snapshot, options: PackOptions, monkeypatch: pytest.MonkeyPatch) -> Build:
    """The same, with every pod a template of its own, and every node looked at for each kind of pods."""
    with monkeypatch.context() as patch:
        patch.setattr(building, "template", lambda one: one.uid)
        patch.setattr(eligibility, "_FEW_KINDS", 1_000_000)
        return build(cluster, options)


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_pods_of_one_template_are_told_what_each_would_be_told(seed: int) -> None:
    cluster = a_cluster(seed)
    options = replace(OPTIONS, min_pod_age_seconds=random.Random(seed).choice([0.0, 3_600.0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eligibility, "_FEW_KINDS", 0)
        together = build(cluster, options)
        assert together == apart(cluster, options, patch)


@settings(max_examples=40)
@given(clusters())
def test_so_are_pods_with_rules_about_others(cluster: Snapshot) -> None:
    with pytest.MonkeyPatch.context() as patch:
        assert build(cluster, OPTIONS) == apart(cluster, OPTIONS, patch)


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_nodes_of_one_shape_answer_for_each_other(seed: int) -> None:
    cluster = a_cluster(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eligibility, "_FEW_KINDS", 0)
        eligible = Eligible(cluster.nodes, {}, frozenset())
        for one in cluster.pods:
            assert eligible.of(one) == set(admitting(one, cluster.nodes))


GPU = "nvidia.com/gpu"
MEMORY = "aliyun.com/gpu-mem"
ZONE = "topology.kubernetes.io/zone"
OLD_ZONE = "failure-domain.beta.kubernetes.io/zone"
HOST = "kubernetes.io/hostname"
VALUES = {  # of labels, by key; most often few nodes have one, so that all values differ
    "nvidia.com/gpu.count": ["1", "2", "4", "many"],
    "nvidia.com/gpu.replicas": ["1", "2", "4"],
    "stowage.dev/gpu-islands": ["1", "2", "3"],
    ZONE: ["a", "b", "c"],
    OLD_ZONE: ["a", "b", "c"],
    "rack": ["r1", "r2", "r3"],
}


def told_nodes(chance: random.Random, count: int) -> tuple[Node, ...]:
    """Nodes that have nearly all the same labels, with different values; they tell of devices, zones and racks."""
    keys = [key for key in VALUES if chance.random() < 0.5]
    gpus = chance.choice([GPU, f"{GPU}.shared"])
    return tuple(
        node(
            f"n{number}",
            extra={gpus: 4, MEMORY: 48},
            labels={HOST: f"n{number}", **{key: chance.choice(VALUES[key]) for key in keys if chance.random() < 0.9}},
            features=("Resize",) if chance.random() < 0.1 else (),
        )
        for number in range(count)
    )


def a_choosy_pod(chance: random.Random, number: int) -> Pod:
    """A pod that speaks of labels in one way or another, or of GPUs."""
    key = chance.choice([HOST, *VALUES])
    wanted = tuple(chance.sample([f"n{n}" for n in range(4)] if key == HOST else VALUES[key], 2))
    term = NodeSelectorTerm((Requirement(key, chance.choice(["In", "NotIn", "Exists", "DoesNotExist"]), wanted),))
    everybody = LabelSelector()
    rules: list[dict[str, Any]] = [
        {"node_affinity": (term,)},
        {"node_selector": {key: wanted[0]}},
        {"volume_needs": VolumeNeeds(terms=((term,),))},
        {"volume_needs": VolumeNeeds(zones=((chance.choice([ZONE, OLD_ZONE]), (chance.choice("abc"),)),))},
        {"spread": (SpreadConstraint(key, 1, everybody),)},
        {"affinity_terms": (PodAffinityTerm(key, everybody, ("default",)),)},
        {"gang": Gang("ring", 1, required=(key,))},
        {"needed_features": ("Resize",)},
        {"gpu_share": GpuShare(((MEMORY, chance.choice([10, 20, 40])),))},
        {"gpu_share": GpuShare(((GPU_MILLI, 300),))},
        {"annotations": {"stowage.dev/gpu-island": "Required"}, "extra": {GPU: chance.choice([1, 2, 3])}},
    ]
    return pod(f"p{number}-0", **chance.choice(rules))


def admitting(one: Pod, nodes: tuple[Node, ...]) -> Iterator[int]:
    """Nodes that no rule closes to a pod, asked one by one."""
    return (number for number, where in enumerate(nodes) if not any(rule.refuses(one, where) for rule in RULES))


@settings(max_examples=400)
@given(st.integers(0, 2**32))
def test_labels_that_rules_read_unasked_tell_shapes_apart(seed: int) -> None:
    chance = random.Random(seed)
    nodes = told_nodes(chance, chance.randint(1, 4))
    eligible = Eligible(nodes, {}, frozenset())
    for number in range(24):
        one = a_choosy_pod(chance, number)
        assert eligible.of(one) == set(admitting(one, nodes))


class Watched(dict[str, str]):
    """Labels that remember which of them were looked at."""

    def __init__(self, labels: Mapping[str, str], seen: set[str]) -> None:
        super().__init__(labels)
        self.seen = seen

    def get(self, key: str, default: Any = None) -> Any:
        self.seen.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> str:
        self.seen.add(key)
        return super().__getitem__(key)


@settings(max_examples=200)
@given(st.integers(0, 2**32))
def test_rules_read_no_other_labels_than_those_that_the_pod_names(seed: int) -> None:
    chance = random.Random(seed)
    seen: set[str] = set()
    (where,) = told_nodes(chance, 1)
    where = replace(where, labels=Watched(where.labels, seen))
    one = a_choosy_pod(chance, 0)
    terms = [*(one.node_affinity or ()), *(term for terms in one.volume_needs.terms for term in terms)]
    named = {expression.key for term in terms for expression in term.expressions}
    for rule in RULES:
        rule.refuses(one, where)
    assert seen <= READ_UNASKED | named | {*one.node_selector, *(key for key, _ in one.volume_needs.zones)}
