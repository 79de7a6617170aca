"""What a coordinator tells is its user's word: whatever it says, deciding by it never fails, and hurts nobody else."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from stowage.api.training_job import TrainingJob
from stowage.api.training_words import Event
from stowage.decide.training.commands import command_of
from stowage.decide.training.heard import heard_of
from stowage.decide.training.job_status import next_step
from stowage.decide.training.sound_reports import CLOCK_OFF_SECONDS, MOST_EVIDENCE, MOST_SEATS, plain, sound
from stowage_worker.messages import Evidence, MessageError, Progress, Report, SeatState, Straggling
from unit.builders import NOW
from unit.test_training_job_status import Life

LOST = Evidence("SupervisorLost", 1, NOW - 3, seat="s0")


def told(*evidence: Evidence, **fields: Any) -> Report:
    return Report(1, 1, "Failed", evidence=evidence, **fields)


def test_what_can_be_true_comes_back_as_it_is() -> None:
    seats = (SeatState("s0", "uid-1", connected=True, state="Running", node="n0.zone-a"),)
    progress = Progress(step=7, tokens=900, loss=math.nan, step_seconds=0.5, checkpoint_at=NOW - 60)
    stragglers = (Straggling(3, "s0", 1.0, 0.2, 1.4),)
    report = told(LOST, seats=seats, progress=progress, stragglers=stragglers, started_at=NOW - 3600)
    assert sound(report, NOW) is report


@pytest.mark.parametrize("at", [0.5, -1.0, NOW - 2 * CLOCK_OFF_SECONDS, NOW + 2 * CLOCK_OFF_SECONDS, 1e300, math.nan])
def test_a_clock_that_is_off_says_nothing_about_when(at: float) -> None:
    (one,) = sound(told(replace(LOST, at=at)), NOW).evidence
    assert one.at == NOW


def test_a_coordinator_whose_clock_stands_in_1970_does_not_keep_its_job_from_recovering() -> None:
    life = Life(2).run()
    life.tell("Failed", (Evidence("ProcessExited", 1, 0.5, seat="s0", rank=0, code=1),), started_at=0.1)
    assert life.report is not None
    life.report = sound(life.report, life.now)
    life.step()
    assert life.status.epoch == 2


@pytest.mark.parametrize("event", [*(event.value for event in Event), "nonsense"])
def test_a_coordinator_has_no_say_about_nodes(event: str) -> None:
    """A word about a device would taint the node for everybody."""
    life = Life(2).run()
    life.tell("Failed", (Evidence(event, 1, life.now - 5, seat="s0", name="GpuMemWatch"),))
    assert life.report is not None
    life.report = sound(life.report, life.now)
    step = life.step()
    assert not any(one.cordon for one in step.status.avoided_nodes)
    assert step.decision is None or not step.decision.cordon


def test_lists_have_an_end() -> None:
    report = told(*[LOST] * 20_000, seats=tuple(SeatState(f"s{n}", "", connected=True, state="") for n in range(9000)))
    found = sound(report, NOW)
    assert (len(found.evidence), len(found.seats)) == (MOST_EVIDENCE, MOST_SEATS)


@pytest.mark.parametrize(("epoch", "attempt"), [(-1, 1), (2**31, 1), (1, -1), (1, 2**53)])
def test_an_epoch_that_nobody_has_counted_to_ends_the_conversation(epoch: int, attempt: int) -> None:
    with pytest.raises(MessageError):
        sound(replace(told(), epoch=epoch, attempt=attempt), NOW)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("ä€", "ä€"),
        ("a\nb\r\x1b[31mc\x00", "a b  [31mc "),
        ("\u202eevil", " evil"),
        ("x" * 99, "x" * 20),
    ],
)
def test_texts_are_one_short_line(text: str, shown: str) -> None:
    assert plain(text, 20) == shown


whole = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([-1, 0, 1, 2**31, 2**53 - 1, 2**53]))
numbers = st.one_of(st.floats(), st.sampled_from([0.0, NOW, NOW - 5, -1.0, 1e12, 1e300]))
texts = st.one_of(st.text(max_size=40), st.sampled_from(["", "s0", "s1", "s99999999", "n0", "x" * 3000, "Leaving"]))
seats = st.builds(SeatState, texts, texts, st.booleans(), texts, texts, texts, numbers)
reports = st.builds(
    Report,
    epoch=st.sampled_from([0, 1, 1, 1, 2, 2**31 - 1]),
    attempt=st.sampled_from([0, 1, 2**31 - 1]),
    phase=st.sampled_from(["Running", "Failed", "Finished", "Yielded", "Preparing", "x" * 999]),
    seats=st.lists(seats, max_size=3).map(tuple),
    evidence=st.lists(
        st.builds(
            Evidence,
            event=st.sampled_from([*(event.value for event in Event), "LogRule"]),
            epoch=st.sampled_from([1, 1, 2, 2**60]),
            at=numbers,
            seat=texts,
            rank=whole,
            code=st.none() | whole,
            signal=st.none() | whole,
            error_type=texts,
            error_message=texts,
            error_hash=texts,
            step=whole,
            detail=texts,
            name=texts,
        ),
        max_size=4,
    ).map(tuple),
    progress=st.builds(
        Progress, whole, whole, st.none() | numbers, st.none() | numbers, texts, numbers, whole, texts,
        st.none() | numbers, st.none() | numbers,
    ),
    stragglers=st.lists(st.builds(Straggling, whole, texts, numbers, numbers, numbers), max_size=2).map(tuple),
    started_at=st.none() | numbers,
    first_step_at=st.none() | numbers,
)  # fmt: skip
actions = st.sampled_from(["Ignore", "RestartProcesses", "RestartContainer", "ReplaceNode", "Shrink", "Pause", "Fail"])


@settings(max_examples=60, deadline=None)
@given(st.lists(reports, min_size=1, max_size=3), st.sampled_from([event.value for event in Event]), actions)
def test_whatever_is_told_the_status_is_one_that_the_api_server_takes(
    told: list[Report], event: str, action: str
) -> None:
    life = Life(2, recovery={"rules": [{"when": {"event": event}, "do": action}]}).run()
    for report in told:
        life.now += 5
        heard = sound(report, life.now)
        assert sound(heard, life.now) is heard
        seen = structs.replace(life.seen(), report=heard, connected=True, heard=heard_of(heard, (), life.now))
        step = next_step(life.job, seen)
        life.job = life.job.model_copy(update={"status": step.status})
        TrainingJob.parse_stored(json.loads(json.dumps(life.job.to_document(), allow_nan=False)))
        command_of(life.job)
