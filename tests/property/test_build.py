"""What is decided once for many pods and nodes is what each of them would be told alone."""

from __future__ import annotations

import random
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
    ClaimUse,
    DisruptionBudget,
    Effect,
    LabelSelector,
    NodeSelectorTerm,
    OwnerRef,
    Pod,
    Requirement,
    Snapshot,
    Taint,
    Toleration,
    VolumeNeeds,
)
from stowage_scheduler.eligible import Eligible
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
            admits = (n for n, where in enumerate(cluster.nodes) if not any(r.refuses(one, where) for r in RULES))
            assert eligible.of(one) == set(admits)
