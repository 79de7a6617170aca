"""Replicas that agree on the webhook's certificate through one Secret, and those that read files of another keeper."""

from __future__ import annotations

import asyncio
import base64
import copy
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, cast

import pytest

from harness import virtual_time
from stowage.run.certificates import DAY_SECONDS, CertificateError, Lifetimes, Pair, from_secret, issue, serves
from stowage.run.certificates_files import MountedCertificates
from stowage.run.certificates_secret import SecretCertificates
from stowage.run.webhook_server import LOOK_EVERY_SECONDS, LOOK_SOON_SECONDS, AdmissionServer, WebhookOptions
from stowage.run.webhook_tls import ServingContext
from stowage.transport import Api, ApiUnavailable, Conflict, Forbidden, NotFound
from stowage.transport.server_clock import ServerClock

NOW = float(int(time.time()))  # noqa: TID251 - the certificates are loaded by the TLS of this machine
NAME = "stowage-webhook.stowage-system.svc"
TIMES = Lifetimes()
Document = dict[str, Any]
SECRET = "/api/v1/namespaces/stowage-system/secrets/stowage-webhook-tls"  # noqa: S105 - a path
CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/stowage"


class Server:
    """Objects by path, with optimistic locking; every request lets others have their turn."""

    def __init__(self, *, registered: bool = True) -> None:
        self.objects: dict[str, Document] = {}
        self.versions = 0
        self.writes: list[str] = []
        self.refused: dict[str, Exception] = {}
        self.now = NOW
        if registered:
            self.register()

    def register(self) -> None:
        webhooks = [{"name": "validate.stowage.dev", "clientConfig": {"service": {"name": "s"}}, "timeoutSeconds": 5}]
        self._store(CONFIGURATION, {"metadata": {"name": "stowage"}, "webhooks": webhooks})

    def _store(self, path: str, body: Mapping[str, Any]) -> Document:
        self.versions += 1
        stored: Document = copy.deepcopy(dict(body))
        stored["metadata"] = {**stored["metadata"], "resourceVersion": str(self.versions)}
        self.objects[path] = stored
        return copy.deepcopy(stored)

    async def _turn(self, path: str) -> None:
        await asyncio.sleep(0)
        if path in self.refused:
            raise self.refused[path]

    async def get(self, path: str) -> Document:
        await self._turn(path)
        if path not in self.objects:
            raise NotFound(f"GET {path}", status=404)
        return copy.deepcopy(self.objects[path])

    async def create(self, path: str, body: Document) -> Document:
        named = f"{path}/{body['metadata']['name']}"
        await self._turn(named)
        if named in self.objects:
            raise Conflict(f"POST {path}", status=409, reason="AlreadyExists")
        self.writes.append("POST secret")
        return self._store(named, body)

    async def replace(self, path: str, body: Document) -> Document:
        await self._turn(path)
        self._refuse_overtaken(path, body)
        self.writes.append("PUT secret")
        return self._store(path, body)

    async def merge_patch(self, path: str, body: Document) -> Document:
        await self._turn(path)
        self._refuse_overtaken(path, body)
        self.writes.append("PATCH configuration")
        return self._store(path, {**self.objects[path], "webhooks": body["webhooks"]})

    def _refuse_overtaken(self, path: str, body: Document) -> None:
        if body["metadata"]["resourceVersion"] != self.objects[path]["metadata"]["resourceVersion"]:
            raise Conflict(f"PUT {path}", status=409)

    @property
    def bundle(self) -> bytes:
        (webhook,) = self.objects[CONFIGURATION]["webhooks"]
        return base64.b64decode(webhook["clientConfig"].get("caBundle", ""))

    def replica(
        self,
        used: list[Pair] | None = None,
        use: Callable[[Pair], None] | None = None,
        now: Callable[[], float] | None = None,
    ) -> SecretCertificates:
        return SecretCertificates(
            cast("Api", self),
            namespace="stowage-system",
            secret="stowage-webhook-tls",  # noqa: S106 - a name
            configuration="stowage",
            names=(NAME,),
            now=now or (lambda: self.now),
            use=use or (used if used is not None else []).append,
        )


async def test_two_replicas_that_start_at_once_serve_one_certificate() -> None:
    server, used = Server(), ([], [])
    await asyncio.gather(*(server.replica(each).look() for each in used))
    assert used[0][-1] == used[1][-1]
    assert server.writes.count("POST secret") == 1
    assert server.bundle == used[0][-1].authority


async def test_an_empty_secret_is_filled_and_what_others_keep_there_stays() -> None:
    server = Server()
    kept = {"metadata": {"name": "stowage-webhook-tls", "labels": {"a": "b"}}, "data": {"note": "aGk="}}
    server._store(SECRET, kept)
    await server.replica().look()
    assert server.writes == ["PUT secret", "PATCH configuration"]
    assert server.objects[SECRET]["data"]["note"] == "aGk="
    assert server.objects[SECRET]["metadata"]["labels"] == {"a": "b"}
    assert from_secret(server.objects[SECRET]["data"]) is not None


