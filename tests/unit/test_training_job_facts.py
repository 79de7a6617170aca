"""What recovery is told of a TrainingJob, and what its status remembers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stowage.api.training_job import TrainingJob
from stowage.api.training_job_recovery import Rule, SignalName
from stowage.api.training_job_status import MAX_RECOVERIES
from stowage.api.training_words import Action, Domain, Event, JobPhase
from stowage.decide.training import escalation, job_facts
from stowage.decide.training.facts import Budget, Evidence, Recovery
from stowage.decide.training.rules import matches

POD = {"spec": {"containers": [{"name": "trainer", "command": ["a"]}]}}


def job(status: dict[str, Any] | None = None, **spec: Any) -> TrainingJob:
    metadata = {"name": "llama", "namespace": "team"}
    return TrainingJob.parse({"metadata": metadata, "spec": {"template": POD, **spec}, "status": status or {}})


def seen(event: Event, **fields: Any) -> Evidence:
    return Evidence(event, 1000.0, "coordinator", **fields)


EXIT, OOM = seen(Event.PROCESS_EXITED, code=42), seen(Event.OUT_OF_MEMORY, code=137)


@pytest.mark.parametrize(
    ("when", "met", "not_met"),
    [
        pytest.param({"exitCodes": [42]}, EXIT, seen(Event.PROCESS_EXITED, code=1), id="an exit code"),
        pytest.param({"exitCodes": [137]}, OOM, EXIT, id="the exit code of a container that had too little memory"),
        pytest.param({"signals": ["SIGKILL"]}, seen(Event.PROCESS_EXITED, signal=9), EXIT, id="a signal"),
        pytest.param(
            {"errorTypes": ["ValueError"]},
            seen(Event.PROCESS_EXITED, code=1, error_type="ValueError"),
            seen(Event.PROCESS_EXITED, code=1, error_type="KeyError"),
            id="an exception",
        ),
        pytest.param(
            {"nodeConditions": ["GpuMemWatch"]},
            seen(Event.NODE_CONDITION, name="GpuMemWatch"),
            seen(Event.NODE_TAINT, name="GpuMemWatch"),
            id="a condition of a node, and no taint of that name",
        ),
        pytest.param(
            {"nodeTaints": ["a/b"]},
            seen(Event.NODE_TAINT, name="a/b"),
            seen(Event.NODE_TAINT, name="a/c"),
            id="a taint of a node",
        ),
        pytest.param({"event": "Hang"}, seen(Event.HANG), EXIT, id="an event"),
        pytest.param(
            {"promql": {"rule": "spike"}},
            seen(Event.PROMQL, name="spike"),
            seen(Event.PROMQL, name="other"),
            id="a rule of the operator's settings",
        ),
        pytest.param(
            {"log": {"name": "nccl", "pattern": "NCCL"}},
            seen(Event.LOG, name="nccl"),
            seen(Event.LOG, name="other"),
            id="a line of output",
        ),
    ],
)
def test_a_rule_speaks_of_what_its_writer_means(when: dict[str, Any], met: Evidence, not_met: Evidence) -> None:
    rule = job_facts.rule_facts(Rule.model_validate({"when": when, "do": "Pause", "message": "look"}))
    assert (rule.action, rule.message) == (Action.PAUSE, "look")
    assert matches(rule, met)
    assert not matches(rule, not_met)


def test_every_signal_has_its_number() -> None:
    assert [name.number for name in (SignalName.SIGHUP, SignalName.SIGKILL, SignalName.SIGTERM)] == [1, 9, 15]
    assert len({name.number for name in SignalName}) == len(SignalName)


def test_a_job_is_told_as_it_stands_in_spec_and_status() -> None:
    status = {
        "phase": "Running",
        "epoch": 7,
        "epochAt": "2026-01-01T00:00:00Z",
        "attempt": 3,
        "members": ["s0", "s2"],
        "progress": {"step": 12, "lastCheckpoint": {"step": 10, "at": "2026-01-01T00:00:00Z"}},
    }
    told = job_facts.job_facts(
        job(
            status,
            nodes={"min": 1, "max": 4, "allowed": [4, 1, 2]},
            recovery={"budget": {"restarts": 3, "window": "30m"}, "spares": 2, "forceDelete": True},
        ),
        (),
        stateful_storage=True,
    )
    assert (told.key, told.epoch, told.attempt, told.size, told.sizes) == ("team/llama", 7, 3, 2, (1, 2, 4))
    assert (told.budget, told.spares, told.force_delete) == (Budget(3, 1800.0), 2, True)
    assert (told.step, told.checkpoint_step, told.stateful_storage) == (12, 10, True)
    assert (told.phase, told.epoch_at) == (JobPhase.RUNNING, 1767225600.0)


def test_what_ranks_are_watched_for() -> None:
    rules = [
        {"when": {"event": "Hang"}, "do": "RestartProcesses"},
        {"when": {"event": "Hang", "after": "10m"}, "do": "ReplaceNode"},
        {"when": {"log": {"name": "a", "pattern": "x"}}, "do": "Fail"},
        {"when": {"log": {"name": "a", "pattern": "y"}}, "do": "Pause"},
        {"when": {"promql": {"rule": "spike"}}, "do": "Pause"},
        {"when": {"promql": {"rule": "spike"}}, "do": "Fail"},
    ]
    recovery = job(recovery={"rules": rules}).spec.recovery
    assert job_facts.hang_seconds(recovery) == 600.0
    assert job_facts.log_rules(recovery) == (("a", "x"),)
    assert job_facts.promql_rules(recovery) == ("spike",)
    assert job_facts.hang_seconds(job().spec.recovery) is None


recoveries = st.builds(
    Recovery,
    at=st.integers(0, 4_000_000_000).map(lambda at: at / 2),
    event=st.sampled_from(Event),
    action=st.sampled_from(Action),
    domain=st.sampled_from(Domain),
    epoch=st.integers(0, 2**53 - 1),
    seat=st.none() | st.integers(0, 9_999_999).map(lambda number: f"s{number}"),
    node=st.none() | st.just("n1"),
    code=st.none() | st.integers(-(2**31), 2**32 - 1),
    error_hash=st.text("0123456789abcdef", max_size=64),
    step=st.none() | st.integers(0, 2**53 - 1),
    name=st.text(max_size=40),
    blameless=st.booleans(),
)


@given(st.lists(recoveries, max_size=MAX_RECOVERIES + 10))
def test_the_status_remembers_recoveries_as_they_were_decided(decided: list[Recovery]) -> None:
    remembered = job_facts.with_recoveries((), tuple(decided))
    document = job().model_copy(update={"status": job().status.model_copy(update={"recoveries": remembered})})
    read = TrainingJob.parse_stored(document.to_document())
    assert job_facts.recoveries_of(read) == escalation.remembered((), decided)
    assert len(remembered) <= MAX_RECOVERIES


def test_evidence_is_shown_with_what_is_known_of_it() -> None:
    long = seen(Event.PROCESS_EXITED, rank=-1, step=-1, code=1, error_type="E" * 300, error_message="m" * 2000)
    shown = job_facts.evidence_record(long)
    assert (shown.rank, shown.step, shown.code, len(shown.error_type), len(shown.detail)) == (None, None, 1, 256, 1024)
