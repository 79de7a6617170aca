"""`stowage why trainingjob/NAME`: why a job waits, and what became of its last failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stowage.api.training_job import TrainingJob
from stowage.api.training_words import JobPhase
from stowage.cli import run
from stowage.cli.times import timestamp_seconds
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.kube.redact import redact
from stowage_worker.messages import Evidence, Progress, SeatState, Straggling
from unit.builders import NOW
from unit.test_cli_why import node, pod
from unit.test_training_job_status import Life

Document = dict[str, Any]
Ask = Callable[..., tuple[int, Document, str]]


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Asks why of a job of a dump at a time: the exit code, the JSON answer, and the text."""

    def asked(life: Life, *items: Document, what: str = "tj/tiny") -> tuple[int, Document, str]:
        file = tmp_path / "dump.json"
        documents = [node("n0"), node("n1"), life.job.to_document(), *items]
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))
        arguments = ["why", what, "-n", "team", "-f", str(file), "--now", f"{stamp(life.now)}"]
        code = run([*arguments, "-o", "json"])
        document = json.loads(capsys.readouterr().out)
        assert run(arguments) == code
        return code, document, capsys.readouterr().out

    return asked


def stamp(at: float) -> str:
    from stowage.api.durations import instant

    assert timestamp_seconds(instant(at).isoformat(), "at") == at
    return instant(at).isoformat()


def failed_once(**spec: Any) -> Life:
    """A job that lost a process, and is as far as before, 30 s later."""
    life = Life(**spec).run()
    life.now += 60
    life.tell("Running", progress=Progress(step=12, step_seconds=2.0))
    life.step()
    life.fails(error_type="OSError", error_message="stale file handle", step=12, rank=1)
    life.now += 4
    life.tell("Running", started_at=life.now, progress=Progress(step=8))
    life.step()
    life.now += 6
    life.tell("Running", started_at=life.now - 6, first_step_at=life.now - 5, progress=Progress(step=12))
    life.step()
    life.now += 20
    return life


def test_the_story_of_a_failure_is_told_from_its_cause_to_the_last_step_that_was_done_again(ask: Ask) -> None:
    code, document, text = ask(failed_once())
    assert code == 0
    failure = document["lastFailure"]
    assert (failure["event"], failure["action"], failure["reason"]) == (
        "ProcessExited",
        "RestartProcesses",
        "FailureRecovered",
    )
    assert failure["budget"] == {"used": 1, "restarts": 10, "windowSeconds": 3600.0}
    assert failure["stageSeconds"] == {
        "detect": 1.0,
        "decide": 0.0,
        "schedule": 0.0,
        "start": 4.0,
        "restore": 1.0,
        "recompute": 5.0,
    }
    assert failure["totalSeconds"] == 11
    assert failure["openStage"] is None
    assert text.splitlines()[0] == "trainingjob team/tiny: Running for 26 s, epoch 2, attempt 2"
    story = text[text.index("last failure") :].splitlines()
    assert story[0] == "last failure, 31 s ago: ProcessExited on rank 1, seat s1, node n1 (code 1, step 12)"
    assert (
        "by coordinator: ProcessExited on rank 1, seat s1, node n1 (code 1, step 12): OSError: stale file handle"
        in text
    )
    assert "  decided: RestartProcesses, all processes were started again, in the same pods" in story
    assert "    rule: no rule of the job speaks of it; by default: RestartProcesses" in story
    assert "    budget: 1 of 10 starts in 1 h used" in story
    assert "  it took 11 s: detect 1.0 s, decide 0 s, schedule 0 s, start 4.0 s, restore 1.0 s" in text
    assert story[-1] == "  lost: 11 s, 5.0 s of it for steps up to 12 done again"


