"""Records of nodes over all jobs, made again when they have to be."""

from __future__ import annotations

import pytest

from stowage.api.training_job import TrainingJob
from stowage.run import node_records
from stowage.run.node_records import FRESH_SECONDS, NodeRecords

NOW = 1_800_000_000.0


def job(name: str, *nodes: str) -> TrainingJob:
    """A job that has left nodes, one after the other."""
    recoveries = [
        {"at": "2027-01-15T07:00:00Z", "event": "NodeLost", "action": "ReplaceNode", "class": "Infrastructure"}
        | {"epoch": number, "node": node}
        for number, node in enumerate(nodes)
    ]
    return TrainingJob.parse(
        {
            "metadata": {"name": name, "namespace": "team"},
            "spec": {"template": {"spec": {"containers": [{"name": "trainer", "image": "i", "command": ["c"]}]}}},
            "status": {"recoveries": recoveries},
        }
    )


def test_what_jobs_remember_of_nodes() -> None:
    records = NodeRecords()
    records.learn(job("a", "n1"))
    records.learn(job("b", "n1", "n2"))
    assert {node: record.jobs for node, record in records.at(NOW).items()} == {
        "n1": {"team/a", "team/b"},
        "n2": {"team/b"},
    }
    records.forget("team/b")
    assert {node: record.jobs for node, record in records.at(NOW).items()} == {"n1": {"team/a"}}
    records.learn(job("a"))
    assert records.at(NOW) == {}


def test_they_are_made_when_a_job_has_recovered_and_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(node_records, "records_of", lambda _, now: made.append(now) or {})
    records = NodeRecords()
    for _ in range(3):
        records.learn(job("a", "n1"))
        records.at(NOW)
    assert made == [NOW]
    records.learn(job("a", "n1", "n2"))
    records.at(NOW + 1)
    records.at(NOW + FRESH_SECONDS)
    records.at(NOW + 1 + FRESH_SECONDS)
    assert made == [NOW, NOW + 1, NOW + 1 + FRESH_SECONDS]
