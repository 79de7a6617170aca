from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stowage_worker.exits import Failure, code_and_signal, failure_of, shell_code, traceback_failure

TRACEBACK = ["Traceback (most recent call last):", '  File "train.py", line 7, in <module>', "    step()"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], None, id="silence"),
        pytest.param(["ValueError: not a traceback"], None, id="a line that only looks like an end"),
        pytest.param([*TRACEBACK, "ValueError: bad 7"], Failure("ValueError", "bad 7"), id="type and message"),
        pytest.param([*TRACEBACK, "torch.cuda.OutOfMemoryError: full"], Failure("OutOfMemoryError", "full"), id="dots"),
        pytest.param([*TRACEBACK, "KeyboardInterrupt"], Failure("KeyboardInterrupt", ""), id="no message"),
        pytest.param(
            [*TRACEBACK, "KeyError: 'a'", "", "During handling …:", "", *TRACEBACK, "OSError: b"],
            Failure("OSError", "b"),
            id="the last of a chain",
        ),
        pytest.param(TRACEBACK, None, id="cut off before its end"),
        pytest.param([*TRACEBACK, "%%% printed by another thread"], None, id="another's line where the end should be"),
        pytest.param([*TRACEBACK, "E: one", "two"], Failure("E", "one\ntwo"), id="a message of two lines"),
    ],
)
def test_traceback(lines: list[str], expected: Failure | None) -> None:
    assert traceback_failure(lines) == expected


OWN = json.dumps({"type": "DataError", "message": "shard 3"})
TORCH = json.dumps({"message": {"message": "RuntimeError: NCCL error", "extraInfo": {"timestamp": "1"}}})


@pytest.mark.parametrize(
    ("own", "torch", "lines", "expected"),
    [
        pytest.param(OWN, TORCH, [*TRACEBACK, "E: x"], Failure("DataError", "shard 3"), id="our file counts first"),
        pytest.param("", TORCH, [*TRACEBACK, "E: x"], Failure("RuntimeError", "NCCL error"), id="then torch's"),
        pytest.param("", "", [*TRACEBACK, "E: x"], Failure("E", "x"), id="then the traceback"),
        pytest.param("", "", [], Failure(), id="nothing is known"),
        pytest.param("{", "[1]", [], Failure(), id="files that are no objects"),
        pytest.param('{"type": 3}', '{"message": 3}', [], Failure(), id="fields of another form"),
        pytest.param("[" * 100_000, "", [], Failure(), id="a file that is nested without end"),
        pytest.param("", '{"message": "all is lost!"}', [], Failure("Error", "all is lost!"), id="torch's plain text"),
    ],
)
def test_failure_of(own: str, torch: str, lines: list[str], expected: Failure) -> None:
    assert failure_of(own, torch, lines) == expected


@pytest.mark.parametrize(
    ("one", "other", "are_equal"),
    [
        pytest.param("index 7 of 12", "index 8 of 12", True, id="numbers differ"),
        pytest.param("at 0x7f00aa", "at 0x11", True, id="addresses differ"),
        pytest.param("loss 1.5e-3", "loss 2", True, id="numbers with exponents"),
        pytest.param("no such file a", "no such file b", False, id="words differ"),
    ],
)
def test_hash(one: str, other: str, are_equal: bool) -> None:
    assert (Failure("E", one).hash == Failure("E", other).hash) is are_equal
    assert Failure("F", one).hash != Failure("E", one).hash


def test_half_a_surrogate_pair_can_be_sent() -> None:
    found = failure_of('{"type": "OSError", "message": "no file \\udcff"}', "", [])
    assert (found.message, len(found.hash)) == ("no file ?", 16)


def test_no_failure_has_no_hash() -> None:
    assert Failure().hash == ""


@pytest.mark.parametrize(
    ("status", "expected", "shell"),
    [
        pytest.param(0, (0, None), 0, id="ended well"),
        pytest.param(3, (3, None), 3, id="a code"),
        pytest.param(-9, (None, 9), 137, id="killed"),
    ],
)
def test_codes(status: int, expected: tuple[int | None, int | None], shell: int) -> None:
    assert code_and_signal(status) == expected
    assert shell_code(*expected) == shell


@given(st.text(), st.text(), st.lists(st.text()))
def test_any_text_is_taken(own: str, torch: str, lines: list[str]) -> None:
    found = failure_of(own, torch, lines)
    assert bool(found.hash) == bool(found.type)
