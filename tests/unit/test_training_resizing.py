"""A job becomes larger and smaller through its life: by people, by lost nodes, by room that comes back."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from stowage.api.training_words import JobPhase
from stowage.decide.training.commands import command_of
from stowage.decide.training.job_status import Seen
from stowage_scheduler.cluster import Node
from stowage_worker.messages import Begin, Progress, Report, SeatState
from unit.builders import snapshot
from unit.test_training_job_status import Life

EIGHT_CORES = {"cpu": 8000, "memory": 2**34, "pods": 110}


class Elastic(Life):
    """A job of 2 to 4 nodes on nodes that can be taken away, and come back."""

    def __init__(self, **nodes: Any) -> None:
        elastic = {"shrinkAfter": "60s", "growAfter": "60s", "cooldown": "30s"}
        super().__init__(elastic=elastic)
        self.there = {f"n{number}" for number in range(4)}
        self.spec(nodes={"min": 2, "max": 4, **nodes})

    def seen(self) -> Seen:
        pods = tuple(self.pods.values())
        sound = {name: Node(name, EIGHT_CORES, uid=name, ready=name in self.there) for name in sorted(self.there)}
        snap = snapshot(*sound.values(), *pods, now=self.now)
        return Seen(pods, sound, snap, self.now, self.report, connected=self.report is not None)

    def saves(self) -> None:
        self.tell("Running", progress=Progress(step=10, checkpoint_step=10))
        self.step()

    def comes(self) -> None:
        """Pods that are asked for get their nodes, and their supervisors connect."""
        self.make()
        self.step()
        assert self.report is not None
        known = {one.seat for one in self.report.seats}
        more = tuple(
            SeatState(seat.seat, seat.pod_uid, connected=True, state="Waiting")
            for seat in self.status.seats
            if seat.pod_uid and seat.seat not in known
        )
        old = self.report
        self.report = Report(old.epoch, old.attempt, old.phase, (*old.seats, *more), progress=old.progress)

    def loses(self, node: str) -> None:
        self.there.discard(node)
        self.pods = {name: pod for name, pod in self.pods.items() if pod.node != node}

    @property
    def training(self) -> list[str]:
        return [seat.seat for seat in self.status.seats if not seat.spare]


def test_it_begins_with_as_many_nodes_as_there_is_room_for() -> None:
    life = Elastic()
    life.there = {"n0", "n1", "n2"}
    life.step()
    assert (life.training, life.status.nodes.desired) == (["s0", "s1", "s2"], 3)


def test_more_nodes_join_at_a_step_boundary_when_they_can_begin() -> None:
    life = Elastic(target=2)
    life.run()
    life.spec(nodes={"min": 2, "max": 4, "target": 3})
    life.step()
    assert (life.status.phase, life.status.epoch) == (JobPhase.RUNNING, 1), "nobody stops before the others are there"
    assert life.status.nodes.desired == 3
    assert life.make() == ["tiny-s2-2"]
    life.step()
    assert life.status.epoch == 1, "its supervisor is not there yet"
    life.comes()
    life.step()
    assert (life.status.phase, life.status.epoch) == (JobPhase.RESIZING, 2)
    assert life.status.sizing.reason == "Joined"
    begin = command_of(life.job)
    assert isinstance(begin, Begin)
    assert begin.seats == ("s0", "s1", "s2")
    assert begin.yield_first_seconds > 0, "the ranks may make a checkpoint first"
    assert life.status.restarts == (), "nothing failed"
    life.tell("Running", started_at=life.now)
    life.step()
    assert life.status.phase is JobPhase.RUNNING


def test_fewer_nodes_are_a_planned_change_and_the_worst_seat_goes() -> None:
    life = Elastic(target=3)
    life.run()
    life.spec(nodes={"min": 2, "max": 4, "target": 2})
    assert life.report is not None
    silent = SeatState("s0", "uid-1", connected=False, state="Lost")
    life.report = Report(1, 1, "Running", (silent, *life.report.seats[1:]))
    life.step()
    assert (life.status.phase, life.training) == (JobPhase.RESIZING, ["s1", "s2"])
    begin = command_of(life.job)
    assert isinstance(begin, Begin)
    assert (begin.seats, begin.epoch) == (("s1", "s2"), 2)
    assert begin.yield_first_seconds > 0
    assert [one.pod.name for one in life.work().delete] == ["tiny-s0-1"]


def test_a_node_that_nobody_replaces_is_done_without_and_comes_back() -> None:
    life = Elastic()
    life.there.discard("n3")
    life.run()
    life.saves()
    life.loses("n2")
    life.step()
    assert (life.status.phase, life.status.epoch, life.training) == (JobPhase.RECOVERING, 2, ["s0", "s1", "s2"])
    lost_at = life.now
    life.step()
    life.now = lost_at + 59
    step = life.step()
    assert life.training == ["s0", "s1", "s2"]
    assert step.again_at == pytest.approx(lost_at + 60)
    life.now = lost_at + 60
    life.step()
    assert life.training == ["s0", "s1"]
    assert life.status.phase is JobPhase.RECOVERING, "no rank is asked to yield: they lost a peer"
    assert "1 had no node for 60 s" in life.status.sizing.message
    begin = command_of(life.job)
    assert isinstance(begin, Begin)
    assert (begin.seats, begin.yield_first_seconds) == (("s0", "s1"), 0.0)
    life.tell("Running", started_at=life.now)
    life.step()
    life.saves()
    life.there |= {"n2", "n3"}
    life.step()
    life.now += 59
    life.step()
    assert life.status.nodes.desired == 2
    life.now += 1
    life.step()
    assert life.status.nodes.desired == 4
    assert (life.status.phase, life.status.sizing.reason) == (JobPhase.RUNNING, "RoomForMore")
    life.comes()
    life.step()
    assert (life.status.phase, len(life.training)) == (JobPhase.RESIZING, 4)


def test_a_gang_that_finds_no_room_is_asked_for_anew_with_fewer() -> None:
    life = Elastic(target=4)
    life.step()
    life.make(place=False)
    life.step()
    life.spec(nodes={"min": 2, "max": 4, "target": 2})
    life.step()
    assert (life.status.phase, life.training) == (JobPhase.PENDING, ["s0", "s1"])
    assert len(life.work().delete) == 4, "they are members of a gang of four"
    assert [one.gang_size for one in life.work().create] == [2, 2]
    assert life.make() == ["tiny-s0-2", "tiny-s1-2"]


def test_a_job_of_a_fixed_number_waits_for_its_node() -> None:
    life = Elastic()
    life.spec(nodes={"min": 2})
    life.run()
    life.loses("n1")
    life.there = {"n0"}
    for _ in range(5):
        life.now += 3600
        life.step()
    assert (life.status.phase, life.training) == (JobPhase.RECOVERING, ["s0", "s1"])
    assert life.status.sizing is None


def test_a_job_that_has_ended_well_takes_no_more_nodes() -> None:
    life = Elastic(target=2)
    life.run()
    life.tell("Finished")
    life.spec(nodes={"min": 2, "max": 4, "target": 3})
    life.step()
    assert life.status.phase is JobPhase.SUCCEEDED


def test_a_status_that_is_looked_at_again_stays_as_it_is() -> None:
    life = Elastic()
    life.there.discard("n3")
    life.run()
    life.saves()
    life.there.add("n3")
    life.step()
    for _ in range(4):
        before = life.status
        life.now += 9
        life.step()
        assert life.status.sizing == before.sizing, "time that passes is no reason to write"


def test_who_asks_for_more_nodes_gets_them_before_one_waits_as_a_spare() -> None:
    life = Elastic(target=2, allowed=[2, 4])
    life.spec(recovery={"spares": 1})
    life.run()
    life.comes()
    life.now += 100
    life.spec(nodes={"min": 2, "max": 4, "allowed": [2, 4], "target": 4})
    life.step()
    assert life.make() == ["tiny-s3-3", "tiny-s4-3"], "two are to train, and one to wait"
    life.pods["tiny-s4-3"] = structs.replace(life.pods["tiny-s4-3"], node=None, phase="Pending", ready=False)
    life.comes()
    life.step()
    assert (life.status.phase, life.training) == (JobPhase.RESIZING, ["s0", "s1", "s2", "s3"])
    assert [seat.seat for seat in life.status.seats if seat.spare] == ["s4"]
