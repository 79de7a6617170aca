from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stowage_worker import client
from stowage_worker.agreement import Plan
from stowage_worker.client import Asker, Reporter
from stowage_worker.messages import RankProgress
from stowage_worker.progress import ProgressReader


def read(file: Path, text: str) -> RankProgress:
    file.write_text(text)
    return ProgressReader({2: file}, 0.0).of(2, 0.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('{"step": 7}', RankProgress(2, step=7), id="only a step"),
        pytest.param('{"step": 7.0, "tokens": 1e9}', RankProgress(2, step=7, tokens=10**9), id="whole floats"),
        pytest.param("", RankProgress(2), id="empty, a shell is about to write"),
        pytest.param('{"step":', RankProgress(2), id="half written"),
        pytest.param("[]", RankProgress(2), id="no object"),
        pytest.param('{"step": "seven", "phase": 3, "tokens": true}', RankProgress(2), id="fields of other forms"),
        pytest.param('{"step": 1e300, "step_seconds": -1}', RankProgress(2), id="numbers out of reason"),
        pytest.param('{"step": 1' + "0" * 400 + "}", RankProgress(2), id="a number beyond floats"),
        pytest.param('{"loss": Infinity}', RankProgress(2, loss=math.inf), id="a loss that is not finite is told"),
        pytest.param('{"phase": "Saving", "new": 1}', RankProgress(2, phase="Saving"), id="unknown fields are no harm"),
    ],
)
def test_files(tmp_path: Path, text: str, expected: RankProgress) -> None:
    assert read(tmp_path / "progress.json", text) == expected


def test_nan_is_told(tmp_path: Path) -> None:
    loss = read(tmp_path / "p", '{"loss": NaN}').loss
    assert loss is not None
    assert math.isnan(loss)


@pytest.mark.parametrize(
    ("wall", "age"),
    [
        pytest.param(1000.75, 0.75, id="it tells when it was written"),
        pytest.param(999.0, 0.0, id="the wall clock was set back"),
        pytest.param(9999.0, 2.0, id="the wall clock was set forward: it was written after the last look"),
    ],
)
def test_a_step_is_as_old_as_the_file_that_tells_it(tmp_path: Path, wall: float, age: float) -> None:
    file = tmp_path / "p"
    reader = ProgressReader({0: file}, 10.0, lambda: wall)
    reader.of(0, 12.0)
    file.write_text('{"step": 1}')
    os.utime(file, (1000, 1000))
    assert reader.of(0, 14.0).since_step_seconds == age
    assert reader.of(0, 15.0).since_step_seconds == age + 1


def test_age_of_a_step_is_on_the_reader_s_clock(tmp_path: Path) -> None:
    file = tmp_path / "p"
    reader = ProgressReader({0: file}, 10.0, lambda: 0.0)  # the files are of a time to come: no help
    assert reader.of(0, 13.0).since_step_seconds == 3
    file.write_text('{"step": 1}')
    assert reader.of(0, 14.0).since_step_seconds == 0
    assert reader.of(0, 16.0).since_step_seconds == 2
    file.write_text('{"step": 1, "loss": 3}')
    assert reader.of(0, 17.0).since_step_seconds == 3
    file.write_text('{"step": 1, "phase": "Saving"}')
    assert reader.of(0, 18.0).since_step_seconds == 0
    file.unlink()
    assert reader.of(0, 20.0) == RankProgress(0, step=1, phase="Saving", since_step_seconds=2)


def test_nothing_is_expected_of_a_rank_that_ended(tmp_path: Path) -> None:
    for rank in (0, 1):
        (tmp_path / str(rank)).write_text('{"step": 1, "phase": "Saving"}')
    reader = ProgressReader({rank: tmp_path / str(rank) for rank in (0, 1)}, 0.0)
    reader.end(0)
    assert [one.rank for one in reader.read(1.0)] == [1]
    reader.end(1)
    assert [one.rank for one in reader.read(1.0)] == [0, 1]


