"""Processes beside a cluster: ended by their id and by nothing else, also when their starter is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from stowage.demo.processes import ManagedProcess, ProcessError, free_port, is_running, stop_recorded
from stowage_worker.ports import take_port

SLEEP = "import time; print('started', flush=True); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ignoring', flush=True); {SLEEP}"


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[ManagedProcess]:
    with ManagedProcess.start("sleeper", [sys.executable, "-c", SLEEP], folder=tmp_path) as process:
        yield process


def test_a_process_ends_with_its_block(tmp_path: Path) -> None:
    with ManagedProcess.start("sleeper", [sys.executable, "-c", SLEEP], folder=tmp_path) as process:
        assert is_running(tmp_path, "sleeper")
    assert process.exit_code == -signal.SIGTERM
    assert not is_running(tmp_path, "sleeper")
    assert process.stop() == -signal.SIGTERM


def test_a_process_that_ignores_the_polite_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stowage.demo.processes.END_TIMEOUT_SECONDS", 0.2)
    process = ManagedProcess.start("deaf", [sys.executable, "-c", DEAF], folder=tmp_path)
    while "ignoring" not in process.log_tail():
        assert process.exit_code is None
    assert process.stop() == -signal.SIGKILL


def test_what_a_gone_starter_left_is_ended(tmp_path: Path) -> None:
    starter = (
        "import sys; from pathlib import Path; from stowage.demo.processes import ManagedProcess\n"
        f"ManagedProcess.start('sleeper', [sys.executable, '-c', {SLEEP!r}], folder=Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", starter, tmp_path], check=True)
    assert is_running(tmp_path, "sleeper")

    stop_recorded(tmp_path)

    assert not is_running(tmp_path, "sleeper")
    assert list((tmp_path / "pids").iterdir()) == []


def test_another_process_that_got_the_same_id_is_left_alone(tmp_path: Path) -> None:
    recorded = tmp_path / "pids" / "old"
    recorded.parent.mkdir()
    # this very process, but with another start time: stopping it would end the tests
    recorded.write_text(f"{os.getpid()} 1\n")
    stop_recorded(tmp_path)
    assert not is_running(tmp_path, "old")


def test_files_of_another_form_are_left_alone(tmp_path: Path, sleeper: ManagedProcess) -> None:
    theirs = tmp_path / "pids" / "etcd.pid"
    theirs.write_text(f"{sleeper.pid}")
    (tmp_path / "pids" / "sleeper").unlink()
    stop_recorded(tmp_path)
    assert theirs.exists()
    assert sleeper.exit_code is None


def test_a_process_that_ends_too_early_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with (
        ManagedProcess.start(
            "brief", [sys.executable, "-c", "print('no such flag'); exit(2)"], folder=tmp_path
        ) as brief,
        pytest.raises(ProcessError, match=r"(?s)brief ended with exit code 2:.*brief\.log.*no such flag"),
    ):
        brief.wait_until_serving(f"http://127.0.0.1:{free_port()}/readyz")


def test_a_process_that_never_answers_is_reported(sleeper: ManagedProcess) -> None:
    with pytest.raises(ProcessError, match="sleeper does not answer at http"):
        sleeper.wait_until_serving(f"http://127.0.0.1:{free_port()}/readyz", timeout_seconds=0.1)


def test_a_free_port_is_given_to_nobody_else_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its choice and its use other tests and supervisors of jobs ask for ports, too."""
    monkeypatch.setattr("stowage.demo.processes.random.Random", lambda: Random(7))
    first = free_port()
    assert free_port() != first
    of_a_job = take_port(Random(7))
    of_a_job.release()
    assert of_a_job.number != first
