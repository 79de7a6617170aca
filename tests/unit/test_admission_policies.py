"""What the webhook says to a PackingPolicy."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from stowage.admission.judge import judge
from stowage.admission.known import Known
from stowage.admission.verdict import Verdict
from stowage.api.packing_policy import PackingPolicy
from stowage_scheduler.cluster import PriorityClass, Snapshot
from unit.admission_requests import changed, policy, request
from unit.builders import NOW, node

CLUSTER = Snapshot(
    NOW,
    nodes=(node("n1", labels={"pool": "gpu"}), node("n2", labels={"pool": "gpu"}), node("n3")),
    priority_classes=(PriorityClass("system", 2_000_001_000),),
    namespace_labels={"kube-system": {}, "team-a": {"team": "a"}},
)


def known(*policies: dict[str, Any]) -> Known:
    return Known({one["metadata"]["name"]: PackingPolicy.parse(one) for one in policies}, snapshot=CLUSTER)


def expression(operator: str, *values: str) -> dict[str, Any]:
    return {"key": "team", "operator": operator, **({"values": [*values]} if values else {})}


@pytest.mark.parametrize(
    ("labels", "expressions"),
    [
        pytest.param({"team": "a"}, [expression("NotIn", "a")], id="a value that is excluded"),
        pytest.param({"team": "a"}, [expression("In", "b", "c")], id="a value that is not among others"),
        pytest.param({"team": "a"}, [expression("DoesNotExist")], id="a value of a label that is not there"),
        pytest.param({}, [expression("Exists"), expression("DoesNotExist")], id="there and not there"),
        pytest.param({}, [expression("In", "a"), expression("In", "b")], id="two lists without a common value"),
        pytest.param({}, [expression("In", "a"), expression("NotIn", "a", "b")], id="a list whose values are excluded"),
        pytest.param({"x" * 64: "a"}, [], id="a key that no label can have"),
    ],
)
@pytest.mark.parametrize("field", ["podSelector", "namespaceSelector"])
def test_a_selector_that_selects_nothing_is_refused(
    field: str, labels: dict[str, str], expressions: list[dict[str, Any]]
) -> None:
    spec = {field: {"matchLabels": labels, "matchExpressions": expressions}}
    (problem,) = judge(request(policy(**spec)), known()).problems
    assert problem.field == f"spec.{field}"
    assert "no object can have a label" in problem.rule


@pytest.mark.parametrize(
    ("labels", "expressions"),
    [
        pytest.param({}, [], id="everything"),
        pytest.param({"team": "a"}, [expression("In", "a", "b")], id="the same said twice"),
        pytest.param({}, [expression("NotIn", "a"), expression("Exists")], id="any other value"),
        pytest.param(
            {}, [expression("NotIn", "other-0"), expression("Exists")], id="values that are named like the tried ones"
        ),
        pytest.param({}, [expression("NotIn", "a"), expression("DoesNotExist")], id="absent"),
    ],
)
def test_a_selector_that_can_select_is_not(labels: dict[str, str], expressions: list[dict[str, Any]]) -> None:
    spec = {"podSelector": {"matchLabels": labels, "matchExpressions": expressions}}
    assert judge(request(policy(**spec)), known()).allowed


def test_a_node_selector_that_no_node_can_meet_and_a_team_of_nobody_are_refused() -> None:
    teams = [
        {"name": "a"},
        {"name": "b", "selector": {"matchExpressions": [expression("In", "a"), expression("In", "b")]}},
    ]
    verdict = judge(request(policy(nodeSelector={"y" * 64: "z"}, fairness={"teams": teams})), known())
    assert [one.field for one in verdict.problems] == ["spec.nodeSelector", "spec.fairness.teams[1].selector"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param({"trigger": {"quiet": "5"}}, "spec.trigger.quiet", id="a duration without a unit"),
        pytest.param({"trigger": {"quiet": "9s"}}, "spec.trigger", id="a rule between two fields"),
        pytest.param({"maxMoves": 3}, "spec.maxMoves", id="an unknown field"),
        pytest.param({"disruption": {"protect": {"namespaces": ["A"]}}}, "namespaces[0]", id="no namespace's name"),
    ],
)
def test_what_the_operator_could_not_read_is_refused_with_its_field(spec: dict[str, Any], field: str) -> None:
    (problem,) = judge(request(policy(**spec)), known()).problems
    assert field in problem.field


OTHER = policy("other", nodeSelector={"pool": "gpu"})


@pytest.mark.parametrize(
    ("spec", "others", "words"),
    [
        pytest.param({"nodeSelector": {"pool": "tpu"}}, [], "selects none of the 3 nodes", id="no such node"),
        pytest.param(
            {"namespaceSelector": {"matchLabels": {"team": "z"}}},
            [],
            "none of the 2 namespaces",
            id="no such namespace",
        ),
        pytest.param(
            {"disruption": {"protect": {"namespaces": ["kube-sistem"]}}},
            [],
            "kube-sistem not in",
            id="a misspelt namespace",
        ),
        pytest.param(
            {"disruption": {"protect": {"priorityAtLeast": 2_100_000_000}}},
            [],
            "no PriorityClass reaches",
            id="too high",
        ),
        pytest.param(
            {"disruption": {"maxMovesPerHour": 5}}, [], "no plan moves more than the hour", id="5 of 20 moves"
        ),
        pytest.param({"disruption": {"planTimeout": "10s"}}, [], "would end before", id="no time to start"),
        pytest.param(
            {"consolidation": {"mode": "WhenQuiet"}, "disruption": {"maxMovesPerPlan": 0}},
            [],
            "consolidation.mode = WhenQuiet",
            id="emptying without moves",
        ),
        pytest.param(
            {"disruption": {"stopRule": {"readyWithin": "15m"}}}, [], "readyWithin = 15m", id="a rule that never stops"
        ),
        pytest.param(
            {"objective": {"tail": "LeastPower"}}, [], "objective.tail: LeastPower", id="no node tells what it draws"
        ),
        pytest.param({}, [OTHER], "both select n1, n2; the older one, gpu, holds them", id="the same priority"),
        pytest.param(
            {"nodeSelector": {"pool": "gpu"}},
            [policy("first", priority=1)],
            "every node that it selects is held by policies of higher priority (first)",
            id="nothing is left",
        ),
    ],
)
def test_what_is_hardly_meant_is_a_warning(spec: dict[str, Any], others: list[dict[str, Any]], words: str) -> None:
    verdict = judge(request(policy(**spec)), known(*others))
    assert verdict.allowed
    (warning,) = verdict.warnings
    assert words in warning


@pytest.mark.parametrize(
    ("spec", "others"),
    [
        pytest.param({}, [], id="the default"),
        pytest.param({"consolidation": {"mode": "WhenQuiet"}}, [], id="emptying with moves"),
        pytest.param({"priority": 1}, [OTHER], id="a higher priority says who goes first"),
        pytest.param({"priority": -1}, [OTHER], id="a lower one too, while nodes are left"),
        pytest.param(
            {"nodeSelector": {"pool": "gpu"}}, [policy("rest", nodeSelector={"pool": "cpu"})], id="other nodes"
        ),
    ],
)
def test_what_is_meant_is_not(spec: dict[str, Any], others: list[dict[str, Any]]) -> None:
    assert judge(request(policy(**spec)), known(*others)) == Verdict()


def test_a_policy_that_is_there_already_is_no_rival_of_itself() -> None:
    before = policy()
    assert judge(request(changed(before, mode="Enforce"), before), known(before)).warnings == ()


def test_enforcing_tells_that_the_plan_that_waits_is_given_up() -> None:
    ready = {
        "type": "Ready", "status": "True", "reason": "AwaitingApproval", "lastTransitionTime": "2027-01-01T00:00:00Z",
    }  # fmt: skip
    before = policy(status={"activePlan": "gpu-7", "conditions": [ready]})
    (warning,) = judge(request(changed(before, mode="Enforce"), before), known(before)).warnings
    assert "gpu-7" in warning
    assert judge(request(changed(before, paused=True), before), known(before)).warnings == ()


def test_policies_that_could_not_be_read_are_told_and_refuse_nothing() -> None:
    verdict = judge(request(policy()), Known(None, "GET packingpolicies: no answer", CLUSTER))
    assert verdict.allowed
    assert verdict.warnings == ("not checked against the nodes of other policies: GET packingpolicies: no answer",)


def test_namespaces_that_are_not_followed_are_not_missed() -> None:
    assert judge(request(policy()), Known({}, snapshot=structs.replace(CLUSTER, namespace_labels={}))) == Verdict()


def test_a_cluster_that_is_not_seen_yet_warns_of_nothing() -> None:
    assert judge(request(policy(nodeSelector={"pool": "tpu"})), Known({})) == Verdict()


BAD = {"podSelector": {"matchExpressions": [expression("Exists"), expression("DoesNotExist")]}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(policy(**BAD), changed(policy(**BAD), paused=True), id="pausing what makes no sense"),
        pytest.param(policy(maxMoves=3), changed(policy(maxMoves=3), paused=True), id="pausing what cannot be read"),
    ],
)
def test_what_was_said_before_is_a_warning_for_nobody_shall_be_locked_out(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    verdict = judge(request(after, before), known())
    assert verdict.allowed
    assert verdict.warnings[0].endswith("(it said so before)")


def test_a_new_mistake_beside_an_old_one_is_refused() -> None:
    before = policy(**BAD)
    after = changed(before, namespaceSelector=BAD["podSelector"])
    (problem,) = judge(request(after, before), known()).problems
    assert problem.field == "spec.namespaceSelector"


def deleted(document: dict[str, Any]) -> dict[str, Any]:
    return document | {"metadata": document["metadata"] | {"deletionTimestamp": "2027-01-01T00:00:00Z"}}


@pytest.mark.parametrize(
    ("new", "old", "fields"),
    [
        pytest.param(policy(**BAD), policy(**BAD), {}, id="labels are changed, the spec is not"),
        pytest.param(deleted(policy(**BAD)), policy(), {}, id="a finalizer goes"),
        pytest.param(policy(**BAD), policy(), {"sub_resource": "status"}, id="the status"),
        pytest.param(None, policy(**BAD), {"operation": "DELETE"}, id="a deletion"),
    ],
)
def test_what_does_not_concern_the_spec_is_let_through(new: Any, old: Any, fields: dict[str, Any]) -> None:
    assert judge(request(new, old, **fields), known()) == Verdict()


def test_other_kinds_are_let_through() -> None:
    pod = {"kind": "Pod", "metadata": {"name": "a"}, "spec": {}}
    assert judge(request(pod), known()) == Verdict()
