"""Phases of training jobs: each pair is allowed or refused with a reason, and what has ended stays so."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stowage.api.training_words import JobPhase
from stowage.decide.training.phases import FOLLOWERS, Situation, next_phase, refusal, wanted_phase

situations = st.builds(Situation, *[st.booleans()] * 8)
PAIRS = list(itertools.product(JobPhase, JobPhase))


@pytest.mark.parametrize(("old", "new"), PAIRS, ids=str)
def test_every_pair_is_allowed_or_refused_with_a_reason(old: JobPhase, new: JobPhase) -> None:
    reason = refusal(old, new)
    assert (reason is None) is (new is old or new in FOLLOWERS[old])
    assert reason is None or len(reason) > 20


def test_every_phase_can_be_reached_and_left() -> None:
    reached, border = {JobPhase.PENDING}, [JobPhase.PENDING]
    while border:
        found = FOLLOWERS[border.pop()] - reached
        reached |= found
        border += found
    assert reached == set(JobPhase)
    assert {phase for phase in JobPhase if not FOLLOWERS[phase]} == {phase for phase in JobPhase if phase.ended}


@given(st.lists(situations, max_size=12))
def test_any_history_of_facts_keeps_to_the_table(history: list[Situation]) -> None:
    phase: JobPhase | None = None
    for situation in history:
        after = next_phase(phase, situation)
        assert refusal(phase or JobPhase.PENDING, after) is None
        assert phase is None or not phase.ended or after is phase
        phase = after


@given(st.lists(situations, max_size=6), situations)
def test_facts_that_stay_lead_to_a_phase_that_stays(history: list[Situation], last: Situation) -> None:
    phase: JobPhase | None = None
    for situation in (*history, last, last, last):
        phase = next_phase(phase, situation)
    assert next_phase(phase, last) is phase


@given(st.sampled_from(JobPhase), situations)
def test_failure_pause_and_suspension_are_never_put_off(old: JobPhase, situation: Situation) -> None:
    wanted = wanted_phase(situation)
    if wanted in {JobPhase.FAILED, JobPhase.PAUSED, JobPhase.SUSPENDED} and not old.ended:
        assert next_phase(old, situation) is wanted


def test_a_coordinator_that_is_silent_changes_no_phase() -> None:
    assert next_phase(JobPhase.RUNNING, Situation(placed=True)) is JobPhase.RUNNING


def test_a_job_that_is_resumed_waits_for_nodes_again() -> None:
    assert next_phase(JobPhase.SUSPENDED, Situation(placed=True)) is JobPhase.PENDING
    assert next_phase(JobPhase.PENDING, Situation(placed=True)) is JobPhase.STARTING
