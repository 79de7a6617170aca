from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from stowage.api.conditions import ConditionStatus, condition_of, with_condition
from stowage.api.packing_plan import Approval, PackingPlan, PackingPlanSpec, PlanSlot, PlanStep
from stowage.api.packing_plan_status import PackingPlanStatus, PlanPhase, StepState, StepStatus
from stowage.api.packing_policy import PackingPolicy, PackingPolicySpec
from stowage.api.reasons import PolicyCondition, PolicyReason
from stowage.api.resource import InvalidObjectError
from stowage.api.selectors import LabelSelector
from stowage_scheduler import cluster
from stowage_scheduler.packing import Action, PodRef, Step
from stowage_scheduler.slots import Slot, SlotClass

NOW = datetime(2026, 1, 1, 10, 15, 0, 900_000, tzinfo=UTC)
DEFAULTS = {
    "mode": "Recommend",
    "priority": 0,
    "paused": False,
    "schedulerNames": ["stowage"],
    "nodeSelector": {},
    "steering": "Auto",
    "trigger": {"quiet": "1s", "longest": "5s", "unschedulableFor": "2s"},
    "budget": {"time": "10s", "certifyWithin": "2s"},
    "disruption": {
        "maxMovesPerPlan": 20,
        "maxMovesPerHour": 60,
        "minPodAge": "60s",
        "ownerSettled": "60s",
        "planTimeout": "15m",
        "maxUnavailablePerOwner": "25%",
        "canary": False,
        "stopRule": {"landedElsewhere": 3, "newlyUnready": 3, "readyWithin": "10m"},
        "protect": {"namespaces": ["kube-system"], "priorityAtLeast": 1_000_000_000},
        "evictLowerPriority": True,
        "batchJobs": "Never",
        "protectEmptyDir": False,
    },
    "nodeAutoscaler": "Ignore",
    "objective": {"tail": "LeastFragmentation"},
    "fairness": {"mode": "None", "teams": []},
    "consolidation": {"mode": "Never", "after": "10m", "minEmptiedNodes": 1},
}


def plan(steps: list[dict[str, Any]], slots: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"policy": "default", "slots": slots or [], "steps": steps}}


def place(key: str, *after: str, **more: Any) -> dict[str, Any]:
    pod = {"namespace": "a", "name": key, "uid": f"u-{key}"}
    return {"id": key, "action": "Place", "pod": pod, "node": "n1", "after": list(after), **more}


@pytest.mark.parametrize("document", [{}, {"spec": {}}, {"spec": None}, {"spec": {"trigger": {}, "podSelector": None}}])
def test_an_empty_policy_has_the_documented_defaults(document: dict[str, Any]) -> None:
    assert PackingPolicy.parse(document).to_document()["spec"] == DEFAULTS


@pytest.mark.parametrize("value", [1, 100_000, "1%", "25%", "100%"])
def test_a_number_of_pods_or_a_share(value: int | str) -> None:
    policy = PackingPolicy.parse({"spec": {"disruption": {"maxUnavailablePerOwner": value}}})
    assert policy.to_document()["spec"]["disruption"]["maxUnavailablePerOwner"] == value


@pytest.mark.parametrize("value", [0, -1, 100_001, True, 1.5, "0%", "101%", "25", "25 %", "%", "", []])
def test_what_is_neither_a_number_of_pods_nor_a_share(value: object) -> None:
    with pytest.raises(InvalidObjectError, match=r"maxUnavailablePerOwner.*whole number from 1 to 100000, or a perc"):
        PackingPolicy.parse({"spec": {"disruption": {"maxUnavailablePerOwner": value}}})


