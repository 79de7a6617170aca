"""When nodes are emptied though nothing waits, how long that rests after plans in vain, and when such a plan ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import structs

from harness.facts import packed
from stowage.api.conditions import condition_of
from stowage.api.durations import instant
from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_plan_status import PlanPhase, StepState
from stowage.api.packing_policy import PackingPolicy
from stowage.api.reasons import PlanReason, PolicyCondition, PolicyReason
from stowage.decide.announcements import announcements
from stowage.decide.consolidation import Calm, Intent, Looked, consolidation, emptied, overtaken
from stowage.decide.execution import Advance
from stowage.decide.plan_facts import StepStatus
from stowage.decide.plan_status import plan_facts
from stowage.decide.policy_status import PolicyView, policy_status
from stowage.decide.reservation import targets
from stowage.decide.scope import Scope
from stowage.decide.trigger import Trigger
from stowage.run.extender_plans import read_plan
from stowage_scheduler.cluster import OwnerRef, Pod, Snapshot
from stowage_scheduler.emptying import Candidate, Consolidation
from stowage_scheduler.options import Drain, PackOptions
from unit.builders import NOW, evict, node, plan, plan_resource, pod, policy_resource, replica_set, slot, snapshot
from unit.one_move import run

QUIET: dict[str, Any] = {"mode": "WhenQuiet", "after": "10m"}
NODES = frozenset({"n1", "n2"})
N1, N2 = node("n1", created_at=NOW - 9000), node("n2", created_at=NOW - 9000)
OLD: dict[str, Any] = {"created_at": NOW - 9000, "bound_at": NOW - 8990}
WEB = pod("web-1", "n1", **OLD)
API = pod("api-1", "n2", app="api", **OLD)


def policy(**consolidation_spec: Any) -> PackingPolicy:
    return policy_resource(consolidation={**QUIET, **consolidation_spec})


def calm(*facts: Any, **fields: Any) -> Calm:
    usual: dict[str, Any] = {"nodes": NODES, "moves_left": 60, "fingerprint": "now"}
    return Calm(snapshot(*(facts or (N1, N2, WEB, API))), **{**usual, **fields})


def ended(name: str, minutes_ago: float, phase: str = "Done", **fields: Any) -> PackingPlan:
    """A plan that was to empty n1, and ended so long ago."""
    status = {"phase": phase, "finishedAt": stamp(NOW - 60 * minutes_ago), "reason": fields.pop("reason", "Completed")}
    if fields.pop("started", True):
        status["startedAt"] = stamp(NOW - 60 * minutes_ago - 60)
    return made(name, status, **fields)


def made(name: str, status: Mapping[str, Any], empties: tuple[str, ...] = ("n1",)) -> PackingPlan:
    resource = plan_resource(name, status=status)
    return resource.model_copy(update={"spec": resource.spec.model_copy(update={"empties": empties})})


def stamp(seconds: float) -> str:
    return f"{instant(seconds):%Y-%m-%dT%H:%M:%SZ}"


TABLE: dict[str, tuple[PackingPolicy, Calm, tuple[bool, PolicyReason | None, float | None]]] = {
    "nobody asked for it": (policy_resource(), calm(), (False, None, None)),
    "quiet for long enough": (policy(), calm(), (True, PolicyReason.NOTHING_TO_EMPTY, None)),
    "the policy is paused": (
        policy_resource(consolidation=QUIET, paused=True),
        calm(),
        (False, PolicyReason.PAUSED, None),
    ),
    "a pod waits": (policy(), calm(pending=1), (False, PolicyReason.NOT_QUIET, None)),
    "a plan for pods is under way": (
        policy(),
        calm(active=made("p", {"phase": "Running"}, empties=())),
        (False, PolicyReason.NOT_QUIET, None),
    ),
    "a plan that empties nodes is under way": (
        policy(),
        calm(active=made("p", {"phase": "Running"})),
        (False, PolicyReason.CONSOLIDATING, None),
    ),
    "a pod came 9 minutes ago": (
        policy(),
        calm(N1, N2, WEB, structs.replace(API, created_at=NOW - 540, bound_at=NOW - 540)),
        (False, PolicyReason.NOT_QUIET, 60),
    ),
    "a pod came to a node of others": (
        policy(),
        calm(N1, N2, node("n3"), WEB, pod("x-1", "n3", created_at=NOW, bound_at=NOW)),
        (True, PolicyReason.NOTHING_TO_EMPTY, None),
    ),
    "a pod is on its way out": (
        policy(),
        calm(N1, N2, structs.replace(WEB, terminating=True)),
        (False, PolicyReason.NOT_QUIET, 600),
    ),
    "a controller was scaled 8 minutes ago": (
        policy(),
        calm(N1, N2, WEB, replica_set("web", 1, replicas_changed_at=NOW - 480)),
        (False, PolicyReason.NOT_QUIET, 120),
    ),
    "a node joined 7 minutes ago": (
        policy(),
        calm(N1, node("n2", created_at=NOW - 420), WEB),
        (False, PolicyReason.NOT_QUIET, 180),
    ),
    "a plan ended 4 minutes ago": (
        policy(),
        calm(plans=(ended("p", 4, empties=()),)),
        (False, PolicyReason.NOT_QUIET, 360),
    ),
    "half of the hour's moves are spent": (
        policy(),
        calm(moves_left=30),
        (False, PolicyReason.MOVES_PER_HOUR_SPENT, 60),
    ),
    "nothing was found, and nothing has changed": (
        policy(),
        calm(looked=Looked("now", NOW - 1200)),
        (False, PolicyReason.NOTHING_TO_EMPTY, 2400),
    ),
    "nothing was found, and something has changed": (
        policy(),
        calm(looked=Looked("then", NOW - 1200)),
        (True, PolicyReason.NOTHING_TO_EMPTY, None),
    ),
    "the solver failed a minute ago": (
        policy(),
        calm(looked=Looked("", NOW - 60, PolicyReason.SOLVER_FAILED)),
        (False, PolicyReason.SOLVER_FAILED, 540),
    ),
    "the solver failed a minute ago, and the quiet time is short": (
        policy(after="1s"),
        calm(looked=Looked("", NOW - 50, PolicyReason.SOLVER_FAILED)),
        (False, PolicyReason.SOLVER_FAILED, 10),
    ),
    "a pod ended the last search": (
        policy(),
        calm(looked=Looked("", NOW - 5, PolicyReason.NOT_QUIET, cut_off=1)),
        (False, PolicyReason.NOT_QUIET, 10),
    ),
    "pods ended the last four searches": (
        policy(),
        calm(looked=Looked("", NOW - 20, PolicyReason.NOT_QUIET, cut_off=4)),
        (False, PolicyReason.NOT_QUIET, 100),
    ),
    "pods ended very many searches": (
        policy(),
        calm(looked=Looked("", NOW - 600, PolicyReason.NOT_QUIET, cut_off=5000)),
        (False, PolicyReason.NOT_QUIET, 3000),
    ),
    "the last plan was rejected 20 minutes ago": (
        policy(),
        calm(plans=(ended("p", 20, "Aborted", started=False, reason="AbortedByUser"),)),
        (False, PolicyReason.CONSOLIDATION_SNOOZED, 600),
    ),
    "the last plan emptied a node that is in use again": (
        policy(),
        calm(plans=(ended("p", 20),)),
        (False, PolicyReason.CONSOLIDATION_SNOOZED, 600),
    ),
    "it was so three times in a row": (
        policy(),
        calm(plans=(ended("a", 300), ended("b", 200), ended("c", 20))),
        (False, PolicyReason.CONSOLIDATION_SNOOZED, 6000),
    ),
    "the one before worked": (
        policy(),
        calm(plans=(ended("a", 300), ended("b", 200, empties=("gone",)), ended("c", 20))),
        (False, PolicyReason.CONSOLIDATION_SNOOZED, 600),
    ),
    "the snooze is over": (policy(), calm(plans=(ended("p", 31),)), (True, PolicyReason.NOTHING_TO_EMPTY, None)),
    "the emptied node was taken away": (
        policy(),
        calm(plans=(ended("p", 20, empties=("gone",)),)),
        (True, PolicyReason.NOTHING_TO_EMPTY, None),
    ),
    "pods of DaemonSets do not use a node": (
        policy(),
        calm(N1, N2, pod("agent", "n1", owner=OwnerRef("DaemonSet", "a", "a"), **OLD), API, plans=(ended("p", 20),)),
        (True, PolicyReason.NOTHING_TO_EMPTY, None),
    ),
    "static pods do not use a node": (
        policy(),
        calm(N1, N2, pod("proxy", "n1", owner=OwnerRef("Node", "n1", "n1"), **OLD), API, plans=(ended("p", 20),)),
        (True, PolicyReason.NOTHING_TO_EMPTY, None),
    ),
    "the one before was in vain more than a day earlier": (
        policy(),
        calm(plans=(ended("a", 1470), ended("b", 20))),
        (False, PolicyReason.CONSOLIDATION_SNOOZED, 600),
    ),
    "the one before was in vain less than a day earlier": (
        policy(),
        calm(plans=(ended("a", 1450), ended("b", 20))),
        (False, PolicyReason.CONSOLIDATION_SNOOZED, 2400),
    ),
    "it was superseded before its first step": (
        policy(),
        calm(plans=(ended("p", 20, "Superseded", started=False),)),
        (True, PolicyReason.NOTHING_TO_EMPTY, None),
    ),
    "it was superseded after its first step": (
        policy(),
        calm(plans=(ended("p", 20, "Superseded"),)),
        (False, PolicyReason.CONSOLIDATION_SNOOZED, 600),
    ),
}


@pytest.mark.parametrize(("asked", "facts", "expected"), TABLE.values(), ids=TABLE.keys())
def test_when_nodes_are_emptied(
    asked: PackingPolicy, facts: Calm, expected: tuple[bool, PolicyReason | None, float | None]
) -> None:
    intent = consolidation(asked, facts, NOW)
    assert (intent.due, intent.reason, intent.look_again_seconds) == expected


def test_half_of_the_hour_is_kept_for_pods_that_wait() -> None:
    assert consolidation(policy(), calm(moves_left=45), NOW).moves == 15
    odd = policy_resource(consolidation=QUIET, disruption={"maxMovesPerHour": 5})
    assert consolidation(odd, calm(moves_left=5), NOW).moves == 2


def test_a_snooze_ends_within_a_day() -> None:
    plans = tuple(ended(f"p{hours}", hours * 60 + 20) for hours in range(23))
    intent = consolidation(policy(), calm(plans=plans), NOW)
    assert intent.look_again_seconds == 86_400 - 20 * 60


TO_N2 = slot(1, WEB, "n2")
MOVE = evict(1, WEB, "k001")
EMPTYING: dict[str, Any] = {"empties": ("n1",), "created_at": NOW - 60}
WAITS = pod("new-1", app="new")
REPLACEMENT = pod("web-2")
STRANGER = pod("new-1", "n1", app="new")


def of_others(message: str = "0/2 nodes are available: 2 Insufficient cpu.") -> Pod:
    """A pod of another scheduler that began to wait after the plan was made."""
    fields = {"unschedulable_since": NOW - 30, "unschedulable_message": message}
    return structs.replace(WAITS, scheduler_name="other", **fields)


@pytest.mark.parametrize(
    ("facts", "fields", "reason"),
    [
        pytest.param((WEB,), {}, None, id="nothing-waits"),
        pytest.param((WEB, WAITS), {}, PlanReason.POD_WAITS, id="a-pod-waits"),
        pytest.param((WEB, WAITS), {"empties": ()}, None, id="not-such-a-plan"),
        pytest.param((WEB, WAITS), {"phase": PlanPhase.DONE}, None, id="it-has-ended"),
        pytest.param(
            (REPLACEMENT,), {"step_status": {"s001": StepStatus(StepState.INTENDED)}}, None, id="its-own-replacement"
        ),
        pytest.param((WEB, REPLACEMENT), {}, PlanReason.POD_WAITS, id="one-more-of-a-class-that-nobody-evicted"),
        pytest.param(
            (REPLACEMENT, pod("web-3")),
            {"step_status": {"s001": StepStatus(StepState.INTENDED)}},
            PlanReason.POD_WAITS,
            id="the-controller-was-scaled-up-meanwhile",
        ),
        pytest.param(
            (WEB, structs.replace(WAITS, scheduler_name="other", unschedulable_since=NOW - 90)),
            {},
            None,
            id="a-pod-of-others-waited-before",
        ),
        pytest.param((WEB, of_others()), {}, None, id="a-pod-of-others-waits-for-what-is-none-of-the-plans"),
        pytest.param(
            (WEB, of_others("0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 Insufficient cpu.")),
            {},
            PlanReason.POD_WAITS,
            id="a-pod-of-others-is-kept-away-by-a-taint",
        ),
        pytest.param(
            (WEB, of_others("0/2 nodes are available: 1 reserved by plan default-x, 1 Insufficient cpu.")),
            {},
            PlanReason.POD_WAITS,
            id="a-pod-of-others-is-kept-away-by-the-extender",
        ),
        pytest.param((WEB, STRANGER), {}, PlanReason.NODE_IN_USE, id="a-pod-came-to-the-node"),
        pytest.param(
            (REPLACEMENT, STRANGER),
            {"step_status": {"s001": StepStatus(StepState.INTENDED)}},
            None,
            id="a-pod-came-after-the-last-eviction",
        ),
        pytest.param(
            (WEB, structs.replace(STRANGER, owner=OwnerRef("DaemonSet", "a", "a"))), {}, None, id="a-DaemonSet-came"
        ),
    ],
)
def test_a_plan_that_empties_nodes_gives_way(
    facts: tuple[Pod, ...], fields: dict[str, Any], reason: PlanReason | None
) -> None:
    found = overtaken(plan(MOVE, TO_N2, **{**EMPTYING, **fields}), policy(), snapshot(N1, N2, *facts))
    assert (None if found is None else found[0]) is reason


def test_a_plan_ends_when_its_policy_empties_no_nodes_any_more() -> None:
    facts = plan(MOVE, TO_N2, **EMPTYING)
    found = overtaken(facts, policy(mode="Never"), snapshot(N1, N2, WEB))
    assert found is not None
    assert found[0] is PlanReason.POLICY_CHANGED


def test_a_plan_whose_last_step_is_over_is_complete_whoever_waits() -> None:
    facts = plan(MOVE, TO_N2, phase=PlanPhase.RUNNING, epoch=3, started_at=NOW - 4, **EMPTYING)
    begun = structs.replace(facts, step_status={"s001": StepStatus(StepState.INTENDED)})
    there = pod("web-2", "n2", created_at=NOW - 2, bound_at=NOW - 1)
    done = run(begun, snapshot(N1, N2, there, WAITS, replica_set("web", 1)), overtaken=(PlanReason.POD_WAITS, "waits"))
    assert (done.phase, done.reason) == (PlanPhase.DONE, PlanReason.COMPLETED)


def test_a_pod_that_does_not_go_is_named() -> None:
    stuck = calm(N1, N2, structs.replace(WEB, terminating=True))
    assert consolidation(policy(), stuck, NOW).message == "pod team/web-1 on node n1 is on its way out"


def test_who_is_overtaken_ends_whatever_was_under_way() -> None:
    facts = plan(MOVE, TO_N2, phase=PlanPhase.RUNNING, epoch=3, started_at=NOW - 4, **EMPTYING)
    done = run(facts, snapshot(N1, N2, WEB, WAITS), overtaken=(PlanReason.POD_WAITS, "pod new-1 waits"))
    assert (done.phase, done.reason, done.evict) == (PlanPhase.SUPERSEDED, PlanReason.POD_WAITS, ())


def test_with_bindings_the_emptied_nodes_are_kept_too() -> None:
    assert targets(plan(MOVE, TO_N2, **EMPTYING)) == {"n1", "n2"}


def found(cluster: Snapshot, *nodes: str) -> Consolidation:
    """What a search says of nodes that are empty or hold one pod each."""
    packing = packed(cluster, PackOptions(drain=Drain(frozenset(nodes), voluntary=True)))
    return Consolidation(nodes, packing, tuple(Candidate(one, 1, 1) for one in nodes))


def test_a_node_that_was_empty_before_is_no_gain() -> None:
    cluster = snapshot(N1, N2, node("n3"), WEB, API, replica_set("web", 1), replica_set("api", 1))
    both = found(cluster, "n1", "n3")
    assert emptied(both, policy()) == ("n1",)
    assert emptied(both, policy(minEmptiedNodes=2)) == ()
    assert emptied(found(cluster, "n3"), policy()) == ()
    assert emptied(Consolidation(), policy()) == ()


@pytest.mark.parametrize("lost", ["evictions", "unplaced"])
def test_nobody_loses_a_place_for_an_empty_node(lost: str) -> None:
    cluster = snapshot(N1, N2, WEB, API, replica_set("web", 1), replica_set("api", 1))
    alone = found(cluster, "n1")
    assert alone.packing is not None
    somebody = structs.replace(alone.packing, **{lost: alone.packing.moves[:1]})
    assert emptied(structs.replace(alone, packing=somebody), policy()) == ()


def status_of(asked: PackingPolicy, intent: Intent) -> PackingPolicy:
    view = PolicyView(Scope(NODES, {}), Trigger(due=False), consolidation=intent)
    return asked.model_copy(update={"status": policy_status(asked, view, NOW)})


def test_the_policy_says_how_far_it_is_and_nothing_where_nobody_asked() -> None:
    told = status_of(policy(), Intent(reason=PolicyReason.NOTHING_TO_EMPTY))
    condition = condition_of(told.status.conditions, PolicyCondition.CONSOLIDATED)
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", "NothingToEmpty")
    told = status_of(told, Intent(reason=PolicyReason.NOT_QUIET, message="1 pod without a place"))
    condition = condition_of(told.status.conditions, PolicyCondition.CONSOLIDATED)
    assert condition is not None
    assert (condition.status, condition.message) == ("False", "1 pod without a place")
    told = status_of(told, Intent())
    assert condition_of(told.status.conditions, PolicyCondition.CONSOLIDATED) is None


def test_its_events_say_what_a_pod_moves_for() -> None:
    facts = plan(MOVE, TO_N2, phase=None, **EMPTYING)
    (proposed,) = announcements(facts, Advance(PlanPhase.PROPOSED, PlanReason.AWAITING_APPROVAL))
    words = "would move it from node n1 to node n2 so that node n1 becomes empty, and waits for approval"
    assert proposed.note == f"plan {facts.name} {words}"


def test_the_nodes_are_written_into_the_plan_and_closed_by_the_extender() -> None:
    written = made("default-1", {}).to_document()
    assert written["spec"]["empties"] == ["n1"]
    assert plan_facts(PackingPlan.parse(written)).empties == ("n1",)
    assert read_plan(json.dumps(written).encode()).slots.closed == {"n1"}
