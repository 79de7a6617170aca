"""Asking a server over real connections: answers, faults, and rests."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.prometheus_server import (
    Behaviour,
    FakePrometheus,
    Question,
    always,
    answer,
    fake_prometheus,
    response,
    vector,
)
from stowage.observe import prometheus_session
from stowage.observe.breaker import FAILURES_TO_REST, LONGEST_REST_SECONDS
from stowage.observe.prometheus import Endpoint, Prometheus
from stowage.observe.prometheus_session import QueryError, QueryFailure
from stowage.run.certificates import issue
from stowage.run.operator import monotonic, wall_clock

NOW = 1_790_000_000.0
TOKEN = "very-secret-token"  # noqa: S105 - of a test
LABELS = {"namespace": "team", "stowage_dev_job": "bert"}


class Asker:
    """A client of a fake server, with a clock that a test may move on."""

    def __init__(self, fake: FakePrometheus) -> None:
        self.fake = fake
        self.ahead_seconds = 0.0
        self.outcomes: list[str] = []
        self.clients: list[Prometheus] = []

    def client(self, *, scheme: str = "http", timeout_seconds: float = 5.0, **fields: Any) -> Prometheus:
        client = Prometheus(
            Endpoint("default", f"{scheme}://127.0.0.1:{self.fake.port}", timeout_seconds=timeout_seconds, **fields),
            clock=lambda: NOW,
            monotonic=lambda: monotonic() + self.ahead_seconds,
            generator=random.Random(1),
            on_query=lambda _, outcome, __: self.outcomes.append(outcome),
        )
        self.clients.append(client)
        return client


@pytest.fixture
async def asker() -> AsyncIterator[Asker]:
    async with fake_prometheus() as fake:
        asker = Asker(fake)
        yield asker
        for client in asker.clients:
            client.close()


@contextmanager
def failing(failure: QueryFailure, words: str = ".") -> Iterator[None]:
    with pytest.raises(QueryError, match=words) as raised:
        yield
    assert raised.value.failure is failure


async def test_a_query_gives_samples_of_the_time_that_was_asked_for(asker: Asker) -> None:
    asker.fake.behaviour = vector((LABELS, 2.5))
    (one,) = await asker.client().ask('loss{job="a b"} > 2')
    assert (one.labels, one.value, one.at) == (LABELS, 2.5, NOW)
    (question,) = asker.fake.questions
    assert question.path == "/api/v1/query"
    assert question.asked == {"query": 'loss{job="a b"} > 2', "time": f"{NOW:.3f}", "timeout": "5s"}
    assert asker.outcomes == ["ok"]


async def test_the_past_is_asked_for_by_range(asker: Asker) -> None:
    asker.fake.behaviour = always(answer([{"metric": LABELS, "values": [[NOW - 30, "1"], [NOW, "2"]]}], "matrix"))
    found = await asker.client().ask_past("loss", NOW - 60, NOW, 15.0)
    assert [(one.at, one.value) for one in found] == [(NOW - 30, 1.0), (NOW, 2.0)]
    (question,) = asker.fake.questions
    assert question.path == "/api/v1/query_range"
    assert question.asked["step"] == "15"
    assert (question.asked["start"], question.asked["end"]) == (f"{NOW - 60:.0f}", f"{NOW:.0f}")


def status(code: int, error: str = "", **headers: str) -> bytes:
    return response(json.dumps({"status": "error", "error": error}).encode(), f"{code} X", **headers)


@pytest.mark.parametrize(
    ("content", "failure", "words"),
    [
        pytest.param(status(422, "parse error: x"), QueryFailure.INVALID, "HTTP 422: parse error: x", id="a bad query"),
        pytest.param(status(400, "invalid"), QueryFailure.INVALID, "HTTP 400: invalid", id="a bad parameter"),
        pytest.param(status(500), QueryFailure.FAILED, "HTTP 500", id="an error of the server"),
        pytest.param(status(503, "query timed out"), QueryFailure.FAILED, "timed out", id="too slow for the server"),
        pytest.param(status(401), QueryFailure.REFUSED, "HTTP 401", id="no token"),
        pytest.param(status(429), QueryFailure.REFUSED, "HTTP 429", id="too many requests"),
        pytest.param(status(204), QueryFailure.INVALID, "HTTP 204", id="no content"),
        pytest.param(status(422, "a\nb\x1b[31m" + "c" * 999), QueryFailure.INVALID, "a b .31mc+…$", id="odd words"),
        pytest.param(status(422, error=["x"]), QueryFailure.INVALID, "HTTP 422$", id="words that are none"),  # type: ignore[arg-type]
        pytest.param(response(b"<html>", "502 X"), QueryFailure.FAILED, "HTTP 502$", id="a proxy's page"),
        pytest.param(response(b"<html>"), QueryFailure.UNREADABLE, "not JSON", id="a page"),
        pytest.param(response(b""), QueryFailure.UNREADABLE, "not JSON", id="nothing"),
        pytest.param(response(b"\xff\xfe\x00"), QueryFailure.UNREADABLE, ".", id="bytes"),
        pytest.param(response(b"[1]"), QueryFailure.UNREADABLE, "none of Prometheus", id="a list"),
        pytest.param(response(b"{}"), QueryFailure.UNREADABLE, "none of Prometheus", id="an empty object"),
        pytest.param(response(b'{"data": null}'), QueryFailure.UNREADABLE, "none of Prometheus", id="no data"),
        pytest.param(response(b"[" * 100_000), QueryFailure.UNREADABLE, ".", id="a tower of lists"),
        pytest.param(answer([NOW, "1"], "scalar"), QueryFailure.UNREADABLE, "vector or matrix", id="a scalar"),
        pytest.param(
            answer([{"metric": {}, "value": [NOW - 300, "1"]}]),
            QueryFailure.STALE,
            "300 s before",
            id="cached",
        ),
        pytest.param(
            response(b"", "302 Found", Location="http://127.0.0.1:1/"), QueryFailure.REFUSED, "HTTP 302", id="elsewhere"
        ),
        pytest.param(b"SSH-2.0-OpenSSH_9\r\n\r\n", QueryFailure.UNREACHABLE, ".", id="another protocol"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            QueryFailure.UNREACHABLE,
            ".",
            id="chunks",
        ),
    ],
)
async def test_faults_have_a_kind_and_short_words(
    asker: Asker, content: bytes, failure: QueryFailure, words: str
) -> None:
    asker.fake.behaviour = always(content)
    with failing(failure, words):
        await asker.client().ask("up")
    assert asker.outcomes == [failure.value]


async def test_an_answer_that_breaks_off_is_none(asker: Asker) -> None:
    async def behave(_: Question) -> bytes:
        raise ConnectionResetError

    asker.fake.behaviour = behave
    with failing(QueryFailure.UNREACHABLE):
        await asker.client().ask("up")


async def test_nobody_listens(asker: Asker) -> None:
    asker.fake.port = 1
    with failing(QueryFailure.UNREACHABLE, "[Rr]efused"):
        await asker.client().ask("up")


async def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_said(asker: Asker) -> None:
    async def behave(_: Question) -> bytes:
        await asker.fake.released.wait()
        return b""

    asker.fake.behaviour = behave
    with failing(QueryFailure.TIMED_OUT):
        await asker.client(timeout_seconds=0.2).ask("up")


async def test_an_answer_that_comes_drop_by_drop_is_left(asker: Asker) -> None:
    """No single wait is long; all of them together are."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not asker.fake.released.is_set() and not writer.is_closing():
            writer.write(b" ")
            asker.ahead_seconds += 10.0
            await asyncio.sleep(0.02)
        writer.transport.abort()
        served.set()

    served = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    asker.fake.port = server.sockets[0].getsockname()[1]
    with failing(QueryFailure.TIMED_OUT, "no whole answer within 30 s"):
        await asker.client(timeout_seconds=30.0).ask("up")
    asker.fake.released.set()
    server.close()
    await served.wait()