def test_attributes_carry_seconds() -> None:
    disruption = PackingPolicySpec().disruption
    assert (disruption.plan_timeout.seconds, disruption.owner_settled.seconds) == (900.0, 60.0)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ()),
        ({"steering": "Extender"}, ()),
        ({"steering": "Bind", "objective": {"tail": "LeastPower"}}, ()),
        ({"nodeAutoscaler": "Wait", "waitFor": "1m"}, ("nodeAutoscaler: Wait",)),
        ({"fairness": {"mode": "WeightedDRF", "teams": [{"name": "a"}]}}, ()),
    ],
)
def test_what_this_version_does_not_act_on_is_named(spec: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert PackingPolicy.parse({"spec": spec}).spec.not_supported() == expected


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param(plan([place("s1", "s9")]), "step s1: after names s9", id="a step after one that is not there"),
        pytest.param(
            plan([place("s1", "s2"), place("s2", "s1")]), "in a circle: s", id="steps that wait for each other"
        ),
        pytest.param(
            plan([], [{"id": "k1", "class": {"controllerUid": "u", "requests": "a"}, "node": "n1", "after": ["s9"]}]),
            "slot k1: after names s9",
            id="a slot after a step that is not there",
        ),
        pytest.param(plan([place("s1", slot="k1")]), "slot k1 is not one of spec.slots", id="a slot that is not there"),
        pytest.param({"metadata": {"name": "p"}}, "PackingPlan p: spec = (absent): must be given", id="no spec"),
        pytest.param({"spec": []}, "PackingPlan (without a name): spec = []", id="a list for a spec"),
        pytest.param(
            plan([place("s1", nod="x")]), "spec.steps[0].nod = 'x': is not a known field", id="a mistyped field"
        ),
        pytest.param({"kind": "Pod", "spec": {"policy": "a"}}, "kind = 'Pod'", id="another kind"),
        pytest.param({"apiVersion": "stowage.dev/v2", "spec": {"policy": "a"}}, "apiVersion", id="another version"),
    ],
)
def test_a_bad_plan_is_refused_in_words_that_name_the_place(document: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidObjectError) as refused:
        PackingPlan.parse(document)
    assert words in str(refused.value)


def test_errors_stay_on_one_short_line_whatever_was_written() -> None:
    document = {"metadata": {"name": "x" * 10_000_000}, "spec": {f"field{i}": "y\n" * 1_000_000 for i in range(20)}}
    with pytest.raises(InvalidObjectError) as refused:
        PackingPolicy.parse(document)
    assert len(str(refused.value)) < 1500
    assert "\n" not in str(refused.value)
    assert "and 15 more" in str(refused.value)


def test_a_status_of_a_newer_version_is_still_read() -> None:
    document = plan([]) | {
        "status": {"phase": "Running", "novelty": 1, "steps": [{"id": "s1", "state": "Done", "new": 2}]}
    }
    status = PackingPlan.parse(document).status
    assert (status.phase, status.steps[0].state) == (PlanPhase.RUNNING, StepState.DONE)


def test_metadata_that_is_not_named_survives() -> None:
    metadata = {
        "name": "p",
        "finalizers": ["example.org/kept"],
        "ownerReferences": [{"uid": "1"}],
        "labels": {"a": "b"},
    }
    assert PackingPlan.parse(plan([]) | {"metadata": metadata}).to_document()["metadata"].items() >= metadata.items()


def test_a_message_too_long_for_the_api_server_is_cut() -> None:
    message = PackingPlanStatus(message="m" * 5000).message
    assert (len(message), message[-1]) == (1024, "…")


def test_progress_counts_settled_steps() -> None:
    states = [StepState.DONE, StepState.VOID, StepState.INTENDED, StepState.WAITING]
    status = PackingPlanStatus(steps=tuple(StepStatus(id=f"s{i}", state=one) for i, one in enumerate(states)))
    assert status.model_dump(mode="json", by_alias=True)["progress"] == "2/4"


@pytest.mark.parametrize(
    ("approval", "phase", "active"),
    [
        ("Approved", None, True),
        ("Approved", "Approved", True),
        ("Approved", "Running", True),
        ("Approved", "Proposed", False),
        ("Approved", "Done", False),
        ("Approved", "Superseded", False),
        ("Pending", None, False),
        ("Aborted", "Running", False),
    ],
)
def test_when_a_plan_is_active(approval: str, phase: str | None, active: bool) -> None:
    document = {"spec": {"policy": "a", "approval": approval}, "status": {"phase": phase}}
    assert PackingPlan.parse(document).active is active


