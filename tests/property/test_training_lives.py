"""Whatever fails in whatever order: epochs rise, no pod's name comes twice, and a job with nodes enough runs again."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from stowage.api.training_words import JobPhase
from stowage.decide.training.children import seat_pod_name
from stowage.decide.training.commands import command_of, is_suspending
from stowage.decide.training.seats import STANDING_STILL, members_of, spares_of, work_of
from stowage.decide.training.spares import wanted_spares
from stowage.decide.training.waiting import WAITS
from stowage_scheduler.cluster import OwnerRef
from stowage_scheduler.health import NodeCondition, PodHealth
from stowage_worker.messages import Begin, Evidence, Report, SeatState
from unit.builders import pod as any_pod
from unit.test_training_job_status import UID
from unit.test_training_spares import Spared

MEMBERS = 2
NODES = 6
ROUNDS = 12

failures = st.one_of(
    st.tuples(st.just("process"), st.integers(0, 3)),
    st.tuples(st.just("node"), st.integers(0, NODES - 1)),
    st.tuples(st.just("pod"), st.integers(0, 3)),
    st.tuples(st.just("back"), st.integers(0, NODES - 1)),
    st.tuples(st.just("silence"), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.integers(1, 90)),
    st.tuples(st.just("look"), st.just(0)),
    st.tuples(st.just("unheard"), st.just(0)),
    st.tuples(st.just("spares"), st.integers(0, 2)),
    st.tuples(st.just("suspend"), st.integers(0, 1)),
)


class World(Spared):
    """A cluster in which one pod fits on a node, and a coordinator that does as it is told."""

    def __init__(self, spares: int) -> None:
        budget = {"restarts": 50, "window": "1m"}
        rules = [
            {"when": {"event": "ProcessExited"}, "do": "RestartProcesses"},
            {"when": {"event": "Disruption"}, "do": "ReplaceNode"},
        ]
        super().__init__(spares, NODES, recovery={"budget": budget, "rules": rules})
        self.sizes = {MEMBERS}
        self.epochs: list[int] = []
        self.silent: set[str] = set()
        self.lost: dict[str, Evidence] = {}
        self.named: set[str] = set()
        self.lets_go = False
        """Seats go: others may get their names."""

    def look(self) -> None:
        """One pass of the operator and what everybody does about it."""
        before = self.status
        self.step()
        self._hold(before)
        for one in self.work().delete:
            self.pods.pop(one.pod.name)  # nobody has a finalizer here
        for one in self.work().create:
            name = seat_pod_name("tiny", one.seat, one.attempt)
            assert name not in self.pods, "a pod of that name is still there"
            assert self.lets_go or name not in self.named, "a pod had that name"
            self.named.add(name)
            labels = {"stowage.dev/job": "tiny", "stowage.dev/seat": one.seat, "stowage.dev/attempt": str(one.attempt)}
            owner = OwnerRef("TrainingJob", "tiny", UID)
            self.made += 1
            self.pods[name] = any_pod(
                name, None, uid=f"uid-{self.made}", labels=labels, owner=owner, created_at=self.now,
                annotations={"avoid": ",".join(one.avoid)},
            )  # fmt: skip
        self._schedule()
        self._coordinate()

    def work(self, ended_seconds: float | None = None) -> Any:
        return work_of(self.job, self.pods.values(), self.nodes, gated=False, ended_seconds=ended_seconds)

    def _schedule(self) -> None:
        taken = {pod.node for pod in self.pods.values()}
        for name, pod in self.pods.items():
            if pod.node is not None:
                continue
            avoid = set(pod.annotations["avoid"].split(","))
            free = (one.name for one in self.nodes.values() if one.ready and one.name not in taken | avoid)
            node = next(free, None)
            if node is not None:
                taken.add(node)
                health = PodHealth(ready_since=self.now)
                self.pods[name] = structs.replace(
                    pod, node=node, phase="Running", ready=True, bound_at=self.now, health=health
                )

    def _is_heard(self, uid: str | None) -> bool:
        pod = next((one for one in self.pods.values() if one.uid == uid), None)
        return pod is not None and pod.node in self.nodes and self.nodes[pod.node].ready and uid not in self.silent

    def _coordinate(self) -> None:
        begin = command_of(self.job)
        if not isinstance(begin, Begin):
            return
        if not self.epochs or begin.epoch != self.epochs[-1]:
            assert not self.epochs or begin.epoch > self.epochs[-1]
            self.epochs.append(begin.epoch)
            self.lost = {}
        members = dict(zip(begin.seats, begin.pods, strict=True))
        assert len(members) in self.sizes or is_suspending(self.job)
        waiting = {seat.seat: seat.pod_uid for seat in spares_of(self.status.seats) if seat.pod_uid}
        heard = {seat: self._is_heard(uid) for seat, uid in {**waiting, **members}.items()}
        for seat in members:
            if not heard[seat] and seat not in self.lost:
                self.lost[seat] = Evidence("SupervisorLost", begin.epoch, self.now, seat=seat)
        seats = tuple(
            SeatState(seat, uid or "", connected=heard[seat], state="Running" if seat in members else "Idle")
            for seat, uid in {**waiting, **members}.items()
        )
        phase = "Failed" if self.lost else "Running" if members else "Yielded"
        self.report = Report(begin.epoch, begin.attempt, phase, seats, tuple(self.lost.values()))

    def _hold(self, before: Any) -> None:
        status = self.status
        assert status.epoch >= before.epoch
        assert status.attempt >= before.attempt
        assert {seat.seat for seat in status.seats} >= set(status.members)
        if status.phase in STANDING_STILL:
            return
        assert status.message or status.phase not in WAITS, "who waits says for what"
        assert len(members_of(status.seats)) in self.sizes
        assert not set(status.members) & {seat.seat for seat in spares_of(status.seats)}
        assert len(spares_of(status.seats)) <= max(len(spares_of(before.seats)), wanted_spares(self.job, status))
        if status.members:
            assert all(seat.pod_uid and seat.node for seat in members_of(status.seats))

    def meets(self, what: str, number: int) -> None:
        seats = self.status.seats
        seat = seats[number % len(seats)].seat if seats else ""
        uid = next((one.pod_uid for one in seats if one.seat == seat), None)
        if what == "process" and self.report is not None and seat in self.status.members:
            self.lost["process"] = Evidence("ProcessExited", self.report.epoch, self.now, seat=seat, rank=0, code=1)
        elif what == "node":
            gone = NodeCondition("Ready", "Unknown", since=self.now)
            name = f"n{number}"
            self.nodes[name] = structs.replace(self.nodes[name], ready=False, conditions=(gone,))
        elif what == "back":
            name = f"n{number}"
            self.nodes[name] = structs.replace(self.nodes[name], ready=True, conditions=())
        elif what == "pod":
            self.pods = {name: pod for name, pod in self.pods.items() if pod.uid != uid or uid is None}
        elif what == "silence" and uid is not None:
            self.silent.add(uid)
        elif what == "wait":
            self.now += number
        elif what == "unheard":
            self.report = None
        elif what == "suspend":
            self.spec(suspend=bool(number))
        elif what == "spares":
            self.lets_go = True
            recovery = self.job.to_document()["spec"]["recovery"]
            self.spec(recovery={**recovery, "spares": number})
        self._coordinate()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2), st.lists(failures, max_size=25))
def test_a_job_lives_through_what_fails_and_runs_when_there_are_nodes(spares: int, happens: list[Any]) -> None:
    world = World(spares)
    for _ in range(3):
        world.look()
    for what, number in happens:
        world.now += 1
        world.meets(what, number)
        world.look()
    for number in range(NODES):
        world.meets("back", number)
    world.meets("suspend", 0)
    for _ in range(ROUNDS):
        world.now += 61
        world.meets("look", 0)
        world.look()
    if world.status.phase is JobPhase.PAUSED:
        assert world.status.recoveries, "only what failed again and again is paused"
        return
    assert world.status.phase is JobPhase.RUNNING, world.status.message
    assert len(spares_of(world.status.seats)) <= world.job.spec.recovery.spares
    before = world.status
    made = set(world.pods)
    world.look()
    assert (world.status, set(world.pods)) == (before, made), "who has what it needs stands still"
