"""PromQL rules: for whom a series speaks, since when a rule holds, and what it does to a job."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import promql_parser
import pytest
from msgspec import structs

from stowage.api.durations import instant
from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import Seat
from stowage.api.training_reasons import JobReason
from stowage.api.training_words import JobPhase
from stowage.decide.samples import Sample
from stowage.decide.training.evidence_of_queries import evidence_of_queries
from stowage.decide.training.job_status import Seen, next_step
from stowage.decide.training.promql_rules import (
    Firing,
    Hold,
    PromqlRule,
    Queried,
    firing_of,
    held,
    held_in_the_past,
    subjects_of,
)
from unit.builders import NOW, node, pod, snapshot

SPIKE = PromqlRule("spike", "loss > 10", for_seconds=60.0)
XID = PromqlRule("xid", "xid > 0", name_label="pod", of_pods=True)
BERT = ("team", "bert")
OF_BERT = {"namespace": "team", "stowage_dev_job": "bert"}


def sample(labels: Mapping[str, str], value: float = 1.0, at: float = NOW) -> Sample:
    return Sample(labels, value, at)


def job(action: str = "Pause", rule: str = "spike", **status: Any) -> TrainingJob:
    container = {"name": "trainer", "command": ["python", "train.py"]}
    spec = {
        "template": {"spec": {"containers": [container]}},
        "recovery": {"rules": [{"when": {"promql": {"rule": rule}}, "do": action}]},
    }
    created = instant(NOW - 3600).isoformat()
    metadata = {"name": "bert", "namespace": "team", "uid": "u", "creationTimestamp": created}
    parsed = TrainingJob.parse({"metadata": metadata, "spec": spec})
    found = parsed.status.model_copy(
        update={
            "phase": JobPhase.RUNNING,
            "epoch": 3,
            "epoch_at": instant(NOW - 600),
            "attempt": 2,
            "seats": (Seat(seat="s0", attempt=2, pod_uid="pod-0", node="n0"),),
            "members": ("s0",),
            "active_since": instant(NOW - 3600),
            **status,
        }
    )
    return parsed.model_copy(update={"status": found})


@pytest.mark.parametrize(
    ("labels", "value", "holds"),
    [
        pytest.param(OF_BERT, 12.0, True, id="its own"),
        pytest.param({**OF_BERT, "rank": "3"}, math.inf, True, id="one of its ranks"),
        pytest.param(OF_BERT, math.nan, False, id="no number"),
        pytest.param({**OF_BERT, "namespace": "other"}, 1.0, False, id="a job of that name elsewhere"),
        pytest.param({**OF_BERT, "stowage_dev_job": "bert-2"}, 1.0, False, id="another job"),
        pytest.param({"stowage_dev_job": "bert"}, 1.0, False, id="no namespace"),
        pytest.param({"namespace": "team"}, 1.0, False, id="a whole namespace"),
        pytest.param({"namespace": "", "stowage_dev_job": "bert"}, 1.0, False, id="an empty namespace"),
        pytest.param({"namespace": "team", "job": "bert"}, 1.0, False, id="a job of Prometheus's own"),
        pytest.param({"namespace": "team", "pod": "bert-s0-2"}, 1.0, False, id="a pod, where jobs are meant"),
        pytest.param({}, 1.0, False, id="nobody"),
    ],
)
def test_a_series_speaks_for_whom_it_names(labels: Mapping[str, str], value: float, holds: bool) -> None:
    found = held(SPIKE, [sample(labels, value)], {}, {BERT}, NOW)
    assert found == ({BERT: Hold(NOW, value)} if holds else {})


def test_the_past_is_kept_while_any_series_of_the_job_is_there() -> None:
    first = held(SPIKE, [sample({**OF_BERT, "rank": "0"}, 11)], {}, {BERT}, NOW)
    then = held(
        SPIKE, [sample({**OF_BERT, "rank": "1"}, 15), sample({**OF_BERT, "rank": "2"}, 12)], first, {BERT}, NOW + 15
    )
    assert then == {BERT: Hold(NOW, 15)}
    assert held(SPIKE, [], then, {BERT}, NOW + 30) == {}
    assert held(SPIKE, [sample(OF_BERT)], {}, {BERT}, NOW + 45) == {BERT: Hold(NOW + 45, 1)}


@pytest.mark.parametrize(
    ("times", "since"),
    [
        pytest.param([0, -15, -30], -30, id="without a gap"),
        pytest.param([0, -15, -60, -75], -15, id="since the last gap"),
        pytest.param([-15, -30], -30, id="the last evaluation is a step old"),
        pytest.param([-30, -45], None, id="over"),
        pytest.param([0], 0, id="just now"),
        pytest.param([-30, 0, -15], -30, id="in any order"),
    ],
)
def test_a_rule_has_held_since_the_last_gap(times: list[int], since: int | None) -> None:
    history = [sample(OF_BERT, at=NOW + seconds) for seconds in times]
    expected = {BERT: Hold(NOW + since, 1.0)} if since is not None else {}
    assert held_in_the_past(SPIKE, history, {BERT}, NOW, 15.0) == expected


@pytest.mark.parametrize(("seconds", "fires"), [(0, False), (59.9, False), (60, True), (3600, True)])
def test_a_rule_fires_when_it_has_held_for_as_long_as_it_has_to(seconds: float, fires: bool) -> None:
    found = firing_of(SPIKE, {BERT: Hold(NOW - seconds, 12)}, [BERT], NOW)
    assert found == ((Firing("spike", NOW - seconds, NOW - seconds + 60, 12),) if fires else ())


@pytest.mark.parametrize("query", ["loss > 10", "loss > 10 # much", "sum(a) by (namespace) > 0\n"])
def test_what_is_asked_has_one_series_for_each_job(query: str) -> None:
    asked = promql_parser.parse(structs.replace(SPIKE, query=query).question)
    assert isinstance(asked, promql_parser.AggregateExpr)
    assert str(asked.op) == "max"
    assert asked.modifier.labels == ["namespace", "stowage_dev_job"]
    assert str(asked.expr) == str(promql_parser.parse(query))


def test_a_rule_of_some_namespaces_knows_no_others() -> None:
    assert subjects_of(SPIKE, job()) == (BERT,)
    assert subjects_of(structs.replace(SPIKE, namespaces=frozenset({"other"})), job()) == ()
    assert subjects_of(XID, job()) == (("team", "bert-s0-2"),)


@pytest.mark.parametrize(
    ("firing", "there"),
    [
        pytest.param(Firing("spike", NOW - 100, NOW - 40, 12), True, id="fires"),
        pytest.param(Firing("spike", NOW - 4000, NOW - 40, 12), False, id="an earlier job's series has not ended"),
        pytest.param(Firing("xid", NOW - 100, NOW - 40, 12, pod="bert-s0-2"), True, id="its pod"),
        pytest.param(Firing("xid", NOW - 100, NOW - 40, 12, pod="bert-s0-1"), False, id="a pod that it had"),
        pytest.param(Firing("xid", NOW - 100, NOW - 40, 12, pod="bert-s7-2"), False, id="a pod that it never had"),
    ],
)
def test_what_fires_is_evidence_once_it_concerns_the_job(firing: Firing, there: bool) -> None:
    assert bool(evidence_of_queries(job(), Queried((firing,)))) == there


def test_evidence_of_a_pod_names_seat_node_and_pod() -> None:
    (one,) = evidence_of_queries(job(), Queried((Firing("xid", NOW - 70, NOW - 10, 79, pod="bert-s0-2"),)))
    assert (one.seat, one.node, one.pod, one.at, one.name) == ("s0", "n0", "pod-0", NOW - 10, "xid")
    assert one.detail == "it returned 79 and had held for 60 s"


def step(of: TrainingJob, queried: Queried, now: float = NOW) -> TrainingJob:
    its, where = pod("bert-s0-2", "n0", uid="pod-0"), {"n0": node("n0")}
    taken = next_step(of, Seen((its,), where, snapshot(*where.values(), its, now=now), now, queried=queried))
    return of.model_copy(update={"status": taken.status})


def test_a_rule_that_fires_pauses_the_job() -> None:
    paused = step(job(), Queried((Firing("spike", NOW - 70, NOW - 10, 12),)))
    assert paused.status.phase is JobPhase.PAUSED
    assert paused.status.last_failure is not None
    assert paused.status.last_failure.evidence[0].source == "prometheus"


def test_a_rule_that_fired_before_the_epoch_was_answered_by_it() -> None:
    assert step(job(), Queried((Firing("spike", NOW - 800, NOW - 700, 12),))).status.phase is not JobPhase.PAUSED


def test_a_rule_that_the_job_does_not_name_does_nothing() -> None:
    firing = Queried((Firing("other", NOW - 70, NOW - 10, 12),))
    assert step(job(), firing).status.phase is not JobPhase.PAUSED


@pytest.mark.parametrize(
    ("queried", "status", "reason", "words"),
    [
        pytest.param(Queried(), "True", JobReason.QUERIES_ANSWERED, "", id="answered"),
        pytest.param(
            Queried(silent=("spike",)),
            "Unknown",
            JobReason.QUERIES_UNANSWERED,
            "Prometheus does not answer for spike",
            id="Prometheus is down",
        ),
        pytest.param(
            Queried(unknown=("spike",)),
            "False",
            JobReason.UNKNOWN_RULE,
            "no PromQL rule of the operator's settings is for this namespace: spike",
            id="no such rule",
        ),
    ],
)
def test_the_job_says_whether_its_rules_are_asked(queried: Queried, status: str, reason: JobReason, words: str) -> None:
    before = job()
    after = step(before, queried)
    (condition,) = [one for one in after.status.conditions if one.type == "Observed"]
    assert (condition.status, condition.reason, condition.message) == (status, reason, words)
    assert (after.status.phase, after.status.epoch) == (before.status.phase, before.status.epoch), "and nothing else"


def test_without_rules_nothing_is_said_of_them() -> None:
    asked = step(job(), Queried())
    document = asked.to_document()
    document["spec"]["recovery"] = {}
    after = step(TrainingJob.parse(document), Queried())
    assert "Observed" not in {one.type for one in after.status.conditions}
