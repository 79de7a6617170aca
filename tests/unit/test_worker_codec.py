from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from stowage_worker import codec
from stowage_worker.codec import (
    FROM_COMMANDER,
    FROM_SUPERVISOR,
    TO_COMMANDER,
    TO_LEAVER,
    TO_SUPERVISOR,
    UnknownKindError,
    decode,
    encode,
)
from stowage_worker.messages import (
    MAX_LINE_BYTES,
    Beat,
    Begin,
    Evidence,
    Exited,
    Go,
    HangRule,
    Hello,
    Leave,
    Leaving,
    MayLeave,
    MessageError,
    Progress,
    RankProgress,
    Report,
    SaveAt,
    SeatState,
    Straggling,
    Welcome,
)

SOURCE = Path(codec.__file__).parents[1]


def test_a_line_holds_only_what_differs_from_the_defaults() -> None:
    line = encode(Beat(3, (RankProgress(1, step=7, loss=0.5),)))
    assert line == b'{"kind":"Beat","epoch":3,"progress":[{"rank":1,"step":7,"loss":0.5}]}\n'


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(Hello("secret", "s0", "uid", "10.0.0.1", 8), FROM_SUPERVISOR, id="hello"),
        pytest.param(
            Exited(1, 3, 1, code=None, signal=9, error_message="ü\n"), FROM_SUPERVISOR, id="text beyond ASCII"
        ),
        pytest.param(Leaving(12.5), FROM_SUPERVISOR, id="leaving"),
        pytest.param(SaveAt(1, 60.0, 7, 41, confirmed=True), TO_SUPERVISOR, id="a step to save at"),
        pytest.param(Leave("secret", "s0", "uid", 20.0), (Leave,), id="leave"),
        pytest.param(MayLeave(41), TO_LEAVER, id="may leave"),
        pytest.param(Welcome("team/job", (("oom", "out of memory"),)), TO_SUPERVISOR, id="pairs"),
        pytest.param(Go(1, 1, 0, 2, 8, "a", 1, {"A": "b"}, {"seats": ["s0", {"x": 1.5}]}), TO_SUPERVISOR, id="tables"),
        pytest.param(
            Begin(2, 2, ("s0", "s2"), 4, hang=HangRule(factor=3.0), log_rules=(("a", "b"),)), FROM_COMMANDER, id="begin"
        ),
        pytest.param(
            Report(
                1,
                1,
                "Failed",
                (SeatState("s0", "uid", connected=True, state="Running"),),
                (Evidence("Hang", 1, 12.5),),
                Progress(3, loss=math.inf),
                (Straggling(0, "s0", 1.0, 0.1, 1.3),),
                started_at=4.0,
            ),
            TO_COMMANDER,
            id="nested report",
        ),
    ],
)
def test_what_was_sent_is_what_is_taken(message: codec.Message, expected: tuple[type, ...]) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line, expected) == message


def test_a_loss_that_is_no_number_survives_the_way() -> None:
    line = encode(Beat(1, (RankProgress(0, loss=math.nan), RankProgress(1, loss=-math.inf))))
    json.loads(line, parse_constant=pytest.fail)
    taken = decode(line, FROM_SUPERVISOR)
    assert isinstance(taken, Beat)
    first, second = (one.loss for one in taken.progress)
    assert first is not None
    assert math.isnan(first)
    assert second == -math.inf