async def test_a_second_look_writes_nothing() -> None:
    server = Server()
    await server.replica().look()
    server.writes.clear()
    await server.replica().look()
    assert server.writes == []


async def test_replicas_walk_through_a_rotation_together_and_the_bundle_is_ahead_of_what_serves() -> None:
    server, used = Server(), ([], [])
    replicas = [server.replica(each) for each in used]
    for one in replicas:
        await one.look()
    first = used[0][-1]
    seen = []
    for at in (TIMES.renew_after, TIMES.renew_after + TIMES.overlap, TIMES.renew_after + 2 * TIMES.overlap):
        server.now = NOW + at
        await asyncio.gather(*(one.look() for one in replicas))
        assert used[0][-1] == used[1][-1]
        seen.append((used[0][-1] == first, server.bundle.count(b"BEGIN"), used[0][-1].authority in server.bundle))
    assert seen == [(True, 2, True), (False, 2, True), (False, 1, True)]
    assert server.writes.count("PUT secret") == 3


APART = {"three hours": 3 * 3600.0, "a hundred days": 100 * DAY_SECONDS}


@pytest.mark.parametrize("apart", APART.values(), ids=APART.keys())
async def test_replicas_with_clocks_far_apart_go_by_that_of_the_api_server(apart: float) -> None:
    server = Server()
    clocks = [ServerClock(lambda: server.now - NOW) for _ in range(3)]
    own = [lambda: server.now, lambda: server.now + apart, lambda: server.now - apart]
    replicas = [server.replica(now=clock.otherwise(wrong)) for clock, wrong in zip(clocks, own, strict=True)]
    for day in range(61):
        for clock, replica in zip(clocks, replicas, strict=True):
            server.now = NOW + day * DAY_SECONDS
            clock.hear(format_datetime(datetime.fromtimestamp(server.now, UTC), usegmt=True))
            await replica.look()
    assert server.writes.count("POST secret") == 1
    assert server.writes.count("PUT secret") == 1, "announced once, at its time"
    keys = from_secret(server.objects[SECRET]["data"])
    assert keys is not None
    assert keys.following is not None
    assert serves(keys.serving, (NAME,), server.now)


async def test_a_replica_that_was_away_does_not_bring_an_old_bundle_back() -> None:
    server = Server()
    await server.replica().look()
    server.now = NOW + TIMES.renew_after
    await server.replica().look()
    told = server.bundle
    await server.replica().look()
    assert server.bundle == told
    assert told.count(b"BEGIN") == 2


async def test_a_bundle_that_was_wiped_is_restored() -> None:
    server = Server()
    await server.replica().look()
    told = server.bundle
    server.register()
    assert server.bundle == b""
    await server.replica().look()
    assert server.bundle == told
    (webhook,) = server.objects[CONFIGURATION]["webhooks"]
    assert (webhook["clientConfig"]["service"], webhook["timeoutSeconds"]) == ({"name": "s"}, 5)


async def test_who_registers_the_webhook_later_is_told_at_the_next_look() -> None:
    server, used = Server(registered=False), []
    await server.replica(used).look()
    assert serves(used[-1], [NAME], NOW)
    server.register()
    await server.replica().look()
    assert server.bundle == used[-1].authority


async def test_a_configuration_that_may_not_be_changed_is_told_and_nothing_rotates() -> None:
    server, used = Server(), []
    server.refused[CONFIGURATION] = Forbidden("GET", status=403)
    for at in (0.0, TIMES.renew_after):
        server.now = NOW + at
        with pytest.raises(Forbidden):
            await server.replica(used).look()
    assert used, "it serves all the same"
    assert server.writes == ["POST secret"]
    server.now = NOW + TIMES.valid + 1
    with pytest.raises(Forbidden):
        await server.replica(used).look()
    assert serves(used[-1], [NAME], server.now), "what has ended is replaced"


async def test_a_secret_that_may_not_be_read_is_told() -> None:
    server, used = Server(), []
    server.refused[SECRET] = Forbidden("GET", status=403)
    with pytest.raises(Forbidden):
        await server.replica(used).look()
    assert (used, server.writes) == ([], [])


async def test_a_secret_that_others_always_write_first_is_told() -> None:
    server = Server()
    server._store(SECRET, {"metadata": {"name": "stowage-webhook-tls"}})

    async def overtaken(path: str, _: Document) -> Document:
        raise Conflict(f"PUT {path}", status=409)

    server.replace = overtaken  # type: ignore[method-assign]
    with pytest.raises(Conflict):
        await server.replica().look()


