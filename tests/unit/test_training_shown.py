"""What a job's status shows of its seats and slow ranks, and which of it may be told late."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stowage.api.durations import instant
from stowage.api.training_job_status import Goodput, LastCheckpoint, Progress, Seat, SeatSummary, TrainingJobStatus
from stowage.api.training_words import JobPhase
from stowage.decide.training.job_progress import only_shows
from stowage.decide.training.seat_summary import seat_summary
from stowage.decide.training.stragglers_record import stragglers_of
from stowage_worker.messages import Report, SeatState, Straggling
from unit.builders import pod

SEATS = tuple(Seat(seat=f"s{number}", attempt=1, node=f"n{number}") for number in range(7))


def heard(seat: str, state: str, *, connected: bool = True, uid: str | None = None) -> SeatState:
    return SeatState(seat, uid or f"uid-{seat}", connected=connected, state=state)


def test_each_seat_is_counted_once_by_how_far_it_is() -> None:
    pods = {
        "s1": pod("waits", None, uid="uid-s1"),
        "s2": pod("starts", "n2", uid="uid-s2"),
        "s3": pod("idle", "n3", uid="uid-s3"),
        "s4": pod("runs", "n4", uid="uid-s4"),
        "s5": pod("has ended", "n5", uid="uid-s5"),
        "s6": pod("of the next attempt", "n6", uid="uid-new"),
    }
    said = (heard("s3", "Idle"), heard("s4", "Running"), heard("s5", "Finished"), heard("s6", "Running"))
    found = seat_summary(SEATS, pods, Report(1, 1, "Running", said))
    assert found == SeatSummary(vacant=1, waiting=1, starting=2, connected=1, running=1, finished=1)


def test_without_seats_there_is_nothing_to_count() -> None:
    assert seat_summary((), {}, None) is None


def slow(rank: int, seat: str, step: float = 2.0, ratio: float = 1.5) -> Straggling:
    return Straggling(rank, seat, step, 0.25, ratio)


def test_slow_ranks_are_shown_with_their_nodes_and_no_more_than_a_few() -> None:
    told = (slow(3, "s3"), slow(9, "s9"), slow(1, "s1", step=math.nan), *(slow(rank, "s0") for rank in range(40)))
    found = stragglers_of(Report(1, 1, "Running", stragglers=told), SEATS)
    assert len(found) == 16
    assert found[0].model_dump() == {
        "rank": 3,
        "seat": "s3",
        "node": "n3",
        "step_seconds": "2.000",
        "wait_seconds": "0.250",
        "ratio": "1.50",
    }
    assert {one.seat for one in found} == {"s3", "s0"}, "of no seat, and without a number: left out"


RUNS = TrainingJobStatus(
    phase=JobPhase.RUNNING, phase_since=instant(100.0), progress=Progress(step=4, at=instant(110.0))
)


@pytest.mark.parametrize(
    ("change", "late"),
    [
        pytest.param({"goodput": Goodput(ratio="0.9")}, True, id="an account"),
        pytest.param({"progress": Progress(step=5, at=instant(111.0))}, True, id="a further step"),
        pytest.param({"seat_summary": SeatSummary(running=2)}, True, id="seats"),
        pytest.param({"progress": Progress(step=4, at=instant(90.0))}, False, id="no step of this epoch"),
        pytest.param(
            {
                "progress": RUNS.progress.model_copy(
                    update={"last_checkpoint": LastCheckpoint(step=4, at=instant(110.0))}
                )
            },
            False,
            id="a checkpoint",
        ),
        pytest.param({"epoch": 2}, False, id="a decision"),
    ],
)
def test_what_moves_all_the_time_is_told_late(change: dict[str, Any], late: bool) -> None:
    assert only_shows(RUNS, RUNS.model_copy(update=change)) is late
