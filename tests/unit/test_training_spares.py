"""Spares in the life of a job: made beside the members, claimed at a failure, made anew; and nodes kept away from."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from stowage.api.training_job_status import AvoidedNode
from stowage.api.training_words import Action, Domain, JobPhase
from stowage.decide.training.avoided_nodes import WAIT_SECONDS, avoided
from stowage.decide.training.children import seat_pod
from stowage.decide.training.commands import command_of
from stowage.decide.training.facts import Decision
from stowage.decide.training.job_status import Seen
from stowage.decide.training.seats import work_of
from stowage.decide.training.spares import MOST_LOST
from stowage_scheduler.cluster import Node
from stowage_scheduler.health import ContainerEnd, NodeCondition, PodHealth
from stowage_worker.messages import Begin, Evidence, SeatState
from unit.builders import NOW, node, snapshot
from unit.test_training_job_status import Life

NOTHING = Decision(Action.IGNORE, Domain.UNKNOWN, "NothingNew", "")


class Spared(Life):
    """A job of two with one spare, on nodes that may fail."""

    def __init__(self, spares: int = 1, nodes: int = 6, **spec: Any) -> None:
        recovery = {"spares": spares, **spec.pop("recovery", {})}
        super().__init__(recovery=recovery, **spec)
        self.nodes: dict[str, Node] = {f"n{number}": node(f"n{number}") for number in range(nodes)}

    def seen(self) -> Seen:
        pods = tuple(self.pods.values())
        snap = snapshot(*self.nodes.values(), *pods, now=self.now)
        return Seen(pods, self.nodes, snap, self.now, self.report, connected=self.report is not None)

    def work(self, ended_seconds: float | None = None) -> Any:
        return work_of(self.job, self.pods.values(), self.nodes, gated=False, ended_seconds=ended_seconds)

    def tell(self, phase: str, evidence: tuple[Evidence, ...] = (), **fields: Any) -> None:
        super().tell(phase, evidence, **fields)
        assert self.report is not None
        waiting = tuple(
            SeatState(seat.seat, seat.pod_uid, connected=True, state="Idle")
            for seat in self.status.seats
            if seat.spare and seat.pod_uid
        )
        seats = (*self.report.seats, *waiting)
        self.report = type(self.report)(**{**vars(self.report), "seats": seats})

    def run(self) -> Spared:
        super().run()
        self.make()
        self.step()
        self.tell("Running", started_at=self.now)
        self.step()
        return self

    def lose(self, name: str) -> None:
        """A node dies: not Ready, and its supervisors are silent."""
        gone = NodeCondition("Ready", "Unknown", since=self.now)
        self.nodes[name] = structs.replace(self.nodes[name], ready=False, conditions=(gone,))
        assert self.report is not None
        on = {seat.seat for seat in self.status.seats if seat.node == name}
        seats = tuple(
            SeatState(one.seat, one.pod, connected=one.connected and one.seat not in on, state=one.state)
            for one in self.report.seats
        )
        self.report = type(self.report)(**{**vars(self.report), "seats": seats})
        self.now += 60

    @property
    def spares(self) -> dict[str, int]:
        """Attempts of the seats that wait."""
        return {seat.seat: seat.attempt for seat in self.status.seats if seat.spare}


def test_spares_are_made_once_the_members_have_nodes() -> None:
    life = Spared()
    life.step()
    assert life.make(place=False) == ["tiny-s0-1", "tiny-s1-1"]
    life.step()
    assert (life.spares, life.make()) == ({}, []), "no spare takes the room of a member"
    life.pods = {
        name: structs.replace(pod, node=f"n{number}", phase="Running", ready=True)
        for number, (name, pod) in enumerate(life.pods.items())
    }
    life.step()
    assert life.status.members == ("s0", "s1")
    assert life.make() == ["tiny-s2-2"]
    life.step()
    begin = command_of(life.job)
    assert isinstance(begin, Begin)
    assert begin.seats == ("s0", "s1"), "a spare is no member"
    placed = next(one for one in life.status.conditions if one.type == "Placed")
    assert placed.status == "True"
    assert (life.status.nodes.ready, life.status.nodes.spares) == (2, 1)


def test_a_spare_is_a_gang_of_its_own_and_rather_stands_apart() -> None:
    life = Spared().run()
    life.pods.popitem()
    life.job = life.job.model_copy(
        update={
            "status": life.status.model_copy(
                update={
                    "seats": tuple(
                        one.model_copy(update={"pod_uid": None, "node": None}) if one.spare else one
                        for one in life.status.seats
                    )
                }
            )
        }
    )
    (spare,) = life.work().create
    document = seat_pod(life.job, structs.replace(spare, gated=True), "image")
    labels = document["metadata"]["labels"]
    assert (labels["stowage.dev/gang"], labels["stowage.dev/gang-size"]) == ("01234567-2-s2", "1")
    (wish,) = document["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert wish["podAffinityTerm"]["labelSelector"]["matchLabels"]["stowage.dev/job"] == "tiny"


def test_a_spare_takes_the_place_of_a_lost_member_in_one_step() -> None:
    life = Spared().run()
    life.lose("n1")
    step = life.step()
    assert (step.decision.action, step.decision.claimed_spares) == (Action.REPLACE_NODE, ("s2",))
    assert (life.status.phase, life.status.epoch, life.status.members) == (JobPhase.RECOVERING, 2, ("s0", "s2"))
    begin = command_of(life.job)
    assert isinstance(begin, Begin), "nobody waits for a pod"
    assert (begin.seats, begin.pods) == (("s0", "s2"), ("uid-1", "uid-3"))
    assert life.spares == {"s1": 3}, "who was lost is the next spare"
    assert [one.pod.name for one in life.work().delete] == ["tiny-s1-1"]
    assert life.make() == ["tiny-s1-3"]
    life.tell("Running", started_at=life.now)
    life.step()
    assert (life.status.phase, life.status.epoch) == (JobPhase.RUNNING, 2)
    assert life.status.nodes.summary == "2/2"


def test_a_spare_that_is_lost_is_made_anew_and_nobody_stops() -> None:
    life = Spared().run()
    del life.pods["tiny-s2-2"]
    step = life.step()
    assert (step.decision.action, step.decision.vacate) == (Action.IGNORE, ("s2",))
    assert (life.status.phase, life.status.epoch, life.status.attempt) == (JobPhase.RUNNING, 1, 1)
    assert life.spares == {"s2": 3}
    assert life.make() == ["tiny-s2-3"]
    assert life.status.restart_count == 0
    before = life.step().status
    assert life.step().status == before, "answered once"


def test_an_attempt_of_a_spare_is_never_used_by_a_member_later() -> None:
    life = Spared().run()
    for _ in range(2):
        del life.pods[f"tiny-s2-{life.spares['s2']}"]
        life.step()
        life.make()
        life.step()
    names = set(life.pods)
    life.tell("Running")
    life.lose("n1")
    life.step()
    made = life.make()
    assert made == ["tiny-s1-5"]
    assert not names & set(made)
    assert life.status.attempt == 5


def test_spares_that_are_lost_again_and_again_are_not_made_for_ever() -> None:
    life = Spared().run()
    for _ in range(MOST_LOST):
        life.pods.pop(f"tiny-s2-{life.spares['s2']}")
        life.step()
        life.make()
        life.step()
    life.spec(recovery={"spares": 2})
    life.step()
    assert list(life.spares) == ["s2"], "no more of them within the budget's window"
    life.now += 7200
    life.step()
    assert list(life.spares) == ["s2", "s3"]


def test_a_container_of_a_spare_that_ends_is_its_kubelet_s_business() -> None:
    life = Spared().run()
    pod = life.pods["tiny-s2-2"]
    life.now += 5
    ended = PodHealth(ends=(ContainerEnd("trainer", 1, at=life.now - 1, restarts=1),))
    life.pods["tiny-s2-2"] = structs.replace(pod, ready=False, health=ended)
    before = life.status
    life.step()
    assert (life.status.epoch, life.spares, life.status.recoveries) == (1, {"s2": 2}, before.recoveries)


@pytest.mark.parametrize(
    ("spares", "left"),
    [pytest.param(0, [], id="none are wanted any more"), pytest.param(2, ["s2", "s3"], id="one more is wanted")],
)
def test_the_number_of_spares_follows_the_spec(spares: int, left: list[str]) -> None:
    life = Spared().run()
    life.spec(recovery={"spares": spares})
    life.step()
    assert list(life.spares) == left
    assert (life.status.epoch, life.status.phase) == (1, JobPhase.RUNNING)


def test_a_spare_that_becomes_ready_late_spares_the_wait_for_a_node() -> None:
    life = Spared().run()
    pod = life.pods["tiny-s2-2"]
    life.pods["tiny-s2-2"] = structs.replace(pod, ready=False)
    life.lose("n1")
    life.step()
    assert life.status.members == (), "there is nobody to claim"
    assert life.make(place=False) == ["tiny-s1-3"]
    life.step()
    assert life.status.members == ()
    life.pods["tiny-s2-2"] = pod
    life.step()
    assert (life.status.members, life.status.epoch) == (("s0", "s2"), 2)
    assert life.spares == {"s1": 4}, "its pod waits no more in a gang of members"
    assert life.make() == ["tiny-s1-4"]


def test_who_still_waits_when_a_spare_took_over_is_no_gang_with_it_any_more() -> None:
    life = Spared(nodes=8).run()
    pod = life.pods["tiny-s2-2"]
    life.pods["tiny-s2-2"] = structs.replace(pod, ready=False)
    life.lose("n0")
    life.lose("n1")
    life.step()
    assert [(one.seat, one.gang_size) for one in life.work().create] == [("s0", 2), ("s1", 2)]
    life.make(place=False)
    life.step()
    life.pods["tiny-s2-2"] = pod
    life.step()
    assert [(one.seat, one.attempt, one.gang_size) for one in life.work().create] == [("s1", 4, 1)]
    assert {one.pod.name for one in life.work().delete} >= {"tiny-s0-3", "tiny-s1-3"}


def test_two_lost_members_and_one_spare_ask_for_one_more_pod() -> None:
    life = Spared(nodes=8).run()
    life.lose("n0")
    life.lose("n1")
    life.step()
    assert life.status.members == ()
    assert {(seat.seat, seat.attempt, seat.spare) for seat in life.status.seats} == {
        ("s0", 3, True),
        ("s1", 3, False),
        ("s2", 2, False),
    }
    assert [(one.seat, one.gang_size) for one in life.work().create] == [("s1", 1)], "the spare comes after the member"


def test_kept_away_from_is_a_bounded_share_for_a_day() -> None:
    nodes = {f"n{number}": node(f"n{number}") for number in range(20)}
    kept: tuple[AvoidedNode, ...] = ()
    for number in range(4):
        decision = structs.replace(NOTHING, avoid={f"n{number}": "NodeLost"}, cordon={"n3": "NodeLost"})
        kept = avoided(kept, decision, nodes, NOW + 600 * number)
    assert [(one.node, one.cordon) for one in kept] == [("n2", False), ("n3", True)], "two of twenty, the newest"
    del nodes["n2"]
    assert [one.node for one in avoided(kept, NOTHING, nodes, NOW + 2400)] == ["n3"], (
        "a node that is gone tempts nobody"
    )
    assert avoided(kept, NOTHING, nodes, NOW + 2 * 86400) == ()


def test_nodes_that_failed_one_after_the_other_are_all_kept_away_from() -> None:
    nodes = {f"n{number}": node(f"n{number}") for number in range(5)}
    kept: tuple[AvoidedNode, ...] = ()
    for number in range(2):
        decision = structs.replace(NOTHING, avoid={f"n{number}": "SupervisorLost"})
        kept = avoided(kept, decision, nodes, NOW + 20 * number)
    assert [one.node for one in kept] == ["n0", "n1"], "Kubernetes may take both for alive"
    decision = structs.replace(NOTHING, avoid={"n2": "SupervisorLost"})
    assert [one.node for one in avoided(kept, decision, nodes, NOW + 900)] == ["n2"]


def test_a_job_without_another_node_goes_back_to_the_one_that_failed() -> None:
    life = Spared(spares=0, nodes=2).run()
    life.lose("n1")
    life.step()
    assert [one.node for one in life.status.avoided_nodes] == ["n1"]
    assert life.make(place=False) == ["tiny-s1-2"]
    assert life.work().create == ()
    made_at = life.now
    step = life.step()
    assert step.again_at == made_at + WAIT_SECONDS
    life.now = step.again_at
    life.step()
    assert life.status.avoided_nodes == ()
    (again,) = life.work().create
    assert (again.seat, again.attempt, again.avoid) == ("s1", 3, ())
    assert [one.pod.name for one in life.work().delete] == ["tiny-s1-1", "tiny-s1-2"]
    assert life.status.epoch == 2, "no epoch is begun for it"


@pytest.mark.parametrize(
    ("volumes", "force_delete", "forced"),
    [
        pytest.param([], False, True, id="checkpoints are fenced by the attempt"),
        pytest.param([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}], False, False, id="a claim is not"),
        pytest.param([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}], True, True, id="the user allows it"),
    ],
)
def test_a_pod_on_a_dead_node_goes_by_force_unless_data_could_suffer(
    volumes: list[dict[str, Any]], force_delete: bool, forced: bool
) -> None:
    container = {"name": "trainer", "command": ["python", "train.py"]}
    template = {"spec": {"containers": [container], "volumes": volumes}}
    life = Spared(spares=0, template=template, recovery={"forceDelete": force_delete}).run()
    life.lose("n1")
    life.step()
    assert [(one.pod.name, one.force) for one in life.work().delete] == [("tiny-s1-1", False)], "its kubelet is asked"
    life.pods["tiny-s1-1"] = structs.replace(life.pods["tiny-s1-1"], terminating=True)
    assert [one.force for one in life.work().delete] == ([True] if forced else [])
    assert [one.name for one in life.work().release] == ["tiny-s1-1"]
    assert life.make() == ["tiny-s1-2"], "the seat is filled all the same"


@pytest.mark.parametrize("stop", ["suspend", "pause"])
def test_no_pod_gets_the_name_that_one_had_before_the_job_stood_still(stop: str) -> None:
    life = Spared(recovery={"rules": [{"when": {"exitCodes": [3]}, "do": "Pause"}]}).run()
    for attempt in (2, 3):
        life.pods.pop(f"tiny-s2-{attempt}")  # somebody deletes the spare: its attempts are ahead of the job's
        life.step()
        life.make()
        life.step()
    if stop == "pause":
        life.fails(code=3)
        assert life.status.phase is JobPhase.PAUSED
    life.spec(suspend=True)
    life.pods = {}
    life.step()
    life.step()
    assert (life.status.phase, life.status.seats) == (JobPhase.SUSPENDED, ())
    life.spec(suspend=False)
    life.step()
    assert life.make() == ["tiny-s0-5", "tiny-s1-5"]
    life.step()
    assert life.make() == ["tiny-s2-6"]


@pytest.mark.parametrize(
    ("pack", "left"),
    [
        pytest.param("Required", [], id="it could never take the place of a member"),
        pytest.param("Preferred", ["s2"], id="it was a wish"),
    ],
)
def test_a_spare_follows_the_members_into_their_domain(pack: str, left: list[str]) -> None:
    life = Spared(topology={"pack": pack, "keys": ["rack"]})
    life.nodes = {f"n{one}": node(f"n{one}", labels={"rack": "a" if one < 3 else "b"}) for one in range(6)}
    life.run()
    moved = {"s0": "n3", "s1": "n4"}  # all members were lost at once, and their gang found room in rack b
    seats = tuple(seat.model_copy(update={"node": moved.get(seat.seat, seat.node)}) for seat in life.status.seats)
    life.job = life.job.model_copy(update={"status": life.status.model_copy(update={"seats": seats})})
    for seat, name in moved.items():
        life.pods[f"tiny-{seat}-1"] = structs.replace(life.pods[f"tiny-{seat}-1"], node=name)
    life.step()
    assert [seat.seat for seat in life.status.seats if seat.spare and seat.node] == left
    assert [one.domains for one in life.work().create] == ([] if left else [(("rack", "b"),)])
    assert (life.status.phase, life.status.epoch) == (JobPhase.RUNNING, 1), "nobody stops for it"
