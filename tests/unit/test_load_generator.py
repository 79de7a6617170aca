"""The load generator sends when requests are due, and tells what became of each."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from harness.virtual_sockets import run
from stand_in.arrivals import Load, read_arrivals, shaped
from stand_in.client import Client, Outcome, Result, Target
from stand_in.load import Promise, play, summary, write
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.synthetic import Lengths

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TOKEN = b'data: {"choices": [{"text": "a"}]}\n\n'
END = b'data: {"choices": [], "usage": {"completion_tokens": 3}}\n\ndata: [DONE]\n\n'


def streamed(*pieces: bytes | float, is_torn: bool = False) -> Handler:
    """Answers with these pieces, waiting so many seconds where one is a number."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            if isinstance(piece, bytes):
                await response.write(piece)
            else:
                await asyncio.sleep(piece)
        if is_torn:
            assert request.transport is not None
            request.transport.abort()
        return response

    return handle


def status(code: int) -> Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text="no")

    return handle


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@contextlib.asynccontextmanager
async def client_of(folder: Path, handler: Handler | None, patience_seconds: float = 60.0) -> AsyncIterator[Client]:
    """A client of a server that answers so; None: nobody listens."""
    app = web.Application()
    if handler is not None:
        app.router.add_post("/v1/completions", handler)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    socket = str(folder / "server")
    if handler is not None:
        await web.UnixSite(runner, socket).start()
    connector = aiohttp.UnixConnector(path=socket, force_close=True, limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
            yield Client(session, Target("http://server", "any", patience_seconds=patience_seconds))
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("handler", "outcome", "tokens", "why"),
    [
        pytest.param(streamed(TOKEN, TOKEN, TOKEN, END), Outcome.COMPLETED, 3, "", id="every token came"),
        pytest.param(None, Outcome.REFUSED, 0, "no connection", id="nobody listens"),
        pytest.param(status(503), Outcome.REFUSED, 0, "503: no", id="the engine is ending"),
        pytest.param(status(429), Outcome.REFUSED, 0, "429: no", id="the engine is full"),
        pytest.param(status(500), Outcome.FAILED, 0, "500: no", id="the engine is broken"),
        pytest.param(hang_up, Outcome.FAILED, 0, "Disconnected", id="the connection ends without an answer"),
        pytest.param(streamed(100.0, TOKEN), Outcome.CUT, 0, "Timeout", id="headers and then nothing for too long"),
        pytest.param(streamed(TOKEN, is_torn=True), Outcome.CUT, 1, "Payload", id="the connection ends in between"),
        pytest.param(streamed(TOKEN, TOKEN), Outcome.CUT, 2, "None of 3", id="the answer stops without its end"),
        pytest.param(
            streamed(TOKEN, END.replace(b"3", b"2")), Outcome.CUT, 2, "2 of 3", id="fewer tokens than asked for"
        ),
    ],
)
def test_what_became_of_a_request(
    tmp_path: Path, handler: Handler | None, outcome: Outcome, tokens: int, why: str
) -> None:
    async def story() -> Result:
        async with client_of(tmp_path, handler) as client:
            return await client.ask(10, 3, 0.0, 0.0)

    result = run(story())
    assert result.outcome is outcome, result.why
    assert result.tokens == tokens
    assert why in result.why
    assert bool(result.why) is (outcome is not Outcome.COMPLETED)


def test_latencies_are_those_of_the_stream(tmp_path: Path) -> None:
    async def story() -> Result:
        async with client_of(tmp_path, streamed(0.5, TOKEN, 0.1, TOKEN, 0.3, TOKEN, 2.0, END)) as client:
            return await client.ask(10, 3, 0.0, 0.0)

    result = run(story())
    assert result.ttft_seconds == pytest.approx(0.5)
    assert result.itl_seconds == pytest.approx(0.2)
    assert result.seconds == pytest.approx(2.9)


