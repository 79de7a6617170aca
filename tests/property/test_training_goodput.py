"""Accounts of a job's time: they add up, and repairs are split without gaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stowage.api.training_words import Domain, JobPhase, Lost
from stowage.decide.training.goodput import Account, Seen, opened, passed
from stowage.decide.training.repair_times import STAGES, begun, went_on

START = 1_800_000_000.0

sightings = st.builds(
    Seen,
    phase=st.sampled_from([phase for phase in JobPhase if not phase.ended]),
    started=st.booleans(),
    stepping=st.booleans(),
    step=st.none() | st.integers(-1, 40),
    program=st.sampled_from(["", "Training", "Restoring", "Saving"]),
    domain=st.sampled_from(Domain),
    checkpoint_step=st.integers(-1, 5),
    checkpoint_seconds=st.none() | st.floats(0, 100),
)
passes = st.tuples(st.floats(-10, 1000), sightings)


def total(account: Account) -> float:
    return account.productive_seconds + account.open_seconds + sum(account.lost_seconds.values())


@given(st.lists(passes, max_size=20))
def test_accounts_add_up_to_the_time_that_passed(history: list[tuple[float, Seen]]) -> None:
    account, now = opened(START), START
    for seconds, seen in history:
        before = account
        now += seconds
        account = passed(account, seen, now)
        assert account.until == max(before.until, now)
        assert total(account) == pytest.approx(account.until - START, abs=1e-3)
        assert 0 <= account.ratio <= 1
        assert min((account.productive_seconds, account.open_seconds, *account.lost_seconds.values())) >= -1e-6
        assert all(account.lost_seconds.get(cause, 0) >= lost for cause, lost in before.lost_seconds.items())


@given(st.lists(passes, max_size=8), passes)
def test_what_has_ended_counts_no_time(history: list[tuple[float, Seen]], later: tuple[float, Seen]) -> None:
    account, now = opened(START), START
    for seconds, seen in [*history, (1.0, Seen(JobPhase.SUCCEEDED))]:
        now += seconds
        account = passed(account, seen, now)
    assert passed(account, later[1], now + 1000) == account


def told(*history: tuple[float, Seen]) -> Account:
    account = opened(START)
    for at, seen in history:
        account = passed(account, seen, START + at)
    return account


def running(step: int | None, **fields: object) -> Seen:
    return Seen(JobPhase.RUNNING, started=True, stepping=True, step=step, **fields)  # type: ignore[arg-type]


BEGUN = ((10.0, Seen(JobPhase.STARTING)), (12.0, Seen(JobPhase.STARTING, started=True)), (20.0, running(0)))


def test_a_job_without_trouble_loses_its_start_alone() -> None:
    account = told(*BEGUN, (120.0, running(100)), (130.0, Seen(JobPhase.SUCCEEDED, step=110)))
    assert account.lost_seconds == {Lost.INITIALIZATION: 12.0, Lost.PROGRAM_STARTUP: 8.0}
    assert (account.productive_seconds, account.ratio) == (110.0, pytest.approx(110 / 130))


@pytest.mark.parametrize(
    ("domain", "cause"),
    [
        pytest.param(Domain.INFRASTRUCTURE, Lost.INFRASTRUCTURE_RECOVERY, id="the cluster's fault"),
        pytest.param(Domain.WORKLOAD, Lost.WORKLOAD_RECOVERY, id="the program's fault"),
        pytest.param(Domain.UNKNOWN, Lost.WORKLOAD_RECOVERY, id="nobody knows"),
    ],
)
def test_a_failure_costs_its_recovery_and_the_steps_that_are_done_again(domain: Domain, cause: Lost) -> None:
    account = told(
        *BEGUN,
        (120.0, running(100)),
        (125.0, running(100)),  # the hang that nobody knows of yet
        (130.0, Seen(JobPhase.RECOVERING, domain=domain)),
        (140.0, Seen(JobPhase.RECOVERING, started=True, program="Restoring")),
        (145.0, running(80)),
        (185.0, running(120)),
    )
    assert account.lost_seconds == {
        Lost.INITIALIZATION: 12.0,
        Lost.PROGRAM_STARTUP: 8.0,
        cause: 20.0,
        Lost.CHECKPOINT_RESTORE: 5.0,
        Lost.WASTED_PROGRESS: 20.0,
    }
    assert account.productive_seconds == 120.0


def test_the_time_of_checkpoints_is_counted_once() -> None:
    account = told(
        *BEGUN,
        (120.0, running(100, checkpoint_step=90, checkpoint_seconds=6.0)),
        (130.0, running(110, checkpoint_step=90, checkpoint_seconds=6.0)),
    )
    assert account.lost_seconds[Lost.CHECKPOINT_SAVE] == 6.0


def test_a_program_that_tells_no_steps_is_productive_while_it_runs() -> None:
    silent = Seen(JobPhase.RUNNING, started=True)
    assert told((10.0, silent), (110.0, silent)).productive_seconds == 100.0


@pytest.mark.parametrize(
    ("phase", "cause"),
    [
        pytest.param(JobPhase.SUSPENDED, Lost.SUSPENDED, id="suspended"),
        pytest.param(JobPhase.PAUSED, Lost.OTHER, id="paused"),
        pytest.param(JobPhase.RESIZING, Lost.RESIZE, id="resizing"),
        pytest.param(JobPhase.PENDING, Lost.INITIALIZATION, id="waiting for nodes"),
    ],
)
def test_time_without_processes_has_the_cause_of_its_phase(phase: JobPhase, cause: Lost) -> None:
    assert told((0.0, Seen(phase)), (50.0, Seen(phase))).lost_seconds == {cause: 50.0}


marks = st.tuples(
    st.floats(0, 100), st.booleans(), st.none() | st.floats(0, 400), st.none() | st.floats(0, 400), st.integers(0, 30)
)


@given(st.floats(-50, 50), st.lists(marks, max_size=10))
def test_the_stages_of_a_repair_follow_each_other_without_gaps(ahead: float, looks: list[tuple[object, ...]]) -> None:
    now = START
    repair = begun(START + ahead, START, START + 1, from_step=20)
    for seconds, placed, started, stepped, step in looks:
        now += seconds  # type: ignore[operator]
        before = repair
        repair = went_on(
            repair,
            now=now,
            placed=bool(placed),
            started_at=None if started is None else START + started,  # type: ignore[operator]
            first_step_at=None if stepped is None else START + stepped,  # type: ignore[operator]
            step=step,  # type: ignore[arg-type]
        )
        assert repair.spent_seconds[: len(before.spent_seconds)] == before.spent_seconds
        assert all(spent >= 0 for spent in repair.spent_seconds)
        latest = max(now, START + 1, repair.failed_at)
        assert sum(repair.spent_seconds) <= latest - repair.failed_at + 1e-3


def test_a_repair_is_split_by_its_stages() -> None:
    repair = begun(START, START + 6, START + 6.5, from_step=100)
    repair = went_on(repair, now=START + 9, placed=True)
    assert repair.stages == {"detect": 6.0, "decide": 0.5, "schedule": 2.5}
    known = {"placed": True, "started_at": START + 13, "first_step_at": START + 15}
    repair = went_on(repair, now=START + 16, step=80, **known)  # type: ignore[arg-type]
    assert (repair.stages["start"], repair.stages["restore"], repair.over) == (4.0, 2.0, False)
    repair = went_on(repair, now=START + 30, step=101, **known)  # type: ignore[arg-type]
    assert (dict(repair.stages), repair.over) == (dict(zip(STAGES, (6.0, 0.5, 2.5, 4.0, 2.0, 15.0), strict=True)), True)
