"""One look at a service: which variants its replicas are of, and what becomes of those that are gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.serving_children import (
    NOW,
    deployment,
    pod,
    role,
    service,
    starting,
    unplaced,
    variant,
)
from stowage.api.model_service_reasons import ServiceReason
from stowage.decide.serving.service_facts import ChildRef, PodFact
from unit.serving_steps import condition, replicas, stepped, told

TWO = [variant("cheap", costPerHour="1"), variant("dear", costPerHour="4")]


def test_what_finds_no_node_for_long_is_made_of_another_variant() -> None:
    of = service(role(least=3, variants=TWO), status=told(3))
    pods = [pod(0, variant="cheap"), *(unplaced(number, seconds=130.0, variant="cheap") for number in (1, 2))]
    step = stepped(of, pods, [deployment(3, variant="cheap"), deployment(0, variant="dear")])
    found = replicas(step)
    assert found["unified-dear"] == 2
    annotations = next(one for one in step.apply if one["metadata"]["name"] == "llama-unified-cheap")["metadata"]
    assert annotations["annotations"] == {"stowage.dev/out-of-stock-until": "1970-01-12T13:56:40Z"}
    assert {one.name for one in step.drain} == {"unified-cheap-1", "unified-cheap-2"}
    early = [pod(0, variant="cheap"), *(unplaced(number, seconds=110.0, variant="cheap") for number in (1, 2))]
    waits = stepped(of, early, [deployment(3, variant="cheap"), deployment(0, variant="dear")])
    assert replicas(waits) == {"unified-cheap": 3, "unified-dear": 0}


def test_a_variant_out_of_stock_is_not_asked_again_for_a_while() -> None:
    of = service(role(least=4, variants=TWO), status=told(4))
    pods = [pod(0, variant="cheap"), pod(1, variant="dear"), pod(2, variant="dear")]
    for until, dear in (("1970-01-12T13:50:00Z", 3), ("1970-01-12T13:40:00Z", 2)):
        known = {"stowage.dev/out-of-stock-until": until}
        children = [deployment(1, variant="cheap", annotations=known), deployment(2, variant="dear")]
        assert replicas(stepped(of, pods, children))["unified-dear"] == dear


def test_without_another_variant_replicas_wait_for_a_node() -> None:
    pods = [pod(0), unplaced(1, seconds=900.0)]
    step = stepped(service(role(least=2), status=told(2)), pods, [deployment(2)])
    assert replicas(step) == {"unified-default": 2}
    assert condition(step, "Available").reason == ServiceReason.REPLICAS_UNPLACED
    assert "Insufficient nvidia.com/gpu" in condition(step, "Available").message


def test_replicas_that_somebody_else_writes_are_left_and_reported() -> None:
    of = service(role(least=2, variants=TWO), status=told(4, variants=[("cheap", 3), ("dear", 1)]))
    children = [
        deployment(7, variant="cheap", replicas_manager="kube-controller-manager"),
        deployment(1, variant="dear"),
    ]
    pods = [pod(number, variant="cheap") for number in range(7)]
    step = stepped(of, [*pods, pod(0, variant="dear")], children)
    assert replicas(step)["unified-cheap"] is None
    assert not [one for one in step.drain if "cheap" in one.name]
    accepted = condition(step, "Accepted")
    assert (accepted.status, accepted.reason) == ("False", ServiceReason.FOREIGN_EDIT)
    assert "llama-unified-cheap (kube-controller-manager)" in accepted.message
    wanted = {one.name: one.desired for one in step.status.roles[0].variants}
    assert wanted == {"cheap": 3, "dear": 1}, "what the Deployment is to be scaled to, to be followed again"


def test_a_variant_that_is_gone_drains_before_its_deployment_is_deleted() -> None:
    old = deployment(1, variant="old")
    stays = pod(0, variant="old")
    step = stepped(service(status=told(1)), [stays, pod(0)], [deployment(1), old])
    assert step.drain == (stays.ref,)
    assert not step.delete
    gone = replace(stays, takes_requests=False, draining_since=NOW - 400.0, deletion_cost=-2000)
    last = stepped(service(status=told(1)), [gone, pod(0)], [deployment(1), old])
    assert last.delete == (ChildRef("Deployment", "llama-unified-old", "uid-llama-unified-old"),)


SHRINKS = [
    pytest.param({}, 2, id="one of three has ended"),
    pytest.param({"is_settled": False}, None, id="in a roll-out its controller may take another one"),
    pytest.param({"replicas_manager": "hpa"}, None, id="somebody else writes the number"),
]


@pytest.mark.parametrize(("facts", "asked"), SHRINKS)
def test_a_deployment_of_a_variant_that_is_gone_gives_up_the_room_of_replicas_that_have_ended(
    facts: dict[str, Any], asked: int | None
) -> None:
    old = [pod(number, variant="old") for number in range(3)]
    old[1] = replace(old[1], takes_requests=False, draining_since=NOW - 400.0, deletion_cost=-2000)
    children = [deployment(3), deployment(3, variant="old", **facts)]
    step = stepped(service(role(least=3), status=told(3)), [*old, pod(0)], children)
    child = ChildRef("Deployment", "llama-unified-old", "uid-llama-unified-old")
    assert (step.lower, step.delete) == ({} if asked is None else {child: asked}, ())


MOVES = [
    pytest.param([starting(0)], 1, 0, id="the new one starts: the old one stays"),
    pytest.param([pod(0)], 1, 1, id="the new one answers: the old one leaves"),
    pytest.param([pod(0), starting(1)], 2, 1, id="of two old ones leave as many as new ones answer"),
]


@pytest.mark.parametrize(("new", "desired", "leave"), MOVES)
def test_replicas_of_a_variant_that_is_gone_stay_until_others_answer(
    new: list[PodFact], desired: int, leave: int
) -> None:
    old = [pod(number, variant="old") for number in range(desired)]
    children = [deployment(desired), deployment(desired, variant="old")]
    of = service(role(least=desired), status=told(desired))
    step = stepped(of, [*old, *new], children)
    assert len(step.drain) == leave
    assert not step.delete


def test_children_of_a_role_that_is_gone_are_deleted() -> None:
    others = (ChildRef("Service", "llama", "s"), ChildRef("Service", "llama-old", "t"))
    step = stepped(service(), others=others)
    assert step.delete == (others[1],)