def test_requests_are_sent_when_they_are_due_whatever_became_of_those_before(tmp_path: Path) -> None:
    came: list[float] = []

    async def slow(request: web.Request) -> web.StreamResponse:
        came.append(asyncio.get_running_loop().time())
        return await streamed(30.0, TOKEN, TOKEN, TOKEN, END)(request)

    at = np.array([0.0, 0.0, 1.5, 4.0])

    async def story() -> list[Result]:
        async with client_of(tmp_path, slow) as client:
            return await play(Requests(at, np.full(4, 10), np.full(4, 3)), client)

    results = run(story())
    assert came == pytest.approx(at)
    assert [one.at_seconds for one in results] == at.tolist()
    assert {one.outcome for one in results} == {Outcome.COMPLETED}


# --- loads ---

LENGTHS = Lengths(200.0, 30.0, 0.0)


@pytest.mark.parametrize(
    ("load", "halves"),
    [
        pytest.param(Load.STEADY, (2000, 2000), id="steady: always the high rate"),
        pytest.param(Load.RAMP, (875, 1625), id="ramp: more in the second half"),
        pytest.param(Load.SPIKE, (500, 800), id="spike: a tenth of the time from the middle on"),
    ],
)
def test_loads(load: Load, halves: tuple[int, int]) -> None:
    made = shaped(load, seconds=2000.0, low=0.5, high=2.0, lengths=LENGTHS, seed=1)
    first = int((made.arrival_seconds < 1000.0).sum())
    found = (first, len(made) - first)
    assert found == pytest.approx(halves, rel=0.15)
    assert set(made.prompt_tokens) == {200}
    assert set(made.output_tokens) == {30}
    again = shaped(load, seconds=2000.0, low=0.5, high=2.0, lengths=LENGTHS, seed=1)
    assert made.arrival_seconds.tolist() == again.arrival_seconds.tolist()


def test_a_load_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "arrivals.json"
    file.write_text("[[1.5, 10, 3], [0.5, 20, 4]]")
    made = read_arrivals(file)
    assert made.arrival_seconds.tolist() == [0.5, 1.5]
    assert made.prompt_tokens.tolist() == [20, 10]


@pytest.mark.parametrize("text", ["{}", "[[1, 2]]", "[1]"])
def test_a_file_that_is_no_load_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "arrivals.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"arrivals\.json is no list"):
        read_arrivals(file)


# --- what is told ---


def made(outcome: Outcome, ttft: float | None, itl: float | None, why: str = "") -> Result:
    return Result(0.0, outcome, 0.0, ttft, itl, 1.0, 3, why)


RESULTS = [
    made(Outcome.COMPLETED, 0.2, 0.05),
    made(Outcome.COMPLETED, 3.0, 0.05),
    made(Outcome.COMPLETED, 0.2, 0.5),
    made(Outcome.CUT, 0.2, None, "2 of 3 tokens"),
]


@pytest.mark.parametrize(
    ("promise", "attainment"),
    [
        pytest.param(Promise(), 0.75, id="nothing is promised: who completed is good"),
        pytest.param(Promise(ttft_seconds=2.0), 0.5, id="a time to first token"),
        pytest.param(Promise(ttft_seconds=2.0, itl_seconds=0.1), 0.25, id="both"),
    ],
)
def test_the_share_that_was_good(promise: Promise, attainment: float) -> None:
    told = summary(RESULTS, promise)
    assert told["attainment"] == attainment
    assert {str(outcome): told[outcome] for outcome in Outcome} == {
        "completed": 3,
        "refused": 0,
        "failed": 0,
        "cut": 1,
    }
    assert told["reasons"] == {"2 of 3 tokens": 1}
    assert told["ttft_seconds"]["p50"] == pytest.approx(0.2)


def test_results_are_one_json_document_of_short_lines() -> None:
    out = io.StringIO()
    write(RESULTS, Promise(), 1000.0, out)
    document = json.loads(out.getvalue())
    assert document["head"]["began_at"] == 1000.0
    assert [one["outcome"] for one in document["requests"]] == ["completed"] * 3 + ["cut"]
    assert max(map(len, out.getvalue().splitlines())) < 1000
