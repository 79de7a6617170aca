"""Services in rare states: what must not go wrong then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.serving_children import (
    NOW,
    PERFORMANCE,
    Told,
    deployment,
    pod,
    quiet_view,
    role,
    service,
    starting,
    unplaced,
    variant,
)
from stowage.api.resource import InvalidObjectError
from stowage.decide.serving.drain import GONE_COST, LEAVING_COST
from stowage.decide.serving.pod_patches import pod_patches
from stowage.decide.serving.service_facts import ChildRef, PodFact, written
from unit.serving_steps import PODS, ZERO, busy, condition, replicas, stepped, told

TWO = [variant("cheap", costPerHour="1"), variant("dear", costPerHour="4")]


def test_variants_that_were_renamed_often_do_not_fill_the_status() -> None:
    of = service(status=told(1))
    for number in range(40):
        name = f"v{number}"
        of = of.model_copy(update={"spec": service(role(variants=[variant(name)])).spec})
        step = stepped(of, [pod(0, variant=name)], [deployment(1, variant=name)])
        of = of.model_copy(update={"status": step.status})
    assert of.status.cold_start is not None
    assert [one.variant for one in of.status.cold_start.variants] == ["v39"]


def test_a_schedule_of_a_role_that_is_not_there_wakes_nothing_and_is_named() -> None:
    elsewhere = {"name": "morning", "role": "gone", "start": "08:00", "end": "09:00", "min": 2}
    of = service(scaling=ZERO | {"schedules": [elsewhere]}, status=told(1))
    step = stepped(of, PODS[:1], [deployment(1)], {"unified": Told(quiet_view(PODS[:1], 1))})
    assert step.status.roles[0].desired == 1
    assert "scaling.schedules[morning]" in condition(step, "Accepted").message


def test_one_that_has_left_the_count_and_is_still_seen_makes_no_other_leave() -> None:
    """The number was lowered a moment ago; the ReplicaSet controller has not deleted the pod yet."""
    gone = pod(1, takes_requests=False, draining_since=NOW - 60.0, deletion_cost=GONE_COST)
    broken = starting(3, trouble="CrashLoopBackOff", restarts=3)
    of = service(status=told(3, variants=[("default", 3)]), replicas=3)
    step = stepped(of, [pod(0), gone, pod(2), broken], [deployment(3)])
    assert replicas(step) == {"unified-default": 3}
    assert not step.drain
    assert step.status.roles[0].desired == 3


def test_one_that_has_left_the_count_and_is_still_seen_is_not_replaced_by_another_variant() -> None:
    gone = pod(1, variant="dear", takes_requests=False, draining_since=NOW - 60.0, deletion_cost=GONE_COST)
    pods = [pod(0, variant="cheap"), pod(0, variant="dear"), gone]
    of = service(role(variants=TWO), replicas=2, status=told(2, variants=[("cheap", 1), ("dear", 1)]))
    step = stepped(of, pods, [deployment(1, variant="cheap"), deployment(1, variant="dear")])
    assert replicas(step) == {"unified-cheap": 1, "unified-dear": 1}


def test_the_new_pod_of_a_stalled_roll_out_keeps_its_place_in_the_service() -> None:
    """Nothing shall shrink; once that pod answers, its controller takes an old one away at once."""
    step = stepped(
        service(status=told(2), replicas=2),
        [pod(0), pod(1), starting(2)],
        [deployment(2, is_settled=False, is_stalled=True)],
    )
    assert not step.drain
    assert not step.cost


STALLED = [
    pytest.param(["old", "old", "old"], 1, id="no new pod answers: the controller takes old ones"),
    pytest.param(["old", "old", "new"], 0, id="some do: it may take any"),
]


@pytest.mark.parametrize(("templates", "leave"), STALLED)
def test_a_roll_out_that_is_stuck_loses_nobody_that_was_not_asked_to_leave(templates: list[str], leave: int) -> None:
    pods = [pod(number, template=template) for number, template in enumerate(templates)]
    broken = starting(9, trouble="ImagePullBackOff", phase="Pending", template="new")
    children = [deployment(3, is_settled=False, is_stalled=True)]
    step = stepped(service(status=told(3), replicas=2), [*pods, broken], children)
    assert len(step.drain) == leave
    assert broken.ref not in step.cost
    assert replicas(step) == {"unified-default": 3}
    gone = replace(pods[0], takes_requests=False, draining_since=NOW - 400.0, deletion_cost=GONE_COST)
    last = stepped(service(status=told(2), replicas=2), [gone, *pods[1:], broken], children)
    assert replicas(last) == {"unified-default": 3 - leave}


def test_a_paused_service_stays_as_it_is_whatever_its_budget_pays_for() -> None:
    of = service(scaling={"paused": True, "budget": {"gpus": 4}}, status=told(3))
    step = stepped(of, PODS, [deployment(3)])
    assert not step.drain
    assert step.status.roles[0].reason == "Paused"


@pytest.mark.parametrize("paused", [False, True])
def test_a_number_by_hand_is_held_by_the_budget_and_the_condition_says_so(paused: bool) -> None:
    roles = [role("first"), role("second")]
    status = {"roles": [{"name": "first", "desired": 1}, {"name": "second", "desired": 2}]}
    scaling = {"paused": paused, "budget": {"gpus": 10}}
    step = stepped(service(*roles, scaling=scaling, replicas=8, status=status))
    desired = {one.name: one.desired for one in step.status.roles}
    assert desired == ({"first": 3, "second": 2} if paused else {"first": 4, "second": 1})
    assert step.status.roles[0].reason == "BudgetReached"
    words = f"spec.replicas fixes first at 8, and {desired['first']} are asked for: BudgetReached"
    assert condition(step, "Scaling").message == words


def test_replicas_of_what_is_gone_from_the_spec_are_counted_and_paid_for() -> None:
    priced = role("main", variants=[variant(costPerHour="3")])
    status = told(3, "unified") | {"selector": SELECTS + "unified"}
    old = [pod(number, gpus=4) for number in range(3)]
    step = stepped(service(priced, status=status), [*old, starting(0, role="main", gpus=2)], [deployment(3)])
    assert step.status.replicas == 3, "those that the selector of /scale finds"
    assert step.status.spend is not None
    assert (step.status.spend.gpus, step.status.spend.cost_per_hour) == (3 * 4 + 2, None)
    alone = stepped(service(priced, status=status), [pod(0, role="main", gpus=2)], [deployment(3)])
    assert alone.status.spend is not None
    assert (alone.status.spend.gpus, alone.status.spend.cost_per_hour) == (2, "3")


def test_two_variants_whose_deployments_would_have_one_name_are_refused() -> None:
    with pytest.raises(InvalidObjectError, match="must be unique"):
        service(role("a", variants=[variant("b-c")]), role("a-b", variants=[variant("c")]))


SELECTS = "stowage.dev/service=llama,stowage.dev/role="
ANSWER = [pod(number, role="main") for number in range(3)]
RENAMED = [
    pytest.param([], "unified", "unified", 0, id="none of the new name yet"),
    pytest.param([starting(0, role="main"), *ANSWER[1:]], "unified", "unified", 0, id="not all yet"),
    pytest.param(ANSWER, "unified", "main", 0, id="all: the Service is turned over"),
    pytest.param(ANSWER, "main", "main", 3, id="and then the old ones leave"),
]


@pytest.mark.parametrize(("new", "before", "after", "leave"), RENAMED)
def test_a_first_role_that_is_renamed_answers_until_the_new_one_does(
    new: list[PodFact], before: str, after: str, leave: int
) -> None:
    own = ChildRef("Service", "llama-unified", "s")
    status = told(3, "unified" if before == "unified" else "main") | {"selector": SELECTS + before}
    step = stepped(service(role("main"), status=status), [*PODS, *new], [deployment(3)], others=(own,))
    assert replicas(step) == {"main-default": 3}, "as many as it had"
    assert step.apply[0]["spec"]["selector"]["stowage.dev/role"] == after
    assert step.status.selector == SELECTS + after
    assert len(step.drain) == leave
    assert not step.delete


PAIR = [pod(0, role="prefill"), pod(0, role="decode")]
HALF = [PAIR[0], starting(0, role="decode")]


@pytest.mark.parametrize(("new", "answers"), [(HALF, "unified"), (PAIR, "prefill")], ids=["one half", "both halves"])
@pytest.mark.parametrize("is_kept", [False, True], ids=["and is gone from the spec", "and stays behind them"])
def test_whole_requests_are_answered_as_before_until_prefill_and_decode_both_do(
    new: list[PodFact], answers: str, is_kept: bool
) -> None:
    roles = [role("prefill"), role("decode"), *([role()] if is_kept else [])]
    of = service(*roles, status=told(1) | {"selector": SELECTS + "unified"})
    step = stepped(of, [*PODS[:1], *new], [deployment(1)])
    assert step.apply[0]["spec"]["selector"]["stowage.dev/role"] == answers
    assert not step.drain


def test_a_role_that_is_taken_away_beside_the_first_one_leaves_at_once_and_never_answers_for_it() -> None:
    other = pod(0, role="other")
    of = service(status=told(3) | {"selector": SELECTS + "unified"})
    step = stepped(of, [*PODS[1:], other], [deployment(3), deployment(1, role="other")])
    assert step.drain == (other.ref,)
    assert step.apply[0]["spec"]["selector"]["stowage.dev/role"] == "unified"


def test_a_time_zone_that_nobody_knows_is_named_and_stops_nothing_else() -> None:
    mars = {"name": "mars", "timeZone": "Mars/Base", "start": "08:00", "end": "09:00", "min": 2}
    step = stepped(service(scaling={"schedules": [mars]}, status=told(3)), PODS, [deployment(3)])
    assert replicas(step) == {"unified-default": 3}
    assert "scaling.schedules[mars] (there is no time zone Mars/Base)" in condition(step, "Accepted").message


def test_a_role_whose_variant_is_renamed_is_available_by_those_of_the_old_name() -> None:
    of = service(role(least=3, variants=[variant("new")]), status=told(3))
    step = stepped(of, PODS, [deployment(3)])
    assert condition(step, "Available").status == "True"
    assert step.status.roles[0].ready == 3


@pytest.mark.parametrize(("is_settled", "grows"), [(False, True), (True, False)])
def test_a_roll_out_that_fails_does_not_keep_those_that_answer_from_growing(is_settled: bool, grows: bool) -> None:
    of = service(role(variants=[variant(profile="p")]), status=told(2))
    pods = [*PODS[:2], starting(4, trouble="ImagePullBackOff", phase="Pending")]
    children = [deployment(2, is_settled=is_settled)]
    step = stepped(of, pods, children, {"unified": busy(60.0, 2)}, profiles={"p": PERFORMANCE})
    assert (step.status.roles[0].desired > 2) is grows


OLD = [pod(0), pod(1)]


@pytest.mark.parametrize(
    ("extra", "known", "reason", "words"),
    [
        pytest.param(
            [starting(9, trouble="ImagePullBackOff")], {}, "ReplicasFailing", "9 (ImagePullBackOff)", id="image"
        ),
        pytest.param(
            [starting(9, trouble="ErrImagePull", created_at=NOW - 4000.0)],
            {},
            "ReplicasFailing",
            "9 (ErrImagePull)",
            id="the old version grew since",
        ),
        pytest.param([starting(9, restarts=3)], {}, "ReplicasFailing", "9 (3 restarts)", id="between two crashes"),
        pytest.param([], {"failure": "exceeded quota: gpus"}, "QuotaFull", "exceeded quota: gpus", id="quota"),
        pytest.param([], {"failure": "denied by a webhook"}, "ReplicasFailing", "denied by a webhook", id="refused"),
        pytest.param([unplaced(9, seconds=130.0)], {}, "ReplicasUnplaced", "1 without a node", id="no room for long"),
        pytest.param([unplaced(9, seconds=30.0)], {}, "ReplicasReady", "", id="no room yet"),
        pytest.param([starting(9)], {}, "ReplicasReady", "", id="it starts"),
    ],
)
def test_what_can_not_start_beside_those_that_answer_is_told(
    extra: list[PodFact], known: dict[str, Any], reason: str, words: str
) -> None:
    """A new version rolls out: the old one answers on, so the service is available, and somebody has to look."""
    of = service(role(least=2, variants=[variant(profile="p")]), status=told(2))
    children = [deployment(2, is_settled=False, **known)]
    step = stepped(of, [*OLD, *extra], children, {"unified": busy(1.0, 2)}, profiles={"p": PERFORMANCE})
    found = condition(step, "Available")
    assert (found.status, found.reason) == ("True", reason)
    assert words in found.message
    assert replicas(step) == {"unified-default": 2}
    if words:
        assert (step.status.reason, step.status.message) == (reason, found.message)


def test_a_change_is_told_for_long_whatever_reasons_to_stay_alternate() -> None:
    of = service(replicas=4, status=told(3))
    for number in range(40):
        step = stepped(of, now=NOW + number)
        of = of.model_copy(update={"status": step.status, "spec": service(scaling={"paused": number % 2 == 0}).spec})
    kept = of.status.decisions
    assert len(kept) == 10
    assert [(one.from_, one.to) for one in kept if one.from_ != one.to] == [(3, 4)]
    assert kept[-1].at.timestamp() == NOW + 39


def test_a_drain_that_is_said_to_begin_in_a_year_begins_now() -> None:
    """By hand, or by a leader whose clock was wrong: it would never be over."""
    leaves = pod(0, takes_requests=False, draining_since=NOW + 365 * 86_400.0, deletion_cost=LEAVING_COST)
    step = stepped(service(replicas=2, status=told(2)), [leaves, *PODS[1:]], [deployment(3)])
    assert step.drain == (leaves.ref,)
    assert pod_patches(step, NOW)[leaves.ref]["metadata"]["annotations"] == {"stowage.dev/draining-since": written(NOW)}
    soon = replace(leaves, draining_since=NOW + 5.0)
    assert not stepped(service(replicas=2, status=told(2)), [soon, *PODS[1:]], [deployment(3)]).drain


def test_a_variant_that_is_said_to_be_out_of_stock_for_ever_is_not() -> None:
    until = {"stowage.dev/out-of-stock-until": "2999-01-01T00:00:00Z"}
    children = [deployment(0, variant="cheap", annotations=until), deployment(0, variant="dear")]
    step = stepped(service(role(least=2, variants=TWO), status=told(2)), (), children)
    assert replicas(step) == {"unified-cheap": 2, "unified-dear": 0}
