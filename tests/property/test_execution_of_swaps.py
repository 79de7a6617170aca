"""Exchanges between full nodes under disruption budgets, carried out to their end in a simulated cluster."""

from __future__ import annotations

import random

import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from msgspec import structs

from harness.facts import OPTIONS
from property.test_execution import World
from property.test_order_of_moves import Exchange, Thing, an_exchange
from stowage.api.packing_plan import PlanSteering
from stowage.decide.document import plan_document
from stowage.decide.execution import Advance
from stowage.decide.plan_facts import Attempt
from stowage.decide.plan_status import plan_facts
from stowage_scheduler.assign import changes
from stowage_scheduler.build import build
from stowage_scheduler.cluster import DisruptionBudget, LabelSelector, Pod, Snapshot
from stowage_scheduler.moves import UnorderableError, order
from stowage_scheduler.packing import Packing
from stowage_scheduler.slots import slot_class
from unit.builders import NOW, node, pod, policy_resource, replica_set

COVERED = LabelSelector((("tier", "web"),))


class GuardedWorld(World):
    """A cluster with one PodDisruptionBudget, counted as the API server does: Ready pods above the wanted ones."""

    wanted = 0

    def covered(self) -> list[Pod]:
        return [one for one in self.pods.values() if one.labels.get("tier") == "web"]

    def disruptions_allowed(self) -> int:
        healthy = sum(one.node is not None and one.ready and not one.terminating for one in self.covered())
        return max(0, healthy - self.wanted)

    def snapshot(self) -> Snapshot:
        budget = DisruptionBudget("team", "web", "web", COVERED, self.disruptions_allowed())
        return structs.replace(super().snapshot(), budgets=(budget,))

    def operator(self) -> None:
        if self.plan.ended:
            return
        step = self.advance()
        self.check(step)
        self.write(step)
        for asked in step.evict:
            one = self.pods[asked.pod.uid]
            assert "tier" not in one.labels or self.disruptions_allowed() > 0, "nobody asks for what is not allowed"
            self.attempts[asked.id] = Attempt(self.now)
            self.pods[asked.pod.uid] = structs.replace(one, terminating=True)

    def check_idempotent(self, step: Advance) -> None:
        """Left out: why a step waits for its budget is told by another word once the one before it has begun."""


def guarded(exchange: Exchange, chance: random.Random) -> GuardedWorld:
    """A world in which the exchange is about to start.

    Raises:
        UnorderableError: the budget does not allow it.
    """
    pods = [
        pod(
            f"p{i}-1",
            None if thing.source is None else f"n{thing.source}",
            cpu=thing.size,
            app=f"p{i}",
            labels={"app": f"p{i}", **({"tier": "web"} if thing.covered else {})},
        )
        for i, thing in enumerate(exchange.things)
    ]
    nodes = [node(f"n{i}", cpu=size) for i, size in enumerate(exchange.sizes)]
    owners = tuple(replica_set(one.labels["app"], 1) for one in pods)
    budget = DisruptionBudget("team", "web", "web", COVERED, exchange.allowed)
    seen = Snapshot(NOW, tuple(nodes), tuple(pods), owners, (budget,))
    built = build(seen, OPTIONS)
    steps, slots = order(built, changes(built, exchange.end(built)))
    packing = Packing((), (), (), (), slots, steps, {}, {}, {}, certified=False, seconds=0.0, stages={})
    document = plan_document(
        packing, policy_resource(mode="Enforce"), seen, steering=PlanSteering.EXTENDER, suffix="abcd", now=NOW
    )
    facts = structs.replace(
        plan_facts(document), uid="plan-uid", policy_uid="policy-uid", observed_by=("host",), created_at=NOW
    )
    world = GuardedWorld(chance, facts, nodes, pods)
    world.wanted = sum(one.node is not None for one in world.covered()) - exchange.allowed
    return world


def live_to_the_end(world: GuardedWorld, exchange: Exchange, moments: int) -> None:
    world.live(moments, disturbed=False)
    world.finish()
    assert world.plan.phase == "Done", (world.plan.reason, world.plan.message)
    for i, thing in enumerate(exchange.things):
        of_class = slot_class(pod(f"p{i}-1", cpu=thing.size, app=f"p{i}"))
        found = [one.node for one in world.pods.values() if slot_class(one) == of_class and not one.terminating]
        assert [where for where in found if where] == ([] if thing.target is None else [f"n{thing.target}"])


@given(st.integers(0, 2**32))
@settings(max_examples=150)
def test_what_has_an_order_runs_to_its_end(seed: int) -> None:
    chance = random.Random(seed)
    exchange = an_exchange(chance)
    assume(exchange.within_limits())
    exchange = structs.replace(exchange, things=tuple(structs.replace(t, port=False) for t in exchange.things))
    try:
        world = guarded(exchange, chance)
    except UnorderableError:
        reject()
    live_to_the_end(world, exchange, chance.randrange(20))


TWO_CYCLES = Exchange(
    (7, 7, 7, 7),
    (
        Thing(6, port=False, covered=True, source=0, target=1),
        Thing(5, port=False, covered=True, source=1, target=0),
        Thing(6, port=False, covered=True, source=2, target=3),
        Thing(5, port=False, covered=True, source=3, target=2),
    ),
    allowed=2,
)
A_CYCLE_AND_A_LOSS = Exchange(
    (7, 7, 5),
    (
        Thing(6, port=False, covered=True, source=0, target=1),
        Thing(5, port=False, covered=True, source=1, target=0),
        Thing(5, port=False, covered=True, source=2, target=None),
        Thing(5, port=False, covered=False, source=None, target=2),
    ),
    allowed=2,
)


@pytest.mark.parametrize("exchange", [TWO_CYCLES, A_CYCLE_AND_A_LOSS], ids=["two-cycles", "a-cycle-and-a-loss"])
@pytest.mark.parametrize("seed", range(5))
def test_a_swap_leaves_a_disruption_for_the_moves_that_it_waits_for(exchange: Exchange, seed: int) -> None:
    chance = random.Random(seed)
    live_to_the_end(guarded(exchange, chance), exchange, chance.randrange(20))
