"""Reflectors against a scripted server, in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, cast

import pytest

from harness import virtual_time
from stowage.observe.reflector import ABSENT_SECONDS, Absent, Event, ObjectKey, Present, Reflector, Refused
from stowage.transport import Api, ApiError, ApiUnavailable, Forbidden, Gone, NotFound, TooManyRequests
from stowage_scheduler.cluster import Rejected
from stowage_scheduler.kube.malformed import MalformedObject

UNAVAILABLE = ApiUnavailable("GET", status=503)
GONE = Gone("GET", status=410)


class Script:
    """An API server that gives prepared answers: first its lists, and its watches, one after the other.

    A watch is a list of lines; an exception in it is raised there, a number lets seconds pass. When the watches are
    used up, the last one stays open and silent.
    """

    def __init__(self, lists: list[Any], watches: list[list[Any]]) -> None:
        self.lists = lists
        self.watches = watches
        self.asked: list[dict[str, str]] = []
        self.used_up = asyncio.Event()

    async def get_bytes(self, _: str, query: Mapping[str, str]) -> bytes:
        self.asked.append(dict(query))
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return json.dumps(answer).encode()

    async def watch(
        self, _: str, query: Mapping[str, str], *, on_open: Callable[[], None]
    ) -> AsyncGenerator[bytes, None]:
        self.asked.append(dict(query))
        if not self.watches:
            self.used_up.set()
            await asyncio.sleep(1e9)
        on_open()
        for line in self.watches.pop(0):
            if isinstance(line, Exception):
                raise line
            if isinstance(line, float):
                await asyncio.sleep(line)
            else:
                yield line if isinstance(line, bytes) else json.dumps(line).encode()


def thing(name: str, version: int = 1, *, namespace: str = "a", **fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": str(version)}, **fields}


def listed(version: int, *items: dict[str, Any], more: str = "") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(items)}


def event(kind: str, document: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": document}


def error_event(code: int) -> dict[str, Any]:
    return event("ERROR", {"kind": "Status", "code": code, "message": "from the stream"})


def bookmark(version: int) -> dict[str, Any]:
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


def decode(raw: bytes) -> str:
    document = json.loads(raw)
    if "bad" in document:
        raise MalformedObject(Rejected("Thing", document["metadata"]["name"], "bad", "", "it must be good"))
    return str(document.get("value", "-"))


class Followed:
    """What came out of following a script to its end."""

    def __init__(self, lists: list[Any], watches: list[list[Any]], *, optional: bool = False) -> None:
        virtual_time.run(self._follow(lists, watches, optional=optional))

    async def _follow(self, lists: list[Any], watches: list[list[Any]], *, optional: bool) -> None:
        self.script = Script(lists, watches)
        self.events: list[Event[str]] = []
        self.times: list[float] = []
        self.reflector: Reflector[str] = Reflector(
            cast("Api", self.script),
            "/things",
            decode=decode,
            on_event=self._take,
            clock=virtual_time.now,
            generator=random.Random(1),
            optional=optional,
        )
        following = asyncio.create_task(self.reflector.run())
        waiting = asyncio.create_task(self.script.used_up.wait())
        await asyncio.wait([following, waiting], return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
        self.ended_at = virtual_time.now()
        following.cancel()

    def _take(self, change: Event[str]) -> None:
        self.events.append(change)
        self.times.append(virtual_time.now())

    @property
    def changes(self) -> list[tuple[str, str | None]]:
        """Name and value of each event; None: the object vanished, `refused`: it made no sense."""
        words: list[tuple[str, str | None]] = []
        for change in self.events:
            value = change.fact if isinstance(change, Present) else None
            words.append((change.key.name, "refused" if isinstance(change, Refused) else value))
        return words

    @property
    def watched_from(self) -> list[str]:
        return [query["resourceVersion"] for query in self.script.asked if "resourceVersion" in query]

    @property
    def lists(self) -> int:
        return sum(1 for query in self.script.asked if "limit" in query)


def test_a_list_in_chunks_then_changes_then_silence() -> None:
    followed = Followed(
        [listed(9, thing("x"), more="t1"), listed(10, thing("y"))],
        [[event("MODIFIED", thing("x", 11, value="new")), event("DELETED", thing("y", 12)), bookmark(20)]],
    )
    assert followed.changes == [("x", "-"), ("y", "-"), ("x", "new"), ("y", None)]
    assert followed.script.asked[:2] == [{"limit": "500"}, {"limit": "500", "continue": "t1"}]
    assert followed.watched_from == ["10", "20"]
    assert followed.reflector.synced


@pytest.mark.parametrize(
    "end",
    [
        pytest.param([GONE], id="410 as the answer"),
        pytest.param([error_event(410)], id="410 in the stream"),
        pytest.param([error_event(500)], id="500 in the stream"),
        pytest.param([b'{"type": "ADD'], id="a line that is cut"),
    ],
)
def test_after_a_lost_watch_a_new_list_tells_what_vanished_unseen(end: list[Any]) -> None:
    followed = Followed(
        [listed(5, thing("stays"), thing("vanishes")), listed(50, thing("stays", value="new"), thing("came"))],
        [[event("ADDED", thing("short-lived", 6)), *end]],
    )
    assert followed.changes[3:] == [("stays", "new"), ("came", "-"), ("short-lived", None), ("vanishes", None)]
    assert followed.watched_from == ["5", "50"]
    assert followed.reflector.lists == 2


@pytest.mark.parametrize(
    "end",
    [
        pytest.param([], id="the server ends it"),
        pytest.param([UNAVAILABLE], id="the connection breaks"),
        pytest.param([Forbidden("GET", status=403)], id="rights are taken away for a while"),
        pytest.param([TooManyRequests("GET", status=429)], id="the server is busy"),
    ],
)
def test_an_ended_watch_resumes_where_it_was_without_a_list(end: list[Any]) -> None:
    followed = Followed([listed(5)], [[event("ADDED", thing("x", 6)), *end], [event("ADDED", thing("y", 7))]])
    assert followed.changes == [("x", "-"), ("y", "-")]
    assert followed.watched_from == ["5", "6", "7"]
    assert followed.lists == 1


def test_a_list_whose_token_expires_is_made_in_one_piece() -> None:
    followed = Followed([listed(5, thing("x"), more="t1"), GONE, listed(8, thing("x"), thing("y"))], [])
    assert followed.script.asked[2] == {"limit": "0"}
    assert [key.name for key in sorted({change.key for change in followed.events})] == ["x", "y"]
    assert not any(isinstance(change, Absent) for change in followed.events)


def test_a_failing_list_deletes_nothing_and_is_tried_ever_more_slowly() -> None:
    failures = 12
    followed = Followed([listed(5, thing("x")), *[UNAVAILABLE] * failures, listed(6, thing("x"))], [[error_event(500)]])
    assert followed.changes == [("x", "-"), ("x", "-")]
    pauses_of_30_seconds = failures - 6
    assert 15 * pauses_of_30_seconds <= followed.ended_at <= 30 * (failures + 1)


def test_a_busy_server_is_given_the_time_it_asks_for() -> None:
    followed = Followed([TooManyRequests("GET", status=429, retry_after_seconds=45.0), listed(5, thing("x"))], [])
    (came,) = followed.times
    assert 45.0 <= came <= 45.0 * 1.1  # never sooner; a little later by chance, for it asks everybody for the same


def test_watches_that_end_each_second_do_not_cause_lists_or_a_storm() -> None:
    followed = Followed([listed(5)], [[0.2] for _ in range(100)])
    assert followed.lists == 1
    assert followed.ended_at == pytest.approx(100.0, abs=1.0)


def test_watches_that_fail_at_once_are_tried_ever_more_slowly() -> None:
    followed = Followed([listed(5)] * 21, [[error_event(500)] for _ in range(20)])
    assert followed.ended_at > 15 * 12


def test_after_a_long_healthy_watch_a_lost_version_lists_at_once() -> None:
    followed = Followed([listed(5), listed(6, thing("x"))], [[60.0, bookmark(5), 60.0, error_event(410)]])
    assert followed.times == [pytest.approx(120.0)]


def test_bookmarks_keep_the_last_event_fresh() -> None:
    followed = Followed([listed(5)], [[50.0, bookmark(6), 40.0, UNAVAILABLE]])
    assert followed.reflector.last_event_at == pytest.approx(50.0)


def test_an_accepted_watch_is_a_sign_of_life() -> None:
    followed = Followed([listed(5)], [[60.0], [20.0]])
    assert followed.reflector.last_event_at == pytest.approx(60.0)


def test_an_object_that_makes_no_sense_is_refused_and_comes_back_when_mended() -> None:
    followed = Followed(
        [listed(5, thing("x", bad=1), thing("y"))],
        [[event("MODIFIED", thing("x", 6)), event("MODIFIED", thing("y", 7, bad=1)), event("DELETED", thing("y", 8))]],
    )
    assert followed.changes == [("x", "refused"), ("y", "-"), ("x", "-"), ("y", "refused"), ("y", None)]


def test_a_deletion_of_something_never_seen_is_no_change() -> None:
    assert Followed([listed(5)], [[event("DELETED", thing("x", 6))]]).events == []


def test_keys_read_as_people_write_them() -> None:
    assert str(ObjectKey("a", "web-1")) == "a/web-1"
    assert str(ObjectKey("", "node-1")) == "node-1"


def test_a_defect_in_the_listener_ends_the_reflector() -> None:
    async def follow() -> None:
        def listener(_: Event[str]) -> None:
            raise ZeroDivisionError

        await Reflector(
            cast("Api", Script([listed(5, thing("x"))], [])),
            "/things",
            decode=decode,
            on_event=listener,
            clock=virtual_time.now,
            generator=random.Random(1),
        ).run()

    with pytest.raises(ZeroDivisionError):
        virtual_time.run(follow())


def test_errors_of_the_stream_keep_their_words(caplog: pytest.LogCaptureFixture) -> None:
    Followed([listed(5), listed(6)], [[error_event(500)]])
    assert "WATCH /things: 500" in caplog.text
    assert "from the stream" in caplog.text
    assert issubclass(ApiUnavailable, ApiError)


NOT_SERVED = NotFound("GET", status=404)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(NOT_SERVED, "is not served", id="404"),
        pytest.param(Forbidden("GET", status=403), "is not served or may not be read", id="403"),
    ],
)
def test_a_collection_that_the_server_does_not_have_is_empty_and_looked_for_now_and_then(
    error: ApiError, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        followed = Followed([error, error, listed(5, thing("x"))], [[]], optional=True)
    assert followed.changes == [("x", "-")]
    assert followed.times == [2 * ABSENT_SECONDS]
    assert followed.lists == 3
    assert [record.message for record in caplog.records] == [
        f"/things {words}; looked for every 60 s",
        "/things is served now",
    ]


def test_what_an_absent_collection_held_has_vanished() -> None:
    followed = Followed(
        [listed(5, thing("x")), NOT_SERVED, listed(9, thing("y"))],
        [[event("ADDED", thing("z", 6)), GONE]],
        optional=True,
    )
    assert followed.changes == [("x", "-"), ("z", "-"), ("x", None), ("z", None), ("y", "-")]
    assert followed.reflector.served
    assert followed.times[-1] < ABSENT_SECONDS, "it was there a moment ago"


def test_an_absent_collection_is_followed_and_complete() -> None:
    async def follow() -> Reflector[str]:
        script = Script([NOT_SERVED] * 9, [])
        reflector: Reflector[str] = Reflector(
            cast("Api", script),
            "/things",
            decode=decode,
            on_event=lambda _: None,
            clock=virtual_time.now,
            generator=random.Random(1),
            optional=True,
        )
        following = asyncio.create_task(reflector.run())
        await reflector.wait_synced()
        await asyncio.sleep(3.5 * ABSENT_SECONDS)
        following.cancel()
        assert len(script.asked) == 4
        assert reflector.stuck_seconds() == 0
        return reflector

    reflector = virtual_time.run(follow())
    assert (reflector.synced, reflector.served) == (True, False)
    assert reflector.disconnected_since is None
    assert reflector.trouble is None


def test_a_collection_that_has_to_be_there_is_in_trouble_without_it() -> None:
    followed = Followed([NOT_SERVED, listed(5, thing("x"))], [])
    assert followed.times != [0.0]
    assert followed.reflector.trouble is not None