def test_a_condition_changes_its_time_only_with_its_status() -> None:
    def ready(old: Any, status: bool, reason: PolicyReason, later: int) -> Any:
        now = NOW + timedelta(seconds=later)
        return with_condition(old, PolicyCondition.READY, status, reason, "why", now=now, observed_generation=later)

    first = ready((), False, PolicyReason.PAUSED, 0)
    conflict = with_condition(
        first, PolicyCondition.CONFLICT, False, PolicyReason.NO_CONFLICT, now=NOW, observed_generation=1
    )
    again = ready(conflict, False, PolicyReason.NO_MATCHING_NODE, 5)
    changed = ready(again, True, PolicyReason.WATCHING, 9)
    assert [one.last_transition_time.second for one in (first[0], again[0], changed[0])] == [0, 0, 9]
    assert first[0].last_transition_time.microsecond == 0
    assert [one.type for one in changed] == ["Ready", "Conflict"]
    assert again[0].reason == "NoMatchingNode"
    assert again[0].observed_generation == 5
    found = condition_of(changed, PolicyCondition.READY)
    assert found is not None
    assert found.status is ConditionStatus.TRUE
    assert condition_of((), PolicyCondition.READY) is None


def test_a_selector_becomes_the_packers() -> None:
    selector = LabelSelector.model_validate(
        {"matchLabels": {"b": "1", "a": "2"}, "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["x"]}]}
    )
    expressions = (cluster.Requirement("c", "NotIn", ("x",)),)
    assert selector.to_fact() == cluster.LabelSelector(labels=(("a", "2"), ("b", "1")), expressions=expressions)


NAMES = st.from_regex(r"[a-z]([a-z0-9]{0,5}[a-z0-9])?", fullmatch=True)
CLASSES = st.builds(
    SlotClass,
    controller_uid=NAMES,
    revision=NAMES | st.just(""),
    requests=st.text("0123456789abcdef", max_size=16),
    pod_name=NAMES | st.just(""),
)
SLOTS = st.lists(
    st.builds(Slot, id=NAMES, slot_class=CLASSES, node=NAMES, standing=st.integers(0, 50)),
    max_size=4,
    unique_by=lambda slot: slot.id,
)


@st.composite
def plan_specs(draw: st.DrawFn) -> PackingPlanSpec:
    ids = draw(st.lists(NAMES, max_size=5, unique=True))
    needed = st.lists(st.sampled_from(ids), unique=True).map(tuple) if ids else st.just(())
    slots = [structs.replace(slot, after=draw(needed)) for slot in draw(SLOTS)]
    steps = []
    for index, key in enumerate(ids):
        slot = draw(st.none() | st.sampled_from([one.id for one in slots])) if slots else None
        action = draw(st.sampled_from(Action))
        after = draw(st.lists(st.sampled_from(ids[:index]), unique=True)) if index else []
        pod = draw(st.builds(PodRef, namespace=NAMES, name=NAMES, uid=NAMES))
        swap = action is Action.EVICT and slot is not None and draw(st.booleans())
        steps.append(Step(key, action, pod, draw(NAMES), slot, tuple(after), swap))
    spec = PackingPlanSpec(
        policy=draw(NAMES),
        policy_uid=draw(st.none() | NAMES),
        approval=draw(st.sampled_from(Approval)),
        slots=tuple(PlanSlot.of(slot) for slot in slots),
        steps=tuple(PlanStep.of(step) for step in steps),
    )
    assert [slot.to_fact() for slot in spec.slots] == slots
    return spec


@given(plan_specs())
def test_a_plan_survives_the_way_out_and_back(spec: PackingPlanSpec) -> None:
    plan = PackingPlan(spec=spec)
    document = plan.to_document()
    assert PackingPlan.parse(document) == plan
    assert PackingPlan.parse(document).to_document() == document
