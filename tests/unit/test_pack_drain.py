"""What a drain plans, whom it leaves alone, and what keeps it from beginning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from harness.facts import OPTIONS, node, packed, pod, snapshot
from stowage_scheduler.cluster import (
    DisruptionBudget,
    Gang,
    LabelSelector,
    OwnerRef,
    PodAffinityTerm,
    Snapshot,
    Toleration,
    Unmodelled,
    Workload,
)
from stowage_scheduler.draining import obstacles
from stowage_scheduler.options import BatchJobs, Drain
from stowage_scheduler.packing import Packing, Reason

DRAIN = Drain(frozenset({"old"}))
FORCE = replace(DRAIN, force=True)
SPARE = (node("new"), node("old"))


def budget(allowed: int, app: str = "web") -> DisruptionBudget:
    return DisruptionBudget(
        "default", f"pdb-{app}", f"pdb-{app}", LabelSelector((("app", app),)), disruptions_allowed=allowed
    )


def draining(cluster: Snapshot, drain: Drain = DRAIN, **options: Any) -> Packing:
    return packed(cluster, replace(OPTIONS, drain=drain, **options))


def moves(packing: Packing) -> dict[str, str]:
    return {move.pod.name: move.target for move in packing.moves}


@dataclass(frozen=True)
class Case:
    """A cluster, and the moves of its drain; with no moves, the reasons why."""

    cluster: Snapshot
    want: dict[str, str]
    drain: Drain = DRAIN
    unplaced: dict[str, Reason] = field(default_factory=dict)
    evicted: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


TABLE = {
    "every pod of the node gets a place elsewhere": Case(
        snapshot(*SPARE, pod("web-1", on="old"), pod("api-1", on="old")), {"web-1": "new", "api-1": "new"}
    ),
    "an empty node needs nothing": Case(snapshot(*SPARE, pod("web-1", on="new")), {}),
    "two nodes at once": Case(
        snapshot(node("a"), node("b"), node("c"), pod("web-1", on="a"), pod("api-1", on="b")),
        {"web-1": "c", "api-1": "c"},
        Drain(frozenset({"a", "b"})),
    ),
    "another pod moves to make room": Case(
        snapshot(
            node("old"),
            node("big", labels={"gpu": "yes"}),
            node("small", 500),
            pod("train-1", 800, on="old", node_selector={"gpu": "yes"}),
            pod("web-1", 400, on="big"),
        ),
        {"train-1": "big", "web-1": "small"},
    ),
    "that move counts against the cap, the drained pod does not": Case(
        snapshot(
            node("old"),
            node("big", labels={"gpu": "yes"}),
            node("small", 500),
            pod("train-1", 800, on="old", node_selector={"gpu": "yes"}),
            pod("web-1", 400, on="big"),
        ),
        {},
        unplaced={"train-1": Reason.MOVE_LIMIT},
        options={"max_moves": 0},
    ),
    "drained pods do not count against the cap": Case(
        snapshot(*SPARE, pod("web-1", on="old"), pod("api-1", on="old")),
        {"web-1": "new", "api-1": "new"},
        options={"max_moves": 0},
    ),
    "nobody loses a place for a drain, not even at a lower priority": Case(
        snapshot(*SPARE, pod("high-1", 800, on="old", priority=9), pod("low-1", 800, on="new")),
        {},
        unplaced={"high-1": Reason.INSUFFICIENT_CPU},
    ),
    "all or nothing: one pod without a place keeps the others": Case(
        snapshot(*SPARE, pod("web-1", 500, on="old"), pod("api-1", 500, on="old"), pod("x-1", 500, on="new")),
        {},
        unplaced={"web-1": Reason.INSUFFICIENT_CPU},
    ),
    "pods that wait are not planned for, and take no room": Case(
        snapshot(*SPARE, pod("web-1", 900, on="old"), pod("wait-1", 900, priority=9)), {"web-1": "new"}
    ),
    "a pod with a nominated node keeps its room": Case(
        snapshot(*SPARE, pod("web-1", 900, on="old"), pod("next-1", 900, nominated_node="new")),
        {},
        unplaced={"web-1": Reason.INSUFFICIENT_CPU},
    ),
    "a pod of a DaemonSet stays": Case(
        snapshot(*SPARE, pod("agent-1", on="old", owner=OwnerRef("DaemonSet", "agent", "ds")), pod("web-1", on="old")),
        {"web-1": "new"},
    ),
    "pods of other schedulers, protected namespaces and priorities leave": Case(
        snapshot(
            *SPARE,
            pod("dns-1", on="old", namespace="kube-system", priority=2_000_000_000, scheduler_name="default-scheduler"),
        ),
        {"dns-1": "new"},
        options={"scheduler_names": ("stowage",)},
    ),
    "pods of a batch Job leave, though the policy never moves them": Case(
        snapshot(*SPARE, pod("job-1", on="old", owner=OwnerRef("Job", "job", "job"))),
        {"job-1": "new"},
        options={"batch_jobs": BatchJobs.NEVER},
    ),
    "young pods and those of an owner that rolls out leave": Case(
        snapshot(
            *SPARE,
            pod("web-1", on="old"),
            workloads=(Workload("ReplicaSet", "default", "web", "rs-web", replicas=1, rolling_out=True),),
        ),
        {"web-1": "new"},
        options={"min_pod_age_seconds": 1e9},
    ),
    "with force a bare pod is evicted after everybody else has a place": Case(
        snapshot(*SPARE, pod("bare", on="old", owner=None), pod("web-1", on="old")),
        {"web-1": "new"},
        FORCE,
        evicted=("bare",),
    ),
    "with force nobody is evicted when another pod has no place": Case(
        snapshot(*SPARE, pod("bare", on="old", owner=None), pod("web-1", 800, on="old"), pod("x-1", 800, on="new")),
        {},
        FORCE,
        {"web-1": Reason.INSUFFICIENT_CPU},
    ),
    "a drained node takes nobody, though it is empty": Case(
        snapshot(node("old"), node("older"), node("new"), pod("web-1", 200, on="old"), pod("api-1", 900, on="new")),
        {},
        Drain(frozenset({"old", "older"})),
        {"web-1": Reason.INSUFFICIENT_CPU},
    ),
    "anti-affinity to a pod that leaves, too, is no hindrance": Case(
        snapshot(
            node("old", labels={"host": "old"}),
            node("new", labels={"host": "new"}),
            pod(
                "web-1",
                on="old",
                labels={"app": "web"},
                anti_affinity_terms=(
                    PodAffinityTerm(
                        topology_key="host", selector=LabelSelector((("app", "db"),)), namespaces=("default",)
                    ),
                ),
            ),
        ),
        {"web-1": "new"},
    ),
    "the plan uses no node outside of its own": Case(
        snapshot(
            node("old"), node("new"), node("theirs", 5000), pod("web-1", 800, on="old"), pod("x-1", 800, on="new")
        ),
        {},
        unplaced={"web-1": Reason.INSUFFICIENT_CPU},
        options={"nodes": frozenset({"old", "new"})},
    ),
    "a node outside of the policy may be drained into it": Case(
        snapshot(*SPARE, pod("web-1", on="old")), {"web-1": "new"}, options={"nodes": frozenset({"new"})}
    ),
}


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_a_drain_plans(case: Case) -> None:
    packing = draining(case.cluster, case.drain, **case.options)
    assert moves(packing) == case.want
    assert {one.pod.name: one.reason for one in packing.unplaced} == case.unplaced
    assert tuple(one.pod.name for one in packing.evictions) == case.evicted
    assert bool(packing.steps) == bool(case.want)
    assert not packing.faults
    assert all(packing.bound[priority] >= placed for priority, placed in packing.placed.items())
    if case.unplaced:
        assert packing.move_cost == 0
        assert not packing.certified or packing.bound == packing.placed
        assert {one.pod.name: one.node for one in packing.assignments} == {
            one.name: one.node for one in case.cluster.pods if one.node is not None
        }


def test_before_counts_the_pods_that_have_to_leave() -> None:
    packing = draining(snapshot(*SPARE, pod("web-1", on="old", priority=5), pod("api-1", on="new")))
    assert packing.before == packing.placed == {5: 1, 0: 2}


def test_a_bare_pod_goes_after_the_moves_under_its_budget() -> None:
    labels = {"app": "web"}
    cluster = snapshot(
        *SPARE,
        pod("bare", on="old", owner=None, labels=labels),
        pod("web-1", on="old", labels=labels),
        budgets=(budget(2),),
    )
    steps = draining(cluster, FORCE).steps
    assert [(step.pod.name, step.slot, step.after) for step in steps] == [
        ("web-1", "k001", ()),
        ("bare", None, ("s001",)),
    ]


@dataclass(frozen=True)
class Kept:
    """A pod on the drained node, the word for why it stays, and what makes it leave, if anything does."""

    fields: dict[str, Any]
    reason: str
    leaves_with: Drain | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


STEERED = {"scheduler_names": ("stowage",)}
LOCAL = replace(DRAIN, delete_local_data=True)
OBSTACLES = {
    "a bare pod": Kept({"owner": None}, "Bare", FORCE),
    "a pod of an unknown controller": Kept({"owner": OwnerRef("RayCluster", "ray", "ray")}, "OtherController", FORCE),
    "a pod of a gang": Kept({"gang": Gang("g", 2)}, "Gang", FORCE),
    "a pod that tolerates cordons, of a scheduler that nobody steers": Kept(
        {"tolerations": (Toleration(operator="Exists"),)}, "Returns", FORCE, options=STEERED
    ),
    "a toleration of just the cordon": Kept(
        {"tolerations": (Toleration("node.kubernetes.io/unschedulable", "Exists", effect="NoSchedule"),)},
        "Returns",
        FORCE,
        options=STEERED,
    ),
    "a pod with rules that are not modelled": Kept({"unmodelled": (next(iter(Unmodelled)),)}, "NotModelled", FORCE),
    "an annotation forbids it": Kept({"annotations": {"karpenter.sh/do-not-disrupt": "true"}}, "DoNotDisrupt"),
    "an emptyDir": Kept({"empty_dir": True}, "LocalStorage", LOCAL),
    "a budget without a disruption left": Kept(
        {"labels": {"app": "web"}}, "BudgetExhausted", facts={"budgets": (budget(0),)}
    ),
    "two budgets": Kept(
        {"labels": {"app": "web"}}, "TwoBudgets", facts={"budgets": (budget(1), replace(budget(1), uid="b", name="b"))}
    ),
    "a volume that another pod uses": Kept({"shared_volume": True}, "SharedVolume"),
    "a pod of a DaemonSet, when those are not ignored": Kept(
        {"owner": OwnerRef("DaemonSet", "agent", "ds")}, "DaemonSet"
    ),
}


@pytest.mark.parametrize("kept", OBSTACLES.values(), ids=OBSTACLES.keys())
def test_what_keeps_a_node_from_being_drained(kept: Kept) -> None:
    strict = replace(DRAIN, ignore_daemon_sets=False)
    cluster = snapshot(*SPARE, pod("web-1", on="old", **kept.fields), **kept.facts)
    (found,) = obstacles(cluster, replace(OPTIONS, drain=strict, **kept.options))
    assert (found.node, found.pod.name, found.reason) == ("old", "web-1", kept.reason)
    assert found.words
    assert found.help
    assert not draining(cluster, strict, **kept.options).steps
    if kept.leaves_with is not None:
        assert not obstacles(cluster, replace(OPTIONS, drain=kept.leaves_with, **kept.options))
        assert draining(cluster, kept.leaves_with, **kept.options).steps


OF_A_JOB = OwnerRef("TrainingJob", "llama", "llama")
NO_OBSTACLES: dict[str, dict[str, Any]] = {
    "a seat of a training job": {"owner": OF_A_JOB, "gang": Gang("g", 2)},
    "the coordinator of a training job": {"owner": OF_A_JOB},
    "a static pod": {"mirror": True, "owner": None},
    "a pod on its way out": {"terminating": True, "owner": None},
    "a pod that has ended": {"phase": "Succeeded", "owner": None},
    "a pod of a DaemonSet": {"owner": OwnerRef("DaemonSet", "agent", "ds")},
    "a pod that tolerates cordons, and is steered": {
        "tolerations": (Toleration(operator="Exists"),),
        "scheduler_name": "stowage",
    },
    "a pod with a hostPath, as kubectl drain has it": {"host_path": True},
}


@pytest.mark.parametrize("fields", NO_OBSTACLES.values(), ids=NO_OBSTACLES.keys())
def test_what_does_not_keep_a_node_from_being_drained(fields: dict[str, Any]) -> None:
    kept = replace(pod("web-1", on="old"), **fields)
    assert not obstacles(snapshot(*SPARE, kept), replace(OPTIONS, drain=DRAIN, **STEERED))


def test_a_seat_of_a_training_job_is_evicted_without_a_place_for_its_job_makes_another_one() -> None:
    cluster = snapshot(*SPARE, pod("llama-s0-1", on="old", owner=OF_A_JOB, gang=Gang("g", 2)), pod("web-1", on="old"))
    packing = draining(cluster)
    assert [(one.pod.name, one.reason) for one in packing.evictions] == [("llama-s0-1", Reason.DRAINED)]
    assert {step.pod.name for step in packing.steps} == {"llama-s0-1", "web-1"}
    assert not packing.faults
    held = snapshot(
        *SPARE, pod("llama-s0-1", on="old", owner=OF_A_JOB, annotations={"stowage.dev/do-not-disrupt": "true"})
    )
    (found,) = obstacles(held, replace(OPTIONS, drain=DRAIN))
    assert found.reason == "DoNotDisrupt"


@pytest.mark.parametrize("drain", [DRAIN, FORCE], ids=["gently", "by force"])
def test_a_pod_of_a_services_group_is_not_evicted_for_it_leaves_a_cordoned_node_by_itself(drain: Drain) -> None:
    forbids = (budget(0, "chat"),)
    labels = {"app": "chat", "stowage.dev/group-index": "1"}
    own = pod("chat-1", on="old", owner=OwnerRef("ModelService", "chat", "chat"), labels=labels, gang=Gang("g", 2))
    cluster = snapshot(*SPARE, own, pod("web-1", on="old"), budgets=forbids)
    assert not obstacles(cluster, replace(OPTIONS, drain=drain))
    assert [step.pod.name for step in draining(cluster, drain).steps] == ["web-1"]
    tolerant = replace(own, tolerations=(Toleration(operator="Exists"),))
    (found,) = obstacles(snapshot(*SPARE, tolerant, budgets=forbids), replace(OPTIONS, drain=drain))
    assert found.reason == "BudgetExhausted", "it could come back to the same node, so nobody moves it"


def test_bare_pods_leave_a_disruption_of_their_budget_for_pods_that_move() -> None:
    labels = {"app": "web"}
    bare = [pod(f"bare-{number}", on="old", owner=None, labels=labels) for number in range(2)]
    alone = snapshot(*SPARE, *bare, budgets=(budget(2),))
    assert not obstacles(alone, replace(OPTIONS, drain=FORCE))
    beside = snapshot(*SPARE, *bare, pod("web-1", on="old", labels=labels), budgets=(budget(2),))
    found = obstacles(beside, replace(OPTIONS, drain=FORCE))
    assert [(one.pod.name, one.reason) for one in found] == [("bare-1", "BudgetExhausted")]


def test_without_a_drain_nothing_is_an_obstacle() -> None:
    assert not obstacles(snapshot(*SPARE, pod("bare", on="old", owner=None)), OPTIONS)


def test_nobody_asked_for_a_voluntary_drain_so_the_policy_protects() -> None:
    voluntary = replace(DRAIN, voluntary=True)
    cluster = snapshot(*SPARE, pod("job-1", on="old", owner=OwnerRef("Job", "job", "job")))
    (found,) = obstacles(cluster, replace(OPTIONS, drain=voluntary))
    assert found.reason == "BatchJob"
    assert not draining(cluster, voluntary).steps
