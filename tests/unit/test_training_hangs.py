"""How long ranks may stand, as the coordinator is told."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.api.training_words import Action, Event
from stowage.decide.training.commands import command_of
from stowage_worker.messages import Begin, Evidence
from unit.test_training_job_status import Life


@pytest.mark.parametrize(
    ("steps", "allowed"),
    [
        pytest.param((), (5.0, 5.0), id="nothing has happened"),
        pytest.param((50,), (5.0, 5.0), id="one hang"),
        pytest.param((50, 60), (5.0, 5.0), id="two hangs at two steps"),
        pytest.param((50, 50), (20.0, 20.0), id="it stands at the same step again: it may do something there"),
        pytest.param((50, 50, 50), (80.0, 80.0), id="and again"),
        pytest.param((50, 50, None), (5.0, 5.0), id="another failure in between"),
    ],
)
def test_ranks_that_stand_at_the_same_step_again_have_more_time(steps: Any, allowed: Any) -> None:
    life = Life().run()
    for step in steps:
        if step is None:
            life.fails()
        else:
            hang = Evidence("Hang", life.status.epoch, life.now - 1, "s0", 0, step=step)
            life.tell("Failed", (hang,))
            life.step()
        life.now += 100
        life.tell("Running", started_at=life.now)
        life.step()
    begin = command_of(life.job)
    assert isinstance(begin, Begin)
    assert begin.hang is not None
    assert (begin.hang.floor_seconds, begin.hang.factor) == allowed


def test_what_happens_to_a_spare_does_not_change_what_an_epoch_was_begun_with() -> None:
    life = Life().run()
    for _ in range(2):
        life.tell("Failed", (Evidence("Hang", life.status.epoch, life.now - 1, "s0", 0, step=50),))
        life.step()
        life.now += 100
    begin = command_of(life.job)
    last = life.status.recoveries[-1]
    spare = last.model_copy(update={"event": Event.NODE_LOST, "epoch": life.status.epoch, "action": Action.IGNORE})
    status = life.status.model_copy(update={"recoveries": (*life.status.recoveries, spare)})
    assert command_of(life.job.model_copy(update={"status": status})) == begin


def test_a_spare_that_is_lost_between_two_hangs_is_no_other_failure() -> None:
    life = Life().run()
    for _ in range(2):
        life.tell("Failed", (Evidence("Hang", life.status.epoch, life.now - 1, "s0", 0, step=50),))
        life.step()
        life.now += 100
        last = life.status.recoveries[-1]
        spare = last.model_copy(update={"event": Event.NODE_LOST, "epoch": life.status.epoch, "action": Action.IGNORE})
        status = life.status.model_copy(update={"recoveries": (*life.status.recoveries, spare)})
        life.job = life.job.model_copy(update={"status": status})
    begin = command_of(life.job)
    assert isinstance(begin, Begin)
    assert begin.hang is not None
    assert begin.hang.floor_seconds == 20.0
