"""Limits of controllers hold in every order that the edges of a plan allow."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from property.test_order_of_moves import Exchange, Replay, an_exchange
from stowage_scheduler.assign import changes
from stowage_scheduler.build import Build
from stowage_scheduler.cluster import OwnerRef
from stowage_scheduler.moves import UnorderableError, order
from stowage_scheduler.packing import Step
from stowage_scheduler.slots import Slot


class OwnersReplay(Replay):
    """Remembers how many pods of each owner were away at once."""

    def __init__(self, exchange: Exchange, steps: tuple[Step, ...], slots: tuple[Slot, ...], built: Build) -> None:
        super().__init__(exchange, steps, slots)
        self.built = built
        self.most: Counter[str] = Counter()

    def land(self, chance: random.Random) -> None:
        away = Counter(owner(self.built, step.pod.uid) for step in self.waiting)
        self.most |= away
        super().land(chance)


def owner(built: Build, uid: str) -> str:
    found = built.pods[uid].owner
    assert found is not None
    return found.uid


def with_owners(built: Build, chance: random.Random) -> Build:
    """The same problem, its pods shared among two controllers."""
    pods = {
        uid: replace(pod, owner=OwnerRef("ReplicaSet", name := chance.choice("xy"), name))
        for uid, pod in built.pods.items()
    }
    return replace(built, pods=pods)


@given(st.integers(0, 2**32))
@settings(max_examples=400)
def test_no_more_of_an_owner_are_away_than_it_may_spare(seed: int) -> None:
    chance = random.Random(seed)
    exchange = an_exchange(chance)
    built = with_owners(exchange.built(), chance)
    made = changes(built, exchange.end(exchange.built()))
    limits = {"x": chance.randint(1, 2), "y": chance.randint(1, 3)}
    try:
        free, _ = order(built, made)
    except UnorderableError:
        return
    try:
        steps, slots = order(built, made, limits)
    except UnorderableError:
        assert any(step.swap or step.replacement_of for step in free), (
            "without a cycle, moves can always follow each other"
        )
        return
    moving = {change.uid for change in made if change.source is not None and change.target is not None}
    for _ in range(3):
        replay = OwnersReplay(exchange, steps, slots, built)
        replay.run(chance)
        swapping = {owner(built, step.pod.uid) for step in steps if step.swap}
        for name, most in limits.items():
            if name not in swapping:  # of a swap the edges do not tell when it lands: the executor counts
                assert replay.most[name] <= most + arriving(replay, built, name, moving)


def arriving(replay: Replay, built: Build, name: str, moving: set[str]) -> int:
    """Pods of an owner that only arrive are in the list of those that wait for room, and were never there."""
    return sum(owner(built, step.pod.uid) == name and step.pod.uid not in moving for step in replay.steps.values())


def test_moves_follow_each_other_as_closely_as_the_limit_allows() -> None:
    chance = random.Random(1)
    longest = 0
    for _ in range(200):
        exchange = an_exchange(chance)
        built = with_owners(exchange.built(), chance)
        made = changes(built, exchange.end(exchange.built()))
        try:
            free, _ = order(built, made)
            steps, _ = order(built, made, {"x": 1, "y": 1})
        except UnorderableError:
            continue
        if any(step.swap for step in free):
            continue
        moves = [
            step
            for step in steps
            if step.pod.uid in {c.uid for c in made if c.source is not None and c.target is not None}
        ]
        longest = max(longest, len(moves))
        for name in "xy":
            own = [step for step in moves if owner(built, step.pod.uid) == name]
            for before, after in pairwise(own):
                assert before.id in after.after
    assert longest > 3, "the instances are too small to show anything"
