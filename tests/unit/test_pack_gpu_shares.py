"""Packing of GPU shares: each on one device, whatever runs keeps its own."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Struct

from harness.facts import OPTIONS, packed, places, snapshot
from harness.facts import node as make_node
from harness.facts import pod as make_pod
from stowage_scheduler.cluster import GPU_MILLI, GpuShare, Node, NodeSelectorTerm, Pod, Requirement, Snapshot
from stowage_scheduler.feasibility import feasible_nodes
from stowage_scheduler.packing import Reason
from stowage_scheduler.rules import RULES, Outcome
from stowage_scheduler.slots import slot_class

GPU = "nvidia.com/gpu"
MEMORY = "aliyun.com/gpu-mem"


def gpu_node(name: str, gpus: int, **more: Any) -> Node:
    return make_node(name, 64_000, extra={GPU: gpus}, **more)


def share(name: str, milli: int, on: str | None = None, device: int | None = None, **more: Any) -> Pod:
    return make_pod(name, on=on, gpu_share=GpuShare(((GPU_MILLI, milli),), device), **more)


def whole(name: str, gpus: int, on: str | None = None, **more: Any) -> Pod:
    return make_pod(name, on=on, extra={GPU: gpus}, **more)


def memory(name: str, amount: int, on: str | None = None, device: int | None = None) -> Pod:
    return make_pod(name, on=on, extra={MEMORY: amount}, gpu_share=GpuShare(((MEMORY, amount),), device))


class Case(Struct):
    """A cluster; where its pods end up, by name (None: nowhere), and how many pods move."""

    facts: tuple[Node | Pod, ...]
    ends: dict[str, str | None]
    moves: int = 0


SLICED = {"nvidia.com/gpu.count": "1", "nvidia.com/gpu.replicas": "4"}
CASES = {
    "two halves share a device, and a whole one is left": Case(
        (gpu_node("a", 2), share("h-1", 500), share("h-2", 500), whole("w-1", 1)), {"h-1": "a", "h-2": "a", "w-1": "a"}
    ),
    "three shares of 400 need two devices": Case(
        (gpu_node("a", 1), share("h-1", 400), share("h-2", 400), share("h-3", 400)),
        {"h-1": "a", "h-2": "a", "h-3": None},
    ),
    "a share leaves a device that a whole pod needs": Case(
        (
            gpu_node("a", 2),
            gpu_node("b", 1),
            share("h-1", 300, "a", 0),
            share("h-2", 300, "b", 0),
            whole("w-1", 2),
        ),
        {"h-1": "b", "h-2": "b", "w-1": "a"},
        moves=1,
    ),
    "shares that run are not pushed together on one device": Case(
        (gpu_node("a", 2), share("h-1", 300, "a", 0), share("h-2", 300, "a", 1), whole("w-1", 1)),
        {"h-1": "a", "h-2": "a", "w-1": None},
    ),
    "shares on one known device leave the other whole": Case(
        (gpu_node("a", 2), share("h-1", 300, "a", 0), share("h-2", 300, "a", 0), whole("w-1", 1)),
        {"h-1": "a", "h-2": "a", "w-1": "a"},
    ),
    "of two shares nobody knows whether they are on one device": Case(
        (gpu_node("a", 2), share("h-1", 300, "a"), share("h-2", 300, "a"), whole("w-1", 1)),
        {"h-1": "a", "h-2": "a", "w-1": None},
    ),
    "wherever two small shares are, a third one of 600 fits": Case(
        (gpu_node("a", 2), share("h-1", 300, "a"), share("h-2", 300, "a"), share("x-1", 600)),
        {"h-1": "a", "h-2": "a", "x-1": "a"},
    ),
    "the only device is known": Case(
        (gpu_node("a", 1), share("h-1", 300, "a"), share("h-2", 300, "a"), share("x-1", 400)),
        {"h-1": "a", "h-2": "a", "x-1": "a"},
    ),
    "a device that the node has not got is an unknown one": Case(
        (gpu_node("a", 1), share("h-1", 600, "a", 5), share("x-1", 500)), {"h-1": "a", "x-1": None}
    ),
    "a pod that whole devices are taken by leaves none for shares": Case(
        (gpu_node("a", 2), whole("w-1", 2, "a"), share("x-1", 100)), {"w-1": "a", "x-1": None}
    ),
    "nobody has a time slice to itself": Case(
        (make_node("a", extra={GPU: 4}, labels=SLICED), whole("s-1", 1, "a"), share("x-1", 600), share("x-2", 600)),
        {"s-1": "a", "x-1": "a", "x-2": None},
    ),
    "of 24 units on each of two devices, shares of 10 leave 4 and 14": Case(
        (
            make_node("a", extra={MEMORY: 48, "aliyun.com/gpu-count": 2}),
            memory("m-1", 10, "a", 0),
            memory("m-2", 10, "a", 0),
            memory("m-3", 10, "a", 1),
            memory("x-1", 14),
            memory("x-2", 5),
        ),
        {"m-1": "a", "m-2": "a", "m-3": "a", "x-1": "a", "x-2": None},
    ),
    "a share that is larger than a device": Case(
        (make_node("a", extra={MEMORY: 48, "aliyun.com/gpu-count": 2}), memory("x-1", 25)), {"x-1": None}
    ),
    "a node without devices": Case((make_node("a"), share("x-1", 1)), {"x-1": None}),
    "a share that waits for nothing else than thousandths": Case(
        (gpu_node("a", 1), gpu_node("b", 1), share("h-1", 800, "a"), share("x-1", 300)), {"h-1": "a", "x-1": "b"}
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_where_pods_end(case: Case) -> None:
    packing = packed(snapshot(*case.facts))
    assert packing.faults == ()
    assert dict.fromkeys(case.ends) | places(packing) == case.ends
    assert len(packing.moves) == case.moves
    assert packing.certified


def test_why_it_waits() -> None:
    cluster = snapshot(
        gpu_node("a", 2), share("h-1", 600, "a", 0), share("h-2", 600, "a", 1), share("x-1", 700), whole("w-1", 3)
    )
    free = "400 stowage.dev/gpu-milli free on one GPU, 800 on all"
    reasons = {entry.pod.name: (entry.reason, entry.help) for entry in packed(cluster).unplaced}
    another = "one more node like a (64 cpu, 2000 stowage.dev/gpu-milli)"
    others = f"shares that leave one GPU of node a freer ({free})"
    assert reasons["x-1"] == (Reason.GPU_FRAGMENTED, f"{another}, or {others}")
    assert reasons["w-1"][0] is Reason.INSUFFICIENT_GPU


PLANTED = {
    "a device that is too full": {"uid-x-1": "a"},
    "a whole device where shares are": {"uid-w-1": "a"},
    "a node without devices": {"uid-x-1": "c"},
}


@pytest.mark.parametrize("end", PLANTED.values(), ids=PLANTED.keys())
def test_the_check_finds_planted_faults(end: dict[str, str]) -> None:
    """Resources alone would not: thousandths are not counted here."""
    cluster = snapshot(
        gpu_node("a", 2), make_node("c"),
        share("h-1", 600, "a", 0), share("h-2", 600, "a", 1), share("x-1", 700), whole("w-1", 1),
    )  # fmt: skip
    running = {"uid-h-1": "a", "uid-h-2": "a"}
    assert _broken(cluster, running) == set()
    assert _broken(cluster, running | end) == {"GpuShares"}


def _broken(cluster: Snapshot, after: dict[str, str]) -> set[str]:
    outcome = Outcome(cluster, OPTIONS, after)
    return {violation.rule for rule in RULES for violation in rule.check(outcome)}


def test_feasible_nodes_have_a_device_with_room() -> None:
    facts = [gpu_node("a", 2), gpu_node("b", 1), make_node("c"), share("h-1", 600, "a", 0), share("h-2", 600, "a", 1)]
    assert feasible_nodes(snapshot(*facts), share("x-1", 400)) == {"a", "b"}
    assert feasible_nodes(snapshot(*facts), share("x-1", 500)) == {"b"}
    assert feasible_nodes(snapshot(*facts), whole("w-1", 1)) == {"b"}


def test_the_extender_finds_the_class_of_a_share() -> None:
    """It knows pods as the API server has them, without the thousandths that the packer counts."""
    pod = share("x-1", 500)
    packing = packed(snapshot(gpu_node("a", 1), pod))
    assert [slot.slot_class for slot in packing.slots] == [slot_class(pod)]


TYPES = {
    "a node selector": {"node_selector": {"nvidia.com/gpu.product": "H100"}},
    "required node affinity": {
        "node_affinity": (NodeSelectorTerm((Requirement("nvidia.com/gpu.product", "In", ("H100", "H200")),)),)
    },
}


@pytest.mark.parametrize("rule", TYPES.values(), ids=TYPES.keys())
@pytest.mark.parametrize("make", [whole, share], ids=["whole", "shared"])
def test_the_type_of_a_gpu_is_a_label_of_its_node(make: Any, rule: dict[str, Any]) -> None:
    amount = 1 if make is whole else 500
    cluster = snapshot(
        gpu_node("a100", 8, labels={"nvidia.com/gpu.product": "A100"}),
        gpu_node("h100", 1, labels={"nvidia.com/gpu.product": "H100"}),
        make("any-1", amount, "h100", **({"device": 0} if make is share else {})),
        make("x-1", 1 if make is whole else 600, **rule),
    )
    packing = packed(cluster)
    assert places(packing) == {"any-1": "a100", "x-1": "h100"}
    assert len(packing.moves) == 1
