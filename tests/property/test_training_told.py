"""What is told of jobs: never more events than allowed, and stages of a recovery that leave no time out."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stowage.api.durations import instant
from stowage.api.training_job_status import LastFailure
from stowage.api.training_words import Action, Domain, Event
from stowage.decide.training.failure_times import timed
from stowage.decide.training.heard import Heard
from stowage.decide.training.job_announcements import JobAnnouncement, JobEventReason, one_line
from stowage.run.event_allowance import BURST, EVERY_SECONDS, EventAllowance
from stowage_scheduler.kube.redact import redact

BEGIN = 1_000_000.0
KEYS = (
    "template",
    "spec",
    "containers",
    "env",
    "image",
    "args",
    "volumes",
    "name",
    "progress",
    "message",
    "detail",
    "uri",
)
offsets = st.integers(-20_000, 20_000).map(lambda milliseconds: milliseconds / 1000)


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 40)), max_size=60))
def test_in_any_span_of_time_a_job_has_no_more_events_than_a_burst_and_those_of_the_span(
    asked: list[tuple[int, int]],
) -> None:
    now = [0.0]
    allowance = EventAllowance(lambda: now[0])
    told: list[tuple[float, int]] = []
    for pause, count in asked:
        now[0] += pause
        wanted = [JobAnnouncement(JobEventReason.FAILURE_SEEN, "again") for _ in range(count)]
        told.append((now[0], len(allowance.allowed("team/job", wanted))))
    for first, (begin, _) in enumerate(told):
        in_all = 0
        for at, count in told[first:]:
            in_all += count
            assert in_all <= BURST + (at - begin) / EVERY_SECONDS + 1e-6


@given(st.lists(st.integers(0, 60), min_size=1, max_size=40))
def test_what_is_kept_back_is_said_by_a_later_event(counts: list[int]) -> None:
    now = [0.0]
    allowance = EventAllowance(lambda: now[0])
    kept_back = 0
    for count in counts:
        now[0] += 17.0
        told = allowance.allowed("team/job", [JobAnnouncement(JobEventReason.CREATED, "one")] * count)
        if told and kept_back:
            assert told[0].note == f"one ({kept_back} events before were not told)"
            kept_back = 0
        kept_back += count - len(told)


@given(
    failed=offsets,
    event=st.sampled_from(Event),
    heard=st.lists(
        st.builds(
            Heard,
            event=st.sampled_from(["ProcessExited", "SupervisorLost", "Hang", "LogRule"]),
            seat=st.sampled_from(["s0", "s1"]),
            rank=st.integers(-1, 1),
            at=offsets.map(lambda offset: BEGIN + offset),
            quiet_seconds=st.integers(0, 600).map(float),
        ),
        max_size=5,
    ),
    rung=st.none() | offsets.map(lambda offset: BEGIN + offset),
    decided=offsets,
)
def test_detection_and_decision_are_all_the_time_from_the_failure_to_the_decision(
    failed: float, event: Event, heard: list[Heard], rung: float | None, decided: float
) -> None:
    at, now = BEGIN + failed, BEGIN + max(failed, decided)
    failure = LastFailure(
        at=instant(at), domain=Domain.UNKNOWN, event=event, seat="s1", action=Action.RESTART_PROCESSES
    )
    told = timed(failure, heard, rung, now)
    assert told.recovery.detect is not None
    assert told.recovery.decide is not None
    assert told.at <= instant(at), "evidence makes a failure earlier, never later"
    spent = told.recovery.detect.seconds + told.recovery.decide.seconds
    assert abs(spent - (now - told.at.timestamp())) < 0.003


@given(st.text(max_size=3000), st.integers(1, 400))
def test_words_of_others_never_break_a_line(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most
    assert line.isprintable()
    assert one_line(line, most) == line


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(spec=values, status=values, metadata=values)
def test_a_job_of_any_form_is_redacted_without_an_error_and_without_its_secrets(
    spec: Any, status: Any, metadata: Any
) -> None:
    job = {"apiVersion": "stowage.dev/v1alpha1", "kind": "TrainingJob"}
    (kept,) = redact({"kind": "List", "items": [{**job, "spec": spec, "status": status, "metadata": metadata}]})[
        "items"
    ]
    assert not keys_of(kept["spec"]) & {"env", "image", "args", "volumes"}
    assert not keys_of(kept["status"]) & {"message", "detail", "uri"}


def keys_of(value: Any) -> set[str]:
    """Every key of a JSON value, at any depth."""
    if isinstance(value, dict):
        return set(value) | {key for part in value.values() for key in keys_of(part)}
    return {key for part in value for key in keys_of(part)} if isinstance(value, list) else set()
