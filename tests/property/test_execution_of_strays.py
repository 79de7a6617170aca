"""Replacements that nobody steers, for the extender is away: whatever slots they take, no plan waits for ever."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from property.test_execution import ROUNDS_TO_END
from property.test_execution_of_brakes import BrakedWorld
from stowage.api.packing_plan import PlanSteering
from stowage.api.packing_plan_status import PlanPhase
from stowage.api.reasons import PlanReason
from stowage.decide.document import plan_document
from stowage.decide.plan_facts import StopRule
from stowage.decide.plan_status import plan_facts
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.pack import pack
from stowage_scheduler.slots import slot_class
from stowage_scheduler.unavailable import MaxUnavailable
from unit.builders import NOW, POLICY, bound, node, pod, policy_resource, replica_set

QUARTER = MaxUnavailable(percent=25)
NODES = 12


class StrayingWorld(BrakedWorld):
    """The first replacements go anywhere, most of them to slots that are for pods like them."""

    strays = 0

    def scheduler(self) -> None:
        fresh = sorted(uid for uid, one in self.pods.items() if one.node is None and "-new-" in one.name)
        for uid in fresh[: self.strays]:
            one = self.pods[uid]
            room = [name for name in self.nodes if self.fits(one, name)]
            likely = [slot.node for slot in self.plan.slots if slot.slot_class == slot_class(one) and slot.node in room]
            nodes = likely if likely and self.chance.random() < 0.9 else room
            if nodes:
                self.pods[uid] = bound(one, self.chance.choice(nodes), ready=True, bound_at=self.now)
                self.strays -= 1
        super().scheduler()


def spread_thin(chance: random.Random) -> StrayingWorld:
    """Nodes with one small pod each, and large ones that fit only where two small ones share another node."""
    nodes = [node(f"n{number:02d}", cpu=8) for number in range(NODES)]
    apps = ["web"] * 8 + ["api"] * 4
    chance.shuffle(apps)
    pods = [pod(f"p-{number}", f"n{number:02d}", cpu=3, app=app) for number, app in enumerate(apps)]
    pods += [pod(f"w-{number}", cpu=6, app="train", priority=10) for number in range(6)]
    counts = Counter(one.labels["app"] for one in pods)
    seen = Snapshot(NOW, tuple(nodes), tuple(pods), tuple(replica_set(app, count) for app, count in counts.items()))
    options = PackOptions(max_unavailable_per_owner=QUARTER)
    packing = pack(seen, options, Budget(deterministic_units=1.0), 1, lambda: 0.0)
    document = plan_document(
        packing, policy_resource(mode="Enforce"), seen, steering=PlanSteering.EXTENDER, suffix="abcd", now=NOW
    )
    facts = structs.replace(
        plan_facts(document), uid="plan-uid", policy_uid="policy-uid", observed_by=("host",), created_at=NOW
    )
    world = StrayingWorld(chance, facts, nodes, pods)
    world.templates = pods
    world.policy = structs.replace(POLICY, plan_timeout_seconds=3600.0, max_unavailable=QUARTER, stop=StopRule())
    world.strays = chance.randint(1, 3)
    return world


@given(st.integers(0, 2**32))
@settings(max_examples=60)
def test_strayed_replacements_hold_no_plan_up(seed: int) -> None:
    world = spread_thin(random.Random(seed))
    for _ in range(ROUNDS_TO_END):
        if world.plan.ended:
            break
        world.now += 1
        world.operator()
        down = world.down()
        assert down["web"] <= 2, "a quarter of the replicas"
        assert down["api"] <= 1, "a quarter of the replicas"
        world.owners()
        world.scheduler()
        world.kubelet()
    assert world.plan.phase is PlanPhase.DONE or world.plan.reason is PlanReason.LOST_RACE, world.plan.message
    if world.plan.phase is PlanPhase.DONE:
        assert not any(one.node is None for one in world.pods.values()), "every pod has its place"
