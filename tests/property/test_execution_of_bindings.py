"""Plans steered by bindings, with gangs: the default scheduler knows nothing of them and does as it likes."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from property.test_execution import ROUNDS_TO_END, World, a_full_cluster
from stowage.api.names import GANG_GATE, RESERVED_TAINT
from stowage.api.packing_plan import PlanSteering
from stowage.api.packing_plan_status import PlanPhase, SlotState, StepState
from stowage.decide.document import plan_document
from stowage.decide.execution import Advance, advance
from stowage.decide.plan_facts import Attempt
from stowage.decide.plan_status import plan_facts
from stowage.decide.reservation import reservation
from stowage.decide.situation import Situation
from stowage_scheduler.cluster import Effect, Gang, Node, Pod, Snapshot, Taint
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.pack import pack
from stowage_scheduler.packing import Packing
from unit.builders import NOW, POLICY, bound, node, pod, policy_resource, replica_set


class TaintedWorld(World):
    """Nodes of the plan carry its taint; the scheduler binds whom it can to any other node, and pods to their pin."""

    def __init__(self, chance: random.Random, packing: Packing, nodes: list[Node], pods: list[Pod]) -> None:
        seen = Snapshot(NOW, tuple(nodes), tuple(pods), _owners(pods))
        document = plan_document(
            packing, policy_resource(mode="Enforce"), seen, steering=PlanSteering.BIND, suffix="abcd", now=NOW
        )
        facts = structs.replace(plan_facts(document), uid="plan-uid", policy_uid="policy-uid", created_at=NOW)
        super().__init__(chance, facts, nodes, pods)
        self.templates = list(self.pods.values())
        self.pins: dict[str, str] = {}
        self.evicted: Counter[str] = Counter()

    def advance(self) -> Advance:
        policy = structs.replace(POLICY, paused=self.paused, plan_timeout_seconds=3600.0)
        complete = reservation(self.plan, self.nodes.values()).complete
        situation = Situation(
            self.snapshot(), policy, self.now, epoch=1, reserved=complete, attempts=dict(self.attempts)
        )
        return advance(self.plan, situation)

    def operator(self) -> None:
        if self.plan.ended:
            return
        step = self.advance()
        assert not (step.evict or step.bind or step.ungate) or self.kept(), "nothing is begun before the room is kept"
        for one in step.evict:
            assert step.step_status[one.id].state is StepState.INTENDED, "the intent is on record first"
        for binding in step.bind:
            assert step.slot_status[binding.slot].pod == binding.pod, "the promise is on record first"
            assert step.slot_status[binding.slot].state is SlotState.OPEN
        for one in step.ungate:
            assert step.step_status[one.id].state is StepState.INTENDED, "the intent is on record first"
        self.write(step)
        self.act(step)
        if self.chance.random() < 0.1:
            self.attempts.clear()  # a new process remembers nothing

    def act(self, step: Advance) -> None:
        """Every request is sent, or lost in a crash before it."""
        for name in step.reserve:
            if self.sent():
                taint = Taint(RESERVED_TAINT, Effect.NO_SCHEDULE, "plan-uid")
                self.nodes[name] = structs.replace(self.nodes[name], taints=(taint,))
        for asked in (*step.evict, *step.restart):
            one = self.pods.get(asked.pod.uid)
            if one is not None and self.sent():
                self.attempts[asked.id] = Attempt(self.now)
                self.evicted[one.uid] += not one.terminating
                self.pods[one.uid] = structs.replace(one, terminating=True)
        for binding in step.bind:
            one = self.pods.get(binding.pod.uid)
            if one is not None and one.node is None and self.sent():
                assert self.fits(one, binding.node), "a binding never overfills a node"
                self.attempts[binding.attempt_key] = Attempt(self.now)
                self.pods[one.uid] = bound(one, binding.node, ready=False, bound_at=self.now)
        for asked in step.ungate:
            one = self.pods.get(asked.pod.uid)
            if one is not None and self.sent():
                self.attempts[asked.id] = Attempt(self.now)
                self.pins[one.uid] = asked.node
                self.pods[one.uid] = structs.replace(one, gates=(), unschedulable_since=self.now)

    def sent(self) -> bool:
        return self.chance.random() < 0.9

    def kept(self) -> bool:
        return reservation(self.plan, self.nodes.values()).complete

    def scheduler(self) -> None:
        for uid, one in sorted(self.pods.items()):
            if one.node is not None or one.terminating or one.gated:
                continue
            pin = self.pins.get(uid)
            open_to_all = [name for name, where in self.nodes.items() if not where.taints]
            for name in [pin] if pin is not None else open_to_all:
                if self.fits(one, name):
                    self.pods[uid] = bound(one, name, ready=False, bound_at=self.now)
                    break

    def check_room(self) -> None:
        for name, where in self.nodes.items():
            held: Counter[str] = Counter()
            for one in self.pods.values():
                if one.node == name:
                    held.update(one.requests)
            assert all(amount <= where.allocatable.get(resource, 0) for resource, amount in held.items())

    def finish(self) -> None:
        self.paused = False
        for _ in range(ROUNDS_TO_END):
            if self.plan.ended:
                return
            self.now += 1
            self.operator()
            self.kubelet()
            self.owners()
            self.scheduler()
            self.check_room()


def _owners(pods: list[Pod]) -> tuple[object, ...]:
    apps = Counter(one.labels["app"] for one in pods)
    return tuple(replica_set(app, count) for app, count in apps.items())


def with_gang(chance: random.Random, pods: list[Pod]) -> list[Pod]:
    """A gang more, behind its gate."""
    size = chance.randint(2, 3)
    cpu = chance.randint(1, 4)
    members = [
        pod(
            f"g-{number}", cpu=cpu, app="gang", priority=9, gates=(GANG_GATE,), gang=Gang("ring", size),
            unschedulable_since=None,
        )
        for number in range(size)
    ]  # fmt: skip
    return [*pods, *members]


def a_tainted_world(seed: int) -> tuple[TaintedWorld, Packing]:
    chance = random.Random(seed)
    nodes, pods = a_full_cluster(chance)
    if chance.random() < 0.5:
        nodes = [*nodes, node("n9", cpu=chance.randint(3, 10))]  # room for replacements that land elsewhere
    if chance.random() < 0.7:
        pods = with_gang(chance, pods)
    seen = Snapshot(NOW, tuple(nodes), tuple(pods), _owners(pods))
    packing = pack(seen, PackOptions(), Budget(deterministic_units=0.2), 1, lambda: 0.0)
    return TaintedWorld(chance, packing, nodes, pods), packing


@given(st.integers(0, 2**32))
@settings(max_examples=150)
def test_bound_plans_run_to_their_end_whatever_the_scheduler_does(seed: int) -> None:
    world, packing = a_tainted_world(seed)
    for _ in range(world.chance.randrange(30)):
        world.now += 0.2  # the nodes have to be kept within 15 s
        world.chance.choice([world.operator, world.kubelet, world.owners, world.scheduler])()
        world.check_room()
    world.finish()
    assert world.plan.ended
    assert max(world.evicted.values(), default=0) <= 1, "nobody is evicted twice"
    if world.plan.phase is PlanPhase.DONE and world.plan.reason == "Completed":
        ring = [one for one in world.pods.values() if one.gang is not None and one.node is not None]
        assert len(ring) in {0, sum(one.gang is not None for one in world.pods.values())}, "a gang runs whole"
        planned = {step.pod.uid for step in packing.steps if step.action.arrives}
        assert all(world.pods[uid].node is not None for uid in planned)


@given(st.integers(0, 2**32))
@settings(max_examples=150)
def test_disturbed_bound_plans_end_and_leave_no_half_gang_behind(seed: int) -> None:
    world, _ = a_tainted_world(seed)
    for _ in range(world.chance.randrange(10, 60)):
        world.now += 0.2  # the nodes have to be kept within 15 s
        actions = [world.operator, world.kubelet, world.owners, world.scheduler, world.disturb]
        world.chance.choice(actions)()
        world.check_room()
    world.finish()
    assert world.plan.ended
    assert max(world.evicted.values(), default=0) <= 1, "nobody is evicted twice"
