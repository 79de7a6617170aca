from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from stowage_worker.codec import FROM_COMMANDER, FROM_SUPERVISOR, TO_SUPERVISOR
from stowage_worker.messages import Attach, Beat, End, Matched, MessageError, Prepare, Welcome
from stowage_worker.wire import MAX_UNSENT_BYTES, Backoff, Connection, dial

LOOPBACK = "127.0.0.1"


async def answered_by(serve: Callable[[Connection], Awaitable[None]], max_line_bytes: int = 1000) -> asyncio.Server:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, max_line_bytes)
        try:
            await serve(connection)
        finally:
            connection.close()

    return await asyncio.start_server(connected, LOOPBACK, 0)


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def test_messages_go_both_ways_in_order_and_the_end_is_none() -> None:
    taken = []

    async def serve(connection: Connection) -> None:
        while (message := await connection.receive(FROM_SUPERVISOR)) is not None:
            taken.append(message)
            connection.send(Prepare(len(taken), 1))

    async with await answered_by(serve) as server:
        connection = await dial(LOOPBACK, port_of(server))
        assert connection.peer == LOOPBACK
        assert connection.send(Beat(1))
        assert connection.send(Matched(1, 0, "rule", "x" * 500))
        answers = [await connection.receive(TO_SUPERVISOR) for _ in range(2)]
        connection.close()
        await connection.wait_closed()
    assert taken == [Beat(1), Matched(1, 0, "rule", "x" * 500)]
    assert answers == [Prepare(1, 1), Prepare(2, 1)]
    assert connection.is_closing
    assert not connection.send(Beat(2))


async def test_kinds_of_a_later_version_are_passed_over() -> None:
    async def serve(connection: Connection) -> None:
        connection.send_line(b'{"kind":"Sing"}\n')
        connection.send(Welcome("job"))

    async with await answered_by(serve) as server:
        connection = await dial(LOOPBACK, port_of(server))
        assert await connection.receive(TO_SUPERVISOR) == Welcome("job")
        assert connection.passed_over == 1
        assert await connection.receive(TO_SUPERVISOR) is None
        connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"x" * 1001, id="no end of line"),
        pytest.param(b'{"kind":"End","pad":"' + b"x" * 1000 + b'"}\n', id="with end of line"),
        pytest.param(b'{"kind":"End"}\n' + b"x" * 3000 + b"\n", id="after a good one"),
    ],
)
async def test_a_line_that_is_too_long_raises(sent: bytes) -> None:
    raised = asyncio.get_running_loop().create_future()

    async def serve(connection: Connection) -> None:
        try:
            while await connection.receive(FROM_COMMANDER) is not None:
                pass
        except MessageError as error:
            raised.set_result(str(error))

    async with await answered_by(serve) as server:
        connection = await dial(LOOPBACK, port_of(server))
        connection.send_line(sent)
        assert await raised == "a line of more than 1000 bytes"
        connection.close()


async def test_the_limit_can_be_raised_once_the_other_side_is_known() -> None:
    taken = []

    async def serve(connection: Connection) -> None:
        taken.append(await connection.receive(FROM_COMMANDER))
        connection.max_line_bytes = 100_000
        taken.append(await connection.receive(FROM_COMMANDER))

    async with await answered_by(serve) as server:
        connection = await dial(LOOPBACK, port_of(server))
        connection.send(Attach("token"))
        connection.send_line(b'{"kind":"End","pad":"' + b"x" * 90_000 + b'"}\n')
        assert await connection.receive(TO_SUPERVISOR) is None
        connection.close()
    assert taken == [Attach("token"), End()]


async def test_who_does_not_read_is_cut_off_and_nobody_waits() -> None:
    outcome = asyncio.get_running_loop().create_future()
    line = b'{"kind":"Stop","pad":"' + b"x" * 500_000 + b'"}\n'

    async def serve(connection: Connection) -> None:
        sent = 0
        while connection.send_line(line):  # never awaits: if nobody cut it off, this test would take all memory
            sent += len(line)
            assert sent < 100 * MAX_UNSENT_BYTES
        outcome.set_result(connection.is_closing)

    async with await answered_by(serve) as server:
        reader, writer = await asyncio.open_connection(LOOPBACK, port_of(server), limit=1000)
        assert await outcome
        writer.close()
        del reader


async def test_nobody_listens() -> None:
    server = await answered_by(lambda _: asyncio.sleep(0))
    port = port_of(server)
    server.close()
    await server.wait_closed()
    with pytest.raises(OSError, match=str(port)):
        await dial(LOOPBACK, port)


def test_tries_come_ever_later_up_to_a_most_and_never_together() -> None:
    backoff = Backoff(random.Random(1), 0.1, 3.0)
    waits = [backoff.next_seconds() for _ in range(10)]
    steps = [min(0.1 * 1.5**number, 3.0) for number in range(10)]
    assert all(step / 2 <= wait <= step for wait, step in zip(waits, steps, strict=True))
    assert len(set(waits)) == len(waits)
    backoff.reset()
    assert backoff.next_seconds() <= 0.1