def test_fields_of_a_later_version_are_passed_over() -> None:
    assert decode(b'{"kind":"Beat","epoch":1,"mood":"good"}', FROM_SUPERVISOR) == Beat(1)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param(b"", "not JSON", id="nothing"),
        pytest.param(b"{", "not JSON", id="half a line"),
        pytest.param(b"\xff", "not UTF-8", id="bytes"),
        pytest.param(b"[" * 100_000, "not JSON", id="nested too deep"),
        pytest.param(b"[1]", "an object is needed, not a list", id="a list"),
        pytest.param(b'{"epoch":1}', "kind: text is needed, not null", id="no kind"),
        pytest.param(b'{"kind":[],"epoch":1}', "kind: text is needed, not a list", id="kind that is a list"),
        pytest.param(b'{"kind":"Beat"}', "Beat.epoch is missing", id="field missing"),
        pytest.param(b'{"kind":"Beat","epoch":"1"}', "Beat.epoch: a whole number is needed, not text", id="text"),
        pytest.param(b'{"kind":"Beat","epoch":true}', "Beat.epoch: a whole number is needed", id="truth value"),
        pytest.param(b'{"kind":"Beat","epoch":1.0}', "Beat.epoch: a whole number is needed", id="fraction"),
        pytest.param(b'{"kind":"Beat","epoch":NaN}', "not JSON", id="a constant that JSON lacks"),
        pytest.param(b'{"kind":"Beat","epoch":1e999}', "Beat.epoch: a whole number is needed", id="overflow"),
        pytest.param(b'{"kind":"Beat","epoch":99999999999999999999}', "at most 64 bits", id="huge number"),
        pytest.param(b'{"kind":"Beat","epoch":1,"progress":{}}', "Beat.progress: a list is needed", id="no list"),
        pytest.param(
            b'{"kind":"Beat","epoch":1,"progress":[{}]}', "Beat.progress.rank is missing", id="nested field missing"
        ),
        pytest.param(
            b'{"kind":"Beat","epoch":1,"progress":[{"rank":0,"loss":"a"}]}', "a number is needed, not text", id="loss"
        ),
        pytest.param(
            b'{"kind":"Beat","epoch":1,"progress":[' + b",".join([b'{"rank":0}'] * 20_000) + b"]}",
            "20000 entries; at most",
            id="long list",
        ),
        pytest.param(b'{"kind":"Matched","epoch":1,"rank":0,"rule":"%s"}' % (b"x" * 70_000), "at most", id="long text"),
        pytest.param(b" " * (MAX_LINE_BYTES + 1), "at most", id="long line"),
    ],
)
def test_what_is_no_message(line: bytes, says: str) -> None:
    with pytest.raises(MessageError, match=says):
        decode(line, FROM_SUPERVISOR)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param(b'{"kind":"Welcome","job":"a","log_rules":[["a"]]}', "a list of two", id="half a pair"),
        pytest.param(b'{"kind":"Prepare","epoch":1,"attempt":1,"grace_seconds":null}', "not null", id="null"),
    ],
)
def test_what_is_no_message_to_a_supervisor(line: bytes, says: str) -> None:
    with pytest.raises(MessageError, match=says):
        decode(line, TO_SUPERVISOR)


def test_a_kind_from_the_wrong_side_can_be_passed_over() -> None:
    with pytest.raises(UnknownKindError, match="kind 'End' is not known here"):
        decode(b'{"kind":"End"}', FROM_SUPERVISOR)


def test_errors_do_not_repeat_values() -> None:
    with pytest.raises(MessageError) as caught:
        decode(b'{"kind":"Hello","token":["s3cret"]}', FROM_SUPERVISOR)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "world",
    [
        pytest.param({"loss": math.nan}, id="not a number"),
        pytest.param({"at": object()}, id="no form"),
        pytest.param({"seats": "x" * MAX_LINE_BYTES}, id="too long"),
    ],
)
def test_what_cannot_be_sent(world: dict[str, object]) -> None:
    with pytest.raises(MessageError):
        encode(Begin(1, 1, ("s0",), 1, world=world))


def test_the_worker_files_are_read_by_python_3_9() -> None:
    python = os.environ.get("STOWAGE_PYTHON39") or shutil.which("python3.9")
    if python is None or subprocess.run([python, "-V"], capture_output=True, check=False).returncode != 0:
        pytest.skip("STOWAGE_PYTHON39 is not set and python3.9 is not on PATH")
    script = (
        "from stowage_worker import codec, wire\n"
        "from stowage_worker.messages import Beat, RankProgress\n"
        "beat = Beat(1, (RankProgress(0, loss=1.5),))\n"
        "assert codec.decode(codec.encode(beat), codec.FROM_SUPERVISOR) == beat\n"
    )
    done = subprocess.run([python, "-c", script], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