def test_a_failure_that_comes_again_is_told_with_what_was_tried_before(ask: Ask) -> None:
    life = failed_once()
    for _ in range(2):
        life.now += 30
        life.fails(step=-1)
        life.now += 1
        life.tell("Running", started_at=life.now)
        life.step()
    code, document, text = ask(life)
    assert code == 0
    failure = document["lastFailure"]
    assert (failure["action"], failure["reason"]) == ("RestartContainer", "Escalated")
    assert [one["action"] for one in failure["triedBefore"]] == ["RestartProcesses", "RestartProcesses"]
    assert failure["budget"]["used"] == 3
    assert failure["openStage"] == "restore"
    assert "because: Escalated, less was tried at this place before" in text
    assert text.count("tried before") == 2
    assert "  under way: restore" in text


def test_who_failed_is_told_whose_fault_it_is_in_the_words_of_the_rule(ask: Ask) -> None:
    life = Life(recovery={"rules": [{"when": {"exitCodes": [42]}, "do": "Fail", "message": "data error"}]}).run()
    life.fails(code=42)
    code, document, text = ask(life)
    assert code == 1
    assert document["phase"] == "Failed"
    assert "rule: spec.recovery.rules[0] says Fail, 'data error'" in text
    assert "what helps: delete the job and make it again; checkpoints stay" in text


def test_who_is_paused_is_told_how_to_go_on(ask: Ask) -> None:
    life = Life(recovery={"rules": [{"when": {"exitCodes": [3]}, "do": "Pause"}]}).run()
    life.fails(code=3)
    code, document, text = ask(life)
    assert (code, document["phase"]) == (1, "Paused")
    assert 'kubectl patch tj tiny -n team --type merge -p \'{"spec":{"suspend":true}}\'' in document["help"]
    assert "what helps: kubectl patch tj tiny" in text


def test_a_budget_that_is_used_up_is_told_and_counts_anew_once_somebody_has_looked(ask: Ask) -> None:
    life = Life(recovery={"budget": {"restarts": 1, "window": "1h"}}).run()
    device = {"error_type": "RuntimeError", "error_message": "uncorrectable ECC error"}
    life.fails(**device)
    life.now += 10
    life.fails(**device)
    assert life.status.phase is JobPhase.PAUSED
    assert "budget: 1 of 1 starts in 1 h used" in ask(life)[2]
    life.pods = {}
    for suspend in (True, False):
        life.spec(suspend=suspend)
        life.step()
    life.now += 10
    life.run()
    life.fails(**device)
    assert life.status.phase is JobPhase.RECOVERING
    assert "budget: 1 of 1 starts in 1 h used" in ask(life)[2]


def waiting_pod(name: str, seat: str) -> Document:
    document = pod(name, "6")
    document["metadata"] |= {"namespace": "team", "labels": {"stowage.dev/job": "tiny", "stowage.dev/seat": seat}}
    return document


def test_a_job_that_waits_is_told_why_its_first_pod_has_no_node(ask: Ask) -> None:
    life = Life()
    life.step()
    code, document, text = ask(life, waiting_pod("tiny-s0-1", "s0"), waiting_pod("tiny-s1-1", "s1"))
    assert (code, document["phase"], document["podsWithoutNode"]) == (1, "Pending", 2)
    assert (document["pod"]["pod"], document["pod"]["reason"]) == ("team/tiny-s0-1", "InsufficientCpu")
    assert "2 pods have no node yet; the first is team/tiny-s0-1" in text
    assert "it stays pending: InsufficientCpu" in text
    assert "more: kubectl stowage why pod/team/tiny-s0-1" in text
    assert text.endswith("nothing has failed\n")


def test_pods_that_have_a_node_and_do_not_start_are_named_with_what_they_wait_for(ask: Ask) -> None:
    life = Life()
    life.step()
    document = waiting_pod("tiny-s0-1", "s0")
    document["spec"]["nodeName"] = "n0"
    document["status"] = {
        "phase": "Pending",
        "containerStatuses": [{"name": "trainer", "state": {"waiting": {"reason": "ImagePullBackOff"}}}],
    }
    code, answer, text = ask(life, document)
    assert code == 0
    assert [one["seat"] for one in answer["seatsThatWait"]] == ["s0"]
    assert "seat s0 on node n0: container trainer waits for image" in text
    assert ": ImagePullBackOff; it counts as a failure at " in text


