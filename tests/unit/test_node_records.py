"""Records of nodes over all jobs, made again when they have to be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stowage.api.training_job import TrainingJob
from stowage.decide.training.job_facts import recoveries_of
from stowage.decide.training.node_memory import records_of
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
    assert made == [NOW, NOW + 1, NOW + FRESH_SECONDS], "failures in between do not put off what is forgotten"


def test_a_failure_makes_only_the_records_of_its_nodes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    records = NodeRecords()
    records.learn(job("a", "n1", "n2"))
    records.learn(job("b", "n1", "n3"))
    before = records.at(NOW)
    asked = []
    monkeypatch.setattr(node_records, "records_of", lambda told, now: asked.append(told) or records_of(told, now))
    records.learn(job("c", "n3"))
    after = records.at(NOW)
    assert {job: {one.node for one in told} for job, told in asked[0].items()} == {"team/b": {"n3"}, "team/c": {"n3"}}
    assert {node: after[node] for node in ("n1", "n2")} == {node: before[node] for node in ("n1", "n2")}
    assert (before["n3"].jobs, after["n3"].jobs) == ({"team/b"}, {"team/b", "team/c"}), "who was told keeps what it has"


names = st.sampled_from("abc")
stories = st.lists(st.tuples(names, st.none() | st.lists(st.sampled_from(["n1", "n2", "n3"]), max_size=4)), max_size=12)


@settings(max_examples=50)
@given(stories)
def test_records_that_are_kept_up_are_those_that_are_made_anew(story: list[tuple[str, list[str] | None]]) -> None:
    records = NodeRecords()
    known: dict[str, TrainingJob] = {}
    for name, nodes in story:
        if nodes is None:
            records.forget(f"team/{name}")
            known.pop(name, None)
        else:
            known[name] = job(name, *nodes)
            records.learn(known[name])
        assert records.at(NOW) == records_of({one.key: recoveries_of(one) for one in known.values()}, NOW)
