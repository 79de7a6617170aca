"""Which step ranks are asked to save at, who waits for it, and for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.saving_theatre import SavingTheatre
from stowage_worker import membership
from stowage_worker.agreement import Agreement, Plan, plan_of
from stowage_worker.messages import Checkpoint, Exited, HangRule, MayLeave, Prepare, SaveAt, Yield, Yielded
from stowage_worker.reports import phase_of, report_of

SEATS = ("s0", "s1")


def training(**options: object) -> SavingTheatre:
    theatre = SavingTheatre(SEATS, **options)  # type: ignore[arg-type]
    theatre.go_on(5)
    return theatre


def wish(theatre: SavingTheatre) -> None:
    assert theatre.begin is not None
    theatre.apply(membership.checkpointed(theatre.state, Checkpoint(theatre.begin.epoch), theatre.clock()))


def down(theatre: SavingTheatre, kind: type) -> list[str]:
    return [seat for seat in SEATS if any(isinstance(one, kind) for one in theatre.supervisors[seat].down)]


def test_a_wish_leads_to_one_checkpoint_at_the_same_step_of_all_ranks() -> None:
    theatre = training()
    wish(theatre)
    theatre.go_on(8)
    theatre.assert_agreed()
    [step] = set.union(*theatre.due())
    assert theatre.due() == [{step}] * 4
    assert report_of(theatre.state, theatre.clock()).progress.checkpoint_step == step


def test_a_wish_of_another_epoch_is_passed_over() -> None:
    theatre = training()
    theatre.apply(membership.checkpointed(theatre.state, Checkpoint(7), theatre.clock()))
    assert theatre.state.saving is None


def test_the_step_is_further_ahead_the_shorter_steps_are() -> None:
    slow, quick = training(step_seconds=30.0), training(step_seconds=0.01)
    for theatre in (slow, quick):
        wish(theatre)
    assert slow.state.saving is not None
    assert quick.state.saving is not None
    assert slow.state.saving.step == 5
    assert quick.state.saving.step == 105


def test_a_rank_that_saw_it_too_late_gets_another_step_and_nobody_saves_at_the_first_one() -> None:
    theatre = training(step_seconds=30.0)
    wish(theatre)
    assert theatre.state.saving is not None
    first = theatre.state.saving.step
    for rank in range(4):
        theatre.train(rank)  # before the offer has come
    theatre.go_on(8)
    theatre.assert_agreed()
    [step] = set.union(*theatre.due())
    assert step > first


def test_the_interval_is_kept_from_one_checkpoint_to_the_next() -> None:
    theatre = training(checkpoint_seconds=10.0)
    theatre.go_on(36)  # 9 s
    assert set.union(*theatre.due()) == set()
    theatre.go_on(8)
    assert [len(steps) for steps in theatre.due()] == [1] * 4
    theatre.go_on(44)
    assert [len(steps) for steps in theatre.due()] == [2] * 4
    theatre.assert_agreed()


def test_a_program_that_never_tells_of_a_checkpoint_is_asked_again_all_the_same() -> None:
    theatre = training(checkpoint_seconds=10.0)
    theatre.go_on(180, saves=False)
    assert [len(steps) for steps in theatre.due()] == [4] * 4


def test_another_interval_counts_for_who_runs_already() -> None:
    theatre = training(checkpoint_seconds=1000.0)
    assert theatre.begin is not None
    theatre.checkpoint_seconds = 2.0
    theatre.command_again()
    theatre.deliver_all()
    assert {plan.interval_seconds for plan in theatre.plans.values()} == {2.0}
    theatre.go_on(16)
    assert all(theatre.due())


def test_ranks_that_never_ask_are_not_waited_for() -> None:
    theatre = training(askers=(0,))
    wish(theatre)
    theatre.go_on(8)
    assert [len(steps) for steps in theatre.due()] == [1]


def test_before_a_planned_change_ranks_save_and_only_then_yield() -> None:
    theatre = training()
    theatre.command_next(SEATS, yield_first_seconds=20.0)
    assert down(theatre, SaveAt) == list(SEATS)
    assert down(theatre, Yield) == []
    theatre.go_on(8, saves=False)
    [step] = set.union(*theatre.due())
    assert {one.ended_at for one in theatre.ranks} == {step}, "asked to end, they do so at the step of the checkpoint"
    assert theatre.state.saving is not None
    assert not theatre.state.saving.is_over
    theatre.save()
    theatre.beat("s0")
    theatre.upward("s0")
    assert down(theatre, Yield) == list(SEATS)
    theatre.deliver_all()
    assert phase_of(theatre.state) == "Running"
    assert report_of(theatre.state, theatre.clock()).progress.checkpoint_step == step, "though of an earlier epoch"


def test_a_planned_change_waits_no_longer_than_it_was_told() -> None:
    theatre = training()
    theatre.command_next(SEATS, yield_first_seconds=20.0)
    for _ in range(66):
        theatre.pass_time(0.25)
        for seat in SEATS:
            theatre.beat(seat)
            theatre.upward(seat)
    assert down(theatre, Yield) == list(SEATS)
    theatre.deliver_all()
    assert phase_of(theatre.state) == "Running"


@pytest.mark.parametrize("what", ["a rank fails", "a supervisor is gone"])
def test_a_planned_change_does_not_wait_for_ranks_that_cannot_save(what: str) -> None:
    theatre = training()
    theatre.command_next(SEATS, yield_first_seconds=20.0)
    if what == "a rank fails":
        theatre.say(theatre.supervisors["s1"], Exited(1, 2, 0, code=1))
        theatre.upward("s1")
    else:
        theatre.break_off("s1")
        theatre.pass_time(2.5)
    assert "s0" in down(theatre, Yield)


def test_where_a_member_is_gone_already_the_change_begins_at_once() -> None:
    theatre = training()
    theatre.break_off("s1")
    theatre.command_next(SEATS, yield_first_seconds=20.0)
    assert down(theatre, Prepare) == ["s0"]


def test_who_never_asks_yields_at_once() -> None:
    theatre = training(askers=())
    theatre.command_next(SEATS, yield_first_seconds=20.0)
    assert down(theatre, Yield) == list(SEATS)


def test_a_pod_that_leaves_may_go_when_the_checkpoint_is_committed() -> None:
    theatre = training()
    link = theatre.leave("s1")
    theatre.go_on(6, saves=False)
    assert theatre.freed == []
    theatre.go_on(1)
    [step] = set.union(*theatre.due())
    assert theatre.freed == [(link, MayLeave(step))]
    assert theatre.leave("s1") > 0
    assert theatre.freed[-1][1].reason == "it was asked before"


def test_a_pod_that_leaves_asks_a_coordinator_again_that_was_just_started() -> None:
    theatre = training()
    theatre.restart_coordinator()
    theatre.leave("s1")
    assert [message.again for _, message in theatre.freed] == [True]
    theatre.command_again()
    for seat in SEATS:
        theatre.connect(seat)
    theatre.go_on(2)
    link = theatre.leave("s1")
    theatre.go_on(8)
    assert [one for one, message in theatre.freed if message.step > 0] == [link]


def test_two_pods_that_leave_wait_for_one_checkpoint() -> None:
    theatre = training()
    links = [theatre.leave("s0"), theatre.leave("s1")]
    theatre.go_on(8)
    assert [link for link, _ in theatre.freed] == links
    assert [len(steps) for steps in theatre.due()] == [1] * 4


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("nobody asks", "no rank asks whether a checkpoint is due"),
        ("it failed", "the epoch has failed"),
        ("it does not run", "its processes do not run"),
        ("not in time", "not in time"),
        ("another epoch begins", "another epoch begins"),
    ],
)
def test_a_pod_that_leaves_is_not_kept_for_nothing(why: str, reason: str) -> None:
    theatre = training(askers=() if why == "nobody asks" else None)
    if why == "it failed":
        theatre.exit("s0")
        theatre.deliver_all()
    if why == "it does not run":
        theatre.supervisors["s1"].pod = "another"
    theatre.leave("s1", seconds=3.0)
    if why == "another epoch begins":
        theatre.command_next(SEATS)
    if why == "not in time":
        theatre.pass_time(3.5)
    assert [message.reason for _, message in theatre.freed] == [reason]


def test_its_pod_is_kept_while_a_seat_that_another_one_shall_have_still_saves() -> None:
    theatre = training()
    link = theatre.leave("s1")
    old = theatre.supervisors["s1"]
    assert theatre.begin is not None
    theatre.begin = membership.Begin(2, 2, SEATS, 1, pods=("pod-s0", "new"), yield_first_seconds=20.0, start_seconds=60)
    theatre.command(theatre.begin)
    assert old.link in {record.link for record in theatre.state.seats.values()}
    theatre.go_on(8)
    [step] = set.union(*theatre.due())
    assert theatre.freed == [(link, MayLeave(step))]
    assert "s1" not in theatre.state.seats, "once it has saved, its seat is free"
    assert theatre.state.evidence.entries == {}


def test_a_pod_that_has_lost_its_seat_takes_no_part_in_the_next_epoch_once_it_has_saved() -> None:
    theatre = training()
    theatre.leave("s1")
    assert theatre.begin is not None
    theatre.begin = membership.Begin(2, 2, SEATS, 1, pods=("pod-s0", "new"), yield_first_seconds=20.0, start_seconds=60)
    theatre.command(theatre.begin)
    for one in theatre.supervisors.values():
        theatre.say(one, Yielded(1), keep=True)  # its ranks end by themselves at the step of the checkpoint
    theatre.deliver_all()
    assert {seat: one.prepared for seat, one in theatre.supervisors.items()} == {"s0": 2, "s1": 1}
    theatre.replace_pod("s1")
    theatre.supervisors["s1"].pod = "new"
    theatre.connect("s1")
    theatre.deliver_all()
    assert {one.runs for one in theatre.supervisors.values()} == {2}
    assert theatre.state.evidence.entries == {}


def test_a_pod_that_was_told_to_end_and_is_gone_is_nobodys_failure() -> None:
    theatre = training()
    theatre.leave("s1")
    theatre.go_on(8)
    theatre.break_off("s1")
    theatre.pass_time(3.0)
    assert [(one.event, one.name) for one in theatre.state.evidence.entries.values()] == [("SupervisorLost", "Leaving")]


def test_ranks_that_wait_for_the_others_do_not_hang() -> None:
    theatre = training(step_seconds=0.5)
    assert theatre.begin is not None
    hang = HangRule(floor_seconds=2.0, factor=0.0)
    theatre.state = replace(theatre.state, begin=replace(theatre.begin, hang=hang))
    theatre.go_on(4)
    wish(theatre)
    for expected in ([], ["Hang"]):
        for _ in range(36):
            for rank in theatre.ranks:
                rank.still_seconds += 0.25
            for seat in SEATS:
                theatre.beat(seat)
                theatre.upward(seat)
            theatre.pass_time(0.25)
        assert [one.event for one in theatre.state.evidence.entries.values()] == expected


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"request": 1}', "nul", '{"intervalSeconds": "x"}'])
def test_what_is_no_plan_asks_for_nothing(text: str) -> None:
    assert plan_of(text) == Plan()


def test_a_plan_is_read_as_it_was_written() -> None:
    plan = Plan(300.0, 1_700_000_000_000, 41, confirmed=True, ends=True)
    assert plan_of(plan.text()) == plan


def test_a_rank_that_asks_only_now_and_then_says_yes_at_its_next_time() -> None:
    agreement = Agreement()
    assert agreement.answer(Plan(), 10) is False
    assert agreement.answer(Plan(request=1, step=13), 20) is None
    assert agreement.answer(Plan(request=1, step=13, confirmed=True), 20) is True
    assert agreement.answer(Plan(request=1, step=13, confirmed=True), 30) is False


def test_a_rank_that_gave_up_waiting_says_no_also_when_the_others_are_told_to_go() -> None:
    agreement = Agreement()
    assert agreement.answer(Plan(request=1, step=3), 3) is None
    agreement.give_up(3)
    assert agreement.answer(Plan(request=1, step=3, confirmed=True), 4) is False
    assert agreement.is_late