def test_a_recovery_that_waits_for_the_coordinator_says_so_once(ask: Ask) -> None:
    life = Life().run()
    life.fails(error_type="OSError", error_message="stale file handle")
    life.report = None
    life.now += 5
    life.step()
    code, document, text = ask(life)
    assert (code, document["phase"]) == (0, "Recovering")
    unheard = "Every pod has a node; the operator does not hear the coordinator, pod tiny-coordinator, yet."
    assert f"  it waits: {unheard}\n" in text
    assert text.count("stale file handle: the processes start again") == 1, "that is told in the story"


def test_what_others_wrote_moves_no_cursor_and_ends_no_line(ask: Ask) -> None:
    life = Life()
    life.step()
    document = waiting_pod("tiny-s0-1", "s0")
    document["spec"]["nodeName"] = "n0"
    waits = {"waiting": {"reason": "\x1b[2JSucceeded\nnothing has failed"}}
    document["status"] = {"phase": "Pending", "containerStatuses": [{"name": "trainer", "state": waits}]}
    _, _, text = ask(life, document)
    assert "\x1b" not in text
    assert text.count("\nnothing has failed") == 1, "that it is said once is ours"


def test_what_people_should_know_of_stands_in_notes(ask: Ask) -> None:
    life = Life().run()
    document = life.job.to_document()
    for kind, status, reason, message in (
        ("Accepted", "False", "ChildRefused", "exceeded quota"),
        ("Observed", "False", "QueriesUnanswered", "connection refused"),
        ("Running", "Unknown", "CoordinatorUnreachable", ""),
        ("Placed", "False", "AwaitingQuota", ""),
    ):
        conditions = [one for one in document["status"]["conditions"] if one["type"] != kind]
        condition = {"type": kind, "status": status, "reason": reason, "message": message}
        condition["lastTransitionTime"] = stamp(NOW)
        document["status"]["conditions"] = [*conditions, condition]
    document["status"]["sizing"] = {"reason": "NodesLost", "message": "from 4 to 2"}
    life.job = TrainingJob.parse_stored(document)
    _, answer, text = ask(life)
    assert answer["notes"] == [
        "ChildRefused: exceeded quota",
        "QueriesUnanswered: connection refused",
        "the coordinator does not answer; training goes on without it",
        "its queue has not admitted it yet",
        "number of nodes: from 4 to 2",
    ]
    assert "note: ChildRefused: exceeded quota" in text


def test_slow_ranks_are_shown_as_evidence(ask: Ask) -> None:
    life = Life().run()
    life.tell("Running", progress=Progress(step=3), stragglers=(Straggling(1, "s1", 2.0, 0.1, 1.42),))
    life.step()
    _, document, text = ask(life)
    (slow,) = document["slowRanks"]
    assert (slow["rank"], slow["node"], slow["ratio"]) == (1, "n1", 1.42)
    assert "rank 1, seat s1 on node n1: 1.42 times the usual, steps 2 s, 0.1 s of it waiting" in text


def test_silence_is_told_with_the_time_at_which_it_began(ask: Ask) -> None:
    life = Life().run()
    life.now += 100
    lost = Evidence("SupervisorLost", 1, life.now, seat="s1", detail="nothing heard for 5 s")
    life.tell("Failed", (lost,))
    assert life.report is not None
    seats = (*life.report.seats[:1], SeatState("s1", "uid-2", connected=False, state="Lost", silent_seconds=5.0))
    life.tell("Failed", (lost,))
    object.__setattr__(life.report, "seats", seats)
    life.now += 3
    life.step()
    assert life.status.phase is JobPhase.RECOVERING
    nodes = tuple(one.model_copy(update={"cordon": True}) for one in life.status.avoided_nodes)
    life.job = life.job.model_copy(update={"status": life.status.model_copy(update={"avoided_nodes": nodes})})
    _, document, text = ask(life)
    assert document["lastFailure"]["event"] == "SupervisorLost"
    assert document["lastFailure"]["avoidedNodes"].keys() == {"n1"}
    assert "nobody shall use it: taint stowage.dev/unhealthy" in text


