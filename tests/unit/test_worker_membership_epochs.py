from __future__ import annotations

from dataclasses import replace

import pytest

from harness.training_model import Theatre
from harness.training_stories import SEATS, evidence, heard, running, say
from stowage_worker import membership
from stowage_worker.membership_state import CommandError, Now
from stowage_worker.messages import (
    Beat,
    Begin,
    Finished,
    HangRule,
    Hello,
    Prepare,
    RankProgress,
    Refused,
    Started,
    Stop,
    Yield,
    Yielded,
)
from stowage_worker.reports import phase_of, report_of


def test_a_planned_change_lets_processes_yield_before_they_are_prepared() -> None:
    theatre = running()
    theatre.command_next(SEATS, yield_first_seconds=30.0)
    assert [heard(theatre, seat) for seat in SEATS] == [[Yield]] * 3
    theatre.downward("s0")
    theatre.upward("s0")
    assert heard(theatre, "s0") == [Prepare]
    assert heard(theatre, "s1") == [Yield], "the others are not hurried"
    say(theatre, "s1", Finished(1))
    assert heard(theatre, "s1") == [Yield, Prepare]
    theatre.supervisors["s2"].down.clear()
    for _ in range(32):
        for seat in SEATS:
            say(theatre, seat, Beat(1))
        theatre.pass_time(1.0)
    assert heard(theatre, "s2") == [Prepare], "its time is over"
    theatre.deliver_all()
    assert phase_of(theatre.state) == "Running"
    assert [one.starts for one in theatre.supervisors.values()] == [[1, 2]] * 3


def test_members_that_are_no_more_stop_what_they_run() -> None:
    theatre = running()
    theatre.command_next(("s0", "s1"))
    theatre.deliver_all()
    assert phase_of(theatre.state) == "Running"
    assert theatre.supervisors["s2"].runs == 0
    theatre.break_off("s2")
    theatre.pass_time(3.0)
    assert evidence(theatre) == []
    assert "s2" not in theatre.state.seats


def test_no_members_is_a_job_that_rests() -> None:
    theatre = running()
    theatre.command_next((), yield_first_seconds=10.0)
    assert phase_of(theatre.state) == "Preparing"
    theatre.deliver_all()
    assert phase_of(theatre.state) == "Yielded"
    assert [one.runs for one in theatre.supervisors.values()] == [0, 0, 0]


def test_all_members_that_yield_by_themselves() -> None:
    theatre = running()
    for seat in SEATS:
        assert phase_of(theatre.state) == "Running"
        say(theatre, seat, Yielded(1))
    assert phase_of(theatre.state) == "Yielded"


def test_containers_are_started_again_when_an_epoch_asks_for_it() -> None:
    theatre = running()
    theatre.begin = Begin(2, 2, SEATS, 1, restart_seats=("s1",))
    theatre.command(theatre.begin)
    assert heard(theatre, "s1") == [Stop]
    theatre.deliver_all()
    theatre.pass_time(4.0)
    assert evidence(theatre) == []
    for seat in SEATS:
        theatre.connect(seat)
    theatre.deliver_all()
    assert phase_of(theatre.state) == "Running"
    assert [len(one.starts) for one in theatre.supervisors.values()] == [2, 1, 2]


def test_what_fails_while_a_coordinator_starts_again_is_known_to_the_next_command() -> None:
    theatre = running()
    theatre.restart_coordinator()
    theatre.exit("s1")
    for seat in SEATS:
        theatre.connect(seat)
    theatre.deliver_all()
    assert phase_of(theatre.state) == "Waiting"
    theatre.command_again()
    assert phase_of(theatre.state) == "Failed"
    assert evidence(theatre) == [("ProcessExited", "s1")]


def test_a_running_member_has_time_to_find_a_coordinator_that_started_again() -> None:
    theatre = running()
    theatre.restart_coordinator()
    for seat in ("s0", "s1"):
        theatre.connect(seat)
    theatre.deliver_all()
    theatre.command_again()
    for seconds in range(20):
        for seat in ("s0", "s1"):
            say(theatre, seat, Beat(1))
        theatre.pass_time(1.0)
        assert evidence(theatre) == ([] if seconds < 15 else [("SupervisorLost", "s2")])


def test_a_start_that_a_former_coordinator_asked_for_counts() -> None:
    theatre = Theatre(("s0",))
    theatre.connect("s0")
    theatre.begin = Begin(4, 4, ("s0",), 1)
    say(theatre, "s0", Started(4))
    theatre.command_again()
    assert phase_of(theatre.state) == "Running"
    assert Prepare not in heard(theatre, "s0")


