"""Dumps in the form of "Priority Matters" through file, packer and output; an independent checker has the last word.

`make bench` does the same within one second of wall time and with more and larger dumps.
"""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest

from harness.facts import packed
from harness.group_checker import group_problems
from harness.instances import dump, paper_instance, with_gangs
from harness.plan_checker import problems
from harness.pod_group_dumps import RACK, with_pod_groups
from stowage.cli.plan import document
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.options import Budget, PackOptions

CASES = [
    pytest.param(nodes, pods, priorities, usage, id=f"{nodes} nodes x {pods}, {priorities} priorities, {usage} %")
    for (nodes, pods), priorities, usage in product(((4, 4), (8, 8), (16, 8)), (1, 4), (95, 105))
]


@pytest.mark.parametrize(("nodes", "pods", "priorities", "usage"), CASES)
def test_plans_for_dumps_are_valid(nodes: int, pods: int, priorities: int, usage: int) -> None:
    room_for_all = usage < 100
    instance = paper_instance(nodes, pods, priorities, usage, 2, placeable=room_for_all)
    cluster = dump(instance)
    facts = read_dump(json.dumps(cluster).encode()).snapshot
    packing = packed(facts, PackOptions(), Budget(deterministic_units=2.0))
    plan = document(packing)
    assert packing.faults == ()
    assert problems(cluster, plan) == []
    assert instance.pending > 0
    if room_for_all:
        assert plan["unplaced"] == plan["evictions"] == []
        assert plan["certified"]


@pytest.mark.parametrize(("nodes", "pods", "usage", "seed"), [(4, 4, 105, 1), (8, 8, 95, 2), (16, 8, 105, 3)])
def test_plans_with_gangs_are_valid(nodes: int, pods: int, usage: int, seed: int) -> None:
    cluster = with_gangs(dump(paper_instance(nodes, pods, 2, usage, seed)), every=3)
    facts = read_dump(json.dumps(cluster).encode()).snapshot
    packing = packed(facts, PackOptions(), Budget(deterministic_units=1.0))
    assert packing.faults == ()
    assert problems(cluster, document(packing)) == []
    assert any(step.gang for step in packing.steps)


@pytest.mark.parametrize("seed", range(8))
def test_plans_with_pod_groups_are_valid(seed: int) -> None:
    nodes, pods, usage = ((4, 4, 105), (8, 8, 95), (8, 4, 100), (6, 6, 110))[seed % 4]
    cluster = with_pod_groups(dump(paper_instance(nodes, pods, 2, usage, seed)), seed)
    facts = read_dump(json.dumps(cluster).encode()).snapshot
    assert facts.rejected == ()
    packing = packed(facts, PackOptions(), Budget(deterministic_units=1.0))
    assert packing.faults == ()
    assert problems(cluster, document(packing)) == []


PLANTED = {
    "enough in one rack": ({"p0": "n0", "p1": "n0"}, 2, ""),
    "all in one rack": ({"p0": "n0", "p1": "n0", "p2": "n0"}, 2, ""),
    "nobody": ({}, 2, ""),
    "too few": ({"p0": "n0"}, 2, "1 pods of group default/g run, and it needs 2"),
    "two racks": ({"p0": "n0", "p1": "n1"}, 2, "stands in 2 domains"),
    "no group of that name": ({"p0": "n0", "p1": "n0"}, None, "nobody knows"),
    "one that runs leaves": ({"p0": "n0", "p1": "n0", "ran": "n1"}, 2, "runs and leaves its node"),
    "enough with those that run": ({"p0": "n0", "ran": "n0"}, 2, ""),
}


@pytest.mark.parametrize(("places", "least", "wrong"), PLANTED.values(), ids=PLANTED.keys())
def test_the_checker_of_groups_sees_what_is_wrong(places: dict[str, str], least: int | None, wrong: str) -> None:
    def item(kind: str, name: str, **more: Any) -> dict[str, Any]:
        return {"kind": kind, "metadata": {"name": name, "labels": {}}, **more}

    nodes = [item("Node", name) for name in ("n0", "n1")]
    for number, one in enumerate(nodes):
        one["metadata"]["labels"][RACK] = str(number)
    group = {"podGroupName": "g"}
    pods = [item("Pod", name, spec={"schedulingGroup": group}) for name in ("p0", "p1", "p2")]
    if "ran" in places:
        pods.append(item("Pod", "ran", spec={"schedulingGroup": group, "nodeName": "n0"}))
    spec = {"schedulingPolicy": {"gang": {"minCount": least}}, "schedulingConstraints": {"topology": [{"key": RACK}]}}
    groups = [] if least is None else [item("PodGroup", "g", apiVersion="scheduling.k8s.io/v1alpha2", spec=spec)]
    plan = {"assignments": [{"pod": f"default/{pod}", "node": node} for pod, node in places.items()]}
    found = list(group_problems({"items": [*nodes, *pods, *groups]}, plan))
    assert (wrong in found[0]) if wrong else found == []


def test_the_checker_sees_halved_gangs() -> None:
    """Also a gang whose pods start one after the other, and a pod that is said to start behind its gate."""
    cluster = with_gangs(dump(paper_instance(4, 4, 2, 95, 2, placeable=True)), every=3)
    facts = read_dump(json.dumps(cluster).encode()).snapshot
    plan = document(packed(facts, PackOptions(), Budget(deterministic_units=2.0)))
    assert problems(cluster, plan) == []
    gang = {pod.key for pod in facts.pods if pod.gang is not None and pod.gang.size > 1}
    first = next(step for step in plan["steps"] if step["pod"] in gang)
    others = [step for step in plan["steps"] if step is not first]
    other_end = next(step["id"] for step in plan["steps"] if step["pod"] not in gang)
    half = {
        "assignments": [one for one in plan["assignments"] if one["pod"] != first["pod"]],
        "unplaced": [*plan["unplaced"], {"pod": first["pod"], "reason": "", "help": ""}],
        "steps": others,
    }
    late = {"steps": [*others, {**first, "after": [*first["after"], other_end]}]}
    told = {"steps": [*others, {**first, "action": "Place"}]}
    assert any("waiting pods of gang" in one for one in problems(cluster, plan | half))
    assert any("start after different steps" in one for one in problems(cluster, plan | late))
    assert any("its step is Place" in one for one in problems(cluster, plan | told))


def test_the_checker_sees_what_is_wrong() -> None:
    cluster = dump(paper_instance(4, 4, 2, 95, 2, placeable=True))
    facts = read_dump(json.dumps(cluster).encode()).snapshot
    plan = document(packed(facts, PackOptions(), Budget(deterministic_units=2.0)))
    assert problems(cluster, plan) == []
    for wrong in (
        {"assignments": plan["assignments"][1:]},
        {"assignments": [{**one, "node": "node-000"} for one in plan["assignments"]]},
        {"moves": []},
        {"steps": plan["steps"][1:]},
        {"steps": [{**step, "after": [step["id"]]} for step in plan["steps"]]},
        {"placedByPriority": {priority: count + 1 for priority, count in plan["placedByPriority"].items()}},
        {"bound": {priority: count - 1 for priority, count in plan["bound"].items()}},
    ):
        assert problems(cluster, plan | wrong)
