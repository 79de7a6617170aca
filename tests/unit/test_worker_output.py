from __future__ import annotations

import asyncio
import select
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stowage_worker.output import MAX_LINE_BYTES, MAX_MATCHES, SLOW_RULE_SECONDS, Lines, Outlet, RankOutput, Rules


def no_clock() -> float:
    return 0.0


def fail(text: str) -> None:
    raise AssertionError(text)


def lines_of(*chunks: bytes) -> list[bytes]:
    async def cut() -> list[bytes]:
        found: list[bytes] = []
        lines = Lines(found.append, asyncio.get_running_loop().create_future())
        for chunk in chunks:
            lines.data_received(chunk)
        lines.connection_lost(None)
        return found

    return asyncio.run(cut())


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param([b"a\nb\n"], [b"a", b"b"], id="two lines at once"),
        pytest.param([b"a", b"b\n"], [b"ab"], id="one line in two parts"),
        pytest.param([b"a\nlast"], [b"a", b"last"], id="the last line has no end"),
        pytest.param([b"\n\n"], [b"", b""], id="empty lines stay"),
        pytest.param([b"x" * (MAX_LINE_BYTES + 1) + b"\n"], [b"x" * MAX_LINE_BYTES, b"x"], id="a long one is cut"),
    ],
)
def test_lines(chunks: list[bytes], expected: list[bytes]) -> None:
    assert lines_of(*chunks) == expected


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_nothing_is_lost_between_chunks(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    expected = whole.split(b"\n")
    assert lines_of(*chunks) == (expected if expected[-1] else expected[:-1])


def test_a_line_without_end_is_held_in_bounded_pieces() -> None:
    found = lines_of(*[b"y" * 1000] * 100)
    assert b"".join(found) == b"y" * 100_000
    assert max(map(len, found)) == MAX_LINE_BYTES


def test_output_that_nobody_reads_is_left_out_and_counted() -> None:
    is_read = threading.Event()
    written: list[bytes] = []

    def write(_: int, line: bytes) -> int:
        is_read.wait(30)
        written.append(line)
        return len(line)

    outlet = Outlet(write, max_waiting_bytes=100)
    for _ in range(1000):
        outlet.put(1, b"0123456789")  # never waits
    is_read.set()
    outlet.close(30)
    assert len(written) <= 12
    outlet = Outlet(write, max_waiting_bytes=100)
    outlet.close(30)


def test_what_is_written_at_once_are_whole_lines_that_a_shared_pipe_takes_in_one_piece() -> None:
    may_write = threading.Event()
    written: list[bytes] = []

    def write(_: int, some: bytes) -> int:
        may_write.wait(30)
        written.append(some)
        return len(some)

    outlet = Outlet(write)
    lines = [b"[%d] " % (number % 3) + b"x" * 300 + b"\n" for number in range(1000)]
    for line in [*lines[:500], b"y" * MAX_LINE_BYTES + b"\n", *lines[500:]]:
        outlet.put(1, line)
    may_write.set()
    outlet.close(30)
    assert b"".join(written) == b"".join([*lines[:500], b"y" * MAX_LINE_BYTES + b"\n", *lines[500:]])
    assert all(some.endswith(b"\n") for some in written)
    assert sorted(map(len, written))[-2] <= select.PIPE_BUF
    assert len(written) < 200


def test_what_was_left_out_is_told_with_the_next_line() -> None:
    may_write, wrote = threading.Event(), threading.Event()
    written: list[bytes] = []

    def write(_: int, line: bytes) -> int:
        may_write.wait(30)
        written.append(line)
        wrote.set()
        return len(line)

    outlet = Outlet(write, max_waiting_bytes=200)
    for _ in range(300):
        outlet.put(1, b"x")
    may_write.set()
    outlet.close(30)
    text = b"".join(written)
    assert 200 <= text.count(b"x") < 300
    assert b"lines were left out" in text


def test_rules() -> None:
    told: list[str] = []
    rules = Rules([("nan", r"loss[ =]nan"), ("broken", "("), ("xid", "Xid")], no_clock, told.append)
    assert [text.partition(",")[0] for text in told] == ["log rule broken is not asked"]
    assert rules.matched("step 3 loss nan") == ["nan"]
    assert rules.matched("all is well") == []
    assert rules.matched("x" * 1000 + " Xid") == []


def test_a_slow_rule_is_asked_once() -> None:
    times = iter([0.0, SLOW_RULE_SECONDS * 2])
    told: list[str] = []
    rules = Rules([("slow", "a")], lambda: next(times), told.append)
    assert rules.matched("a") == ["slow"]
    assert [text.partition(":")[0] for text in told] == ["log rule slow is not asked any more"]
    assert rules.matched("a") == []


def test_rank_output() -> None:
    passed: list[tuple[int, bytes]] = []
    outlet = Outlet(lambda number, line: passed.append((number, line)))
    matches: list[tuple[str, str]] = []
    output = RankOutput(12, outlet, Rules([("oops", "oops")], no_clock, fail), lambda *match: matches.append(match))
    output.take(1, b"fine")
    for _ in range(MAX_MATCHES + 5):
        output.take(2, b"oops \xff")
    outlet.close(30)
    assert b"".join(line for number, line in passed if number == 1) == b"[12] fine\n"
    assert b"".join(line for number, line in passed if number == 2) == b"[12] oops \xff\n" * (MAX_MATCHES + 5)
    assert matches == [("oops", "oops �")] * MAX_MATCHES
    assert output.error_lines[-1] == "oops �"