def test_reports_add_up(tmp_path: Path) -> None:
    file = tmp_path / "p"
    times = iter([1.0, 1.5, 2.5])
    reporter = Reporter(str(file), lambda: next(times))
    reporter.tell({"step": 1, "loss": 4})
    reporter.tell({"step": 2})
    assert json.loads(file.read_text()) == {"step": 2, "loss": 4, "step_seconds": 0.5}
    reporter.tell({"step": 4, "phase": "Training"})
    assert json.loads(file.read_text()) == {"step": 4, "loss": 4, "step_seconds": 0.5, "phase": "Training"}
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize(
    ("told", "file"),
    [
        pytest.param({"loss": object()}, "p", id="no number"),
        pytest.param({"step": "x"}, "p", id="a step that is text"),
        pytest.param({"step": 1}, "no/such/folder", id="nowhere to write"),
        pytest.param({"step": 1}, "", id="no supervisor"),
    ],
)
def test_a_report_never_raises(tmp_path: Path, told: dict[str, object], file: str) -> None:
    Reporter(str(tmp_path / file) if file else "").tell(told)


def test_numbers_of_other_libraries(tmp_path: Path) -> None:
    class Tensor:
        def __float__(self) -> float:
            return 2.5

    file = tmp_path / "p"
    Reporter(str(file)).tell({"loss": Tensor()})
    assert json.loads(file.read_text()) == {"loss": 2.5}


@given(st.integers(0, 1 << 40), st.floats(), st.sampled_from(client.PHASES))
def test_what_is_reported_is_read(tmp_path_factory: pytest.TempPathFactory, step: int, loss: float, phase: str) -> None:
    file = tmp_path_factory.mktemp("progress") / "p"
    Reporter(str(file)).tell({"step": step, "loss": loss, "phase": phase})
    found = ProgressReader({0: file}, 0.0).of(0, 0.0)
    assert (found.step, found.phase) == (step, phase)
    assert found.loss == loss or (math.isnan(loss) and found.loss is not None and math.isnan(found.loss))


class Clock:
    """Seconds that the test lets pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


SAVES = {
    "by the phase": ([(1.0, {"phase": "Saving"}), (7.0, {"checkpoint_step": 2}), (0.5, {"phase": "Training"})], 8.5),
    "until the next step, less the step": ([(7.5, {"checkpoint_step": 2}), (1.0, {"step": 3})], 7.5),
    "until it asks for the next step": ([(7.5, {"checkpoint_step": 2}), (1.0, {"asked_step": 3})], 7.5),
    "while the checkpoint is still written": ([(3.0, {"step": 3}), (1.0, {"step": 4, "checkpoint_step": 2})], 2.0),
    "by the program's own word": (
        [(7.0, {"checkpoint_step": 2, "checkpoint_seconds": 0.25}), (1.0, {"step": 3})],
        0.25,
    ),
}


@pytest.mark.parametrize(("told", "seconds"), SAVES.values(), ids=SAVES.keys())
def test_how_long_training_stood_still_for_a_checkpoint(
    tmp_path: Path, told: list[tuple[float, dict[str, object]]], seconds: float
) -> None:
    clock = Clock()
    file = tmp_path / "p"
    reporter = Reporter(str(file), clock)
    for step in range(3):
        clock.now += 1.0
        reporter.tell({"step": step, "phase": "Training"})
    reporter.save_begins(2)
    assert json.loads(file.read_text())["phase"] == "Saving", "nobody expects a step now"
    for passed, words in told:
        clock.now += passed
        reporter.tell(words)
    found = json.loads(file.read_text())
    assert found["checkpoint_seconds"] == pytest.approx(seconds)
    assert found["step_seconds"] == pytest.approx(1.0), "the save is no part of a step"
    assert found["phase"] == "Training"


def test_seconds_of_the_checkpoint_before_are_not_those_of_the_next(tmp_path: Path) -> None:
    file = tmp_path / "p"
    reporter = Reporter(str(file), Clock())
    reporter.tell({"checkpoint_step": 2, "checkpoint_seconds": 3.0})
    reporter.tell({"checkpoint_step": 4})
    assert json.loads(file.read_text()) == {"checkpoint_step": 4}


def asker(folder: Path, plans: list[Plan]) -> tuple[Asker, Clock]:
    """One that finds a newer plan each time it waits."""
    clock = Clock()
    plan = folder / "plan"
    plan.write_text(plans.pop(0).text())

    def wait(seconds: float) -> None:
        clock.now += seconds
        if plans:
            plan.write_text(plans.pop(0).text())

    return Asker(str(plan), Reporter(str(folder / "p")), clock, wait), clock


def test_a_rank_at_the_agreed_step_waits_until_all_have_heard_of_it(tmp_path: Path) -> None:
    offered = Plan(request=1, step=3)
    one, clock = asker(tmp_path, [offered, offered, replace(offered, confirmed=True)])
    assert [one.is_due(2), one.is_due(3), one.is_due(4)] == [False, True, False]
    assert clock.now == pytest.approx(100.0 + 2 * client.HOLD_LOOK_SECONDS)


def test_a_rank_waits_in_vain_once_and_not_again(tmp_path: Path) -> None:
    one, clock = asker(tmp_path, [Plan(request=1, step=3)])
    assert not one.is_due(3)
    assert clock.now == pytest.approx(100.0 + client.HOLD_SECONDS, abs=0.1)
    assert json.loads((tmp_path / "p").read_text()) == {"asked_step": 3, "request": 1, "late": True}
    (tmp_path / "plan").write_text(Plan(request=2, step=5).text())
    before = clock.now
    assert not one.is_due(5)
    assert clock.now == before


PROGRAM = """
from stowage_worker import checkpoint_due, checkpoint_interval, report, should_yield
report(step=3, loss=1.0, phase="Training")
print(should_yield(), checkpoint_due(3))
open("yield", "w").close()
with open("plan", "w") as plan:
    plan.write('{"intervalSeconds": 60, "request": 7, "step": 4, "confirmed": true, "ends": false}')
