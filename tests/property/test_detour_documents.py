"""Plans over temporary places from dump to document: valid for an independent checker, which sees broken ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from harness.facts import packed
from harness.plan_checker import problems
from stowage.cli.plan import document, summary
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.packing import Packing
from stowage_scheduler.rules import RULES, Outcome
from stowage_scheduler.rules.temporary_places import broken_on_the_way

Document = dict[str, Any]


def node(name: str, cpu: int, **spec: Any) -> Document:
    status = {"allocatable": {"cpu": str(cpu)}, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"kind": "Node", "metadata": {"name": name, "labels": {"host": name}}, "spec": spec, "status": status}


def pod(name: str, cpu: int, on: str | None = None, **spec: Any) -> Document:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": f"rs-{name}", "controller": True}
    labels = {"tier": "web"} if on else {}
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "a",
            "uid": f"uid-{name}",
            "labels": labels,
            "ownerReferences": [owner],
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "containers": [{"name": "main", "resources": {"requests": {"cpu": str(cpu)}}}],
            **({"nodeName": on} if on else {}),
            **spec,
        },
        "status": {"phase": "Running"} if on else {"phase": "Pending", "conditions": [unschedulable]},
    }


def cluster(*more: Document, **n3: Any) -> Document:
    """`big` and `small` change places so that `waits` fits, with one disruption; `last` wants all of n3 afterwards."""
    budget = {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "a", "uid": "pdb-web"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"tier": "web"}}},
        "status": {"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2},
    }
    items = [
        *(node("n1", 7), node("n2", 6), node("n3", 7, **n3)),
        *(pod("big", 6, "n1"), pod("small", 5, "n2")),
        *(pod("waits", 2, nodeSelector={"host": "n1"}), pod("last", 7), budget, *more),
    ]
    return {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", **item} for item in items]}


def packing_of(dump: Document, options: PackOptions | None = None) -> Packing:
    facts = read_dump(json.dumps(dump).encode()).snapshot
    assert facts.rejected == ()
    return packed(facts, options or PackOptions(), Budget(deterministic_units=2.0))


def test_a_plan_goes_over_a_temporary_place_where_one_disruption_is_allowed() -> None:
    packing = packing_of(cluster())
    plan = document(packing)
    assert problems(cluster(), plan) == []
    assert plan["unplaced"] == plan["evictions"] == []
    assert len(plan["moves"]) == 2, "a pod that moves twice is one move, from its first node to its last"
    [onward] = [step for step in plan["steps"] if "replacementOf" in step]
    first = next(step for step in plan["steps"] if step["id"] == onward["replacementOf"])
    assert (onward["pod"], onward["node"]) == (first["pod"], "n3")
    assert sum(step["action"] == "Evict" for step in plan["steps"]) == 3
    assert "1 temporary place" in summary(packing)


def test_the_further_move_is_paid_for() -> None:
    packing = packing_of(cluster())
    assert packing.move_cost_bound is not None
    assert packing.move_cost * 2 == packing.move_cost_bound * 3


@pytest.mark.parametrize(("most", "temporary"), [(2, 0), (3, 1)])
def test_the_further_move_counts_towards_the_cap(most: int, temporary: int) -> None:
    packing = packing_of(cluster(), PackOptions(max_moves=most))
    assert sum(bool(step.replacement_of) for step in packing.steps) == temporary
    assert sum(step.action == "Evict" for step in packing.steps) <= most
    assert problems(cluster(), document(packing)) == []


def test_rules_hold_in_the_temporary_place() -> None:
    """A cordoned node takes nobody, not even for a while."""
    packing = packing_of(cluster(unschedulable=True))
    assert not any(step.replacement_of for step in packing.steps)
    assert {one.pod.name for one in packing.unplaced} == {"waits", "last"}


CHANGES: dict[str, tuple[Callable[[Document], object], str]] = {
    "a taint": (lambda n3: n3["spec"].update(taints=[{"key": "k", "effect": "NoSchedule"}]), "Taints"),
    "a cordon": (lambda n3: n3["spec"].update(unschedulable=True), "Taints"),
    "less room": (lambda n3: n3["status"]["allocatable"].update(cpu="5"), "Resources"),
    "not ready": (lambda n3: n3["status"].update(conditions=[{"type": "Ready", "status": "False"}]), "Readiness"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_check_sees_a_temporary_place_that_breaks_a_rule(change: str) -> None:
    packing = packing_of(cluster())
    changed = cluster()
    spoil, rule = CHANGES[change]
    spoil(changed["items"][2])
    facts = read_dump(json.dumps(changed).encode()).snapshot
    outcome = Outcome(facts, PackOptions(), {one.pod.uid: one.node for one in packing.assignments})
    found = list(broken_on_the_way(RULES, outcome, packing.steps, packing.slots))
    assert rule in {violation.rule for violation in found}
    assert all("after step s001" in violation.detail for violation in found)
    good = Outcome(read_dump(json.dumps(cluster()).encode()).snapshot, PackOptions(), outcome.after)
    assert list(broken_on_the_way(RULES, good, packing.steps, packing.slots)) == []
    astray = tuple(structs.replace(step, node="n2") if step.replacement_of else step for step in packing.steps)
    assert [one.rule for one in broken_on_the_way(RULES, good, astray, packing.slots)][:1] == ["TemporaryPlace"]


BROKEN: dict[str, Callable[[list[Document]], object]] = {
    "the first eviction is missing": lambda steps: steps.remove(way(steps)[0]),
    "nobody is sent on": lambda steps: steps.remove(way(steps)[1]),
    "evicted twice without saying so": lambda steps: way(steps)[1].pop("replacementOf"),
    "sent on before it came": lambda steps: way(steps)[1].update(after=[]),
    "sent on from elsewhere": lambda steps: way(steps)[1].update(node="n2"),
    "sent on from a node that is not there": lambda steps: way(steps)[1].update(node="n9"),
    "sent on by another step": lambda steps: way(steps)[1].update(replacementOf="s002", after=["s001", "s002"]),
    "others do not wait for the temporary place": lambda steps: at(steps, "a/last").update(after=[]),
    "others do not wait for the way there": lambda steps: at(steps, "a/waits").update(after=[]),
}


def way(steps: list[Document]) -> tuple[Document, Document]:
    onward = next(step for step in steps if "replacementOf" in step)
    return next(step for step in steps if step["id"] == onward["replacementOf"]), onward


def at(steps: list[Document], pod: str) -> Document:
    return next(step for step in steps if step["pod"] == pod)


@pytest.mark.parametrize("change", BROKEN)
def test_the_checker_sees_what_is_wrong(change: str) -> None:
    plan = document(packing_of(cluster()))
    broken = copy.deepcopy(plan)
    BROKEN[change](broken["steps"])
    assert broken != plan
    assert problems(cluster(), broken)


def test_the_checker_sees_rules_of_the_temporary_place() -> None:
    plan = document(packing_of(cluster()))
    tainted = cluster(taints=[{"key": "k", "effect": "NoSchedule"}])
    tainted["items"][6]["spec"]["tolerations"] = [{"operator": "Exists"}]  # of who stays there at the end
    assert [words for words in problems(tainted, plan) if "a/big does not tolerate" in words]
