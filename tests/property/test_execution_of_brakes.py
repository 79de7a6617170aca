"""Plans and drains with brakes, carried out in a simulated cluster: they hold, and nothing waits for ever."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from property.test_execution import World
from stowage.api.packing_plan import PlanSteering
from stowage.decide.canary import canary_of
from stowage.decide.document import plan_document
from stowage.decide.execution import Advance, advance
from stowage.decide.plan_facts import PolicyFacts, StopRule
from stowage.decide.plan_status import plan_facts
from stowage.decide.situation import Situation
from stowage_scheduler.cluster import Node, Pod, Snapshot
from stowage_scheduler.options import Budget, Drain, PackOptions
from stowage_scheduler.pack import pack
from stowage_scheduler.packing import Action, Packing
from stowage_scheduler.unavailable import MaxUnavailable
from unit.builders import NOW, POLICY, node, pod, policy_resource, replica_set


class BrakedWorld(World):
    """A cluster whose policy has brakes; remembers how many pods of each application were down at once."""

    policy: PolicyFacts = POLICY
    lost: frozenset[str] = frozenset()  # applications of pods that lose their place

    def advance(self) -> Advance:
        seen = Situation(self.snapshot(), self.policy, self.now, epoch=1, attempts=dict(self.attempts))
        return advance(self.plan, seen)

    def check_idempotent(self, step: Advance) -> None:
        """Left out: why a step waits is told by another word once the one before it has begun."""

    def write(self, step: Advance) -> None:
        super().write(step)
        self.plan = structs.replace(self.plan, unready_at_start=step.unready_at_start)

    def down(self) -> Counter[str]:
        up = Counter(
            one.labels["app"]
            for one in self.pods.values()
            if one.node is not None and one.ready and not one.terminating
        )
        return Counter({app: wanted - up[app] for app, wanted in self.replicas.items()})

    def owners(self) -> None:
        known = set(self.pods)
        super().owners()
        for uid in set(self.pods) - known:
            self.pods[uid] = structs.replace(self.pods[uid], created_at=self.now)

    def operator(self) -> None:
        before, down = len(self.intents), self.down()
        super().operator()
        if self.policy.canary and len(self.intents) > 1 >= before:
            first = canary_of(self.plan.steps)
            assert first is None or (before, self.intents[0]) == (1, first.id), "it goes alone"
            assert first is None or not down[self.app_of(first.pod.uid)], "its replacement is Ready"

    def app_of(self, uid: str) -> str:
        return next(one.labels["app"] for one in self.templates if one.uid == uid)


def a_cluster(chance: random.Random) -> tuple[list[Node], list[Pod]]:
    """Nodes with room to spare, pods of a few applications on them, and some that wait."""
    nodes = [node(f"n{number}", cpu=12) for number in range(chance.randint(3, 4))]
    pods: list[Pod] = []
    for one in nodes:
        free = chance.randint(6, 12)
        while free > 0:
            kind = chance.randrange(3)
            cpu = min(free, kind + 1)
            pods.append(pod(f"p-{len(pods)}", one.name, cpu=cpu, app=f"app{kind}-{cpu}"))
            free -= cpu
    pods += [pod(f"w-{number}", cpu=chance.randint(3, 6), app=f"new{number}") for number in range(chance.randint(0, 2))]
    return nodes, pods


def braked(chance: random.Random, *, drain: bool) -> tuple[BrakedWorld, Packing, int]:
    nodes, pods = a_cluster(chance)
    apps = Counter(one.labels["app"] for one in pods)
    seen = Snapshot(NOW, tuple(nodes), tuple(pods), tuple(replica_set(app, count) for app, count in apps.items()))
    most = chance.randint(1, 2)
    options = PackOptions(
        drain=Drain(frozenset({"n0"})) if drain else None, max_unavailable_per_owner=MaxUnavailable(pods=most)
    )
    packing = pack(seen, options, Budget(deterministic_units=0.2), 1, lambda: 0.0)
    document = plan_document(
        packing, policy_resource(mode="Enforce"), seen, steering=PlanSteering.EXTENDER, suffix="abcd", now=NOW
    )
    facts = structs.replace(
        plan_facts(document), uid="plan-uid", policy_uid="policy-uid", observed_by=("host",), created_at=NOW
    )
    world = BrakedWorld(chance, facts, nodes, pods)
    world.policy = structs.replace(
        POLICY,
        plan_timeout_seconds=3600.0,
        canary=chance.random() < 0.5,
        max_unavailable=MaxUnavailable(pods=most),
        stop=StopRule(),
    )
    return world, packing, most


@given(seed=st.integers(0, 2**32), drain=st.booleans())
@settings(max_examples=150)
def test_brakes_hold_and_let_every_plan_come_to_its_end(seed: int, *, drain: bool) -> None:
    chance = random.Random(seed)
    world, packing, most = braked(chance, drain=drain)
    if not packing.steps:
        return
    lost = {world_pod.labels["app"] for world_pod in world.pods.values() if world_pod.uid in losers(packing)}
    waited = {one.labels["app"] for one in world.pods.values() if one.node is None}
    check = world.operator

    def watched() -> None:
        check()
        for app, count in world.down().items():
            assert app in lost | waited or count <= most, f"{count} pods of {app} are down, {most} may be"

    world.operator = watched  # type: ignore[method-assign]
    world.live(chance.randrange(20), disturbed=False)
    world.finish()
    assert world.plan.phase == "Done", (world.plan.reason, world.plan.message)
    if drain:
        assert not [one for one in world.pods.values() if one.node == "n0" and not one.terminating]


def losers(packing: Packing) -> set[str]:
    return {step.pod.uid for step in packing.steps if step.action is Action.EVICT and step.slot is None}


def test_the_plans_have_something_to_brake() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(60):
        world, packing, most = braked(random.Random(seed), drain=True)
        moved = Counter(world.pods[step.pod.uid].labels["app"] for step in packing.steps)
        kinds["binding" if any(count > most for count in moved.values()) else "loose"] += 1
        kinds["nothing"] += not packing.steps
    assert kinds["binding"] > 10, kinds
