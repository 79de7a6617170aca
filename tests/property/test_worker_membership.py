from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.training_model import Theatre
from stowage_worker.messages import Beat
from stowage_worker.reports import phase_of

SEATS = ("s0", "s1", "s2")
OF_A_SEAT = ("connect", "break_off", "crash", "replace_pod", "exit", "finish")
MESSAGES = ("upward", "downward")
OF_ALL = ("deliver_all", "restart_coordinator", "command_again", "command_late")
MEMBERS = st.sampled_from([SEATS, SEATS, ("s2", "s0"), ("s1",), ()])
OPERATIONS = st.one_of(
    st.tuples(st.sampled_from(MESSAGES), st.sampled_from(SEATS)),
    st.tuples(st.sampled_from(OF_A_SEAT), st.sampled_from(SEATS)),
    st.tuples(st.sampled_from(OF_ALL)),
    st.tuples(st.just("command_next"), MEMBERS, st.sampled_from([0.0, 3.0])),
    st.tuples(st.just("pass_time"), st.sampled_from([0.25, 1.0, 3.0, 20.0, 70.0])),
)
RUNNING = [("connect", seat) for seat in SEATS] + [("command_next", SEATS), ("deliver_all",)]
HISTORIES = st.builds(list.__add__, st.sampled_from([[], RUNNING]), st.lists(OPERATIONS, max_size=40))


def played(history: list[tuple[object, ...]]) -> Theatre:
    theatre = Theatre(SEATS)
    for name, *arguments in history:
        getattr(theatre, str(name))(*arguments)
    return theatre


def all_connected(theatre: Theatre) -> None:
    for seat in SEATS:
        theatre.connect(seat)
    theatre.deliver_all()
    for seat in SEATS:  # who was cut off or refused comes again
        theatre.connect(seat)
    theatre.deliver_all()


@settings(max_examples=400)
@given(HISTORIES)
def test_whatever_happened_the_next_epoch_runs_when_all_are_there(history: list[tuple[object, ...]]) -> None:
    theatre = played(history)
    theatre.command_again()
    all_connected(theatre)
    theatre.command_next(SEATS)
    all_connected(theatre)
    assert theatre.begin is not None
    assert phase_of(theatre.state) == "Running"
    assert theatre.state.evidence.entries == {}
    assert {one.runs for one in theatre.supervisors.values()} == {theatre.begin.epoch}
    for seat in SEATS:
        assert phase_of(theatre.state) == "Running"
        theatre.finish(seat)
        theatre.deliver_all()
    assert phase_of(theatre.state) == "Finished"


@settings(max_examples=300)
@given(HISTORIES, st.permutations(["command_again", *SEATS]), st.integers(0, 12))
def test_a_coordinator_that_starts_again_leaves_a_running_epoch_alone(
    history: list[tuple[object, ...]], order: list[str], wait_quarters: int
) -> None:
    theatre = played(history)
    theatre.command_again()
    all_connected(theatre)
    theatre.command_next(SEATS)
    all_connected(theatre)
    starts = {seat: list(one.starts) for seat, one in theatre.supervisors.items()}
    theatre.restart_coordinator()
    for name in order:
        if name == "command_again":
            theatre.command_again()
        else:
            theatre.connect(name)
            theatre.downward(name)
        theatre.pass_time(wait_quarters / 4)
        for seat in SEATS:
            if theatre.supervisors[seat].link:
                theatre.upward(seat)
                beat(theatre, seat)
    all_connected(theatre)
    assert phase_of(theatre.state) == "Running"
    assert theatre.state.evidence.entries == {}
    assert {seat: one.starts for seat, one in theatre.supervisors.items()} == starts
    assert all(one.runs == theatre.state.epoch for one in theatre.supervisors.values())


def beat(theatre: Theatre, seat: str) -> None:
    one = theatre.supervisors[seat]
    one.up.append(Beat(one.runs))
    while one.up:
        theatre.upward(seat)


@settings(max_examples=200)
@given(HISTORIES, st.sampled_from(SEATS), st.sampled_from(["break_off", "crash", "exit"]))
def test_what_goes_wrong_in_a_running_epoch_is_told(history: list[tuple[object, ...]], seat: str, what: str) -> None:
    theatre = played(history)
    theatre.command_again()
    all_connected(theatre)
    theatre.command_next(SEATS)
    all_connected(theatre)
    getattr(theatre, what)(seat)
    theatre.deliver_all()
    if what == "crash":
        theatre.connect(seat)
    theatre.pass_time(3.0)
    assert phase_of(theatre.state) == "Failed"
    assert [one.seat for one in theatre.state.evidence.entries.values()] == [seat]
    others = [one.runs for one in theatre.supervisors.values() if one.seat != seat]
    assert others == [theatre.state.epoch] * 2
