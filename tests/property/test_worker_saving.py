"""Ranks agree on the step of a checkpoint, in whatever order offers, answers and beats are under way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.saving_theatre import SavingTheatre

SEATS = ("s0", "s1")
RANKS = range(4)
OPERATIONS = [
    *(("train", rank) for rank in RANKS),
    *((name, seat) for name in ("beat", "upward", "downward") for seat in SEATS),
    ("save",),
]
# long ones: an offer, its answers and its confirmation are a dozen operations on their way to each other
UNDISTURBED = st.lists(st.sampled_from(OPERATIONS), min_size=40, max_size=60)
DISTURBANCES = st.one_of(
    st.tuples(st.just("leave"), st.sampled_from(SEATS)),
    st.tuples(st.just("pass_time"), st.sampled_from([0.25, 1.0])),
    st.tuples(st.just("command_next"), st.just(SEATS), st.just(20.0)),
    st.tuples(st.just("reconnect"), st.sampled_from(SEATS)),
    st.tuples(st.just("restart_coordinator")),
)
HISTORIES = st.builds(lambda first, disturbed, last: [*first, disturbed, *last], UNDISTURBED, DISTURBANCES, UNDISTURBED)
SHAPES = st.fixed_dictionaries(
    {
        "checkpoint_seconds": st.sampled_from([0.0, 1.0, 5.0]),
        "step_seconds": st.sampled_from([None, 0.5, 30.0]),
        "stride": st.sampled_from([1, 3]),
        "skew": st.sampled_from([1, 4]),
        "askers": st.sampled_from([None, None, (0,), (0, 1, 2)]),
    }
)


class Stage(SavingTheatre):
    """With operations of two parts."""

    def reconnect(self, seat: str) -> None:
        self.break_off(seat)
        self.connect(seat)

    def restart_coordinator(self) -> None:
        super().restart_coordinator()
        for seat in SEATS:
            self.connect(seat)
        self.command_again()


@settings(max_examples=120, deadline=None)
@given(SHAPES, HISTORIES)
def test_no_two_ranks_answer_differently_for_a_step(
    shape: dict[str, object], history: list[tuple[object, ...]]
) -> None:
    stage = Stage(SEATS, **shape)  # type: ignore[arg-type]
    stage.go_on(2)
    stage.leave("s0")
    for name, *arguments in history:
        if {one.runs for one in stage.supervisors.values()} != {1}:
            break  # the epoch is over
        getattr(stage, str(name))(*arguments)
        stage.assert_agreed()


@settings(max_examples=50, deadline=None)
@given(SHAPES, UNDISTURBED)
def test_who_asks_gets_the_checkpoint_and_who_leaves_may_go(
    shape: dict[str, object], history: list[tuple[object, ...]]
) -> None:
    stage = Stage(SEATS, **(shape | {"step_seconds": 0.5}))  # type: ignore[arg-type]
    stage.go_on(2)
    link = stage.leave("s0")
    for name, *arguments in history:
        getattr(stage, str(name))(*arguments)
    stage.go_on(70)
    assert [freed for freed, message in stage.freed if message.step >= 0] == [link]
    assert all(stage.due())
    stage.assert_agreed()
