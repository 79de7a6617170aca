"""A small HTTP server that speaks Prometheus's API as a test tells it to, over real connections."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

Behaviour = Callable[["Question"], Awaitable[bytes]]


class Question:
    """One request.

    Attributes:
        path: without the query.
        asked: its parameters, the first of each.
        headers: names in lower case.
    """

    def __init__(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        target = urlsplit(first.split(" ")[1])
        self.path = target.path
        self.asked = {name: values[0] for name, values in parse_qs(target.query).items()}
        pairs = (line.partition(":") for line in lines if line)
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}


class FakePrometheus:
    """What is asked is kept in `questions`; `behaviour` answers with the bytes of a whole HTTP response."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.behaviour: Behaviour = vector()
        self.port = 0
        self.released = asyncio.Event()
        """Set when the test is over: who hangs shall end."""
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                question = Question(head)
                self.questions.append(question)
                writer.write(await self.behaviour(question))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # the client is gone, or the test is over
        finally:
            writer.transport.abort()
            self._serving.discard(task)

    async def end(self) -> None:
        self.released.set()
        serving = tuple(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def response(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answer(result: Any, kind: str = "vector") -> bytes:
    return response(json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode())


def vector(*series: tuple[Mapping[str, str], float | str], at: float | None = None) -> Behaviour:
    """These series at the time that is asked for; a range query finds nothing."""

    async def behave(question: Question) -> bytes:
        if question.path.endswith("query_range"):
            return answer([], "matrix")
        time = float(question.asked["time"]) if at is None else at
        return answer([{"metric": dict(labels), "value": [time, str(value)]} for labels, value in series])

    return behave


def always(content: bytes) -> Behaviour:
    async def behave(_: Question) -> bytes:
        return content

    return behave


@asynccontextmanager
async def fake_prometheus(tls: ssl.SSLContext | None = None) -> AsyncIterator[FakePrometheus]:
    fake = FakePrometheus()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0, ssl=tls)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        await fake.end()