async def test_a_spoilt_secret_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    server, used = Server(), []
    server._store(SECRET, {"metadata": {"name": "stowage-webhook-tls"}, "data": {"tls.crt": "%%%"}})
    await server.replica(used).look()
    assert serves(used[-1], [NAME], NOW)
    assert "holds no pair of certificate and key that can be read" in caplog.text


async def test_a_key_of_another_certificate_is_replaced_too() -> None:
    server = Server()
    await server.replica().look()
    server.objects[SECRET]["data"]["tls.key"] = base64.b64encode(issue([NAME], NOW, 1).key).decode()
    context = ServingContext()
    await server.replica(use=context.use).look()
    keys = from_secret(server.objects[SECRET]["data"])
    assert keys is not None
    assert serves(keys.serving, [NAME], NOW)
    assert context.loaded


async def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    used: list[Pair] = []
    mounted = MountedCertificates(tmp_path, use=used.append)
    with pytest.raises(CertificateError, match=r"tls\.crt cannot be read .*mount the Secret"):
        await mounted.look()
    for pair in (issue([NAME], NOW, DAY_SECONDS), issue([NAME], NOW, DAY_SECONDS)):
        (tmp_path / "tls.crt").write_bytes(pair.certificate)
        (tmp_path / "tls.key").write_bytes(pair.key)
        await mounted.look()
        assert (used[-1].certificate, used[-1].key) == (pair.certificate, pair.key)


def admission(server: Server, **fields: Any) -> AdmissionServer:
    options = {"host": "127.0.0.1", "port": 0, "name": NAME, "namespace": "stowage-system"}
    options |= {"secret": "stowage-webhook-tls", "configuration": "stowage"}
    return AdmissionServer(
        cast("Api", server),
        lambda: None,
        WebhookOptions(**options | fields),
        now=lambda: server.now,
        generator=random.Random(1),
    )


def play(server: Server, scenario: Callable[[AdmissionServer], Any], **fields: Any) -> None:
    """Look after the certificate in virtual time while a scenario goes on."""

    async def run() -> None:
        served = admission(server, **fields)
        keeping = asyncio.create_task(served._keep_certificate())
        await scenario(served)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    virtual_time.run(run())


def test_a_replica_is_of_no_use_until_it_has_a_certificate_and_says_why() -> None:
    server = Server()
    server.refused[SECRET] = ApiUnavailable("GET secret", status=503, message="etcd is away")

    async def scenario(served: AdmissionServer) -> None:
        await asyncio.sleep(5)
        (problem,) = served.problems()
        assert "no certificate" in problem
        assert "etcd is away" in problem
        del server.refused[SECRET]
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        assert served.problems() == []

    play(server, scenario)


def test_an_outage_does_not_end_what_serves_but_its_end_does() -> None:
    server = Server()

    async def scenario(served: AdmissionServer) -> None:
        await asyncio.sleep(1)
        server.refused[SECRET] = ApiUnavailable("GET secret", status=503)
        await asyncio.sleep(120)
        assert served.problems() == []
        server.now = NOW + TIMES.valid
        (problem,) = served.problems()
        assert "has ended" in problem

    play(server, scenario)


def test_a_wiped_bundle_is_back_after_one_look() -> None:
    server = Server()

    async def scenario(_: AdmissionServer) -> None:
        await asyncio.sleep(1)
        told = server.bundle
        assert told
        server.register()
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        assert server.bundle == told

    play(server, scenario)


def test_a_webhook_that_is_registered_after_the_start_is_told_within_seconds() -> None:
    server = Server(registered=False)

    async def scenario(served: AdmissionServer) -> None:
        await asyncio.sleep(10)
        assert served.problems() == []
        server.register()
        await asyncio.sleep(LOOK_SOON_SECONDS)
        assert server.bundle

    play(server, scenario)


def test_a_name_that_is_none_is_told_by_the_setting(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(served: AdmissionServer) -> None:
        await asyncio.sleep(60)
        (problem,) = served.problems()
        assert "webhook_name" in problem

    play(Server(), scenario, name="bücher.example")
    warnings = [one for one in caplog.records if one.levelname == "WARNING"]
    assert len(warnings) == 1, "said once"


def test_with_files_nothing_is_written(tmp_path: Path) -> None:
    server = Server()
    pair = issue([NAME], NOW, DAY_SECONDS)
    (tmp_path / "tls.crt").write_bytes(pair.certificate)
    (tmp_path / "tls.key").write_bytes(pair.key)

    async def scenario(served: AdmissionServer) -> None:
        await asyncio.sleep(1)
        assert served.problems() == []

    play(server, scenario, certificates=tmp_path)
    assert (server.writes, SECRET in server.objects) == ([], False)
