"""Replicas of several pods on nodes that are being emptied: they move before they are evicted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import replace as replaced

from harness.serving_groups import GroupWorld, grouped, wide
from stowage.api.model_service import ModelService
from stowage.decide.serving.group_facts import MemberFact
from stowage.decide.serving.group_nodes import has_to_leave
from stowage_scheduler.cluster import Effect, Taint, Toleration
from unit.builders import node, pod

CORDON = "node.kubernetes.io/unschedulable"


@pytest.mark.parametrize(
    ("facts", "tolerations", "leaves"),
    [
        pytest.param({}, (), False, id="nothing"),
        pytest.param({"unschedulable": True}, (), True, id="a cordon"),
        pytest.param({"taints": (Taint(CORDON, Effect.NO_SCHEDULE),)}, (), True, id="the taint of a cordon alone"),
        pytest.param({"taints": (Taint("karpenter.sh/disrupted", Effect.NO_SCHEDULE),)}, (), True, id="by Karpenter"),
        pytest.param({"taints": (Taint("dedicated", Effect.NO_SCHEDULE),)}, (), False, id="a taint that means others"),
        pytest.param(
            {"unschedulable": True}, (Toleration(CORDON, "Exists"),), False, id="a cordon that keeps it from nothing"
        ),
    ],
)
def test_which_pods_have_to_leave(facts: dict[str, object], tolerations: tuple[Toleration, ...], leaves: bool) -> None:
    own = replaced(pod("a", "n"), tolerations=tolerations)
    assert has_to_leave(own, replaced(node("n"), **facts)) is leaves


def test_a_pod_without_a_node_stays() -> None:
    assert not has_to_leave(pod("a"), None)


def serving(world: GroupWorld) -> list[MemberFact]:
    first = [one for one in world.live.values() if one.index == 0]
    return [one for one in first if one.pod.is_ready and one.pod.takes_requests]


def settled(count: int, nodes: int) -> tuple[GroupWorld, ModelService]:
    world, of = GroupWorld(nodes=nodes), grouped(replicas=count)
    for _ in range(8):
        of, _ = world.look(of)
    assert len(serving(world)) == count
    return world, of


@pytest.mark.parametrize("index", [0, 1], ids=["the first pod's node", "a worker's node"])
def test_another_replica_answers_before_one_leaves_a_node_that_is_emptied(index: int) -> None:
    world, of = settled(count=2, nodes=7)
    name = f"llama-unified-default-0-0-{index}"
    world.emptied = {name}
    drained = []
    for _ in range(14):
        of, step = world.look(of)
        drained += [one.name for one in step.drain]
        assert len(serving(world)) >= 2
    assert drained == ["llama-unified-default-0-0-0"], "it ended its requests, and the other replica stayed"
    assert name not in world.members
    assert sorted({one.ordinal for one in world.live.values()}) == [1, 2]
    assert of.status.roles[0].ready == 2


def test_without_room_for_another_one_replica_leaves_alone_and_no_second_one() -> None:
    world, of = settled(count=2, nodes=4)
    world.emptied = {"llama-unified-default-0-0-0", "llama-unified-default-1-0-1"}
    seen = []
    for _ in range(40):
        of, step = world.look(of)
        seen.append((len(serving(world)), tuple(one.name for one in step.drain)))
    early = seen[:8]
    assert all(count == 2 for count, _ in early), "nodes that are added meanwhile are waited for"
    assert [names for _, names in seen if names] == [("llama-unified-default-0-0-0",)]
    assert {count for count, _ in seen} == {2, 1}, "one replica less at most, as for a Deployment"
    world.nodes += 2
    for _ in range(40):
        of, _ = world.look(of)
        assert serving(world)
    assert len(serving(world)) == 2
    assert not world.emptied & world.members.keys()


def test_one_that_never_answered_makes_room_for_another_one_at_once() -> None:
    world, of = GroupWorld(nodes=4), grouped(replicas=1)
    of, _ = world.look(of)
    of, _ = world.look(of)
    world.emptied = {"llama-unified-default-0-0-1"}
    for _ in range(2):
        of, step = world.look(of)
    assert {one.name for one in step.groups.delete} == {f"llama-unified-default-0-0-{index}" for index in range(2)}
    assert {one.ordinal for one in world.live.values()} == {1}


def test_a_node_that_is_taken_back_keeps_its_replica() -> None:
    world, of = settled(count=1, nodes=6)
    world.emptied = {"llama-unified-default-0-0-0"}
    for _ in range(2):
        of, _ = world.look(of)
    world.emptied = set()
    world.members = {name: replace(one, has_to_leave=False) for name, one in world.members.items()}
    for _ in range(10):
        of, _ = world.look(of)
    assert {one.ordinal for one in world.live.values()} == {0}
    assert len(serving(world)) == 1


def test_workers_stay_while_a_first_pod_that_was_deleted_ends_its_requests() -> None:
    world, of = settled(count=1, nodes=6)
    world.change("llama-unified-default-0-0-0", is_terminating=True)
    before = dict(world.members)
    of, step = world.look(of)
    assert (step.groups.delete, {one.attempt for one in step.groups.create}) == ((), {1})
    world.members |= {name: one for name, one in before.items() if one.index == 0}
    world.change("llama-unified-default-0-0-0", is_ready=False)
    of, step = world.look(of)
    assert [one.name for one in step.groups.delete] == ["llama-unified-default-0-0-1"], "it does not answer any more"


def test_a_new_template_waits_for_room_as_long_as_it_takes() -> None:
    world, of = settled(count=2, nodes=4)
    of = grouped(wide(image="vllm:2"), replicas=2).model_copy(update={"status": of.status})
    for _ in range(30):
        of, _ = world.look(of)
        assert len(serving(world)) == 2
