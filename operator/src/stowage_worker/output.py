"""What processes print: passed on line by line with the rank before it, watched by rules, never blocking who prints.

The reader takes whatever comes; when the supervisor's own output is read too slowly, lines are left out and counted.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import re
import threading
from collections import deque
from collections.abc import Sequence
from typing import Callable

MAX_LINE_BYTES = 16 << 10
"""Longer lines are cut into pieces."""
MAX_WAITING_BYTES = 8 << 20
MAX_WRITE_BYTES = 4 << 10
"""Linux' PIPE_BUF: so much goes into a pipe in one piece, also where the supervisors of a local run share it."""
STUCK_SECONDS = 2.0
MOST_CLOSING_SECONDS = 20.0
MAX_MATCHED_TEXT = 1000
"""Characters of a line that rules look at."""
MAX_MATCHES = 20
"""Of one rule in one epoch of one rank; more tell nothing new."""
SLOW_RULE_SECONDS = 0.25
"""A rule that took so long for one line is not asked again: it would hold up heartbeats."""
KEPT_ERROR_LINES = 200


class Outlet:
    """Writes to the supervisor's own standard output and error from a thread of its own."""

    def __init__(
        self, write: Callable[[int, bytes], object] = os.write, max_waiting_bytes: int = MAX_WAITING_BYTES
    ) -> None:
        self._write = write
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._waiting_bytes = 0
        self._left_out = 0
        self._written_bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()

    def put(self, descriptor: int, line: bytes) -> None:
        """Pass a line on; the oldest are left out when too much waits: the last words matter most."""
        with self._changed:
            self._waiting.append((descriptor, line))
            self._waiting_bytes += len(line)
            while self._waiting_bytes > self._max_waiting_bytes and len(self._waiting) > 1:
                self._waiting_bytes -= len(self._waiting.popleft()[1])
                self._left_out += 1
            self._changed.notify()

    def close(self, stuck_seconds: float = STUCK_SECONDS, most_seconds: float = MOST_CLOSING_SECONDS) -> None:
        """Write what waits: as long as somebody reads it, however slowly, but not for ever."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        waited = 0.0
        while self._thread.is_alive() and waited < most_seconds:
            written = self._written_bytes
            self._thread.join(stuck_seconds)
            waited += stuck_seconds
            if self._written_bytes == written:
                return

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                descriptor, line = self._take()
            try:
                while line:
                    written = self._write(descriptor, line)
                    self._written_bytes += len(line)
                    line = line[written:] if isinstance(written, int) else b""
            except OSError:  # nobody reads any more; training goes on
                continue

    def _take(self) -> tuple[int, bytes]:
        """Whole lines for one descriptor, up to `MAX_WRITE_BYTES` or one alone; first the notice of those left out."""
        if self._left_out:
            left_out, self._left_out = self._left_out, 0
            return 2, b"[stowage] %d lines were left out: output was read too slowly\n" % left_out
        descriptor, line = self._waiting.popleft()
        lines, size = [line], len(line)
        while self._waiting:
            to, line = self._waiting[0]
            if to != descriptor or size + len(line) > MAX_WRITE_BYTES:
                break
            lines.append(line)
            size += len(line)
            self._waiting.popleft()
        self._waiting_bytes -= size
        return descriptor, b"".join(lines)


class Rules:
    """Regular expressions of the job, asked of each line.

    Args:
        rules: (name, expression).
        clock: seconds, for rules that are too slow.
        tell: told, in words, of rules that are not asked: those that are no expression, and those that are too slow.
    """

    def __init__(
        self, rules: Sequence[tuple[str, str]], clock: Callable[[], float], tell: Callable[[str], object]
    ) -> None:
        self._clock = clock
        self._tell = tell
        self._rules: dict[str, re.Pattern[str]] = {}
        for name, expression in rules:
            try:
                self._rules[name] = re.compile(expression)
            except (re.error, OverflowError, RecursionError) as error:  # noqa: PERF203  each rule for itself
                tell(f"log rule {name} is not asked, its expression cannot be read: {error}")

    def __bool__(self) -> bool:
        return bool(self._rules)

    def matched(self, line: str) -> list[str]:
        """Names of the rules that match the line's first `MAX_MATCHED_TEXT` characters."""
        found = []
        for name, pattern in list(self._rules.items()):
            begin = self._clock()
            if pattern.search(line, 0, MAX_MATCHED_TEXT):
                found.append(name)
            if self._clock() - begin > SLOW_RULE_SECONDS:
                del self._rules[name]
                self._tell(
                    f"log rule {name} is not asked any more: it took more than {SLOW_RULE_SECONDS:g} s for a line"
                )
        return found


class RankOutput:
    """Both pipes of one rank.

    Attributes:
        error_lines: the last lines of standard error, for tracebacks.
    """

    def __init__(self, rank: int, outlet: Outlet, rules: Rules, on_match: Callable[[str, str], None]) -> None:
        self.error_lines: deque[str] = deque(maxlen=KEPT_ERROR_LINES)
        self._prefix = b"[%d] " % rank
        self._outlet = outlet
        self._rules = rules
        self._on_match = on_match
        self._matches: dict[str, int] = {}

    def take(self, descriptor: int, line: bytes) -> None:
        """One line without its end, of standard output (1) or error (2)."""
        self._outlet.put(descriptor, self._prefix + line + b"\n")
        if descriptor != 2 and not self._rules:
            return
        text = line.decode("utf-8", "replace")
        if descriptor == 2:
            self.error_lines.append(text)
        for name in self._rules.matched(text):
            self._matches[name] = self._matches.get(name, 0) + 1
            if self._matches[name] <= MAX_MATCHES:
                self._on_match(name, text[:MAX_MATCHED_TEXT])


class Lines(asyncio.Protocol):
    """Cuts what comes through a pipe into lines of bounded length."""

    def __init__(self, take: Callable[[bytes], None], ended: asyncio.Future[None]) -> None:
        self._take = take
        self._ended = ended
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """More bytes."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            for piece in _pieces(line):
                self._take(piece)
        while len(rest) >= MAX_LINE_BYTES:
            self._take(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._rest = rest

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        """The pipe's end."""
        if self._rest:
            self._take(self._rest)
            self._rest = b""
        if not self._ended.done():
            self._ended.set_result(None)


def _pieces(line: bytes) -> list[bytes]:
    if len(line) <= MAX_LINE_BYTES:
        return [line]
    return [line[at : at + MAX_LINE_BYTES] for at in range(0, len(line), MAX_LINE_BYTES)]


def say(text: str) -> None:
    """A line of our own; never waits for who reads it and never raises."""
    own_outlet().put(2, f"[stowage] {text}\n".encode("utf-8", "replace"))


@functools.cache
def own_outlet() -> Outlet:
    """The one of this process; what waits in it is written when the process ends."""
    outlet = Outlet()
    atexit.register(outlet.close)
    return outlet
