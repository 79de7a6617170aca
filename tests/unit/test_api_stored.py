"""What other versions stored, or a newer definition fills in, is read; what people write now is read strictly."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from stowage.act.readable import readable
from stowage.admission.judge import judge
from stowage.admission.known import Known
from stowage.api import crd
from stowage.api.conditions import condition_of
from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_policy import FairnessMode, PackingPolicy
from stowage.api.reasons import PolicyCondition
from stowage.api.resource import InvalidObjectError
from stowage.decide.policy_status import PolicyView, policy_status
from stowage.decide.scope import Scope
from stowage.decide.trigger import Trigger
from unit.admission_requests import policy, request
from unit.builders import plan_resource

Document = dict[str, Any]
NOW = 1_800_000_000.0
# fields of a policy in the first version, which refuses objects with any other
KNOWN_AT_FIRST = frozenset(
    [
        "budget",
        "budget.certifyWithin",
        "budget.time",
        "disruption",
        "disruption.batchJobs",
        "disruption.evictLowerPriority",
        "disruption.maxMovesPerHour",
        "disruption.maxMovesPerPlan",
        "disruption.minPodAge",
        "disruption.ownerSettled",
        "disruption.planTimeout",
        "disruption.protect",
        "disruption.protect.namespaces",
        "disruption.protect.priorityAtLeast",
        "disruption.protectEmptyDir",
        "fairness",
        "fairness.mode",
        "fairness.teams",
        "fairness.teams.name",
        "fairness.teams.selector",
        "fairness.teams.selector.matchExpressions",
        "fairness.teams.selector.matchExpressions.key",
        "fairness.teams.selector.matchExpressions.operator",
        "fairness.teams.selector.matchExpressions.values",
        "fairness.teams.selector.matchLabels",
        "fairness.teams.weight",
        "mode",
        "namespaceSelector",
        "namespaceSelector.matchExpressions",
        "namespaceSelector.matchExpressions.key",
        "namespaceSelector.matchExpressions.operator",
        "namespaceSelector.matchExpressions.values",
        "namespaceSelector.matchLabels",
        "nodeAutoscaler",
        "nodeSelector",
        "objective",
        "objective.tail",
        "paused",
        "podSelector",
        "podSelector.matchExpressions",
        "podSelector.matchExpressions.key",
        "podSelector.matchExpressions.operator",
        "podSelector.matchExpressions.values",
        "podSelector.matchLabels",
        "priority",
        "schedulerNames",
        "steering",
        "trigger",
        "trigger.longest",
        "trigger.quiet",
        "trigger.unschedulableFor",
        "waitFor",
    ]
)
SPEC = next(
    one["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for one in crd.documents()
    if one["spec"]["names"]["kind"] == "PackingPolicy"
)


def filled_in(schema: Document, value: Any) -> Any:
    """A value with the defaults of a schema, as the API server fills them in."""
    if isinstance(value, list):
        return [filled_in(schema["items"], one) for one in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    given = dict(value)
    for name, part in schema["properties"].items():
        if name not in given and "default" in part:
            given[name] = copy.deepcopy(part["default"])
        if name in given:
            given[name] = filled_in(part, given[name])
    return given


def paths(value: Any, at: str = "") -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from paths(one, at)
    elif isinstance(value, dict) and at not in {"nodeSelector", "fairness.teams.selector.matchLabels"}:
        for name, part in value.items():
            path = f"{at}.{name}".removeprefix(".")
            yield path
            yield from paths(part, path)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(SPEC["default"], id="no spec"),
        pytest.param({}, id="an empty spec"),
        pytest.param({"disruption": {}}, id="an empty group"),
        pytest.param({"disruption": {"maxMovesPerPlan": 3}, "fairness": {"teams": [{"name": "a"}]}}, id="some fields"),
    ],
)
def test_definitions_fill_in_nothing_that_the_first_version_refuses(spec: Document) -> None:
    assert set(paths(filled_in(SPEC, copy.deepcopy(spec)))) <= KNOWN_AT_FIRST
    assert PackingPolicy.parse(policy(**filled_in(SPEC, spec))).spec == PackingPolicy.parse(policy(**spec)).spec


NEWER = policy(
    mode="Enforce",
    later=[{"a": 1}],
    disruption={"maxMovesPerPlan": 3, "gently": True},
    fairness={"teams": [{"name": "a"}, {"name": "b", "weight": 2, "cap": "5"}]},
)


def test_a_stored_object_with_fields_of_a_newer_version_is_read_without_them() -> None:
    before = copy.deepcopy(NEWER)
    read = PackingPolicy.parse_stored(NEWER)
    assert before == NEWER
    assert set(read.unread) == {"spec.later", "spec.disruption.gently", "spec.fairness.teams[1].cap"}
    assert (read.spec.mode, read.spec.disruption.max_moves_per_plan, read.spec.fairness.teams[1].weight) == (
        "Enforce",
        3,
        2,
    )


def test_what_is_wrong_beside_an_unknown_field_is_still_told() -> None:
    with pytest.raises(InvalidObjectError, match="mode") as refused:
        PackingPolicy.parse_stored(policy(mode="Perhaps", later=1))
    assert len(refused.value.problems) == 1


def test_what_people_write_is_read_strictly() -> None:
    with pytest.raises(InvalidObjectError, match="check its spelling"):
        PackingPolicy.parse(NEWER)
    with pytest.raises(InvalidObjectError, match="UserFairQueue"):
        PackingPolicy.parse(policy(fairness={"mode": "UserFairQueue"}))


def test_unread_fields_are_logged_once_for_each_version(caplog: pytest.LogCaptureFixture) -> None:
    newer = copy.deepcopy(NEWER)
    newer["metadata"] |= {"name": "logged-once", "uid": "logged-once"}
    with caplog.at_level(logging.WARNING):
        assert [len(readable([newer], PackingPolicy)) for _ in range(3)] == [1, 1, 1]
        assert caplog.text.count("spec.later") == 1
        newer["metadata"]["generation"] = 2
        readable([newer], PackingPolicy)
    assert caplog.text.count("spec.later") == 2


def test_a_stored_plan_with_a_field_of_a_newer_version_goes_on() -> None:
    document = plan_resource("a-plan").to_document()
    document["spec"]["later"] = 1
    assert readable([document], PackingPlan)[0].spec == plan_resource("a-plan").spec


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param({"later": 1}, "unknown to this version: spec.later", id="a field of a newer version"),
        pytest.param(
            {"fairness": {"mode": "UserFairQueue"}},
            "fairness.mode: UserFairQueue (acts as None)",
            id="a value of an earlier version",
        ),
    ],
)
def test_condition_ready_tells_what_is_not_followed(spec: Document, words: str) -> None:
    read = PackingPolicy.parse_stored(policy(**spec))
    status = policy_status(read, PolicyView(Scope(frozenset({"n1"}), {}), Trigger(due=False)), NOW)
    ready = condition_of(status.conditions, PolicyCondition.READY)
    assert ready is not None
    assert words in ready.message
    assert read.spec.fairness.mode in {FairnessMode.NONE, FairnessMode.USER_FAIR_QUEUE}


def test_the_webhook_refuses_the_queue_where_it_is_new_and_lets_other_changes_through() -> None:
    queue = policy(fairness={"mode": "UserFairQueue"})
    paused = policy(fairness={"mode": "UserFairQueue"}, paused=True)
    known = Known()
    assert not judge(request(queue), known).allowed
    assert judge(request(paused, queue), known).allowed