def test_a_job_that_is_not_there_is_named_with_where_one_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dump.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [Life().job.to_document()]}))
    assert run(["why", "trainingjob/other/tiny", "-f", str(file)]) == 2
    assert "trainingjob other/tiny: not found (there is one in namespace team)" in capsys.readouterr().err


class TestDump:
    def document(self) -> Document:
        life = failed_once()
        document = life.job.to_document()
        container = document["spec"]["template"]["spec"]["containers"][0]
        container |= {
            "image": "registry/train:1",
            "env": [{"name": "TOKEN", "value": "secret-1"}],
            "command": ["python", "train.py", "--key=secret-2"],
            "resources": {"limits": {"nvidia.com/gpu": "8"}},
        }
        document["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "secret-3"}
        document["spec"]["checkpoint"] = {
            "volume": {"csi": {"volumeAttributes": {"password": "secret-4"}}},
            "directory": "/ckpt",
        }
        document["status"]["progress"]["lastCheckpoint"] = {
            "step": 8,
            "at": stamp(NOW),
            "uri": "s3://user:secret-5@bucket",
        }
        document["status"]["lastFailure"]["evidence"][0]["detail"] = "secret-6"
        document["status"]["lastFailure"]["message"] = "secret-7"
        document["status"]["message"] = "secret-8"
        document["status"]["progress"]["phase"] = "secret-9"
        return document

    def test_a_job_is_kept_without_anything_that_programs_said_or_were_told(self) -> None:
        (kept,) = redact({"apiVersion": "v1", "kind": "List", "items": [self.document()]})["items"]
        assert "secret" not in json.dumps(kept)
        assert kept["metadata"]["name"] == "tiny"
        (container,) = kept["spec"]["template"]["spec"]["containers"]
        assert container == {
            "name": "trainer",
            "command": ["(left out)"],
            "resources": {"limits": {"nvidia.com/gpu": "8"}},
        }
        assert kept["status"]["phase"] == "Running"
        assert kept["status"]["seatSummary"] == {
            "vacant": 0,
            "waiting": 0,
            "starting": 0,
            "connected": 0,
            "running": 2,
            "finished": 0,
        }

    def test_the_story_can_be_told_from_a_dump(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "dump.json"
        file.write_text(json.dumps(redact({"apiVersion": "v1", "kind": "List", "items": [self.document()]})))
        assert run(["why", "tj/team/tiny", "-f", str(file)]) == 0
        text = capsys.readouterr().out
        assert "by coordinator: ProcessExited on rank 1, seat s1, node n1 (code 1, step 12): OSError" in text

    def test_top_lists_the_jobs_that_have_not_ended(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "dump.json"
        ended = self.document()
        ended["metadata"]["name"] = "done"
        ended["status"]["phase"] = "Succeeded"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [self.document(), ended]}))
        assert run(["top", "-f", str(file), "-o", "json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)["trainingJobs"]
        assert (row["job"], row["phase"], row["nodes"], row["step"], row["restarts"]) == (
            "team/tiny",
            "Running",
            "2/2",
            12,
            1,
        )
        assert row["mostLost"] == {"cause": "WastedProgress", "seconds": 6}
        assert run(["top", "-f", str(file)]) == 0
        table = capsys.readouterr().out.splitlines()
        assert table[-1].split() == ["team/tiny", "Running", "2/2", "12", "0.857", "1", "WastedProgress", "6.0", "s"]

    def test_now_is_when_the_job_was_told_of_last(self) -> None:
        document = self.document()
        until = document["status"]["goodput"]["until"]
        dump = read_dump(json.dumps({"apiVersion": "v1", "kind": "List", "items": [document]}).encode())
        assert dump.snapshot.now == timestamp_seconds(until, "until")
        assert [one["metadata"]["name"] for one in dump.jobs] == ["tiny"]
