"""Evidence that is easily lost or answered twice: silence in a barrier, absent coordinators, statuses put back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from stowage.api.training_job_status import TrainingJobStatus
from stowage.api.training_words import Action, Domain, Event, JobPhase
from stowage.decide.training.commands import command_of
from stowage.decide.training.escalation import MAX_REMEMBERED, remembered
from stowage.decide.training.evidence_of_coordinators import LATE_SECONDS, LOST_SECONDS
from stowage.decide.training.facts import History, Recovery
from stowage.decide.training.failure_story import failure_story
from stowage.decide.training.freshness import RETURN_SECONDS, TAINT_SECONDS, UNHEARD_SECONDS
from stowage.decide.training.heard import Heard
from stowage.decide.training.job_status import Seen, next_step
from stowage.decide.training.recovery import PEERS_SECONDS, VERDICT_SECONDS
from stowage_scheduler.health import PodHealth
from stowage_worker.messages import Begin, Evidence, Report, SeatState
from unit.builders import NOW
from unit.test_training_job_status import Life
from unit.training_cases import cluster, decided, exited, job, lost_node, of_node, saw, seat, tried


class Listened(Life):
    """A job whose link to the coordinator a test breaks."""

    link_since = NOW
    connected = True

    def seen(self) -> Seen:
        return structs.replace(
            super().seen(), connected=self.connected and self.report is not None, link_since=self.link_since
        )

    def make(self, *, place: bool = True) -> list[str]:
        names = super().make(place=place)
        for name in names:
            self.pods[name] = structs.replace(self.pods[name], health=PodHealth(ready_since=self.now))
        return names

    def prepare(self, *missing: str) -> None:
        """The coordinator waits for some."""
        begin = command_of(self.job)
        assert isinstance(begin, Begin)
        seats = tuple(
            SeatState(one, uid, connected=one not in missing, state="Lost" if one in missing else "Prepared")
            for one, uid in zip(begin.seats, begin.pods, strict=True)
        )
        self.report = Report(begin.epoch, begin.attempt, "Preparing", seats)


def in_barrier() -> Listened:
    """Epoch 2 waits for s0, whose node died with the process of s1."""
    life = Listened()
    life.run()
    life.fails("s1")
    life.prepare("s0")
    return life


def test_a_supervisor_that_does_not_come_to_the_barrier_is_lost_soon() -> None:
    life = in_barrier()
    step = life.step()
    assert (life.status.epoch, step.again_at) == (2, NOW + LATE_SECONDS)
    life.now = NOW + LATE_SECONDS
    step = life.step()
    assert step.decision.reason == "WaitsForCause"
    life.now = step.again_at
    step = life.step()
    assert (step.decision.action, step.decision.vacate) == (Action.REPLACE_NODE, ("s0",))
    assert life.status.epoch == 3


@pytest.mark.parametrize(
    "health",
    [
        pytest.param({"ready": False}, id="its container starts again: the kubelet takes its time"),
        pytest.param({"health": PodHealth(ready_since=NOW + LATE_SECONDS)}, id="its container has just started"),
    ],
)
def test_who_may_still_come_is_waited_for(health: dict[str, Any]) -> None:
    life = in_barrier()
    life.pods["tiny-s0-1"] = structs.replace(life.pods["tiny-s0-1"], **health)
    life.now = NOW + LATE_SECONDS + 5
    life.step()
    assert life.status.epoch == 2


def test_nobody_is_late_while_the_coordinator_itself_is_away() -> None:
    life = in_barrier()
    life.connected = False
    life.now = NOW + LATE_SECONDS + 5
    life.step()
    assert life.status.epoch == 2


def test_a_clock_of_a_coordinator_that_is_ahead_makes_nobody_wait() -> None:
    life = Life().run()
    life.tell("Failed", (Evidence("SupervisorLost", 1, NOW + 3600, seat="s1"),))
    report = life.report
    assert report is not None
    gone = SeatState("s1", "uid-2", connected=False, state="Lost")
    life.report = replace(report, seats=(report.seats[0], gone))
    heard = (Heard("SupervisorLost", "s1", -1, NOW),)
    for seconds, epoch in ((1.0, 1), (2.5, 2)):
        step = next_step(life.job, structs.replace(life.seen(), heard=heard, now=NOW + seconds))
        assert step.status.epoch == epoch


def test_a_coordinator_that_is_away_for_long_is_evidence_once() -> None:
    rule = {"when": {"event": "CoordinatorLost"}, "do": "RestartProcesses"}
    life = Listened(recovery={"rules": [rule]})
    life.run()
    life.connected = False
    life.now = NOW + LOST_SECONDS - 1
    assert life.step().status.epoch == 1
    life.now += 1
    step = life.step()
    assert (step.decision.action, life.status.last_failure.event) == (Action.RESTART_PROCESSES, Event.COORDINATOR_LOST)
    for _ in range(3):
        life.now += 60
        assert life.step().status.epoch == 2, "it is still the same loss"


def test_by_default_training_goes_on_without_its_coordinator() -> None:
    life = Listened()
    life.run()
    life.connected = False
    life.now = NOW + 3600
    life.step()
    assert (life.status.phase, life.status.epoch) == (JobPhase.RUNNING, 1)


@pytest.mark.parametrize(
    ("heard", "connected", "waits"),
    [
        pytest.param(True, True, None, id="its supervisor is heard: the kubelet alone is gone"),
        pytest.param(False, True, UNHEARD_SECONDS, id="an operator that was started again has heard nobody yet"),
        pytest.param(True, False, RETURN_SECONDS, id="supervisors may still find a coordinator that came back"),
    ],
)
def test_a_node_that_is_not_ready_is_believed_lost_when_its_supervisors_had_time_to_be_heard(
    heard: bool, connected: bool, waits: float | None
) -> None:
    facts = job(seat(1, connected=connected), heard=heard, heard_since=NOW)
    lost = lost_node("n1", at=NOW)
    early = decided(lost, job_facts=facts, snapshot=cluster(lost=("n1",)), now=NOW + 1)
    assert early.action is Action.IGNORE
    assert early.again_at == (NOW + waits if waits is not None else None)
    later = decided(lost, job_facts=facts, snapshot=cluster(lost=("n1",)), now=NOW + 60)
    assert later.action is (Action.IGNORE if heard and connected else Action.REPLACE_NODE)


def test_a_node_that_is_gone_is_believed_at_once() -> None:
    facts = job(seat(1), heard=False, heard_since=NOW)
    decision = decided(of_node(Event.NODE_LOST, "Gone", "n1"), job_facts=facts, snapshot=cluster(gone=("n1",)))
    assert (decision.action, decision.vacate) == (Action.REPLACE_NODE, ("s1",))


def test_a_status_that_was_put_back_goes_on_above_the_epoch_of_the_coordinator() -> None:
    life = Life().run()
    life.fails()
    life.tell("Running")
    life.step()
    before = life.status
    life.job = life.job.model_copy(update={"status": TrainingJobStatus()})
    life.step()
    assert life.status.epoch > before.epoch
    assert life.status.attempt > before.attempt


@pytest.mark.parametrize("action", [Action.IGNORE, Action.RESTART_PROCESSES, Action.RESTART_CONTAINER])
def test_a_pod_that_is_gone_is_made_anew_whatever_a_rule_says(action: Action) -> None:
    life = Life(recovery={"rules": [{"when": {"event": "PodDeleted"}, "do": str(action)}]}).run()
    del life.pods["tiny-s0-1"]
    life.step()
    assert life.make() == ["tiny-s0-2"]
    life.step()
    assert (life.status.epoch, len(life.status.recoveries)) == (2, 1), "one failure, one epoch"


def test_what_people_do_to_pods_says_nothing_of_nodes() -> None:
    assert decided(saw(Event.POD_DELETED, 1)).avoid == {}


@pytest.mark.parametrize(
    ("step", "ago", "repeated"),
    [
        pytest.param(10, 90000.0, True, id="the same step: whenever it was"),
        pytest.param(None, 60.0, True, id="no step is told, a minute ago"),
        pytest.param(None, 90000.0, False, id="no step is told, and it was yesterday"),
    ],
)
def test_the_same_error_without_a_step_is_a_mistake_only_soon_after(
    step: int | None, ago: float, repeated: bool
) -> None:
    past = tried(Action.RESTART_PROCESSES, epoch=6, error_hash="h1", step=step, at=NOW - ago)
    decision = decided(exited(error_hash="h1", error_type="RuntimeError", step=step), history=History((past,)))
    assert (decision.reason == "UserError") is repeated


def test_losses_of_spares_push_no_restart_out_of_the_history() -> None:
    def lost(epoch: int) -> Recovery:
        return Recovery(NOW, Event.POD_DELETED, Action.IGNORE, Domain.UNKNOWN, epoch)

    told = (lost(1), Recovery(NOW, Event.HANG, Action.RESTART_PROCESSES, Domain.UNKNOWN, 1))
    kept = remembered(told, [lost(2)] * MAX_REMEMBERED)
    assert len(kept) == MAX_REMEMBERED
    assert Action.RESTART_PROCESSES in {one.action for one in kept}


def test_a_taint_that_a_job_tolerates_does_not_move_it_again_and_again() -> None:
    taint = of_node(Event.NODE_TAINT, "karpenter.sh/disrupted", "n1", at=NOW - 1)
    past = tried(
        Action.REPLACE_NODE, epoch=6, event=Event.NODE_TAINT, name="karpenter.sh/disrupted", at=NOW - TAINT_SECONDS / 2
    )
    assert decided(taint).action is Action.REPLACE_NODE
    assert decided(taint, history=History((past,))).action is Action.IGNORE
    long_ago = structs.replace(past, at=NOW - 2 * TAINT_SECONDS)
    assert decided(taint, history=History((long_ago,))).action is Action.REPLACE_NODE


def test_who_has_finished_may_lose_its_node() -> None:
    life = Life().run()
    life.tell("Running")
    assert life.report is not None
    first, second = life.report.seats
    done = SeatState(first.seat, first.pod, connected=True, state="Finished")
    life.report = Report(1, 1, "Running", (done, second))
    del life.pods["tiny-s0-1"]
    life.step()
    assert (life.status.phase, life.status.epoch) == (JobPhase.RUNNING, 1)
    life.tell("Finished")
    life.step()
    assert life.status.phase is JobPhase.SUCCEEDED


def test_a_job_that_failed_before_it_began_still_has_a_deadline_to_begin() -> None:
    life = Life(startDeadline="60s")
    life.step()
    life.make()
    life.step()
    del life.pods["tiny-s0-1"]
    life.step()
    assert life.status.phase is JobPhase.RECOVERING
    life.now += 60
    life.step()
    assert life.status.phase is JobPhase.FAILED


def test_a_spare_and_a_member_that_fail_together_are_one_decision_about_the_member() -> None:
    facts = job(seat(5, spare=True, member=False))
    decision = decided(saw(Event.POD_DELETED, 5), exited(1), job_facts=facts)
    assert (decision.action, decision.vacate) == (Action.RESTART_PROCESSES, ("s5",))
    assert decision.claimed_spares == ()


def test_a_spare_never_pauses_its_job() -> None:
    past = tuple(tried(Action.REPLACE_NODE, epoch=number, event=Event.POD_DELETED, seat="s5") for number in (3, 4, 5))
    facts = job(seat(5, spare=True, member=False), sizes=(4,))
    decision = decided(saw(Event.POD_DELETED, 5), job_facts=facts, history=History(past))
    assert (decision.action, decision.vacate) == (Action.IGNORE, ("s5",))


def test_ranks_that_lost_their_peers_are_no_failure_while_a_supervisor_is_about_to_be_given_up() -> None:
    reset = exited(0, error_type="ConnectionResetError", at=NOW)
    facts = job(seat(1, connected=False))
    first = decided(reset, job_facts=facts, now=NOW + 1)
    assert (first.action, first.again_at) == (Action.IGNORE, NOW + VERDICT_SECONDS)
    told = decided(reset, saw(Event.SUPERVISOR_LOST, 1, at=NOW + 2), job_facts=facts, now=NOW + 4)
    assert (told.action, told.vacate) == (Action.REPLACE_NODE, ("s1",)), "one epoch, not two"
    assert decided(reset, job_facts=facts, now=NOW + VERDICT_SECONDS).action is Action.RESTART_PROCESSES


def test_ranks_that_lost_their_peers_are_waited_for_no_longer_than_a_moment() -> None:
    reset = exited(0, error_type="ConnectionResetError", at=NOW)
    assert decided(reset, now=NOW).again_at == NOW + PEERS_SECONDS
    assert decided(reset, now=NOW + PEERS_SECONDS).action is Action.RESTART_PROCESSES
    assert decided(reset, exited(1, at=NOW), now=NOW).action is Action.RESTART_PROCESSES, "that one explains it"


@pytest.mark.parametrize("terminating", [True, False], ids=["evicted by the API", "by its kubelet"])
def test_a_rule_that_ignores_evictions_does_not_keep_a_pod_that_has_ended(terminating: bool) -> None:
    life = Life(recovery={"rules": [{"when": {"event": "Disruption"}, "do": "Ignore"}]}).run()
    life.now += 10
    health = PodHealth(disruption="EvictionByEvictionAPI", disrupted_at=life.now)
    pod = structs.replace(life.pods["tiny-s0-1"], health=health, terminating=terminating, ready=False)
    life.pods["tiny-s0-1"] = pod
    life.step()
    assert (life.status.phase, life.status.epoch) == (JobPhase.RUNNING, 1), "it still runs for its grace"
    life.pods["tiny-s0-1"] = structs.replace(pod, phase="Failed")
    life.step()
    assert (life.status.phase, life.status.epoch) == (JobPhase.RECOVERING, 2)
    assert [one.name for one in life.work().release] == ["tiny-s0-1"], "its finalizer would hold it for ever"
    assert life.make() == ["tiny-s0-2"]


def test_the_last_failure_is_the_one_that_asked_for_what_is_done() -> None:
    life = Life(nodes=3).run()
    life.now += 10
    evicted = PodHealth(disruption="EvictionByEvictionAPI", disrupted_at=life.now - 1)
    life.pods["tiny-s0-1"] = structs.replace(life.pods["tiny-s0-1"], terminating=True, health=evicted)
    life.spec(recovery={"rules": [{"when": {"exitCodes": [3]}, "do": "RestartProcesses"}]})
    life.fails("s1", code=3)
    failure = life.status.last_failure
    assert (failure.action, failure.event, failure.seat) == (Action.REPLACE_NODE, Event.DISRUPTION, "s0")
    assert failure.message.startswith("Disruption")
    assert {(one.event, one.action) for one in life.status.recoveries} == {
        (Event.PROCESS_EXITED, Action.RESTART_PROCESSES),
        (Event.DISRUPTION, Action.REPLACE_NODE),
    }
    story = failure_story(life.job)
    assert story is not None
    assert (story.done, story.budget.used) == ("its seat got a pod on another node", 1)
    assert story.rule == "no rule of the job speaks of it; by default: ReplaceNode"
