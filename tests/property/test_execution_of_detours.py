"""Moves over temporary places, carried out in a simulated cluster: with crashes, lost pods and owners that change."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from msgspec import structs

from harness.facts import OPTIONS
from property.test_detours import a_ring
from property.test_execution_of_swaps import COVERED, GuardedWorld, guarded, live_to_the_end
from property.test_order_of_moves import Exchange, Thing
from stowage.api.packing_plan import PlanSteering
from stowage.api.packing_plan_status import SlotState, StepState
from stowage.api.reasons import StepReason
from stowage.decide.document import plan_document
from stowage.decide.execution import Advance
from stowage.decide.plan_facts import Attempt
from stowage.decide.plan_status import plan_facts
from stowage_scheduler.assign import changes
from stowage_scheduler.build import build
from stowage_scheduler.cluster import DisruptionBudget, Snapshot
from stowage_scheduler.moves import UnorderableError, order
from stowage_scheduler.packing import Action, Packing, Step
from stowage_scheduler.placement import Placement
from stowage_scheduler.slots import Slot, SlotClass
from unit.builders import NOW, evict, node, plan, pod, policy_resource, ref, replica_set, slot

# two pods under one disruption change places, and a third node has room for either of them
ONE_CYCLE = Exchange(
    (7, 6, 7),
    (
        Thing(6, port=False, covered=True, source=0, target=1),
        Thing(5, port=False, covered=True, source=1, target=0),
    ),
    allowed=1,
)
TWO_CYCLES = Exchange(
    (7, 6, 7, 6, 6),
    (
        Thing(6, port=False, covered=True, source=0, target=1),
        Thing(5, port=False, covered=True, source=1, target=0),
        Thing(6, port=False, covered=True, source=2, target=3),
        Thing(5, port=False, covered=True, source=3, target=2),
    ),
    allowed=1,
)
SOMEBODY_COMES_AFTERWARDS = Exchange(
    (7, 6, 7),
    (
        Thing(6, port=False, covered=True, source=0, target=1),
        Thing(5, port=False, covered=True, source=1, target=0),
        Thing(7, port=False, covered=False, source=None, target=2),
    ),
    allowed=1,
)
EXCHANGES = [ONE_CYCLE, TWO_CYCLES, SOMEBODY_COMES_AFTERWARDS]
IDS = ["one-cycle", "two-cycles", "somebody-comes-afterwards"]


class CrashingWorld(GuardedWorld):
    """An operator that dies between the write and the request now and then, and remembers nothing afterwards."""

    evicted: set[str]

    def operator(self) -> None:
        if self.plan.ended:
            return
        step = self.advance()
        self.check(step)
        self.write(step)
        for asked in step.evict:
            if self.chance.random() < 0.3:
                self.attempts.clear()
                return
            one = self.pods[asked.pod.uid]
            assert asked.pod.uid not in self.evicted, "nobody is evicted twice"
            assert asked.pod.key == one.key
            assert "tier" not in one.labels or self.disruptions_allowed() > 0
            self.evicted.add(asked.pod.uid)
            self.attempts[asked.id] = Attempt(self.now)
            self.pods[asked.pod.uid] = structs.replace(one, terminating=True)
        if self.chance.random() < 0.2:
            self.attempts.clear()

    def check(self, step: Advance) -> None:
        super().check(step)
        ways = {one.replacement_of: one for one in self.plan.steps if one.replacement_of}
        for one in self.plan.steps:
            onward = ways.get(one.id)
            if onward is None:
                continue
            begun = step.step_status[onward.id].state is not StepState.WAITING
            temporary, final = step.slot_status[one.slot or ""].state, step.slot_status[onward.slot or ""].state
            assert not begun or temporary is SlotState.VOID, "nobody comes to a temporary place that is over"
            assert begun or final in {SlotState.WAITING, SlotState.VOID}, "the last place opens with its step"


def crashing(exchange: Exchange, chance: random.Random) -> CrashingWorld:
    made = guarded(exchange, chance)
    world = CrashingWorld(chance, made.plan, list(made.nodes.values()), list(made.pods.values()))
    world.wanted = made.wanted
    world.evicted = set()
    return world


@pytest.mark.parametrize("exchange", EXCHANGES, ids=IDS)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=40)
def test_a_cycle_under_one_disruption_runs_to_its_end_whenever_the_operator_dies(exchange: Exchange, seed: int) -> None:
    chance = random.Random(seed)
    world = crashing(exchange, chance)
    detours = [step for step in world.plan.steps if step.replacement_of]
    assert detours
    live_to_the_end(world, exchange, chance.randrange(40))
    assert all(one.state is StepState.DONE for one in world.plan.step_status.values())
    covered = [one for one in exchange.things if one.source is not None]
    assert len(world.evicted) == len(covered) + len(detours), "each step evicts one pod"


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60)
def test_random_rings_run_to_their_end(seed: int) -> None:
    chance = random.Random(seed)
    exchange = a_ring(chance)
    exchange = structs.replace(exchange, things=tuple(structs.replace(one, port=False) for one in exchange.things))
    assume(exchange.within_limits())
    try:
        world = crashing(exchange, chance)
    except UnorderableError:
        reject()
    live_to_the_end(world, exchange, chance.randrange(40))


def rings_of_replicas(chance: random.Random) -> CrashingWorld:
    """Replicas of `a` on even nodes change places with replicas of `b`, all over one further node, maybe a wide one."""
    rings = chance.randint(2, 3)
    pods = [
        pod(f"{app}-{ring}", f"n{2 * ring + at}", cpu=size, app=app, labels={"app": app, "tier": "web"})
        for ring in range(rings)
        for app, size, at in (("a", 6, 0), ("b", 5, 1))
    ]
    sizes = [7, 6] * rings + [chance.choice([7, 14, 20])]
    nodes = [node(f"n{number}", cpu=size) for number, size in enumerate(sizes)]
    owners = (replica_set("a", rings), replica_set("b", rings))
    seen = Snapshot(NOW, tuple(nodes), tuple(pods), owners, (DisruptionBudget("team", "web", "web", COVERED, 1),))
    built = build(seen, OPTIONS)
    placement = Placement(built.problem)
    for pod_class in built.problem.classes:
        for source, count in pod_class.running.items():
            placement.add(pod_class, source, -count)
            placement.add(pod_class, source ^ 1, count)
    steps, slots = order(built, changes(built, placement))
    packing = Packing((), (), (), (), slots, steps, {}, {}, {}, certified=False, seconds=0.0, stages={})
    document = plan_document(
        packing, policy_resource(mode="Enforce"), seen, steering=PlanSteering.EXTENDER, suffix="abcd", now=NOW
    )
    facts = structs.replace(
        plan_facts(document), uid="plan-uid", policy_uid="policy-uid", observed_by=("host",), created_at=NOW
    )
    world = CrashingWorld(chance, facts, nodes, pods)
    world.wanted = 2 * rings - 1
    world.evicted = set()
    return world


def ways_of_one_class(steps: Sequence[Step], slots: Sequence[Slot]) -> list[list[tuple[Step, Step]]]:
    """The two evictions of each detour, those of one class over one node together."""
    by_id, slots_by_id = {one.id: one for one in steps}, {one.id: one for one in slots}
    groups: dict[tuple[SlotClass, str], list[tuple[Step, Step]]] = defaultdict(list)
    for onward in steps:
        if onward.replacement_of:
            first = by_id[onward.replacement_of]
            there = slots_by_id[first.slot or ""]
            groups[there.slot_class, there.node].append((first, onward))
    return list(groups.values())


@given(seed=st.integers(0, 2**32))
@settings(max_examples=80)
def test_replicas_go_over_one_node_one_after_the_other(seed: int) -> None:
    chance = random.Random(seed)
    world = rings_of_replicas(chance)
    ways = ways_of_one_class(world.plan.steps, world.plan.slots)
    assert max(map(len, ways)) > 1
    for group in ways:
        for (_, leaves), (comes, _) in pairwise(group):
            assert leaves.id in comes.after
    world.live(chance.randrange(40), disturbed=False)
    world.finish()
    assert world.plan.phase == "Done", (world.plan.reason, world.plan.message)
    assert all(one.state is StepState.DONE for one in world.plan.step_status.values())
    rings = world.replicas["a"]
    where = sorted((one.labels["app"], one.node) for one in world.pods.values())
    assert where == sorted(
        [("a", f"n{2 * ring + 1}") for ring in range(rings)] + [("b", f"n{2 * ring}") for ring in range(rings)]
    )
    assert len(world.evicted) == len(world.plan.steps), "each step evicts one pod"


@given(seed=st.integers(0, 2**32))
@settings(max_examples=80)
def test_disturbed_replicas_over_one_node_are_evicted_once_each(seed: int) -> None:
    chance = random.Random(seed)
    world = rings_of_replicas(chance)
    world.live(chance.randrange(10, 120), disturbed=True)
    world.finish()
    reasons = {one.reason for one in world.plan.step_status.values()}
    assert world.plan.ended or StepReason.DISRUPTION_BUDGET in reasons, "who was deleted or scaled down is missed"
    assert len(world.intents) == len(set(world.intents))


def among_replicas(chance: random.Random) -> CrashingWorld:
    """`a-1` and `b-1` change places over n3, where another replica of `a` stands, as on n4."""
    a, b = (
        pod("a-1", "n1", cpu=8, app="a", labels={"app": "a", "tier": "web"}),
        pod("b-1", "n2", cpu=8, app="b", labels={"app": "b", "tier": "web"}),
    )
    others = [
        pod(f"a-{node_name}", node_name, cpu=8, app="a", labels={"app": "a", "tier": "web"})
        for node_name in ("n3", "n4")
    ]
    onward = Step("s003", Action.EVICT, ref(a), "n3", "k003", ("s001", "s002"), replacement_of="s001")
    facts = plan(
        *(evict(1, a, "k001"), evict(2, b, "k002", "s001"), onward),
        *(slot(1, a, "n3", standing=1), slot(2, b, "n1"), slot(3, a, "n2")),
        observed_by=("host",),
    )
    nodes = [node("n1"), node("n2"), node("n3", cpu=20), node("n4")]
    world = CrashingWorld(chance, facts, nodes, [a, b, *others])
    world.wanted = 3
    world.evicted = set()
    return world


@given(seed=st.integers(0, 2**32))
@settings(max_examples=80)
def test_replicas_that_stay_are_not_sent_on(seed: int) -> None:
    chance = random.Random(seed)
    world = among_replicas(chance)
    world.live(chance.randrange(40), disturbed=False)
    world.finish()
    assert world.plan.phase == "Done", (world.plan.reason, world.plan.message)
    assert len(world.evicted) == 3
    assert sorted(one.node for one in world.pods.values() if one.labels["app"] == "a") == ["n2", "n3", "n4"]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=80)
def test_disturbed_replicas_are_evicted_once_each(seed: int) -> None:
    chance = random.Random(seed)
    world = among_replicas(chance)
    world.live(chance.randrange(10, 80), disturbed=True)
    world.finish()
    assert len(world.intents) == len(set(world.intents))


@pytest.mark.parametrize("exchange", EXCHANGES, ids=IDS)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=60)
def test_disturbed_detours_end_and_evict_nobody_twice(exchange: Exchange, seed: int) -> None:
    chance = random.Random(seed)
    world = crashing(exchange, chance)
    world.live(chance.randrange(10, 80), disturbed=True)
    world.finish()
    reasons = {one.reason for one in world.plan.step_status.values()}
    assert world.plan.ended or StepReason.DISRUPTION_BUDGET in reasons, "who was deleted or scaled down is missed"
    assert len(world.intents) == len(set(world.intents))
