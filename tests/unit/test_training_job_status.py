"""A TrainingJob's life, step by step: pods come up, processes fail, people suspend it, deadlines pass."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from stowage.api.durations import instant
from stowage.api.training_job import TrainingJob
from stowage.api.training_reasons import JobReason
from stowage.api.training_words import Action, JobPhase
from stowage.decide.training.children import seat_pod_name
from stowage.decide.training.commands import command_of
from stowage.decide.training.job_status import Seen, next_step
from stowage.decide.training.phases import refusal
from stowage.decide.training.seats import LEAVE_SECONDS, filled, work_of
from stowage_scheduler.cluster import OwnerRef, Pod
from stowage_scheduler.health import PodHealth
from stowage_worker.messages import Begin, End, Evidence, Progress, Report, SeatState
from unit.builders import NOW, node, snapshot
from unit.builders import pod as any_pod

UID = "0123456789ab"
NODES = {f"n{number}": node(f"n{number}", labels={"rack": "b" if number == 0 else "a"}) for number in range(4)}


class Life:
    """A job with its pods and its coordinator; what the operator decides is carried out at once."""

    def __init__(self, nodes: int = 2, **spec: Any) -> None:
        container = {"name": "trainer", "command": ["python", "train.py"]}
        spec = {"nodes": {"min": nodes}, "template": {"spec": {"containers": [container]}}, **spec}
        self.job = TrainingJob.parse({"metadata": {"name": "tiny", "namespace": "team", "uid": UID}, "spec": spec})
        self.pods: dict[str, Pod] = {}
        self.report: Report | None = None
        self.now = NOW
        self.made = 0

    @property
    def status(self) -> Any:
        return self.job.status

    def seen(self) -> Seen:
        pods = tuple(self.pods.values())
        snap = snapshot(*NODES.values(), *pods, now=self.now)
        return Seen(pods, NODES, snap, self.now, self.report, connected=self.report is not None)

    def step(self) -> Any:
        before = self.status.phase
        step = next_step(self.job, self.seen())
        assert before is None or refusal(before, step.status.phase) is None
        self.job = self.job.model_copy(update={"status": step.status})
        return step

    def spec(self, **spec: Any) -> None:
        document = self.job.to_document()
        document["spec"] |= spec
        self.job = TrainingJob.parse(document)

    def work(self, ended_seconds: float | None = None) -> Any:
        return work_of(self.job, self.pods.values(), NODES, gated=False, ended_seconds=ended_seconds)

    def make(self, *, place: bool = True) -> list[str]:
        """Make the pods that are asked for; their names."""
        names = []
        for one in self.work().create:
            name = seat_pod_name("tiny", one.seat, one.attempt)
            self.made += 1
            labels = {"stowage.dev/job": "tiny", "stowage.dev/seat": one.seat}
            where = f"n{one.seat[1:]}" if place else None
            owner = OwnerRef("TrainingJob", "tiny", UID)
            uid = f"uid-{self.made}"
            self.pods[name] = any_pod(name, where, uid=uid, labels=labels, owner=owner, created_at=self.now)
            names.append(name)
        return names

    def tell(self, phase: str, evidence: tuple[Evidence, ...] = (), **fields: Any) -> None:
        """What the coordinator says about the epoch that it was told to begin."""
        begin = command_of(self.job)
        assert isinstance(begin, Begin)
        seats = tuple(
            SeatState(seat, uid, connected=True, state="Running")
            for seat, uid in zip(begin.seats, begin.pods, strict=True)
        )
        self.report = Report(begin.epoch, begin.attempt, phase, seats, evidence, **fields)

    def run(self) -> Life:
        """Until it runs."""
        self.step()
        self.make()
        self.step()
        self.tell("Running", started_at=self.now)
        self.step()
        assert self.status.phase is JobPhase.RUNNING
        return self

    def fails(self, seat: str = "s1", **fields: Any) -> Any:
        usual: dict[str, Any] = {"at": self.now - 1, "seat": seat, "rank": 1, "code": 1, "step": 10}
        self.tell("Failed", (Evidence("ProcessExited", self.status.epoch, **{**usual, **fields}),))
        return self.step()


def test_a_new_job_asks_for_its_pods_and_begins_when_all_have_nodes() -> None:
    life = Life()
    life.step()
    assert (life.status.phase, life.status.epoch, life.status.attempt) == (JobPhase.PENDING, 1, 1)
    assert life.make(place=False) == ["tiny-s0-1", "tiny-s1-1"]
    life.step()
    assert command_of(life.job) is None, "nobody has a node yet"
    life.pods = {}
    life.job = life.job.model_copy(update={"status": life.status.model_copy(update={"seats": filled(2, 1)})})
    life.make()
    life.step()
    assert life.status.phase is JobPhase.STARTING
    begin = command_of(life.job)
    assert isinstance(begin, Begin)
    assert (begin.epoch, begin.attempt, begin.seats, begin.pods) == (1, 1, ("s0", "s1"), ("uid-3", "uid-4"))


def test_neighbours_in_the_topology_follow_each_other_in_rank() -> None:
    life = Life(nodes=3, topology={"keys": ["rack"]})
    life.step()
    life.make()
    life.step()
    assert life.status.members == ("s1", "s2", "s0"), "s0 stands in rack b, the others in a"


@pytest.mark.parametrize(
    ("pack", "stand", "expected"),
    [
        pytest.param("Required", ("n1", "n2", "n3"), (("rack", "a"),), id="the others are in rack a"),
        pytest.param("Required", ("n0", "n1", "n2"), (), id="they are in two racks already: nothing is to be kept"),
        pytest.param("Preferred", ("n1", "n2", "n3"), (), id="it was a wish"),
    ],
)
def test_who_replaces_a_pod_joins_the_others(pack: str, stand: tuple[str, ...], expected: Any) -> None:
    life = Life(nodes=4, topology={"pack": pack, "keys": ["rack"]})
    life.step()
    life.make()
    life.step()
    seats = tuple(
        seat.model_copy(update={"node": node} if node else {"node": None, "pod_uid": None, "attempt": 2})
        for seat, node in zip(life.status.seats, (*stand, None), strict=True)
    )
    life.job = life.job.model_copy(update={"status": life.status.model_copy(update={"seats": seats})})
    assert [one.domains for one in life.work().create] == [expected]


def test_a_step_that_sees_nothing_new_changes_nothing() -> None:
    life = Life().run()
    for _ in range(3):
        before = life.status
        life.now += 1
        assert life.step().status == before


def test_a_failed_process_starts_a_new_epoch_in_the_same_pods() -> None:
    life = Life().run()
    step = life.fails()
    assert step.decision.action is Action.RESTART_PROCESSES
    assert (life.status.phase, life.status.epoch, life.status.attempt) == (JobPhase.RECOVERING, 2, 2)
    assert life.status.members == ("s0", "s1")
    assert life.make() == []
    assert life.work().delete == ()
    begin = command_of(life.job)
    assert isinstance(begin, Begin)
    assert begin.epoch == 2
    assert life.step().status.epoch == 2, "the same report of the epoch before asks for nothing more"
    life.tell("Running")
    life.step()
    assert life.status.phase is JobPhase.RUNNING
    assert life.status.last_failure.seat == "s1"


def test_a_pod_that_is_gone_is_followed_by_one_of_the_next_attempt() -> None:
    life = Life().run()
    del life.pods["tiny-s0-1"]
    life.step()
    assert life.status.epoch == 2
    assert life.status.members == (), "the order is known when the new pod has a node"
    assert command_of(life.job) is None
    assert life.make() == ["tiny-s0-2"]
    life.step()
    begin = command_of(life.job)
    assert isinstance(begin, Begin)
    assert begin.seats == ("s0", "s1")
    assert begin.pods == ("uid-3", "uid-2")


def test_a_pod_that_its_kubelet_evicted_has_not_finished() -> None:
    life = Life().run()
    evicted = PodHealth(disruption="TerminationByKubelet", disrupted_at=life.now, reason="Evicted")
    life.pods["tiny-s0-1"] = structs.replace(life.pods["tiny-s0-1"], phase="Failed", ready=False, health=evicted)
    step = life.step()
    assert (step.decision.action, step.decision.vacate) == (Action.REPLACE_NODE, ("s0",))
    assert life.status.recoveries[0].blameless
    assert life.make() == ["tiny-s0-2"]


def test_a_pod_that_does_not_go_blocks_nothing_and_is_let_go_once_it_is_counted() -> None:
    life = Life().run()
    leaving = life.pods["tiny-s0-1"]
    life.pods["tiny-s0-1"] = any_pod(
        "tiny-s0-1", "n0", uid=leaving.uid, labels=dict(leaving.labels), owner=leaving.owner, terminating=True
    )
    assert life.work().release == (), "it is not counted before the status speaks of it"
    life.step()
    assert life.make() == ["tiny-s0-2"]
    assert [one.name for one in life.work().release] == ["tiny-s0-1"]


def test_the_job_has_succeeded_when_all_ranks_left_the_end_barrier() -> None:
    life = Life().run()
    life.tell("Finished", progress=Progress(step=99))
    life.step()
    assert life.status.phase is JobPhase.SUCCEEDED
    assert life.status.progress.step == 99
    assert command_of(life.job) == End(0, grace_seconds=25.0)
    pods = {
        name: any_pod(name, "n0", uid=pod.uid, owner=pod.owner, phase="Succeeded") for name, pod in life.pods.items()
    }
    life.pods = pods
    work = life.work(ended_seconds=1.0)
    assert {one.name for one in work.release} == set(pods)
    assert (work.delete, work.create) == ((), ())
    life.pods = {}
    assert life.step().status.phase is JobPhase.SUCCEEDED, "pods that go afterwards are no failure"


@pytest.mark.parametrize(
    ("seconds", "deleted"),
    [
        pytest.param(LEAVE_SECONDS - 1, 0, id="supervisors have time to end"),
        pytest.param(LEAVE_SECONDS, 2, id="what runs on holds nodes for nothing"),
    ],
)
def test_pods_of_an_ended_job_go_when_they_do_not_end(seconds: float, deleted: int) -> None:
    life = Life().run()
    life.tell("Finished")
    life.step()
    assert len(life.work(ended_seconds=seconds).delete) == deleted


def test_a_rule_that_fails_the_job_ends_it_with_its_words() -> None:
    rule = {"when": {"exitCodes": [42]}, "do": "Fail", "message": "the data is broken"}
    life = Life(recovery={"rules": [rule]}).run()
    life.fails(code=42)
    assert life.status.phase is JobPhase.FAILED
    assert life.status.reason == JobReason.FAILED_BY_RULE
    assert "the data is broken" in life.status.message
    assert isinstance(command_of(life.job), End)
    assert life.make() == []


def test_a_rule_that_pauses_takes_the_pods_and_keeps_the_job() -> None:
    life = Life(recovery={"rules": [{"when": {"exitCodes": [42]}, "do": "Pause"}]}).run()
    life.fails(code=42)
    assert (life.status.phase, life.status.seats) == (JobPhase.PAUSED, ())
    assert len(life.work().delete) == 2
    life.spec(suspend=True)
    life.step()
    assert life.status.phase is JobPhase.SUSPENDED
    life.spec(suspend=False)
    life.step()
    assert (life.status.phase, life.status.attempt) == (JobPhase.PENDING, 2)


def test_suspending_waits_for_the_ranks_to_yield() -> None:
    life = Life().run()
    life.spec(suspend=True)
    life.step()
    command = command_of(life.job)
    assert isinstance(command, Begin)
    assert (command.seats, command.epoch) == ((), 2)
    assert command.yield_first_seconds > 0
    assert life.work().delete == ()
    life.report = Report(2, 1, "Yielded")
    life.now += 10
    life.step()
    assert life.status.phase is JobPhase.SUSPENDED
    assert len(life.work().delete) == 2
    assert life.status.active_seconds == 10


def test_suspending_ends_when_nobody_answers() -> None:
    life = Life().run()
    life.spec(suspend=True)
    step = life.step()
    assert life.status.phase is JobPhase.RESIZING
    life.now = step.again_at
    life.step()
    assert life.status.phase is JobPhase.SUSPENDED


def test_resumed_it_has_new_pods_of_a_new_attempt() -> None:
    life = Life(suspend=True)
    life.step()
    assert (life.status.phase, life.status.epoch) == (JobPhase.SUSPENDED, 0)
    life.spec(suspend=False)
    life.run()
    assert (life.status.epoch, life.status.attempt) == (1, 1)


@pytest.mark.parametrize(
    ("spec", "running", "reason"),
    [
        pytest.param({"activeDeadline": "60s"}, True, JobReason.DEADLINE_EXCEEDED, id="it ran for too long"),
        pytest.param({"startDeadline": "60s"}, False, JobReason.START_DEADLINE_EXCEEDED, id="it never began"),
    ],
)
def test_deadlines_end_a_job(spec: dict[str, Any], running: bool, reason: JobReason) -> None:
    life = Life(**spec)
    if running:
        life.run()
    else:
        life.step()
    life.now = NOW + 59
    step = life.step()
    assert not life.status.phase.ended
    assert step.again_at == NOW + 60
    life.now = NOW + 60
    life.step()
    assert (life.status.phase, life.status.reason) == (JobPhase.FAILED, reason)


def test_a_job_that_began_has_no_deadline_to_begin() -> None:
    life = Life(startDeadline="60s").run()
    life.now = NOW + 600
    life.step()
    assert life.status.phase is JobPhase.RUNNING


def test_conditions_say_who_places_the_pods_and_whether_the_coordinator_is_heard() -> None:
    life = Life().run()
    by_type = {one.type: one for one in life.status.conditions}
    assert by_type["Placed"].reason == "NoPolicy"
    assert by_type["Running"].status == "True"
    seen = life.seen()
    step = next_step(life.job, Seen(seen.pods, NODES, seen.snapshot, seen.now, gated=True, refused="too large"))
    by_type = {one.type: one for one in step.status.conditions}
    assert (by_type["Placed"].reason, by_type["Placed"].status) == ("Placed", "True")
    assert (by_type["Running"].reason, by_type["Running"].status) == ("CoordinatorUnreachable", "Unknown")
    assert (by_type["Accepted"].reason, by_type["Accepted"].message) == ("ChildRefused", "too large")


def test_pods_that_kueue_holds_wait_for_quota() -> None:
    life = Life(queueName="team-a")
    life.step()
    life.make(place=False)
    life.pods = {name: structs.replace(pod, gates=("kueue.x-k8s.io/admission",)) for name, pod in life.pods.items()}
    life.step()
    placed = next(one for one in life.status.conditions if one.type == "Placed")
    assert (placed.status, placed.reason) == ("False", "AwaitingQuota")
    assert "team-a" in placed.message


def test_a_finished_job_says_when_its_time_to_live_is_over() -> None:
    life = Life(ttlAfterFinished="30s").run()
    life.tell("Finished")
    life.step()
    assert life.step().again_at == pytest.approx(NOW + 30)
    assert life.status.finished_at == instant(NOW)


def test_the_status_tells_where_the_time_went() -> None:
    life = Life()
    life.step()
    life.make()
    life.now += 10
    life.step()
    life.tell("Running", started_at=life.now)
    life.step()
    for step in (1, 50):
        life.now += 20
        life.tell("Running", progress=Progress(step=step, phase="Training"))
        life.step()
    life.now += 2
    life.fails(at=life.now - 1)
    life.now += 3
    life.tell("Running", started_at=life.now)
    life.step()
    life.now += 5
    life.tell("Running", started_at=life.now - 5, first_step_at=life.now - 1, progress=Progress(step=30))
    life.step()
    life.now += 20
    life.tell("Running", started_at=life.now - 25, first_step_at=life.now - 21, progress=Progress(step=70))
    life.step()
    goodput, recovery = life.status.goodput, life.status.last_failure.recovery
    lost = {str(one.cause): one.seconds for one in goodput.lost_seconds}
    assert lost == {"Initialization": 10, "ProgramStartup": 5, "WorkloadRecovery": 5, "WastedProgress": 10}
    assert (goodput.productive_seconds, goodput.ratio) == (50, "0.625"), (
        "until a program tells steps, it may be one that never does"
    )
    stages = {name: getattr(recovery, name).seconds for name in type(recovery).model_fields}
    assert stages == {"detect": 1, "decide": 0, "schedule": 0, "start": 3, "restore": 4, "recompute": 21}
