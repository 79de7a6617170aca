"""Phases of training jobs: each pair is allowed or refused with a reason, and what has ended stays so.

That jobs keep to the table each step of a life in `unit.test_training_job_status` checks, those drawn at random too.
"""

from __future__ import annotations

import itertools

import pytest

from stowage.api.training_words import JobPhase
from stowage.decide.training.phases import FOLLOWERS, refusal

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
