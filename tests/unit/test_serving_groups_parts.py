"""Replicas of which a part holds room: after a bounded time they give it up, and say so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.serving_children import NOW, pod
from harness.serving_groups import STEP_SECONDS, GroupWorld, grouped, member, wide
from stowage.api.durations import instant
from stowage.api.model_service import ModelService
from stowage.api.model_service_status import GroupStatus, ModelServiceStatus, RoleStatus, VariantStatus
from stowage.decide.serving.group_children import template_hash
from stowage.decide.serving.group_facts import groups_of
from stowage.decide.serving.group_parts import IN_PART_SECONDS, OTHERS_SECONDS, in_part_since, spread
from stowage.decide.serving.service_facts import PodFact

KEY = ("unified", "default")


def placed(at: float, **facts: object) -> PodFact:
    return replace(pod(created_at=NOW, scheduled_at=at, is_ready=False, ready_at=None), **facts)


WAITS = pod(node=None, phase="Pending", is_ready=False, created_at=NOW, scheduled_at=None)


@pytest.mark.parametrize(
    ("pods", "since"),
    [
        pytest.param([], None, id="none is there"),
        pytest.param([WAITS, WAITS], None, id="all wait, and hold nothing"),
        pytest.param([placed(NOW + 9), placed(NOW + 9)], None, id="all have a node"),
        pytest.param([placed(NOW + 9), WAITS], NOW + 9, id="one has: since it was placed"),
        pytest.param([placed(NOW + 9, scheduled_at=None), WAITS], NOW, id="nobody tells when: since it was made"),
        pytest.param([placed(NOW + 9)], None, id="the other one is about to be made"),
    ],
)
def test_when_a_replica_of_two_pods_is_there_in_part(pods: list[PodFact], since: float | None) -> None:
    assert in_part_since(2, pods, is_refused=False) == since


@pytest.mark.parametrize(("one", "since"), [(placed(NOW + 9), NOW + 9), (WAITS, NOW)], ids=["a node", "quota"])
def test_one_of_two_pods_holds_what_the_other_one_was_refused(one: PodFact, since: float) -> None:
    assert in_part_since(2, [one], is_refused=True) == since


def test_what_quota_allows_in_part_is_given_back() -> None:
    record = GroupStatus(ordinal=0, size=2, since=instant(NOW - 400.0))
    roles = (RoleStatus(name="unified", desired=1, variants=(VariantStatus(name="default", groups=(record,)),)),)
    of = grouped().model_copy(update={"status": ModelServiceStatus(roles=roles)})
    hash_ = template_hash(of.spec.roles[0].variants[0])
    members = [member(hash_=hash_, created_at=NOW - 390.0, scheduled_at=NOW - 389.0)]
    quota = {KEY: "exceeded quota: gpus"}
    for refused, reason, strays in ((dict[tuple[str, str], str](), None, 0), (quota, "PlacedInPart", 1)):
        found = groups_of(of, members, NOW, failures=refused)
        (replica,) = found.replicas[KEY]
        assert (replica.record.reason, len(found.strays)) == (reason, strays)


def available(of: ModelService) -> tuple[str, str]:
    found = next(one for one in of.status.conditions if one.type == "Available")
    return str(found.reason), found.message


def test_a_part_is_let_go_after_five_minutes_and_the_whole_is_tried_again() -> None:
    world, of = GroupWorld(nodes=1), grouped(replicas=1)
    held, told = [], []
    for _ in range(60):
        of, _ = world.look(of)
        held.append(any(one.pod.node is not None for one in world.live.values()))
        told.append(available(of))
    first = held.index(False, 1)
    assert IN_PART_SECONDS <= first * STEP_SECONDS <= IN_PART_SECONDS + 3 * STEP_SECONDS
    assert True in held[first:], "it is tried again"
    assert all(reason == "ReplicasUnplaced" for reason, _ in told[first:])
    assert "of its 2 pods 1 had a node; they were let go" in told[first][1]
    (record,) = of.status.roles[0].variants[0].groups
    assert (record.reason, record.restarts) == ("PlacedInPart", record.attempt)
    world.nodes = 2
    for _ in range(40):
        of, _ = world.look(of)
    assert available(of)[0] == "ReplicasReady"


def test_of_two_that_hold_what_one_needs_the_younger_lets_go_first() -> None:
    world, of = GroupWorld(nodes=2), grouped(replicas=2)
    of, _ = world.look(of)
    first, second = (f"llama-unified-default-{ordinal}-0-{index}" for ordinal, index in ((0, 1), (1, 0)))
    known = world.members[first].pod
    world.change(second, node=known.node, phase="Running", scheduled_at=known.scheduled_at)
    world.change(first, node=None, phase="Pending", scheduled_at=None)
    began = world.now
    while not of.status.roles[0].ready:
        of, _ = world.look(of)
    assert OTHERS_SECONDS < world.now - began < IN_PART_SECONDS
    assert {one.ordinal for one in world.live.values() if one.pod.is_ready} == {0}
    for _ in range(30):
        of, _ = world.look(of)
        assert of.status.roles[0].ready == 1, "who serves is left alone"


def test_services_that_let_go_together_try_again_one_by_one() -> None:
    waits = {round(spread(f"team/llama-{number}/unified/default"), 3) for number in range(20)}
    assert len(waits) == 20
    assert all(1.0 <= one <= 2.0 for one in waits)


def test_a_replica_that_was_whole_is_not_there_in_part() -> None:
    world, of = GroupWorld(nodes=3), grouped(wide(size=3), replicas=1)
    for _ in range(40):
        of, _ = world.look(of)
    assert {one.attempt for one in world.live.values()} == {0}


def test_a_replica_that_gave_up_comes_back_with_as_many_pods_as_are_asked_for_by_then() -> None:
    world, of = GroupWorld(nodes=1), grouped(replicas=1)
    while world.live or not world.made:
        of, _ = world.look(of)
    world.nodes = 3
    of = grouped(wide(size=3), replicas=1).model_copy(update={"status": of.status})
    for _ in range(60):
        of, _ = world.look(of)
    assert len(world.live) == 3
    assert available(of)[0] == "ReplicasReady"
