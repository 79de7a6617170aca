from __future__ import annotations

import math

import pytest

from harness.training_model import Theatre
from harness.training_stories import SEATS, evidence, heard, running, say
from stowage_worker import membership
from stowage_worker.messages import (
    Beat,
    Begin,
    Exited,
    Finished,
    Go,
    Hello,
    Matched,
    Prepare,
    RankProgress,
    Refused,
)
from stowage_worker.reports import phase_of, report_of


def test_ranks_follow_the_order_of_the_command_and_the_first_is_the_master() -> None:
    theatre = Theatre(SEATS)
    for seat in SEATS:
        theatre.connect(seat)
    theatre.command_next(("s2", "s0"))
    theatre.deliver_all()
    assert theatre.supervisors["s2"].goes == theatre.supervisors["s0"].goes == [1]
    assert theatre.supervisors["s1"].goes == []
    assert [(one.seat, one.state) for one in report_of(theatre.state, theatre.clock()).seats] == [
        ("s0", "Running"),
        ("s1", "Idle"),
        ("s2", "Running"),
    ]


def test_nobody_starts_before_the_last_one_stands_at_the_barrier() -> None:
    theatre = Theatre(SEATS)
    theatre.command_next(SEATS)
    for seat in ("s0", "s1"):
        theatre.connect(seat)
    theatre.deliver_all()
    assert phase_of(theatre.state) == "Preparing"
    assert all(not one.goes for one in theatre.supervisors.values())
    theatre.connect("s2")
    theatre.deliver_all()
    assert phase_of(theatre.state) == "Running"


def test_nobody_starts_after_something_has_failed() -> None:
    theatre = Theatre(SEATS)
    for seat in ("s0", "s1"):
        theatre.connect(seat)
    theatre.command_next(SEATS)
    theatre.deliver_all()
    theatre.break_off("s0")
    theatre.pass_time(3.0)
    assert evidence(theatre) == [("SupervisorLost", "s0")]
    for seat in ("s0", "s2"):
        theatre.connect(seat)
    theatre.deliver_all()
    assert phase_of(theatre.state) == "Failed"
    assert all(not one.goes for one in theatre.supervisors.values())


def test_who_does_not_come_to_the_barrier_in_time_is_named() -> None:
    theatre = Theatre(SEATS)
    theatre.connect("s0")
    theatre.command_next(("s0", "s1"))
    theatre.deliver_all()
    for _ in range(61):
        say(theatre, "s0", Beat(0))
        theatre.pass_time(1.0)
    assert evidence(theatre) == [("StartTimeout", "s1")]


def test_a_supervisor_that_starts_again_while_an_epoch_begins_is_prepared_again() -> None:
    theatre = running()
    theatre.command_next(SEATS)
    theatre.crash("s0")
    theatre.pass_time(1.0)
    theatre.connect("s0")
    theatre.deliver_all()
    assert evidence(theatre) == []
    assert phase_of(theatre.state) == "Running"
    assert theatre.supervisors["s0"].starts == [2]


def test_who_was_gone_before_an_epoch_began_has_time_until_the_barrier() -> None:
    theatre = running()
    theatre.crash("s1")
    theatre.pass_time(1.0)
    theatre.command_next(SEATS)
    theatre.pass_time(4.0)
    theatre.connect("s1")
    theatre.deliver_all()
    assert evidence(theatre) == []
    assert phase_of(theatre.state) == "Running"


def test_a_connection_that_comes_back_in_time_is_no_loss() -> None:
    theatre = running()
    theatre.break_off("s1")
    theatre.pass_time(1.5)
    theatre.connect("s1")
    theatre.deliver_all()
    theatre.pass_time(3.0)
    assert evidence(theatre) == []
    assert phase_of(theatre.state) == "Running"
    assert theatre.supervisors["s1"].starts == [1]


def test_five_silent_seconds_are_a_loss_and_the_connection_is_ended() -> None:
    theatre = running()
    for _ in range(6):
        say(theatre, "s0", Beat(1))
        say(theatre, "s2", Beat(1))
        theatre.pass_time(1.0)
    assert evidence(theatre) == [("SupervisorLost", "s1")]
    assert theatre.supervisors["s1"].link == 0


def test_the_coordinators_own_pause_is_nobodys_silence() -> None:
    theatre = running()
    theatre.pass_time(0.25)
    theatre.now += 30.0
    theatre.pass_time(3.0)
    assert evidence(theatre) == []
    theatre.pass_time(6.0)
    assert len(evidence(theatre)) == 3


def test_a_container_that_starts_again_is_told_at_once() -> None:
    theatre = running()
    theatre.crash("s1")
    theatre.connect("s1")
    (found,) = theatre.state.evidence.entries.values()
    assert (found.event, found.seat, found.detail) == ("SupervisorLost", "s1", "the supervisor was started again")
    theatre.deliver_all()
    assert theatre.supervisors["s1"].prepared == 0, "it waits for the next epoch"


