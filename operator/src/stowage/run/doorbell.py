"""kopf as the doorbell: events of the custom resources ring keys, and nothing else of kopf is used.

kopf runs in a thread with an event loop of its own: it takes over signals and, when it stops, cancels every task of
its loop, neither of which the rest of the process can share.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import kopf

from stowage.transport import Api

GROUP: Final = "stowage.dev"
VERSION: Final = "v1alpha1"
KINDS: Final = {"packingpolicies": "policy", "packingplans": "plan"}
"""What is watched, and the first part of the key that it rings."""

STOP_SECONDS: Final = 3.0

Ring = Callable[[str, str, bool], None]
"""Told the kind of key, the name of the object and whether the object is gone."""


class EndlessBackoffs:
    """Seconds between tries that never run out: an outage must not end the process, however long it is."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1.0, 1.0, 2.0, 3.0, 5.0), itertools.repeat(8.0))


class DoorbellStopped(Exception):  # noqa: N818 - named after what happened
    """kopf ended although nobody asked: the process would be deaf to its resources."""


def settings() -> kopf.OperatorSettings:
    """Settings that let kopf write nothing, and notice dead connections."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.watching.server_timeout = 290
    chosen.watching.client_timeout = 310
    chosen.watching.connect_timeout = 5
    chosen.networking.connect_timeout = 5
    chosen.networking.request_timeout = 30
    chosen.networking.error_backoffs = EndlessBackoffs()
    chosen.process.ultimate_exiting_timeout = None  # it would kill the whole process, of which kopf is a part
    return chosen


def registry(ring: Ring, log_in: Callable[[], Any]) -> kopf.OperatorRegistry:
    """Handlers: one event handler for each kind, and log-in with our own credentials.

    Args:
        ring: called in kopf's thread.
        log_in: coroutine function that returns kopf's ConnectionInfo.
    """
    chosen = kopf.OperatorRegistry()

    @kopf.on.login(registry=chosen, retries=3, backoff=1)  # type: ignore[arg-type,untyped-decorator,unused-ignore]
    async def login(**_: object) -> Any:  # noqa: ANN401
        return await log_in()

    for plural, kind in KINDS.items():

        @kopf.on.event(GROUP, VERSION, plural, registry=chosen, id=f"ring-{kind}", param=kind)  # type: ignore[arg-type,untyped-decorator,unused-ignore]
        async def event(name: str, param: str, type: str | None, **_: object) -> None:  # noqa: A002 - kopf's word
            ring(param, name, type == "DELETED")

    return chosen


async def connection_info(api: Api) -> kopf.ConnectionInfo:
    """Our credentials in kopf's words, refreshed if they are short-lived."""
    configuration = api.client.configuration
    header: str | None = await configuration.get_api_key_with_prefix("BearerToken")
    scheme, _, token = (header or "").partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )


class Doorbell:
    """The thread of kopf.

    Args:
        api: whose credentials it uses.
        ring: called in this event loop.
    """

    def __init__(self, api: Api, ring: Ring) -> None:
        self._api = api
        self._ring = ring

    async def run(self) -> None:
        """Ring until cancelled.

        Raises:
            DoorbellStopped: kopf ended by itself, whatever the cause.
        """
        loop = asyncio.get_running_loop()
        stop = threading.Event()
        ended: asyncio.Future[BaseException | None] = loop.create_future()

        async def log_in() -> kopf.ConnectionInfo:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(connection_info(self._api), loop))

        def ring(kind: str, name: str, gone: bool) -> None:  # noqa: FBT001
            loop.call_soon_threadsafe(self._ring, kind, name, gone)

        def tell(error: BaseException | None) -> None:
            if not ended.done():
                ended.set_result(error)

        def work(arguments: Mapping[str, Any]) -> None:
            error: BaseException | None = None
            try:
                asyncio.run(kopf.operator(**arguments))
            except BaseException as caught:  # noqa: BLE001 - a thread's error has nowhere to go but through `tell`
                error = caught
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell, error)

        arguments = {
            "registry": registry(ring, log_in),
            "settings": settings(),
            "standalone": True,
            "clusterwide": True,
            "stop_flag": stop,
        }
        threading.Thread(target=work, args=(arguments,), name="kopf", daemon=True).start()
        try:
            error = await asyncio.shield(ended)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([ended], timeout=STOP_SECONDS)
            raise
        raise DoorbellStopped(f"kopf ended: {error or 'without an error'}") from error
