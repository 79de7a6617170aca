"""From decisions to the status of plans and policies, and to events."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from stowage.api.conditions import condition_of
from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_plan_status import PlanPhase, SlotState, StepState
from stowage.api.reasons import PlanCondition, PlanReason, PolicyCondition, PolicyReason, StepReason
from stowage.decide.announcements import announcements, departures
from stowage.decide.execution import Advance
from stowage.decide.plan_facts import SlotStatus, StepStatus
from stowage.decide.plan_status import approved_by, next_status, plan_facts, policy_facts
from stowage.decide.policy_status import PolicyView, policy_status
from stowage.decide.scope import Scope
from stowage.decide.trigger import Trigger
from unit.builders import NOW, evict, place, plan_resource, pod, policy_resource, slot

WEB, NEW = pod("web-1", "n1"), pod("new-1", app="new")
TO_N2, TO_N1 = slot(1, WEB, "n2"), slot(2, NEW, "n1")
STEPS = (evict(1, WEB, "k001"), place(2, NEW, TO_N1, "s001"))
EXTENDERS = [{"holder": "host", "observedPlan": "default-1-uid", "at": "2027-01-15T08:00:00Z"}]


def plan(**fields: Any) -> PackingPlan:
    return plan_resource("default-1", *STEPS, slots=(TO_N2, TO_N1), **fields)


RUNNING = Advance(
    phase=PlanPhase.RUNNING,
    reason=PlanReason.EXECUTING,
    epoch=7,
    started_at=NOW,
    step_status={"s001": StepStatus(StepState.INTENDED, None, NOW), "s002": StepStatus()},
    slot_status={"k001": SlotStatus(), "k002": SlotStatus(SlotState.WAITING)},
)


def test_a_plan_reads_back_as_it_was_decided() -> None:
    before = plan(status={"extenders": EXTENDERS, "certified": True})
    after = before.model_copy(update={"status": next_status(before, RUNNING, NOW)})
    facts = plan_facts(PackingPlan.parse(after.to_document()))
    assert facts.step_status == RUNNING.step_status
    assert facts.slot_status == RUNNING.slot_status
    assert (facts.phase, facts.reason, facts.epoch) == (RUNNING.phase, RUNNING.reason, RUNNING.epoch)
    assert (facts.started_at, facts.observed_by) == (NOW, ("host",))
    assert (facts.steps, facts.slots) == (STEPS, (TO_N2, TO_N1))
    assert after.status.certified, "what an advance does not speak of stays"


def test_the_intent_names_the_uid_that_it_is_about() -> None:
    status = next_status(plan(), RUNNING, NOW)
    assert [(step.id, step.pod_uid) for step in status.steps] == [("s001", WEB.uid), ("s002", None)]


def test_the_same_advance_changes_nothing_more() -> None:
    before = plan()
    once = before.model_copy(update={"status": next_status(before, RUNNING, NOW)})
    assert next_status(once, RUNNING, NOW + 60) == once.status


@pytest.mark.parametrize(
    ("phase", "reason", "complete", "stalled"),
    [
        pytest.param(PlanPhase.RUNNING, PlanReason.EXECUTING, "False", "False", id="on-the-way"),
        pytest.param(PlanPhase.RUNNING, PlanReason.DISRUPTION_BUDGET, "False", "True", id="stalled"),
        pytest.param(PlanPhase.DONE, PlanReason.COMPLETED, "True", "False", id="done"),
        pytest.param(PlanPhase.ABORTED, PlanReason.TIMED_OUT, "False", "False", id="aborted"),
    ],
)
def test_conditions_of_a_plan(phase: PlanPhase, reason: PlanReason, complete: str, stalled: str) -> None:
    status = next_status(plan(), structs.replace(RUNNING, phase=phase, reason=reason), NOW)
    found = {kind: condition_of(status.conditions, kind) for kind in PlanCondition}
    assert {kind: one and one.status for kind, one in found.items()} == {
        PlanCondition.APPROVED: "True",
        PlanCondition.COMPLETE: complete,
        PlanCondition.STALLED: stalled,
    }


def owner(manager: str, time: str, field: str = "f:approval", **more: Any) -> dict[str, Any]:
    return {"manager": manager, "time": time, "fieldsV1": {"f:spec": {field: {}}}, **more}


@pytest.mark.parametrize(
    ("fields", "manager"),
    [
        pytest.param([owner("stowage-operator", "2027-01-15T08:00:00Z")], "stowage-operator", id="by-its-policy"),
        pytest.param(
            [owner("stowage-operator", "2027-01-15T08:00:00Z"), owner("stowage-cli", "2027-01-15T08:05:00Z")],
            "stowage-cli",
            id="by-a-person",
        ),
        pytest.param([owner("kubectl-edit", "2027-01-15T09:00:00Z", "f:steps")], "stowage-operator", id="other-field"),
        pytest.param(
            [owner("x", "2027-01-15T09:00:00Z", subresource="status")], "stowage-operator", id="other-subresource"
        ),
    ],
)
def test_who_approved(fields: list[dict[str, Any]], manager: str) -> None:
    found = approved_by(plan(managedFields=fields))
    assert found is not None
    assert found.manager == manager
    assert approved_by(plan(managedFields=fields, approval="Pending")) is None


def test_policy_facts() -> None:
    facts = policy_facts(policy_resource(mode="Enforce", paused=True, disruption={"planTimeout": "2m"}))
    assert (facts.name, facts.uid) == ("default", "default-uid")
    assert (facts.paused, facts.enforce, facts.plan_timeout_seconds) == (True, True, 120)


HOLDS_N1 = Scope(frozenset({"n1"}), {})
WAITS = Trigger(due=False, pending=2)


@pytest.mark.parametrize(
    ("spec", "view", "ready", "reason"),
    [
        pytest.param({}, {"trigger": Trigger(due=False)}, "True", PolicyReason.WATCHING, id="nobody-waits"),
        pytest.param({}, {}, "True", PolicyReason.GATHERING, id="pods-wait"),
        pytest.param({}, {"fruitless": True}, "True", PolicyReason.NO_BETTER_PLAN, id="nothing-found"),
        pytest.param(
            {},
            {"fruitless": True, "moves_last_hour": 60},
            "True",
            PolicyReason.MOVES_PER_HOUR_SPENT,
            id="no-moves-left",
        ),
        pytest.param(
            {},
            {"trigger": Trigger(due=False, pending=2, limited=2)},
            "True",
            PolicyReason.REPLAN_LIMIT,
            id="planned-too-often",
        ),
        pytest.param({"paused": True}, {}, "True", PolicyReason.PAUSED, id="paused"),
        pytest.param({"steering": "Bind"}, {}, "True", PolicyReason.GATHERING, id="bind"),
        pytest.param({}, {"scope": Scope(frozenset(), {})}, "False", PolicyReason.NO_MATCHING_NODE, id="no-nodes"),
        pytest.param({}, {"error": "it died"}, "False", PolicyReason.SOLVER_FAILED, id="solver-failed"),
        pytest.param(
            {}, {"active": plan(status={"phase": "Running"})}, "True", PolicyReason.PLAN_RUNNING, id="plan-runs"
        ),
        pytest.param(
            {}, {"active": plan(status={"phase": "Proposed"})}, "True", PolicyReason.AWAITING_APPROVAL, id="proposed"
        ),
        pytest.param(
            {}, {"active": plan(approval="Pending")}, "True", PolicyReason.AWAITING_APPROVAL, id="written-a-moment-ago"
        ),
        pytest.param(
            {},
            {"plans": (plan(status={"phase": "Aborted", "reason": "ExtenderUnavailable"}),)},
            "False",
            PolicyReason.EXTENDER_UNAVAILABLE,
            id="extender-is-away",
        ),
    ],
)
def test_what_a_policy_says(spec: dict[str, Any], view: dict[str, Any], ready: str, reason: PolicyReason) -> None:
    policy = policy_resource(**spec)
    status = policy_status(policy, PolicyView(**{"scope": HOLDS_N1, "trigger": WAITS, **view}), NOW)
    found = condition_of(status.conditions, PolicyCondition.READY)
    assert found is not None
    assert (found.status, found.reason) == (ready, reason)
    again = policy.model_copy(update={"status": status})
    assert policy_status(again, PolicyView(**{"scope": HOLDS_N1, "trigger": WAITS, **view}), NOW + 60) == status


def test_a_remark_is_read_where_nothing_else_is_said() -> None:
    said = []
    for spec in ({}, {"nodeAutoscaler": "Wait", "waitFor": "1m"}):
        status = policy_status(policy_resource(**spec), PolicyView(HOLDS_N1, WAITS, remark="as Consolidate"), NOW)
        found = condition_of(status.conditions, PolicyCondition.READY)
        assert found is not None
        said.append((found.status, found.message))
    assert said == [
        ("True", "as Consolidate"),
        ("True", "not acted on yet: nodeAutoscaler: Wait; as Consolidate"),
    ]


def test_done_plans_stay_counted_when_they_are_deleted() -> None:
    policy, plans = policy_resource(), [plan(status={"phase": "Done"}) for _ in range(2)]
    counts = []
    for _ in range(4):  # each time one is done, and the oldest goes
        view = PolicyView(scope=HOLDS_N1, trigger=WAITS, plans=plans, outdated=plans[:1])
        policy = policy.model_copy(update={"status": policy_status(policy, view, NOW)})
        counts.append(policy.status.plans_done)
        plans = [*plans[1:], plan(status={"phase": "Done"})]
    assert counts == [2, 3, 4, 5]


def test_what_is_not_seen_is_not_counted_and_the_conditions_say_what_it_is() -> None:
    policy = policy_resource()
    seen = PolicyView(scope=Scope(frozenset({"m1"}), {"n1": "strong"}), trigger=WAITS, moves_last_hour=4)
    before = policy_status(policy, seen, NOW)
    policy = policy.model_copy(update={"status": before})
    blind = PolicyView(scope=Scope(frozenset(), {}), trigger=Trigger(due=False), degraded={"Pod": "Forbidden: 403"})
    status = policy_status(policy, blind, NOW + 60)
    numbers = ("plans_done", "pending_pods", "nodes", "moves_last_hour")
    assert [getattr(status, name) for name in numbers] == [getattr(before, name) for name in numbers]
    said = {one.type: (one.status, one.reason, one.message) for one in status.conditions}
    words = "Pod is not followed: Forbidden: 403"
    assert said["Ready"] == ("False", "NotFollowed", words)
    assert said["Degraded"] == ("True", "NotFollowed", words)
    assert said["Conflict"][0] == "True"  # as it was
    again = policy_status(policy.model_copy(update={"status": status}), seen, NOW + 120)
    assert condition_of(again.conditions, PolicyCondition.DEGRADED).status == "False"  # type: ignore[union-attr]


def test_numbers_of_a_policy_and_who_holds_its_nodes() -> None:
    lost = {f"n{number}": "strong" for number in range(7)}
    plans = (plan(status={"phase": "Done"}), plan_resource("default-2", evict(1, WEB), status={"phase": "Running"}))
    view = PolicyView(
        scope=Scope(frozenset({"m1"}), lost), trigger=WAITS, plans=plans, active=plans[1], moves_last_hour=4
    )
    status = policy_status(policy_resource(), view, NOW)
    assert (status.plans_done, status.pending_pods, status.nodes, status.moves_last_hour) == (1, 2, 1, 4)
    assert (status.active_plan, status.last_plan) == ("default-2", "default-2")
    found = condition_of(status.conditions, PolicyCondition.CONFLICT)
    assert found is not None
    assert (found.status, found.reason) == ("True", PolicyReason.NODES_HELD_BY_OTHER_POLICY)
    assert found.message == "policy strong holds 7 nodes: n0, n1, n2, n3, n4 …"


@pytest.mark.parametrize(
    ("step", "status", "reason"),
    [
        pytest.param("s001", StepStatus(StepState.INTENDED, None, NOW), None, id="not-granted-yet"),
        pytest.param("s001", StepStatus(StepState.WAITING, StepReason.DISRUPTION_BUDGET), "EvictionWaits", id="budget"),
        pytest.param("s001", StepStatus(StepState.WAITING, StepReason.DEPENDENCY_PENDING), None, id="not-its-turn"),
        pytest.param(
            "s001", StepStatus(StepState.FAILED, StepReason.EVICTION_REFUSED, NOW), "EvictionRefused", id="refused"
        ),
        pytest.param("s001", StepStatus(StepState.DONE, StepReason.BOUND, NOW), None, id="pod-is-gone-by-then"),
        pytest.param("s002", StepStatus(StepState.DONE, StepReason.BOUND, NOW), "Placed", id="placed"),
        pytest.param("s002", StepStatus(StepState.VOID, StepReason.POD_GONE, NOW), None, id="void"),
    ],
)
def test_events_on_pods(step: str, status: StepStatus, reason: str | None) -> None:
    facts = structs.replace(plan_facts(plan()), phase=PlanPhase.RUNNING)
    told = announcements(facts, structs.replace(RUNNING, step_status={step: status}))
    assert [one.reason for one in told] == ([reason] if reason else [])
    done = structs.replace(facts, step_status={step: status})
    assert announcements(done, structs.replace(RUNNING, step_status={step: status})) == ()


def test_a_pod_that_loses_its_place_is_warned() -> None:
    facts = plan_facts(plan_resource("default-1", evict(1, WEB)))
    told = departures(facts, facts.steps)
    assert [(one.reason, one.warning) for one in told] == [("LosesPlace", True)]


def test_a_pod_that_moves_is_told_where_its_replacement_goes() -> None:
    facts = plan_facts(plan())
    (told,) = departures(facts, facts.steps[:1])
    assert (told.reason, told.warning) == ("Moving", False)
    assert told.note.endswith("its replacement goes to node n2")
