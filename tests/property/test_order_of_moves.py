"""`order()` on random exchanges between nodes that are nearly full: what it promises holds in every allowed order."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from harness.facts import OPTIONS, snapshot
from harness.facts import node as make_node
from harness.facts import pod as make_pod
from stowage_scheduler.assign import Change, changes
from stowage_scheduler.build import Build, build
from stowage_scheduler.cluster import DisruptionBudget, Gang, HostPort, LabelSelector
from stowage_scheduler.cycles import nth_best
from stowage_scheduler.gangs import GANG_GATE
from stowage_scheduler.moves import UnorderableError, order
from stowage_scheduler.packing import Action, Step
from stowage_scheduler.placement import Placement
from stowage_scheduler.slots import Slot

PORT = HostPort("TCP", "0.0.0.0", 80)


class Thing(Struct, frozen=True):
    """A pod: where it is, and where it shall be (None: nowhere)."""

    size: int
    port: bool
    covered: bool  # by the one budget
    source: int | None
    target: int | None
    gang: bool = False  # comes together with all others that say so


class Exchange(Struct, frozen=True):
    """Nodes with their size, and pods that change places."""

    sizes: tuple[int, ...]
    things: tuple[Thing, ...]
    allowed: int

    def built(self) -> Build:
        """The problem, one class per pod."""
        budget = DisruptionBudget("default", "web", "web", LabelSelector((("tier", "web"),)), self.allowed)
        cluster = snapshot(
            *(make_node(f"n{i}", size, labels={"host": str(i)}) for i, size in enumerate(self.sizes)),
            *(
                make_pod(
                    f"p{i}-1",
                    thing.size,
                    on=None if thing.source is None else f"n{thing.source}",
                    host_ports=(PORT,) if thing.port else (),
                    labels={"tier": "web"} if thing.covered else {},
                    gang=Gang("ring", 1) if thing.gang else None,
                    gates=(GANG_GATE,) if thing.gang else (),
                    node_selector={"host": str(thing.target)} if thing.gang else {},
                )
                for i, thing in enumerate(self.things)
            ),
            budgets=(budget,),
        )
        return build(cluster, OPTIONS)

    def end(self, built: Build) -> Placement:
        """Everything where it shall be."""
        placement = Placement(built.problem)
        classes = {
            owner.name: c
            for c in built.problem.classes
            for uids in (c.pending_uids, *c.running_uids.values())
            for owner in (built.pods[uid].owner for uid in uids)
            if owner is not None
        }
        for i, thing in enumerate(self.things):
            for node, count in ((thing.source, -1), (thing.target, 1)):
                if node is not None:
                    placement.add(classes[f"p{i}"], node, count)
        return placement

    def within_limits(self) -> bool:
        """Whether the packer would ask for it: more than the budget allows is never lost."""
        return self.end(self.built()).within_limits()


def an_exchange(chance: random.Random) -> Exchange:
    """Two random ways to fill the same nodes, with pods for which there is no room in one of them."""
    sizes = tuple(chance.randint(5, 9) for _ in range(chance.randint(2, 4)))
    kinds = [(chance.randint(1, 4), chance.random() < 0.2, chance.random() < 0.3) for _ in range(chance.randint(4, 9))]
    homeless = chance.choice([0.0, 0.2])

    def fill() -> list[int | None]:
        room, ports, at = list(sizes), set[int](), list[int | None]()
        for size, port, _ in kinds:
            free = [n for n in range(len(sizes)) if room[n] >= size and not (port and n in ports)]
            if not free or chance.random() < homeless:
                at.append(None)
                continue
            at.append(chance.choice(free))
            room[at[-1] or 0] -= size
            ports |= {at[-1] or 0} if port else set()
        return at

    ways = zip(kinds, fill(), fill(), strict=True)
    gang = chance.random() < 0.5
    things = tuple(
        Thing(*kind, source, target, gang and source is None and target is not None) for kind, source, target in ways
    )
    allowed = chance.choice([1, 2, 5])  # nothing moves under a budget that allows nothing
    return Exchange(sizes, things, allowed)


class Replay:
    """Steps in a random order that their edges allow; replacements land as soon as slot and room let them."""

    def __init__(self, exchange: Exchange, steps: tuple[Step, ...], slots: tuple[Slot, ...]) -> None:
        self.exchange = exchange
        self.steps = {step.id: step for step in steps}
        self.slots = {slot.id: slot for slot in slots}
        self.where = {f"uid-p{i}-1": t.source for i, t in enumerate(exchange.things) if t.source is not None}
        self.things = {f"uid-p{i}-1": t for i, t in enumerate(exchange.things)}
        self.departed: set[str] = set()
        self.done: set[str] = set()
        self.waiting: list[Step] = []

    def target(self, step: Step) -> int:
        return int(self.slots[step.slot or ""].node.removeprefix("n"))

    def fits(self, step: Step) -> bool:
        thing, target = self.things[step.pod.uid], self.target(step)
        here = [self.things[other] for other, node in self.where.items() if node == target]
        room = self.exchange.sizes[target] - sum(other.size for other in here)
        return thing.size <= room and not (thing.port and any(other.port for other in here))

    def land(self, chance: random.Random) -> None:
        chance.shuffle(self.waiting)
        for step in list(self.waiting):
            opened = set(self.slots[step.slot or ""].after) <= self.departed
            assert not opened or self.fits(step), f"{step.id}: room was promised, but there is none"
            if opened and chance.random() < 0.7:
                self.waiting.remove(step)
                self.where[step.pod.uid] = self.target(step)
                self.done.add(step.id)

    def released(self, step_id: str) -> bool:
        return step_id in (self.departed if self.steps[step_id].swap else self.done)

    def run(self, chance: random.Random) -> None:
        for _ in range(30 * len(self.steps)):
            ready = [s for i, s in self.steps.items() if i not in self.departed and all(map(self.released, s.after))]
            if ready and chance.random() < 0.5:
                step = chance.choice(ready)
                self.departed.add(step.id)
                left = self.where.pop(step.pod.uid, None)
                assert step.action is not Action.EVICT or f"n{left}" == step.node, f"{step.id}: it is not there"
                if step.slot is None:
                    self.done.add(step.id)
                else:
                    self.waiting.append(step)
            self.land(chance)
        assert self.done == set(self.steps), "the steps wait for each other"


@given(st.integers(0, 2**32))
@settings(max_examples=400)
def test_promised_room_is_there_in_every_order_that_the_edges_allow(seed: int) -> None:
    chance = random.Random(seed)
    exchange = an_exchange(chance)
    built = exchange.built()
    made = changes(built, exchange.end(built))
    try:
        steps, slots = order(built, made)
    except UnorderableError as error:
        concerned = error.changes
        assert any(thing.covered for thing in exchange.things), "without budgets there is always an order"
    else:
        check(exchange, made, steps, slots, chance)
        return
    assert concerned
    assert set(concerned) <= set(made)


def check(
    exchange: Exchange,
    made: tuple[Change, ...],
    steps: tuple[Step, ...],
    slots: tuple[Slot, ...],
    chance: random.Random,
) -> None:
    wanted = Counter(c.uid for c in made)
    assert Counter(step.pod.uid for step in steps if not step.replacement_of) == wanted
    ends = {step.pod.uid: step.slot for step in steps}
    for onward in [step for step in steps if step.replacement_of]:
        first = next(step for step in steps if step.id == onward.replacement_of)
        assert (first.pod, first.id in onward.after) == (onward.pod, True)
        assert onward.slot == ends[onward.pod.uid], "from a temporary place a pod goes to its last one"
        assert not first.swap
    assert all(not slot.after or any(s.swap and s.slot == slot.id for s in steps) for slot in slots)
    assert not any(step.swap and step.after for step in steps)
    assert all(step.action is Action.EVICT for step in steps if step.swap)
    ring = [number for number, step in enumerate(steps) if step.gang]
    assert len(ring) == sum(thing.gang for thing in exchange.things)
    assert len({steps[number].after for number in ring}) <= 1
    assert all(steps[number].action is Action.UNGATE for number in ring)
    # a swap waits for all steps before it, so none of those may wait for a later one
    places = {step.id: number for number, step in enumerate(steps)}
    assert all(places[one] < ring[0] for number in ring for one in steps[number].after)
    for _ in range(4):
        Replay(exchange, steps, slots).run(chance)


@given(groups=st.lists(st.integers(0, 3), min_size=1, max_size=12), helpful=st.sets(st.integers(0, 11)), data=st.data())
def test_who_makes_room_comes_first_among_those_that_are_alike(
    groups: list[int], helpful: set[int], data: st.DataObject
) -> None:
    ranked = sorted(range(len(groups)), key=lambda one: (groups[one], one))
    group_of = dict(enumerate(groups))
    number = data.draw(st.integers(0, len(groups) - 1))
    expected = sorted(ranked, key=lambda one: (groups[one], one not in helpful, one))[number]
    assert nth_best(ranked, group_of, helpful.__contains__, number) == expected