def test_a_new_pod_of_a_lost_seat_waits_for_the_next_epoch() -> None:
    theatre = running()
    theatre.replace_pod("s1")
    theatre.pass_time(3.0)
    theatre.connect("s1")
    assert evidence(theatre) == [("SupervisorLost", "s1")]
    assert Prepare not in heard(theatre, "s1")
    theatre.command_next(SEATS)
    theatre.deliver_all()
    assert phase_of(theatre.state) == "Running"


def test_an_older_pod_that_comes_back_is_refused() -> None:
    theatre = running()
    theatre.command_next(("s0", "s1"))
    theatre.deliver_all()
    step = membership.joined(theatre.state, 99, Hello("", "s1", "older", "a", 1, epoch=1), "job", theatre.clock())
    assert step.sends == ((99, Refused("a newer pod holds this seat")),)
    assert step.closes == (99,)
    assert step.state is theatre.state


@pytest.mark.parametrize("is_connected_first", [True, False], ids=["connected before", "connected after"])
def test_a_command_that_names_pods_keeps_others_out(is_connected_first: bool) -> None:
    theatre = Theatre(("s0", "s1"))
    if is_connected_first:
        theatre.connect("s0")
    theatre.begin = Begin(1, 1, ("s0",), 1, pods=("expected",))
    theatre.command(theatre.begin)
    if not is_connected_first:
        theatre.connect("s0")
        assert heard(theatre, "s0") == [Refused]
    theatre.deliver_all()
    assert theatre.supervisors["s0"].goes == []
    theatre.supervisors["s0"].pod = "expected"
    theatre.break_off("s0")
    theatre.connect("s0")
    theatre.deliver_all()
    assert phase_of(theatre.state) == "Running"


def test_what_comes_over_a_replaced_connection_is_passed_over() -> None:
    theatre = running()
    old = theatre.supervisors["s0"].link
    theatre.supervisors["s0"].link = 0
    theatre.connect("s0")
    theatre.deliver_all()
    step = membership.said(theatre.state, "s0", old, Exited(1, 0, 0, code=1), theatre.clock())
    assert step.state is theatre.state
    assert membership.left(theatre.state, "s0", old, theatre.clock()).state is theatre.state


def test_a_lost_go_is_sent_again_to_the_same_supervisor() -> None:
    theatre = Theatre(("s0", "s1"))
    for seat in ("s0", "s1"):
        theatre.connect(seat)
    theatre.command_next(("s0", "s1"))
    for seat in ("s0", "s0", "s1", "s1"):
        theatre.downward(seat)
        theatre.upward(seat)
    assert Go in heard(theatre, "s1")
    theatre.break_off("s1")
    theatre.connect("s1")
    theatre.deliver_all()
    assert evidence(theatre) == []
    assert theatre.supervisors["s1"].starts == [1]
    assert phase_of(theatre.state) == "Running"


def test_a_process_that_ends_badly_is_told_once_with_its_words() -> None:
    theatre = running()
    message = Exited(1, 1, 0, 3, error_type="ValueError", error_message="m" * 5000, error_hash="h", step=7)
    say(theatre, "s1", message)
    say(theatre, "s1", message)
    say(theatre, "s1", Exited(7, 1, 0, 3))
    (found,) = theatre.state.evidence.entries.values()
    assert (found.event, found.seat, found.rank, found.code, found.step) == ("ProcessExited", "s1", 1, 3, 7)
    assert len(found.error_message) == 1000
    say(theatre, "s1", Finished(1))
    say(theatre, "s0", Beat(1, (RankProgress(0, 3, loss=math.nan),)))
    assert phase_of(theatre.state) == "Failed"


def test_evidence_is_bounded_and_what_came_first_stays() -> None:
    theatre = running()
    for rank in range(100):
        say(theatre, "s1", Exited(1, rank, 0, 3))
    assert [one.rank for one in theatre.state.evidence.entries.values()] == list(range(16))


def test_a_loss_that_is_no_number_and_a_matched_line_are_evidence_and_no_failure() -> None:
    theatre = running()
    say(theatre, "s1", Beat(1, (RankProgress(1, step=3, loss=1.0), RankProgress(2, step=3, loss=math.inf))))
    say(theatre, "s2", Beat(1, (RankProgress(4, step=3, loss=math.nan),)))
    say(theatre, "s2", Matched(1, 4, "oom", "out of memory"))
    found = list(theatre.state.evidence.entries.values())
    assert [(one.event, one.seat, one.rank) for one in found] == [("NonFinite", "s1", 2), ("LogRule", "s2", 4)]
    assert (found[1].name, found[1].detail) == ("oom", "out of memory")
    assert phase_of(theatre.state) == "Running"


def test_finished_members_may_leave_and_come_back() -> None:
    theatre = running()
    for seat in ("s0", "s1"):
        theatre.finish(seat)
    theatre.deliver_all()
    theatre.break_off("s0")
    theatre.connect("s0")
    theatre.downward("s0")
    theatre.upward("s0")  # `Started`, said again
    assert theatre.state.seats["s0"].state == "Finished"
    theatre.deliver_all()
    theatre.crash("s1")
    theatre.pass_time(3.0)
    assert phase_of(theatre.state) == "Running"
    theatre.finish("s2")
    theatre.deliver_all()
    assert phase_of(theatre.state) == "Finished"
    assert evidence(theatre) == []
