"""Executing plans in a simulated cluster: any order of events, crashes and disturbances on the way."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from stowage.api.packing_plan import PlanSteering
from stowage.api.packing_plan_status import PlanPhase, SlotState, StepState
from stowage.decide.document import plan_document
from stowage.decide.execution import Advance, advance
from stowage.decide.plan_facts import Attempt, PlanFacts
from stowage.decide.plan_status import plan_facts
from stowage.decide.situation import Situation
from stowage_scheduler.cluster import Node, Pod, Snapshot
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.pack import pack
from stowage_scheduler.packing import Action, Step
from stowage_scheduler.slots import Slot, slot_class
from unit.builders import NOW, POLICY, bound, evict, node, place, plan, pod, policy_resource, replica_set, slot

ROUNDS_TO_END = 200  # far more than any of these plans needs when nobody disturbs it


class World:
    """A cluster that answers as Kubernetes does: owners replace pods, the scheduler fills slots when there is room."""

    def __init__(self, chance: random.Random, plan: PlanFacts, nodes: list[Node], pods: list[Pod]) -> None:
        self.chance = chance
        self.plan = plan
        self.nodes = {one.name: one for one in nodes}
        self.pods = {one.uid: one for one in pods}
        self.replicas = {
            app: sum(one.owner is not None and one.owner.name == app for one in pods)
            for app in {one.owner.name for one in pods if one.owner is not None}
        }
        self.now = NOW
        self.paused = False
        self.attempts: dict[str, Attempt] = {}
        self.intents: list[str] = []
        self.made = 0

    def snapshot(self) -> Snapshot:
        owners = tuple(replica_set(app, count) for app, count in self.replicas.items())
        return Snapshot(self.now, tuple(self.nodes.values()), tuple(self.pods.values()), owners)

    def advance(self) -> Advance:
        policy = structs.replace(POLICY, paused=self.paused, plan_timeout_seconds=3600.0)
        seen = Situation(self.snapshot(), policy, self.now, epoch=1, attempts=dict(self.attempts))
        return advance(self.plan, seen)

    def operator(self) -> None:
        """One pass of the operator; it may crash between the write and the request, or lose its memory."""
        if self.plan.ended:
            return
        step = self.advance()
        self.check(step)
        self.write(step)
        for asked in step.evict:
            if self.chance.random() < 0.1:
                continue  # crashed before the request
            self.attempts[asked.id] = Attempt(self.now)
            self.pods[asked.pod.uid] = structs.replace(self.pods[asked.pod.uid], terminating=True)
        if self.chance.random() < 0.1:
            self.attempts.clear()

    def write(self, step: Advance) -> None:
        for step_id, status in step.step_status.items():
            before = self.plan.step_status.get(step_id)
            assert before is None or not before.state.settled or before == status, "settled steps never change"
            if status.state is StepState.INTENDED and (before is None or before.state is StepState.WAITING):
                self.intents.append(step_id)
        self.plan = structs.replace(
            self.plan,
            phase=step.phase,
            reason=step.reason,
            epoch=step.epoch,
            step_status=step.step_status,
            slot_status=step.slot_status,
            named={
                step_id: one.uid
                for step_id, one in step.names.items()
                if step.step_status[step_id].state is not StepState.WAITING
            },
            approved_at=step.approved_at,
            started_at=step.started_at,
        )

    def check(self, step: Advance) -> None:
        assert not (self.paused and step.evict), "pause stops every eviction"
        by_id = {one.id: one for one in self.plan.steps}
        for asked in step.evict:
            assert step.step_status[asked.id].state is StepState.INTENDED, "the intent is on record first"
            assert not self.pods[asked.pod.uid].terminating, "nobody is evicted twice"
            for other in asked.after:
                released = step.step_status[other].state in {StepState.DONE, StepState.VOID}
                assert released or (by_id[other].swap and by_id[other].pod.uid not in self.pods), "order is kept"
        self.check_idempotent(step)

    def check_idempotent(self, step: Advance) -> None:
        before = self.plan, self.intents
        self.intents = []
        self.write(step)
        asked = {one.id: Attempt(self.now) for one in step.evict}
        if self.plan.phase is PlanPhase.RUNNING:
            policy = structs.replace(POLICY, paused=self.paused, plan_timeout_seconds=3600.0)
            again = advance(
                self.plan, Situation(self.snapshot(), policy, self.now, epoch=1, attempts={**self.attempts, **asked})
            )
            assert again.evict == (), "what is on record is not asked for again"
            assert dict(again.step_status) == dict(step.step_status)
            assert (again.phase, again.reason, again.message) == (step.phase, step.reason, step.message)
        self.plan, self.intents = before

    def kubelet(self) -> None:
        """A terminating pod goes, or a young one becomes ready."""
        leaving = sorted(uid for uid, one in self.pods.items() if one.terminating)
        if leaving:
            del self.pods[self.chance.choice(leaving)]
        for uid, one in list(self.pods.items()):
            if one.node is not None and not one.ready and self.chance.random() < 0.5:
                self.pods[uid] = structs.replace(one, ready=True)

    def owners(self) -> None:
        """Every owner has as many pods as it wants."""
        for app, wanted in self.replicas.items():
            alive = [one for one in self.pods.values() if one.owner and one.owner.name == app and not one.terminating]
            for _ in range(wanted - len(alive)):
                self.made += 1
                like = next(one for one in self.templates if one.owner is not None and one.owner.name == app)
                name = f"{app}-new-{self.made}"
                gone = {"node": None, "phase": "Pending", "ready": False, "terminating": False, "bound_at": None}
                new = structs.replace(like, name=name, uid=f"uid-of-{name}", **gone)
                self.pods[new.uid] = new
            for one in sorted(alive, key=lambda one: (one.node is not None, one.uid))[: max(0, len(alive) - wanted)]:
                self.pods[one.uid] = structs.replace(one, terminating=True)

    def scheduler(self) -> None:
        """A pending pod goes to an open slot of its class, when there is room at this moment."""
        waiting = sorted(uid for uid, one in self.pods.items() if one.node is None and not one.terminating)
        self.chance.shuffle(waiting)
        for uid in waiting:
            one = self.pods[uid]
            for target in self.plan.slots:
                status = self.plan.slot_status.get(target.id)
                if status is None or status.state is not SlotState.OPEN:
                    continue
                if target.slot_class == slot_class(one) and self.is_open(target) and self.fits(one, target.node):
                    self.pods[uid] = bound(one, target.node, ready=False, bound_at=self.now)
                    break

    def is_open(self, target: Slot) -> bool:
        group = [one for one in self.plan.slots if (one.slot_class, one.node) == (target.slot_class, target.node)]
        there = [
            one
            for one in self.pods.values()
            if one.node == target.node and not one.terminating and slot_class(one) == target.slot_class
        ]
        waiting = [one for one in group if self.plan.slot_status[one.id].state is SlotState.WAITING]
        return len(there) - target.standing + len(waiting) < len(group)

    def fits(self, one: Pod, name: str) -> bool:
        room = Counter(self.nodes[name].allocatable)
        for other in self.pods.values():
            if other.node == name:
                room.subtract(other.requests)
        return all(amount <= room[resource] for resource, amount in one.requests.items())

    def disturb(self) -> None:
        """Somebody deletes a pod, scales an owner, or pauses the policy."""
        what = self.chance.randrange(4)
        if what == 0 and self.pods:
            uid = self.chance.choice(sorted(self.pods))
            self.pods[uid] = structs.replace(self.pods[uid], terminating=True)
        elif what == 1:
            app = self.chance.choice(sorted(self.replicas))
            self.replicas[app] = max(0, self.replicas[app] + self.chance.choice([-1, -1, 1]))
        elif what == 2:
            self.paused = not self.paused

    def live(self, steps: int, *, disturbed: bool) -> None:
        self.templates = list(self.pods.values())
        actions: list[Callable[[], None]] = [self.operator, self.kubelet, self.owners, self.scheduler]
        for _ in range(steps):
            self.now += 1
            action = self.chance.choice([*actions, self.disturb] if disturbed else actions)
            action()

    def finish(self) -> None:
        """Everybody does his work; nobody disturbs."""
        self.paused = False
        for _ in range(ROUNDS_TO_END):
            if self.plan.ended:
                return
            self.now += 1
            self.operator()
            self.kubelet()
            self.owners()
            self.scheduler()


def a_world(chance: random.Random) -> World:
    """A plan that moves pods between nodes in a random but feasible order, and places pending ones."""
    count = chance.randint(2, 5)
    size = {f"n{number}": 0 for number in range(count)}
    pods: list[Pod] = []
    parts: list[Step | Slot] = []
    ids: list[str] = []
    for number in range(1, chance.randint(2, 9)):
        kind = chance.randrange(3)
        app, cpu = f"app{kind}", 1 + kind
        # a class never leaves the nodes that it comes to
        source = chance.choice([None, *[name for name in size if (int(name[1:]) + kind) % 2]])
        target = chance.choice([name for name in size if not (int(name[1:]) + kind) % 2])
        one = pod(f"p-{number}", source, cpu=cpu, app=app)
        pods.append(one)
        if source is not None:
            size[source] += cpu
        after = chance.sample(ids, k=min(len(ids), chance.randrange(3)))
        if source is not None and chance.random() < 0.2:
            step = evict(number, one, None, *after)
        else:
            place_for = slot(number, one, target)
            size[target] += cpu  # room for it while everybody still stands where he was
            parts.append(place_for)
            swap = source is not None and chance.random() < 0.2
            step = (
                evict(number, one, place_for.id, *after, swap=swap) if source else place(number, one, place_for, *after)
            )
        ids.append(step.id)
        parts.append(step)
    nodes = [node(name, cpu=cpu + 3) for name, cpu in size.items()]
    facts = plan(*parts, observed_by=("host",))
    stand = {}
    for one in facts.slots:
        leaving = {step.pod.uid for step in facts.steps if step.action is Action.EVICT}
        stand[one.id] = sum(
            other.node == one.node and slot_class(other) == one.slot_class and other.uid not in leaving
            for other in pods
        )
    facts = structs.replace(facts, slots=tuple(structs.replace(one, standing=stand[one.id]) for one in facts.slots))
    return World(chance, facts, nodes, pods)


def a_full_cluster(chance: random.Random) -> tuple[list[Node], list[Pod]]:
    """Nodes that are nearly full, and pods of several priorities that wait."""
    nodes = [node(f"n{number}", cpu=10) for number in range(chance.randint(2, 4))]
    pods: list[Pod] = []
    for one in nodes:
        free = 10
        while free > 0 and chance.random() < 0.85:
            kind = chance.randrange(4)
            cpu = min(free, kind + 1)
            app = f"app{kind}-{cpu}"
            pods.append(pod(f"p-{len(pods)}", one.name, cpu=cpu, app=app, priority=kind))
            free -= cpu
    for number in range(chance.randint(1, 4)):
        kind = chance.randrange(4)
        pods.append(pod(f"w-{number}", cpu=kind + 3, app=f"new{kind}", priority=kind + 1))
    return nodes, pods


@given(st.integers(0, 2**32))
@settings(max_examples=40)
def test_plans_of_the_packer_run_to_their_end(seed: int) -> None:
    chance = random.Random(seed)
    nodes, pods = a_full_cluster(chance)
    owners = tuple(
        replica_set(app, sum(one.labels["app"] == app for one in pods)) for app in {one.labels["app"] for one in pods}
    )
    seen = Snapshot(NOW, tuple(nodes), tuple(pods), owners)
    packing = pack(seen, PackOptions(), Budget(deterministic_units=0.2), 1, lambda: 0.0)
    document = plan_document(
        packing, policy_resource(mode="Enforce"), seen, steering=PlanSteering.EXTENDER, suffix="abcd", now=NOW
    )
    facts = structs.replace(
        plan_facts(document), uid="plan-uid", policy_uid="policy-uid", observed_by=("host",), created_at=NOW
    )
    world = World(chance, facts, nodes, pods)
    world.live(chance.randrange(20), disturbed=False)
    world.finish()
    assert world.plan.phase == "Done", (world.plan.reason, world.plan.message)
    kept = dict.fromkeys(packing.placed, 0)
    for one in world.pods.values():
        if one.node is not None and not one.terminating:
            app = one.labels["app"]
            priority = next(other.priority for other in pods if other.labels["app"] == app)
            for tier in kept:
                kept[tier] += priority >= tier
    assert kept == dict(packing.placed), "what the packer promised runs"


@given(st.integers(0, 2**32))
@settings(max_examples=150)
def test_undisturbed_plans_end_with_every_step_done(seed: int) -> None:
    chance = random.Random(seed)
    world = a_world(chance)
    world.live(chance.randrange(40), disturbed=False)
    world.finish()
    assert world.plan.phase == "Done"
    assert len(world.intents) == len(set(world.intents)), "one intent for each step"
    assert not any(world.is_open(target) for target in world.plan.slots)


@given(st.integers(0, 2**32))
@settings(max_examples=300)
def test_disturbed_plans_end_and_never_ask_twice(seed: int) -> None:
    chance = random.Random(seed)
    world = a_world(chance)
    world.live(chance.randrange(10, 80), disturbed=True)
    world.finish()
    assert world.plan.ended
    assert len(world.intents) == len(set(world.intents))
