"""Whatever people ask for while nodes come and go: sizes are allowed ones, and in the end it has what it may have."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from property.test_training_lives import NODES, World, failures
from stowage.api.training_words import JobPhase
from stowage.decide.training.seats import members_of
from stowage_worker.messages import Progress

EIGHT_CORES = {"cpu": 8000, "memory": 2**34, "pods": 110}
ROUNDS = 16
SIZES = st.sampled_from([(1, 2, 3, 4), (2, 4), (2, 3, 5)])
happenings = st.one_of(failures, st.tuples(st.just("target"), st.integers(0, 4)))


class ElasticWorld(World):
    """A job that may have several numbers of nodes, fewer than there are: it keeps away from one that failed it."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__(0)
        self.sizes = set(sizes)
        self.lets_go = True
        self.nodes = {name: structs.replace(one, allocatable=EIGHT_CORES) for name, one in self.nodes.items()}
        self.asked: int | None = None
        elastic = {"shrinkAfter": "30s", "growAfter": "30s", "cooldown": "30s"}
        self.spec(nodes=self._nodes(), elastic=elastic)

    def _nodes(self) -> dict[str, Any]:
        target = {} if self.asked is None else {"target": self.asked}
        return {"min": min(self.sizes), "max": max(self.sizes), "allowed": sorted(self.sizes), **target}

    def _coordinate(self) -> None:
        super()._coordinate()
        if self.report is not None:
            self.report = dataclasses.replace(self.report, progress=Progress(step=10, checkpoint_step=10))

    def meets(self, what: str, number: int) -> None:
        if what == "target":
            self.asked = None if number == 0 else sorted(self.sizes)[number % len(self.sizes)]
            self.spec(nodes=self._nodes())
        super().meets("look" if what == "target" else what, number)


@settings(max_examples=25, deadline=None)
@given(SIZES, st.lists(happenings, max_size=15))
def test_a_job_has_in_the_end_what_is_asked_for_or_all_there_is_room_for(
    sizes: tuple[int, ...], happens: list[Any]
) -> None:
    world = ElasticWorld(sizes)
    for _ in range(3):
        world.look()
    for what, number in happens:
        world.now += 1
        world.meets(what, number)
        world.look()
    for number in range(NODES):
        world.meets("back", number)
    world.meets("spares", 0)
    world.meets("suspend", 0)
    for _ in range(ROUNDS):
        world.now += 61
        world.meets("look", 0)
        world.look()
    if world.status.phase is JobPhase.PAUSED:
        assert world.status.recoveries, "only what failed again and again is paused"
        return
    assert world.status.phase is JobPhase.RUNNING, world.status.message
    assert len(members_of(world.status.seats)) == (world.asked or max(sizes)), world.status.sizing
    before = world.status
    world.look()
    assert world.status == before, "who has what it needs stands still"