@pytest.mark.parametrize(
    ("begin", "says"),
    [
        pytest.param(Begin(1, 1, SEATS, 1), "epoch 1 is over, epoch 2 has begun", id="lower epoch"),
        pytest.param(Begin(3, 0, SEATS, 1), "count from 1", id="no attempt"),
        pytest.param(Begin(3, 1, SEATS, 0), "count from 1", id="no processes"),
        pytest.param(Begin(3, 1, ("s0", "s0"), 1), "each once", id="a seat twice"),
        pytest.param(Begin(3, 1, SEATS, 1, pods=("a",)), "not one for each seat", id="too few pods"),
    ],
)
def test_commands_that_are_refused(begin: Begin, says: str) -> None:
    theatre = running()
    theatre.command_next(SEATS)
    with pytest.raises(CommandError, match=says):
        membership.began(theatre.state, begin, "job", theatre.clock())


def test_supervisors_that_run_a_later_epoch_are_not_set_back() -> None:
    theatre = running()
    first = theatre.begin
    theatre.command_next(SEATS)
    theatre.deliver_all()
    theatre.restart_coordinator()
    theatre.connect("s0")
    theatre.deliver_all()
    assert first is not None
    with pytest.raises(CommandError, match="supervisors run epoch 2"):
        membership.began(theatre.state, first, "job", theatre.clock())


def test_names_that_no_cluster_gives_are_refused() -> None:
    theatre = Theatre(SEATS)
    for hello in (Hello("", "", "p", "a", 1), Hello("", "s", "p" * 300, "a", 1), Hello("", "s\n", "p", "a", 1)):
        step = membership.joined(theatre.state, 1, hello, "job", theatre.clock())
        assert isinstance(step.sends[0][1], Refused)
        assert not step.state.seats


def test_a_hang_is_a_failure_and_is_forgotten_when_the_next_epoch_begins() -> None:
    theatre = running(HangRule(floor_seconds=5.0, factor=5.0))
    for step in range(20):
        theatre.pass_time(1.0)
        for number, seat in enumerate(SEATS):
            stuck = step >= 6
            told = RankProgress(number, min(step, 6), phase="Training", since_step_seconds=step - 6 if stuck else 0)
            say(theatre, seat, Beat(1, (told,)))
    assert [(one.event, one.rank, one.step) for one in theatre.state.evidence.entries.values()] == [("Hang", 0, 6)]
    assert phase_of(theatre.state) == "Failed"
    theatre.command_next(SEATS)
    theatre.deliver_all()
    assert evidence(theatre) == []
    assert not theatre.state.hang.is_found


@pytest.mark.parametrize("is_frozen", [pytest.param(True, id="its node freezes"), pytest.param(False, id="it hangs")])
def test_ranks_that_wait_for_one_whose_node_freezes_do_not_hang(*, is_frozen: bool) -> None:
    theatre = running(HangRule(floor_seconds=3.0, factor=1.0))
    for step in range(14):
        theatre.pass_time(1.0)
        for number, seat in enumerate(SEATS):
            told = RankProgress(number, min(step, 6), phase="Training", since_step_seconds=max(0, step - 6))
            if not (is_frozen and seat == "s2" and step > 6):
                say(theatre, seat, Beat(1, (told,)))
    assert evidence(theatre) == ([("SupervisorLost", "s2")] if is_frozen else [("Hang", "s0")])


@pytest.mark.parametrize(
    ("ends", "found"),
    [
        pytest.param("", [("Hang", "s0")], id="all run: nothing tells the end from a hang"),
        pytest.param("a seat", [], id="all ranks of a seat have ended with 0"),
        pytest.param("a rank", [], id="one of two ranks of a seat has"),
    ],
)
def test_ranks_that_part_after_the_first_has_ended_are_no_hang(ends: str, found: list[tuple[str, str]]) -> None:
    theatre = running(HangRule())
    assert theatre.begin is not None
    theatre.begin = replace(theatre.begin, processes_per_node=2)
    theatre.state = replace(theatre.state, begin=theatre.begin)
    if ends == "a seat":
        theatre.finish("s2")
        theatre.deliver_all()
    for second in range(20):
        theatre.pass_time(1.0)
        for number, seat in enumerate(SEATS[: 2 if ends == "a seat" else 3]):
            told = [
                RankProgress(2 * number + one, min(second, 6), since_step_seconds=max(0, second - 6)) for one in (0, 1)
            ]
            say(theatre, seat, Beat(1, tuple(told[ends == "a rank" and second > 6 :])))
    assert evidence(theatre) == found


def test_progress_is_the_least_step_and_all_tokens() -> None:
    theatre = running()
    say(theatre, "s0", Beat(1, (RankProgress(0, 5, 100, 0.5, "Training", 2.0, checkpoint_step=4, checkpoint_uri="a"),)))
    say(theatre, "s1", Beat(1, (RankProgress(1, 4, 50, 0.25, "Training", 1.0),)))
    progress = report_of(theatre.state, Now(theatre.now + 3.0, 0.0)).progress
    assert (progress.step, progress.tokens, progress.loss, progress.step_seconds) == (4, 150, 0.25, 1.5)
    assert (progress.phase, progress.since_step_seconds) == ("Training", 3.0)
    assert (progress.checkpoint_step, progress.checkpoint_uri) == (4, "a")
    assert theatre.state.first_step_at == theatre.clock().wall
