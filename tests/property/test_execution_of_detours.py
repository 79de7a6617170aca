"""Moves over temporary places, carried out in a simulated cluster: with crashes, lost pods and owners that change."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from property.test_execution_of_swaps import GuardedWorld, guarded, live_to_the_end
from property.test_order_of_moves import Exchange, Thing
from stowage.api.packing_plan_status import SlotState, StepState
from stowage.api.reasons import StepReason
from stowage.decide.execution import Advance
from stowage.decide.plan_facts import Attempt

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
            assert self.disruptions_allowed() > 0
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
