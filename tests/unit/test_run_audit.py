"""What the doorbell has told, against what there is; in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from harness import virtual_time
from stowage.run.audit import Audit
from stowage.run.doorbell import Doorbell
from stowage.transport import Api, ApiError, Forbidden, NotFound, TooManyRequests

SECONDS = 20.0


class Things:
    """A server with one collection: name and version of each object; `error` refuses everything."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.error: ApiError | None = None
        self.asked: list[float] = []

    async def get_bytes(self, _: str, query: Mapping[str, str], *, metadata_only: bool) -> bytes:
        assert metadata_only
        assert "limit" in query
        self.asked.append(virtual_time.now())
        if self.error is not None:
            raise self.error
        items = [
            {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}}
            for name, version in self.versions.items()
        ]
        return json.dumps({"metadata": {}, "items": items}).encode()


class Watched:
    """An audit and what came of it."""

    def __init__(self) -> None:
        self.server = Things()
        self.rung: list[tuple[str, bool]] = []
        self.deaf: list[float] = []
        self.audit = Audit(
            cast("Api", self.server),
            {"plan": "/plans"},
            ring=lambda _, name, gone: self.rung.append((name, gone)),
            deaf=lambda _: self.deaf.append(virtual_time.now()),
            generator=random.Random(1),
            seconds=SECONDS,
        )

    def play(self, script: Callable[[], Any]) -> None:
        async def run() -> None:
            auditing = asyncio.create_task(self.audit.run())
            await script()
            assert not auditing.done()
            auditing.cancel()

        virtual_time.run(run())


def test_what_the_watch_tells_is_not_rung_again() -> None:
    watched = Watched()

    async def script() -> None:
        for version in range(1, 200):
            watched.server.versions["a"] = version
            watched.audit.heard("plan", "a", str(version), gone=False)
            await asyncio.sleep(1.0)
        del watched.server.versions["a"]
        watched.audit.heard("plan", "a", "200", gone=True)
        await asyncio.sleep(100)

    watched.play(script)
    assert (watched.rung, watched.deaf, watched.audit.found) == ([], [], 0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda versions: versions.update(new=7), ("new", False), id="a new object"),
        pytest.param(lambda versions: versions.update(old=9), ("old", False), id="a change"),
        pytest.param(lambda versions: versions.pop("old"), ("old", True), id="a deletion"),
    ],
)
def test_what_it_does_not_tell_rings_within_two_periods_once_and_the_watch_is_deaf(
    change: Callable[[dict[str, int]], Any], expected: tuple[str, bool]
) -> None:
    watched = Watched()
    watched.server.versions["old"] = 5

    async def script() -> None:
        watched.audit.heard("plan", "old", "5", gone=False)
        await asyncio.sleep(50)
        change(watched.server.versions)
        await asyncio.sleep(2 * SECONDS * 1.1)
        assert watched.rung == [expected]
        await asyncio.sleep(300)

    watched.play(script)
    assert watched.rung == [expected]
    assert len(watched.deaf) == 1
    assert watched.audit.found == 1


def test_a_watch_that_is_only_slow_is_not_deaf() -> None:
    watched = Watched()

    async def script() -> None:
        for version in range(1, 30):
            watched.server.versions["a"] = version
            await asyncio.sleep(SECONDS * 0.8)
            watched.audit.heard("plan", "a", str(version), gone=False)

    watched.play(script)
    assert watched.deaf == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [(NotFound("GET", status=404), "NotServed"), (Forbidden("GET", status=403), "Forbidden")],
)
def test_a_server_that_refuses_is_a_trouble_while_it_does(error: ApiError, reason: str) -> None:
    watched = Watched()

    async def script() -> None:
        await asyncio.sleep(30)
        assert not watched.audit.troubles
        watched.server.error = error
        await asyncio.sleep(60)
        assert watched.audit.troubles["plan"].reason == reason
        watched.server.error = None
        await asyncio.sleep(SECONDS + 1)
        assert not watched.audit.troubles

    watched.play(script)


def test_a_busy_server_is_asked_no_sooner_than_it_wants() -> None:
    watched = Watched()
    watched.server.error = TooManyRequests("GET", status=429, retry_after_seconds=45.0)

    async def script() -> None:
        await asyncio.sleep(400)

    watched.play(script)
    gaps = [later - sooner for sooner, later in zip(watched.server.asked, watched.server.asked[1:], strict=False)]
    assert min(gaps) >= 45.0
    assert len(gaps) >= 7


@pytest.mark.parametrize("heard", [False, True], ids=["never installed", "its objects were heard of"])
def test_a_definition_that_may_be_missing_is_a_trouble_only_where_it_had_objects(heard: bool) -> None:
    watched = Watched()
    watched.audit._optional = frozenset({"plan"})
    watched.server.error = NotFound("GET", status=404)
    if heard:
        watched.audit.heard("plan", "a", "1", gone=False)

    async def script() -> None:
        await asyncio.sleep(100)
        assert bool(watched.audit.troubles) is heard
        watched.server.error = None
        watched.server.versions["b"] = 2
        await asyncio.sleep(100)
        assert ("b", False) in watched.rung

    watched.play(script)


def test_an_older_cluster_without_the_newer_definitions_is_packed() -> None:
    bell = Doorbell(cast("Api", None), lambda *_: None)
    assert bell._audit._optional == {"training", "serving", "profile"}
