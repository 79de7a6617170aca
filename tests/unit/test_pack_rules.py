"""One small cluster per rule: what is placed, what moves, what must stay."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from harness.facts import NOW, OPTIONS, node, packed, places, pod, snapshot
from stowage_scheduler.cluster import (
    DisruptionBudget,
    Effect,
    HostPort,
    LabelSelector,
    NodeSelectorTerm,
    OwnerRef,
    PodAffinityTerm,
    Rejected,
    Requirement,
    Snapshot,
    Taint,
    Toleration,
    Unmodelled,
    Workload,
)
from stowage_scheduler.options import BatchJobs, PackOptions
from stowage_scheduler.packing import Reason

GPU = "nvidia.com/gpu"
PORT = (HostPort("TCP", "0.0.0.0", 80),)


def crowded(**running: object) -> Snapshot:
    """Two nodes of 1000m: `a` holds a pod of 400m that must go to `b` before the pod of 800m fits on `a`."""
    return snapshot(node("a"), node("b", 600), pod("small-1", 400, on="a", **running), pod("big-1", 800))


@dataclass(frozen=True)
class Case:
    """A cluster and where its pods must be; pods that are not named must have no place."""

    cluster: Snapshot
    want: dict[str, str]
    options: PackOptions = OPTIONS
    reasons: dict[str, Reason] = field(default_factory=dict)
    certified: bool = True


TABLE = {
    "a pending pod takes free room without any move": Case(snapshot(node("a"), pod("web-1")), {"web-1": "a"}),
    "a running pod moves to make room": Case(crowded(), {"small-1": "b", "big-1": "a"}),
    "the number of pods on a node counts": Case(
        snapshot(node("a", extra={"pods": 1}), pod("web-1", on="a"), pod("api-1")),
        {"web-1": "a"},
        reasons={"api-1": Reason.INSUFFICIENT_PODS},
    ),
    "extended resources count": Case(
        snapshot(node("a", extra={GPU: 1}), pod("train-1", extra={GPU: 1}, on="a"), pod("train-2", extra={GPU: 1})),
        {"train-1": "a"},
        reasons={"train-2": Reason.INSUFFICIENT_GPU},
    ),
    "higher priority takes the place of lower": Case(
        snapshot(node("a"), pod("low-1", 900, on="a", priority=1), pod("high-1", 900, priority=2)),
        {"high-1": "a"},
    ),
    "with preemptionPolicy Never a pod takes free room only": Case(
        snapshot(
            node("a"),
            node("b", 400),
            pod("low-1", 900, on="a", priority=1),
            pod("high-1", 900, priority=2, preemption_policy="Never"),
            pod("tiny-1", 300, priority=2, preemption_policy="Never"),
        ),
        {"low-1": "a", "tiny-1": "b"},
        reasons={"high-1": Reason.INSUFFICIENT_CPU},
        certified=False,
    ),
    "with evictions switched off nobody loses a place": Case(
        snapshot(node("a"), pod("low-1", 900, on="a", priority=1), pod("high-1", 900, priority=2)),
        {"low-1": "a"},
        replace(OPTIONS, evict_lower_priority=False),
        {"high-1": Reason.INSUFFICIENT_CPU},
    ),
    "equal priority is no reason to swap": Case(
        snapshot(node("a"), pod("old-1", 900, on="a"), pod("new-1", 900)),
        {"old-1": "a"},
        reasons={"new-1": Reason.INSUFFICIENT_CPU},
    ),
    "the cap on moves holds": Case(
        crowded(), {"small-1": "a"}, replace(OPTIONS, max_moves=0), {"big-1": Reason.MOVE_LIMIT}
    ),
    "a node selector must match": Case(
        snapshot(node("a"), node("b", labels={"gpu": "h100"}), pod("web-1", node_selector={"gpu": "h100"})),
        {"web-1": "b"},
    ),
    "required node affinity must match": Case(
        snapshot(
            node("a", labels={"zone": "x"}),
            pod("web-1", node_affinity=(NodeSelectorTerm((Requirement("zone", "NotIn", ("x",)),)),)),
        ),
        {},
        reasons={"web-1": Reason.NO_MATCHING_NODE},
    ),
    "a taint keeps away who does not tolerate it": Case(
        snapshot(
            node("a", taints=(Taint("dedicated", Effect.NO_SCHEDULE, "ml"),)),
            pod("web-1"),
            pod("ml-1", tolerations=(Toleration("dedicated", "Equal", "ml", "NoSchedule"),)),
        ),
        {"ml-1": "a"},
        reasons={"web-1": Reason.TAINTS_NOT_TOLERATED},
    ),
    "a cordoned node receives nothing, and what runs there may leave": Case(
        snapshot(node("a", unschedulable=True), node("b"), pod("web-1", on="a"), pod("web-2")),
        {"web-1": "a", "web-2": "b"},
    ),
    "a node that is not Ready receives nothing": Case(
        snapshot(node("a", ready=False), pod("web-1")), {}, reasons={"web-1": Reason.NO_READY_NODE}
    ),
    "a host port is taken once per node": Case(
        snapshot(node("a"), pod("web-1", on="a", host_ports=PORT), pod("api-1", host_ports=PORT)),
        {"web-1": "a"},
        reasons={"api-1": Reason.HOST_PORT_TAKEN},
    ),
    "an overfull node takes nothing new and loses nothing": Case(
        snapshot(node("a", 100), pod("web-1", 80, on="a"), pod("web-2", 80, on="a"), pod("tiny-1", 1)),
        {"web-1": "a", "web-2": "a"},
        reasons={"tiny-1": Reason.INSUFFICIENT_CPU},
    ),
    "a node with a pod that could not be read takes nothing new": Case(
        snapshot(
            node("a"), pod("new-1"), rejected=(Rejected("Pod", "default/odd", "spec", "", "be readable", node="a"),)
        ),
        {},
        reasons={"new-1": Reason.UNREADABLE_POD},
    ),
    "an overfull GPU closes a node only for those who ask for GPUs": Case(
        snapshot(
            node("a", extra={GPU: 0}), pod("t-1", on="a", extra={GPU: 1}), pod("web-1"), pod("t-2", extra={GPU: 1})
        ),
        {"t-1": "a", "web-1": "a"},
        reasons={"t-2": Reason.INSUFFICIENT_GPU},
    ),
    "an old nomination of a running pod holds nothing": Case(
        snapshot(node("a"), node("b", 500), pod("x-1", 400, on="a", nominated_node="a"), pod("y-1", 900)),
        {"x-1": "b", "y-1": "a"},
    ),
    "a pod that is being disrupted holds its room and counts no more": Case(
        snapshot(node("a"), pod("old-1", 900, on="a", disruption_target=True), pod("new-1", 900)),
        {},
        reasons={"new-1": Reason.INSUFFICIENT_CPU},
    ),
    "a terminating pod holds its room": Case(
        snapshot(node("a"), pod("old-1", 900, on="a", terminating=True), pod("new-1", 900)),
        {},
        reasons={"new-1": Reason.INSUFFICIENT_CPU},
    ),
    "a nominated pod keeps its room": Case(
        snapshot(node("a"), pod("soon-1", 900, nominated_node="a"), pod("new-1", 900)),
        {},
        reasons={"new-1": Reason.INSUFFICIENT_CPU, "soon-1": Reason.NOMINATED},
    ),
    "a pod behind somebody's gate waits for that": Case(
        snapshot(node("a"), pod("gang-1", gates=("example.com/quota",))), {}, reasons={"gang-1": Reason.GATED}
    ),
    "a finished pod holds nothing": Case(
        snapshot(node("a"), replace(pod("done-1", 900, on="a"), phase="Succeeded"), pod("new-1", 900)), {"new-1": "a"}
    ),
    "a pod with volumes is not planned for, and why says so": Case(
        snapshot(node("a"), pod("db-1", unmodelled=(Unmodelled.VOLUMES,))), {}, reasons={"db-1": Reason.NOT_MODELLED}
    ),
    "nothing goes where a standing pod's anti-affinity forbids it": Case(
        snapshot(
            node("a", labels={"host": "a"}),
            pod(
                "lonely-1",
                on="a",
                anti_affinity_terms=(PodAffinityTerm("host", LabelSelector((("app", "noisy"),)), ("default",)),),
            ),
            pod("noisy-1", labels={"app": "noisy"}),
            pod("quiet-1", labels={"app": "quiet"}),
        ),
        {"lonely-1": "a", "quiet-1": "a"},
        reasons={"noisy-1": Reason.POD_ANTI_AFFINITY},
    ),
}


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_rules(case: Case) -> None:
    packing = packed(case.cluster, case.options)
    assert packing.faults == ()
    assert places(packing) == case.want
    assert {u.pod.name: u.reason for u in packing.unplaced} == case.reasons
    assert all(u.help for u in packing.unplaced)
    assert packing.certified is case.certified


JOB = OwnerRef("Job", "batch", "job-1")
DEPLOYMENT = OwnerRef("Deployment", "web", "deploy-1")
COVERED = LabelSelector((("app", "small"),))

NEVER_MOVES = {
    "bare": {"owner": None},
    "of a DaemonSet": {"owner": OwnerRef("DaemonSet", "agent", "ds-1")},
    "static": {"mirror": True},
    "of an unknown controller": {"owner": OwnerRef("Rollout", "x", "r-1")},
    "with hostPath": {"host_path": True},
    "with a local volume": {"local_volume": True},
    "in kube-system": {"namespace": "kube-system"},
    "of protected priority": {"priority": 1_000_000_000},
    "marked stowage.dev/do-not-disrupt": {"annotations": {"stowage.dev/do-not-disrupt": "true"}},
    "marked karpenter.sh/do-not-disrupt": {"annotations": {"karpenter.sh/do-not-disrupt": "true"}},
    "not safe-to-evict": {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}},
    "of a batch Job": {"owner": JOB},
    "with rules that are not modelled": {"unmodelled": (Unmodelled.RESOURCE_CLAIMS,)},
    "terminating": {"terminating": True},
}


@pytest.mark.parametrize("running", NEVER_MOVES.values(), ids=NEVER_MOVES.keys())
def test_pod_never_moves(running: dict[str, object]) -> None:
    packing = packed(crowded(**running))
    assert packing.faults == ()
    assert packing.moves == packing.evictions == ()


def budget(allowed: int, name: str = "pdb", *, fresh: bool = True) -> DisruptionBudget:
    return DisruptionBudget("default", name, f"uid-{name}", COVERED, allowed, fresh)


OWNED = {"owner": OwnerRef("ReplicaSet", "small", "rs-9"), "labels": {"app": "small"}}
OWNER_CASES = {
    "its owner is rolling out": {
        "workloads": (
            Workload("ReplicaSet", "default", "small", "rs-9", owner=DEPLOYMENT),
            Workload("Deployment", "default", "web", "deploy-1", rolling_out=True),
        )
    },
    "its ReplicaSet is not the newest": {
        "workloads": (Workload("ReplicaSet", "default", "small", "rs-9", newest=False),)
    },
    "its owner was scaled a moment ago": {
        "workloads": (Workload("ReplicaSet", "default", "small", "rs-9", replicas_changed_at=NOW - 10),)
    },
    "its budget allows nothing": {"budgets": (budget(0),)},
    "its budget's status is stale": {"budgets": (budget(1, fresh=False),)},
    "it is under two budgets": {"budgets": (budget(1), budget(1, "second"))},
}


@pytest.mark.parametrize("facts", OWNER_CASES.values(), ids=OWNER_CASES.keys())
def test_pod_stays_because(facts: dict[str, object]) -> None:
    cluster = replace(crowded(**OWNED), **facts)
    packing = packed(cluster, replace(OPTIONS, owner_settled_seconds=60.0))
    assert packing.moves == packing.evictions == ()
    assert places(packing)["small-1"] == "a"


MOVES_AGAIN = {
    "an owner that settled": (
        {"workloads": (Workload("ReplicaSet", "default", "small", "rs-9", replicas_changed_at=NOW - 90),)},
        PackOptions(),
    ),
    "a budget that allows one": ({"budgets": (budget(1),)}, OPTIONS),
    "an owner that is not in the file": ({}, OPTIONS),
}


@pytest.mark.parametrize(("facts", "options"), MOVES_AGAIN.values(), ids=MOVES_AGAIN.keys())
def test_pod_moves_with(facts: dict[str, object], options: PackOptions) -> None:
    assert places(packed(replace(crowded(**OWNED), **facts), options)) == {"small-1": "b", "big-1": "a"}


@pytest.mark.parametrize(
    ("mode", "ignores", "moves"),
    [
        (BatchJobs.NEVER, True, False),
        (BatchJobs.IF_POD_FAILURE_POLICY_IGNORES, False, False),
        (BatchJobs.IF_POD_FAILURE_POLICY_IGNORES, True, True),
        (BatchJobs.ALWAYS, False, True),
    ],
)
def test_job_pods_move_only_when_the_policy_and_the_job_agree(mode: BatchJobs, ignores: bool, moves: bool) -> None:
    job = Workload("Job", "default", "batch", "job-1", ignores_disruption=ignores)
    cluster = replace(crowded(owner=JOB), workloads=(job,))
    assert bool(packed(cluster, replace(OPTIONS, batch_jobs=mode)).moves) is moves


def test_the_youngest_replica_loses_its_place() -> None:
    old, young = pod("low-1", 500, on="a", priority=1), pod("low-2", 500, on="a", priority=1)
    cluster = snapshot(node("a", 1100), old, replace(young, created_at=NOW - 9), pod("high-1", 600, priority=2))
    assert [e.pod.name for e in packed(cluster).evictions] == ["low-2"]


def test_a_move_is_never_free() -> None:
    """With a cost of 0 the search would shuffle pods for nothing."""
    free = {"annotations": {"stowage.dev/move-cost-seconds": "0"}}
    running = [pod(f"r{i}-1", 200 + 10 * i, on=f"n{i % 4}", **free) for i in range(12)]
    cluster = snapshot(*(node(f"n{i}") for i in range(4)), *running, pod("big-1", 400))
    assert len(packed(cluster).moves) <= 2


def test_amounts_near_the_limit_of_quantities() -> None:
    huge = {"memory": 2**52 + 1}
    cluster = snapshot(
        *(node(f"n{i}", extra={"memory": 2**53}) for i in range(40)),
        *(pod(f"big-{i}", 1, extra=huge) for i in range(60)),
    )
    packing = packed(cluster)
    assert packing.faults == ()
    assert len(packing.assignments) == 40


def test_a_policy_for_a_namespace_by_name_needs_no_namespace_object() -> None:
    by_name = replace(OPTIONS, namespace_selector=LabelSelector((("kubernetes.io/metadata.name", "default"),)))
    assert places(packed(snapshot(node("a"), pod("web-1")), by_name)) == {"web-1": "a"}


def test_budget_limits_evictions() -> None:
    covered = [pod(f"small-{n}", 300, on="a", labels={"app": "small"}) for n in range(3)]
    cluster = snapshot(
        node("a"), *covered, pod("big-1", 700, priority=9), pod("mid-1", 300, priority=8), budgets=(budget(1),)
    )
    packing = packed(cluster)
    assert len(packing.evictions) <= 1
    assert places(packing) == {"small-0": "a", "small-1": "a", "small-2": "a"} or len(packing.evictions) == 1


def test_pod_age_and_scope_keep_pods_where_they_are() -> None:
    young = replace(crowded(), pods=tuple(replace(p, created_at=NOW - 5) for p in crowded().pods))
    assert packed(young, replace(OPTIONS, min_pod_age_seconds=60.0)).moves == ()
    assert packed(crowded(), replace(OPTIONS, scheduler_names=("stowage",))).assignments[0].pod.name == "small-1"
    assert packed(crowded(), replace(OPTIONS, node_selector={"pool": "x"})).moves == ()