@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "a small file that becomes large"])
async def test_a_huge_answer_is_not_read_to_its_end(
    asker: Asker, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    monkeypatch.setattr(prometheus_session, "MAX_ANSWER_BYTES", 200_000)
    body = b" " * 3_000_000
    asker.fake.behaviour = always(response(gzip.compress(body), Content_Encoding="gzip") if packed else response(body))
    with failing(QueryFailure.TOO_LARGE, "more than 200000 bytes"):
        await asker.client().ask("up")


async def test_the_words_of_an_error_are_not_read_to_their_end(asker: Asker) -> None:
    asker.fake.behaviour = always(response(b"x" * 3_000_000, "500 X"))
    with failing(QueryFailure.FAILED, "HTTP 500$"):
        await asker.client().ask("up")


async def outcomes(client: Prometheus, queries: int) -> list[str]:
    """What becomes of so many queries at once."""

    async def one() -> str:
        try:
            await client.ask("up")
        except QueryError as error:
            return error.failure.value
        return "ok"

    return sorted(await asyncio.gather(*(one() for _ in range(queries))))


async def test_an_endpoint_that_fails_again_and_again_rests_until_one_query_succeeds(asker: Asker) -> None:
    client = asker.client()
    asker.fake.behaviour = always(status(500))
    for _ in range(FAILURES_TO_REST):
        with failing(QueryFailure.FAILED):
            await client.ask("up")
    asked = len(asker.fake.questions)
    assert await outcomes(client, 2) == ["resting", "resting"]
    assert len(asker.fake.questions) == asked
    asker.ahead_seconds += LONGEST_REST_SECONDS
    assert await outcomes(client, 4) == ["failed", "resting", "resting", "resting"], "one tries for all"
    asker.fake.behaviour = vector((LABELS, 1))
    asker.ahead_seconds += LONGEST_REST_SECONDS
    assert await client.ask("up")
    assert await outcomes(client, 4) == ["ok"] * 4


@pytest.mark.parametrize("failure", [status(422), response(b"<html>")], ids=["a bad query", "an unreadable answer"])
async def test_queries_that_fail_by_themselves_silence_no_others(asker: Asker, failure: bytes) -> None:
    client = asker.client()

    async def behave(question: Question) -> bytes:
        return failure if question.asked["query"] == "bad" else await vector((LABELS, 1))(question)

    asker.fake.behaviour = behave
    for _ in range(2 * FAILURES_TO_REST):
        with pytest.raises(QueryError):
            await client.ask("bad")
    assert await client.ask("good")


async def test_one_slow_query_among_others_silences_none(asker: Asker) -> None:
    client = asker.client()

    async def behave(question: Question) -> bytes:
        return status(503, "timeout") if question.asked["query"] == "slow" else await vector((LABELS, 1))(question)

    asker.fake.behaviour = behave
    for _ in range(2 * FAILURES_TO_REST):
        with failing(QueryFailure.FAILED):
            await client.ask("slow")
        assert await client.ask("good")


async def test_a_server_may_ask_for_a_longer_rest_within_bounds(asker: Asker) -> None:
    client = asker.client()
    asker.fake.behaviour = always(status(429, Retry_After="99999999"))
    for _ in range(FAILURES_TO_REST):
        with failing(QueryFailure.REFUSED):
            await client.ask("up")
    asker.fake.behaviour = vector()
    asker.ahead_seconds += 500
    with failing(QueryFailure.RESTING):
        await client.ask("up")
    asker.ahead_seconds += 500
    assert await client.ask("up") == ()


async def test_a_server_of_several_tenants_is_told_whose_series_are_meant(asker: Asker) -> None:
    await asker.client(tenant="team-a").ask("up")
    await asker.client().ask("up")
    first, second = asker.fake.questions
    assert first.headers["x-scope-orgid"] == "team-a"
    assert "x-scope-orgid" not in second.headers


async def test_an_answer_of_too_many_samples_is_too_large(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stowage.decide.samples.MAX_SAMPLES", 1)
    asker.fake.behaviour = vector((LABELS, 1), (LABELS, 2))
    with failing(QueryFailure.TOO_LARGE, "more than 1 samples"):
        await asker.client().ask("up")


async def test_a_range_selector_gives_samples_with_their_own_times(asker: Asker) -> None:
    points = [[NOW - 65, "1"], [NOW - 5, "2"]]
    asker.fake.behaviour = always(answer([{"metric": LABELS, "values": points}], "matrix"))
    found = await asker.client().ask("loss[90s]")
    assert [(one.at, one.value) for one in found] == [(NOW - 65, 1.0), (NOW - 5, 2.0)]


class TestTokens:
    @pytest.fixture
    def token(self, tmp_path: Path) -> Path:
        path = tmp_path / "token"
        path.write_text(f"{TOKEN}\n")
        return path

    async def test_it_is_read_for_each_request(self, asker: Asker, token: Path) -> None:
        client = asker.client(token_file=token)
        await client.ask("up")
        token.write_text("renewed")  # noqa: ASYNC240 - a few bytes
        await client.ask("up")
        sent = [one.headers["authorization"] for one in asker.fake.questions]
        assert sent == [f"Bearer {TOKEN}", "Bearer renewed"]

    @pytest.mark.parametrize("content", [b"", b"two\nlines", b"a b", b"\xff"], ids=repr)
    async def test_what_is_no_token_is_not_sent(self, asker: Asker, token: Path, content: bytes) -> None:
        token.write_bytes(content)  # noqa: ASYNC240 - a few bytes
        with failing(QueryFailure.REFUSED, "token of default"):
            await asker.client(token_file=token).ask("up")
        assert not asker.fake.questions

    async def test_one_that_is_not_there_is_told(self, asker: Asker, token: Path) -> None:
        token.unlink()  # noqa: ASYNC240 - a few bytes
        with failing(QueryFailure.REFUSED, "FileNotFoundError"):
            await asker.client(token_file=token).ask("up")

    @pytest.mark.parametrize(
        "behaviour",
        [
            pytest.param(always(status(401, "no")), id="refused"),
            pytest.param(always(response(b"<html>")), id="unreadable"),
            pytest.param(always(b"nonsense\r\n\r\n"), id="another protocol"),
        ],
    )
    async def test_no_error_and_no_log_tells_it(
        self, asker: Asker, token: Path, behaviour: Behaviour, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        asker.fake.behaviour = behaviour
        client = asker.client(token_file=token)
        for _ in range(FAILURES_TO_REST):
            with pytest.raises(QueryError) as raised:
                await client.ask("up")
            assert TOKEN not in str(raised.value)
        assert TOKEN not in caplog.text

    async def test_it_follows_no_redirect(self, asker: Asker, token: Path) -> None:
        async with fake_prometheus() as other:
            target = f"http://127.0.0.1:{other.port}/api/v1/query"
            asker.fake.behaviour = always(response(b"", "307 Temporary Redirect", Location=target))
            with failing(QueryFailure.REFUSED, "HTTP 307"):
                await asker.client(token_file=token).ask("up")
            assert not other.questions


async def test_a_server_is_trusted_by_the_authority_that_the_settings_name(tmp_path: Path) -> None:
    pair = issue(["127.0.0.1"], wall_clock(), 3600.0)
    for name, content in (("ca.crt", pair.authority), ("tls.crt", pair.certificate), ("tls.key", pair.key)):
        (tmp_path / name).write_bytes(content)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    async with fake_prometheus(tls) as fake:
        fake.behaviour = vector((LABELS, 1))
        asker = Asker(fake)
        assert await asker.client(scheme="https", ca_file=tmp_path / "ca.crt").ask("up")
        with failing(QueryFailure.UNREACHABLE, "certificate"):
            await asker.client(scheme="https").ask("up")
        for client in asker.clients:
            client.close()
