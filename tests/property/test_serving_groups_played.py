"""Replicas of several pods in a played cluster: whatever breaks and is asked for, they are whole in the end."""

from __future__ import annotations

from collections import defaultdict
from random import Random

import hypothesis.strategies as st
from hypothesis import given, settings

from harness.serving_children import role, service
from harness.serving_groups import GroupWorld, grouped, wide
from stowage.api.model_service import ModelService
from stowage.decide.serving.group_children import template_hash
from stowage.decide.serving.group_facts import MemberFact

LONG_STEPS = 70
"""So many steps are longer than any drain, start or wait between two attempts."""
CHANGES = st.one_of(
    st.tuples(st.just("count"), st.integers(0, 5)),
    st.tuples(st.just("template"), st.integers(1, 3)),
    st.tuples(st.just("size"), st.integers(2, 3)),
    st.tuples(st.just("warm"), st.integers(0, 2)),
    st.tuples(st.sampled_from(["delete", "end", "restart", "vanish"]), st.integers(0, 20)),
)


def asking(of: ModelService, count: int, image: int, size: int, warm: int) -> ModelService:
    variants = [wide(image=f"vllm:{image}", size=size)]
    scaling = {"scaleDown": {"drainDeadline": "20s"}}
    fresh = service(role(most=8, variants=variants) | {"warm": {"pods": warm}}, replicas=count, scaling=scaling)
    return fresh.model_copy(update={"status": of.status})


def meet(world: GroupWorld, what: str, number: int) -> None:
    """What becomes of one of the pods."""
    names = sorted(world.live)
    if not names:
        return
    name = names[number % len(names)]
    if what == "delete":
        world.change(name, is_terminating=True)
    elif what == "end":
        world.ends(name)
    elif what == "restart":
        world.change(name, restarts=world.members[name].pod.restarts + 1)
    else:
        del world.members[name]


def by_replica(world: GroupWorld) -> dict[tuple[int, int], list[MemberFact]]:
    found: dict[tuple[int, int], list[MemberFact]] = defaultdict(list)
    for one in world.live.values():
        found[one.ordinal, one.attempt].append(one)
    return found


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(CHANGES, st.integers(1, 8)), min_size=1, max_size=8))
def test_whatever_breaks_as_many_whole_replicas_as_asked_for_are_there_in_the_end_and_rest(
    story: list[tuple[tuple[str, int], int]],
) -> None:
    world, known = GroupWorld(), {"count": 2, "template": 1, "size": 2, "warm": 0}
    of = grouped(replicas=2)
    for (what, number), steps in story:
        if what in known:
            known[what] = number
        else:
            meet(world, what, number)
        of = asking(of, known["count"], known["template"], known["size"], known["warm"])
        for _ in range(steps):
            of, _ = world.look(of)
            for members in by_replica(world).values():
                assert len({one.template_hash for one in members}) == 1, "no replica is of two templates"
                assert len({one.index for one in members}) == len(members)
    for _ in range(LONG_STEPS):
        of, step = world.look(of)
    replicas = by_replica(world)
    spares = known["warm"] if known["count"] else 0
    assert len(replicas) == known["count"] + spares
    assert sum(one.pod.is_spare for one in world.live.values() if one.index == 0) == spares
    assert all(len(members) == known["size"] for members in replicas.values())
    assert all(one.pod.is_ready for one in world.live.values())
    assert {one.template_hash for one in world.live.values()} <= {_newest(of)}
    before = set(world.members)
    for _ in range(10):
        of, step = world.look(of)
        assert (set(world.members), step.groups.create, step.groups.delete) == (before, (), ())
        assert not {*step.drain, *step.undrain, *step.cost}
    assert of.status.roles[0].desired == of.status.roles[0].ready == known["count"]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(2, 4), st.integers(0, 3))
def test_a_new_template_costs_no_replica_and_one_more_at_most(count: int, size: int, spare_nodes: int) -> None:
    world = GroupWorld(nodes=(count + 1) * size + spare_nodes)
    of = grouped(wide(size=size), replicas=count)
    for _ in range(10):
        of, _ = world.look(of)
    of = grouped(wide(size=size, image="vllm:2"), replicas=count).model_copy(update={"status": of.status})
    for _ in range(12 * count):
        of, _ = world.look(of)
        first = [one.pod for one in world.live.values() if one.index == 0]
        assert sum(one.is_ready and one.takes_requests for one in first) >= count
        assert len(by_replica(world)) <= count + 1
    assert {one.template_hash for one in world.live.values()} == {_newest(of)}
    assert len(by_replica(world)) == count


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(2, 3), st.integers(1, 8), st.randoms(use_true_random=False))
def test_pods_that_are_placed_in_any_order_are_as_many_whole_replicas_as_there_is_room_for(
    count: int, size: int, nodes: int, order: Random
) -> None:
    world, of = GroupWorld(nodes=0), grouped(wide(size=size), replicas=count)
    of, _ = world.look(of)
    world.nodes = nodes
    for _ in range(90):
        names = list(world.members)
        order.shuffle(names)
        world.members = {name: world.members[name] for name in names}
        of, _ = world.look(of)
    assert of.status.roles[0].ready == min(count, nodes // size)


def _newest(of: ModelService) -> str:
    return template_hash(of.spec.roles[0].variants[0])
