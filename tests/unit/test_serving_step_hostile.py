"""Services in rare states: what must not go wrong then."""

from __future__ import annotations

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
from stowage.decide.serving.drain import GONE_COST
from stowage.decide.serving.service_facts import ChildRef, PodFact
from stowage.decide.serving.zero import is_woken_by_schedule
from unit.test_serving_step import PODS, ZERO, busy, condition, replicas, stepped, told

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
    assert not is_woken_by_schedule(of.spec)
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


def test_a_paused_service_stays_as_it_is_whatever_its_budget_pays_for() -> None:
    of = service(scaling={"paused": True, "budget": {"gpus": 4}}, status=told(3))
    step = stepped(of, PODS, [deployment(3)])
    assert not step.drain
    assert step.status.roles[0].reason == "Paused"


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
