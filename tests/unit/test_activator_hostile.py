"""The activator of a service and clients that send what they should not, or slowly, or packed."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest

from stowage.run import activator
from unit.activator_stage import opened


@pytest.mark.parametrize("way", [pytest.param("length", id="of known length"), pytest.param("chunks", id="in chunks")])
async def test_a_compressed_body_comes_to_the_replica_as_it_was_sent(way: str) -> None:
    packed = gzip.compress(b"hello " * 50)

    async def in_chunks() -> AsyncIterator[bytes]:
        yield packed

    async with opened() as stage:
        asked = stage.asks(data=packed if way == "length" else in_chunks(), headers={"Content-Encoding": "gzip"})
        await stage.until(waiting=1)
        await stage.replicas.begin()
        assert (await asked)[:2] == (201, b"to hello hell"), "the replica unpacks it"
        assert stage.replicas.got[0][3]["Content-Encoding"] == "gzip"


async def test_what_is_no_request_is_refused_and_no_line_of_it_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as stage:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(stage.url.rpartition(":")[2]))
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\x01\r\n\r\n")
        assert b" 400 " in await asyncio.wait_for(reader.readline(), 20)
        writer.close()
    assert "s3cret" not in caplog.text


async def test_connections_that_bring_no_request_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activator, "HEADERS_SECONDS", 0.2)

    async def answer_to(sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(stage.url.rpartition(":")[2]))
        writer.write(sent)
        try:
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()

    async with opened() as stage:
        half = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nX-Slow: "
        assert await asyncio.gather(answer_to(b""), answer_to(half)) == [b"", b""]
        assert stage.room.state().version == 0, "nobody ever waited"
