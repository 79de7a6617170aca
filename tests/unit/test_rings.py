"""What rings, and how soon."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from stowage.act.listing import keys_in
from stowage.run import controller
from stowage.run.controller import LOOK_AT_ALL_SECONDS, Controller, pause_seconds
from stowage.run.doorbell import Doorbell
from stowage.run.training_places import Places
from stowage.transport import Api, NotFound, paths
from unit.builders import pod


def test_what_we_wrote_ourselves_does_not_ring_but_its_end_does() -> None:
    rung: list[tuple[Any, ...]] = []
    bell = Doorbell(
        cast("Api", None), lambda *ring: rung.append(ring), is_own=lambda *said: said == ("training", "team/a", "7")
    )
    for name, version, gone in (
        ("team/a", "6", False),
        ("team/a", "7", False),
        ("team/b", "7", False),
        ("team/a", "7", True),
    ):
        bell._heard("training", name, version, gone)
    assert rung == [("training", "team/a", False), ("training", "team/b", False), ("training", "team/a", True)]


async def test_a_job_that_was_deleted_while_nobody_led_is_rung_by_its_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new leader is told of nothing: no watch tells of what was gone before it began."""
    pods = {"team/gone-s0-1": pod("gone-s0-1", labels={"stowage.dev/job": "gone", "stowage.dev/seat": "s0"})}
    places = Places(pods)
    for key in pods:
        places.pod_changed(key)

    async def nothing(_: object) -> tuple[str, ...]:
        return ()

    async def there(_: object, collection: str) -> tuple[str, ...]:
        return ("team/there",) if collection == paths.TRAINING_JOBS else ("team/chat",)

    for name, answer in (("list_policies", nothing), ("plan_names", nothing), ("keys_in", there)):
        monkeypatch.setattr(controller, name, answer)
    rung: list[Any] = []
    fake = SimpleNamespace(
        _api=None,
        _queue=SimpleNamespace(add=lambda key, _=0.0: rung.append(key)),
        _pulses=SimpleNamespace(alive=lambda: nothing(None)),
        _store=SimpleNamespace(synced=False),
        training=SimpleNamespace(with_pods=places.jobs),
    )
    await Controller._ring_all(cast("Controller", fake))
    assert rung == [("training", "team/gone"), ("training", "team/there"), ("serving", "team/chat")]
    pods.clear()
    places.pod_changed("team/gone-s0-1")
    assert places.jobs() == ()


@pytest.mark.parametrize(
    ("answer", "keys"),
    [
        pytest.param(b'{"items":null}', (), id="none: what the API server says of an empty list of metadata"),
        pytest.param(b'{"items":[{"metadata":{"namespace":"team","name":"a","uid":"u"}}]}', ("team/a",), id="one"),
    ],
)
async def test_names_of_all_jobs(answer: bytes, keys: tuple[str, ...]) -> None:
    async def get_bytes(_path: str, *, metadata_only: bool) -> bytes:
        assert metadata_only
        return answer

    assert await keys_in(cast("Api", SimpleNamespace(get_bytes=get_bytes)), paths.TRAINING_JOBS) == keys


@pytest.mark.parametrize(
    ("jobs", "seconds"),
    [
        pytest.param(0, 0.05, id="none"),
        pytest.param(500, 0.05, id="twenty a second"),
        pytest.param(2_000, LOOK_AT_ALL_SECONDS / 2 / 2_000, id="so many that they would not be done in time"),
    ],
)
def test_looks_at_all_jobs_are_spread(jobs: int, seconds: float) -> None:
    assert pause_seconds(jobs) == seconds


async def test_there_are_no_services_where_their_definition_is_not_installed() -> None:
    async def get_bytes(path: str, *, metadata_only: bool) -> bytes:
        assert metadata_only
        raise NotFound(path, status=404)

    assert await keys_in(cast("Api", SimpleNamespace(get_bytes=get_bytes)), paths.MODEL_SERVICES) == ()