print(should_yield(), checkpoint_due(4), checkpoint_due(5), checkpoint_interval())
raise LookupError("gone")
"""


@pytest.mark.parametrize("is_supervised", [True, False], ids=["under a supervisor", "alone"])
def test_a_program(tmp_path: Path, is_supervised: bool) -> None:
    names = {"PROGRESS": "progress", "ERROR": "error", "YIELD": "yield", "CHECKPOINT_PLAN": "plan"}
    variables = {f"STOWAGE_{name}_FILE": str(tmp_path / file) for name, file in names.items()}
    environment = {**os.environ, **(variables if is_supervised else {})}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "LookupError: gone" in done.stderr
    if not is_supervised:
        assert done.stdout.split() == ["False"] * 5 + ["0.0"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["plan", "yield"]
        return
    assert done.stdout.split() == ["False", "False", "True", "True", "False", "60.0"]
    assert json.loads((tmp_path / "error").read_text()) == {"type": "LookupError", "message": "gone"}
    reader = ProgressReader({0: tmp_path / "progress"}, 0.0)
    found = SimpleNamespace(**vars(reader.of(0, 0.0)))
    assert (found.step, found.loss, found.phase, reader.can_yield) == (3, 1.0, "Training", True)
    assert (found.asked_step, found.request, found.is_late) == (5, 7, False)


@pytest.mark.parametrize(
    ("program", "phase"),
    [
        pytest.param("report(step=3, phase='Training')", "Leaving", id="the end of the program"),
        pytest.param("report(step=3); sys.exit(0)", "Leaving", id="an exit in the middle"),
        pytest.param(
            "atexit.register(lambda: print(open(file).read())); report(step=3)",
            "Leaving",
            id="it is told before frameworks, imported earlier, part",
        ),
        pytest.param("report(phase='Restoring')", "Restoring", id="no step was told: it is not watched for steps"),
        pytest.param("report(step=3, phase='Training'); 1 / 0", "Training", id="others may wait for one that failed"),
        pytest.param(
            "report(step=3, phase='Training'); os.fork() or sys.exit(0); os.wait(); os._exit(0)",
            "Training",
            id="a child that ends is not the rank",
        ),
    ],
)
def test_an_interpreter_that_exits_tells_that_it_leaves(tmp_path: Path, program: str, phase: str) -> None:
    file = tmp_path / "progress"
    text = f"import atexit, os, sys\nfrom stowage_worker import report\nfile = {str(file)!r}\n{program}"
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, "STOWAGE_PROGRESS_FILE": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("ZeroDivisionError" in done.stderr) is (done.returncode != 0)
    assert json.loads(file.read_text())["phase"] == phase
    if done.stdout:
        assert json.loads(done.stdout)["phase"] == phase
