"""Reflectors in trouble: streams that repeat, mix up or keep back events, and servers that refuse."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, cast

import pytest

from harness import virtual_time
from stowage.observe.reflector import Event, Reflector
from stowage.transport import Api, ApiError, ApiUnavailable, Forbidden, TooManyRequests
from unit.test_observe_reflector import UNAVAILABLE, Followed, Script, bookmark, decode, event, listed, thing

SILENT = ApiUnavailable("WATCH", status=0, reason="Timeout")


def test_a_watch_that_fell_silent_is_not_trusted_what_it_kept_back_is_listed() -> None:
    followed = Followed(
        [listed(5, thing("a"), thing("b")), listed(9, thing("b", value="new"))], [[70.0, SILENT], [bookmark(9)]]
    )
    assert followed.changes[2:] == [("b", "new"), ("a", None)]
    assert followed.times[-1] <= 71.0
    assert followed.watched_from[:2] == ["5", "9"]


def test_a_connection_that_does_not_come_about_in_time_costs_no_list() -> None:
    class Refusing(Script):
        tries = 0

        async def watch(
            self, path: str, query: Mapping[str, str], *, on_open: Callable[[], None]
        ) -> AsyncGenerator[bytes, None]:
            self.tries += 1
            if self.tries in {2, 3}:
                raise SILENT
            async for line in super().watch(path, query, on_open=on_open):
                yield line

    async def follow() -> int:
        script = Refusing([listed(5)], [[bookmark(6)]])
        reflector = made(script, lambda _: None)
        following = asyncio.create_task(reflector.run())
        await script.used_up.wait()
        following.cancel()
        return reflector.lists

    assert virtual_time.run(follow()) == 1


def made(script: Script, listener: Callable[[Event[str]], None]) -> Reflector[str]:
    return Reflector(
        cast("Api", script),
        "/things",
        decode=decode,
        on_event=listener,
        clock=virtual_time.now,
        generator=random.Random(1),
    )


AGAIN = event("ADDED", thing("x", 12, value="again"))
NEW = event("MODIFIED", thing("x", 8, value="new"))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([NEW, NEW], [("x", "new")], id="an event comes twice"),
        pytest.param([NEW, event("MODIFIED", thing("x", 7, value="old"))], [("x", "new")], id="an older one after it"),
        pytest.param([NEW, event("DELETED", thing("x", 7))], [("x", "new")], id="an older deletion after it"),
        pytest.param([event("MODIFIED", thing("x", 4, value="old"))], [], id="one from before the list"),
        pytest.param(
            [event("ADDED", thing("y", 9)), event("ADDED", thing("z", 8))],
            [("y", "-"), ("z", "-")],
            id="objects change places, none is lost",
        ),
        pytest.param(
            [event("DELETED", thing("x", 9)), NEW], [("x", None)], id="an older change does not bring back what is gone"
        ),
        pytest.param(
            [event("DELETED", thing("x", 5))], [("x", None)], id="deleted, with the version of its last change"
        ),
        pytest.param([AGAIN], [("x", "again")], id="made again, its deletion never came"),
        pytest.param(
            [event("DELETED", thing("x", 11)), AGAIN, event("DELETED", thing("x", 11))],
            [("x", None), ("x", "again")],
            id="made again, and its predecessor's deletion comes twice",
        ),
        pytest.param(
            [event("MODIFIED", thing("x", 0, value="new"))] * 2,
            [("x", "new"), ("x", "new")],
            id="without a version nothing can be compared",
        ),
    ],
)
def test_only_news_counts(events: list[Any], expected: list[tuple[str, str | None]]) -> None:
    followed = Followed([listed(5, thing("x", 5))], [events])
    assert followed.changes[1:] == expected
    assert followed.lists == 1


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(event("ADDED", thing("y", 15)), id="an event older than a bookmark, never seen"),
        pytest.param(bookmark(12), id="the server goes back: etcd was restored"),
    ],
)
def test_a_stream_that_breaks_its_promise_is_left_for_a_new_list(late: dict[str, Any]) -> None:
    followed = Followed([listed(5), listed(30, thing("y", 15))], [[bookmark(20), late]])
    assert followed.changes == [("y", "-")]
    assert followed.lists == 2


def test_watches_that_break_each_second_are_resumed_soon_and_cost_no_list() -> None:
    followed = Followed([listed(5)], [[1.0, UNAVAILABLE] for _ in range(60)])
    assert followed.lists == 1
    assert 60 <= followed.ended_at <= 60 * (1 + 5)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(Forbidden("GET", status=403), "Forbidden", id="a right was taken away"),
        pytest.param(ApiError("GET", status=404), "NotServed", id="the definition was deleted"),
        pytest.param(TooManyRequests("GET", status=429), "Throttled", id="the server is busy"),
        pytest.param(UNAVAILABLE, "ServerError", id="the server is in trouble"),
        pytest.param(SILENT, "Silent", id="no answer"),
        pytest.param(ApiUnavailable("GET", status=0, reason="Unreachable"), "Unreachable", id="no connection"),
    ],
)
def test_trouble_is_told_while_it_lasts_and_the_process_is_not_stuck(error: ApiError, reason: str) -> None:
    async def follow() -> None:
        script = Script([error] * 40 + [listed(5)], [[bookmark(6), 3000.0]])
        reflector = made(script, lambda _: None)
        failures: list[str] = []
        reflector.on_failure = failures.append
        following = asyncio.create_task(reflector.run())
        await asyncio.sleep(400)
        assert reflector.trouble is not None
        assert reflector.trouble.reason == reason
        assert set(failures) == {reason}
        assert len(failures) > 10
        assert reflector.stuck_seconds() == 0.0  # the server is away: nothing that a restart could mend
        await asyncio.sleep(1000)
        assert not script.lists
        assert reflector.trouble is None
        following.cancel()

    virtual_time.run(follow())


def test_a_reflector_that_hangs_says_for_how_long() -> None:
    async def follow() -> None:
        class Hanging(Script):
            async def get_bytes(self, _: str, query: Mapping[str, str]) -> bytes:  # noqa: ARG002
                await asyncio.sleep(1e9)
                return b""

        reflector = made(Hanging([], []), lambda _: None)
        following = asyncio.create_task(reflector.run())
        await asyncio.sleep(500)
        assert reflector.stuck_seconds() == pytest.approx(500)
        following.cancel()

    virtual_time.run(follow())


def test_a_watch_that_is_distrusted_is_left_at_once_for_a_new_list() -> None:
    async def follow() -> tuple[int, float]:
        script = Script([listed(5), listed(9, thing("x", 8))], [[1000.0]])
        came: list[float] = []
        reflector = made(script, lambda _: came.append(virtual_time.now()))
        following = asyncio.create_task(reflector.run())
        await asyncio.sleep(10)
        reflector.distrust("the server knows more")
        await script.used_up.wait()
        following.cancel()
        return reflector.lists, came[0]

    assert virtual_time.run(follow()) == (2, pytest.approx(10.0, abs=1.0))
