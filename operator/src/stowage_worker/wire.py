"""Messages over TCP: lines with a limit, sends that never wait, connections that end when the other side is gone."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from typing import TypeVar

from stowage_worker.codec import Message, UnknownKindError, decode, encode
from stowage_worker.messages import MAX_LINE_BYTES, MessageError

FIRST_LINE_BYTES = 1 << 14
"""Of a connection that has not said yet who it is."""
SUPERVISOR_LINE_BYTES = 1 << 17
"""A beat of 256 ranks fits."""
MAX_UNSENT_BYTES = 1 << 22
"""Four of the longest messages; who reads slower than that is cut off and has to connect again."""
UNACKNOWLEDGED_SECONDS = 10
MAX_PASSED_OVER = 10_000
"""Lines of one connection; whoever says so much that nobody understands has to connect again."""
BACKOFF_GROWTH = 1.5
_CHUNK_BYTES = 1 << 15
_M = TypeVar("_M")


class Connection:
    """Messages both ways over one TCP connection.

    Attributes:
        max_line_bytes: longer lines raise `MessageError`; raised once the other side has said who it is.
        passed_over: lines of a kind that this version does not know.
        line_bytes: length of the last line.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, max_line_bytes: int = MAX_LINE_BYTES
    ) -> None:
        self.max_line_bytes = max_line_bytes
        self.passed_over = 0
        self.line_bytes = 0
        self._reader = reader
        self._writer = writer
        self._lines: deque[bytes] = deque()
        self._rest = bytearray()
        tune(writer.get_extra_info("socket"))

    async def receive(self, expected: tuple[type[_M], ...]) -> _M | None:
        """The next message that is one of `expected`; None when the other side is gone.

        Lines of kinds that this version does not know are passed over.

        Raises:
            MessageError: a line that is too long or no message.
        """
        while True:
            while not self._lines:
                try:
                    chunk = await self._reader.read(_CHUNK_BYTES)
                except OSError:
                    return None
                if not chunk:
                    return None
                self._split(chunk)
            line = self._lines.popleft()
            self.line_bytes = len(line)
            if len(line) > self.max_line_bytes:
                raise self._too_long()
            try:
                return decode(line, expected)
            except UnknownKindError:
                self.passed_over += 1
                if self.passed_over > MAX_PASSED_OVER:
                    raise MessageError(f"more than {MAX_PASSED_OVER} lines of kinds that are not known") from None

    def send(self, message: Message) -> bool:
        """Send without waiting; False: the connection is gone, or was cut off because the other side does not read.

        Raises:
            MessageError: the message is too long, or has no form in JSON.
        """
        return self.send_line(encode(message))

    def send_line(self, line: bytes) -> bool:
        """As `send`, with the line of a message that goes to many."""
        if self._writer.is_closing():
            return False
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.abort()
            return False
        self._writer.write(line)
        return True

    @property
    def peer(self) -> str:
        """The other side's address; empty when it is gone."""
        name = self._writer.get_extra_info("peername")
        return str(name[0]) if name else ""

    @property
    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._writer.is_closing()

    def close(self) -> None:
        """End the connection after what was sent before."""
        self._writer.close()

    def abort(self) -> None:
        """End the connection at once."""
        self._writer.transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended; how it ended is of no interest any more."""
        try:
            await self._writer.wait_closed()
        except OSError:
            return

    def _split(self, chunk: bytes) -> None:
        self._rest += chunk
        if b"\n" in chunk:
            *lines, rest = self._rest.split(b"\n")
            self._lines.extend(bytes(line) for line in lines)
            self._rest = rest
        if not self._lines and len(self._rest) > self.max_line_bytes:
            raise self._too_long()

    def _too_long(self) -> MessageError:
        return MessageError(f"a line of more than {self.max_line_bytes} bytes")


async def dial(host: str, port: int, seconds: float = 5.0, max_line_bytes: int = MAX_LINE_BYTES) -> Connection:
    """Connect.

    Raises:
        OSError: nobody answers, or not within `seconds`.
    """
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port, limit=_CHUNK_BYTES), seconds)
    except asyncio.TimeoutError:
        raise TimeoutError(f"{host}:{port} does not answer within {seconds:g} s") from None
    return Connection(reader, writer, max_line_bytes)


def tune(connected: socket.socket | None) -> None:
    """Let the kernel end a connection whose other side is gone without a word, such as with its node."""
    if connected is None or connected.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", UNACKNOWLEDGED_SECONDS),
        ("TCP_KEEPINTVL", 3),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_SECONDS * 1000),
    ):
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Backoff:
    """How long to wait before the next try: longer each time up to a most, with jitter, so that a thousand do not meet.

    Each is half as long again as the one before: who was away for a while is missed by half of that at most.
    """

    def __init__(self, generator: random.Random, first_seconds: float = 0.1, most_seconds: float = 3.0) -> None:
        self._generator = generator
        self._first_seconds = first_seconds
        self._most_seconds = most_seconds
        self._next_seconds = first_seconds

    def next_seconds(self) -> float:
        """The next wait: between half and all of the current step."""
        step, self._next_seconds = self._next_seconds, min(self._next_seconds * BACKOFF_GROWTH, self._most_seconds)
        return step * self._generator.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin anew: a try has succeeded."""
        self._next_seconds = self._first_seconds
