"""kopf as the doorbell: events of the custom resources ring keys, and nothing else of kopf is used.

kopf runs in a thread with an event loop of its own: it takes over signals and, when it stops, cancels every task of
its loop, neither of which the rest of the process can share.

kopf ends when a stream tells it of an error, or when a resource's definition is deleted. Then it is started again; if
it ends again and again the process ends too, for alive but deaf is the worst it could be. Whether it hears is audited.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import kopf

from stowage.observe.trouble import Trouble
from stowage.run.audit import AUDIT_SECONDS, Audit, Ring
from stowage.transport import Api, paths
from stowage.transport.api import SILENCE_SECONDS
from stowage.transport.backoff import Backoff

logger = logging.getLogger(__name__)

GROUP: Final = "stowage.dev"
VERSION: Final = "v1alpha1"
KINDS: Final = {
    "packingpolicies": "policy",
    "packingplans": "plan",
    "trainingjobs": "training",
    "modelservices": "serving",
    "performanceprofiles": "profile",
}
"""What is watched, and the first part of the key that it rings."""
COLLECTIONS: Final = {
    "policy": paths.PACKING_POLICIES,
    "plan": paths.PACKING_PLANS,
    "training": paths.TRAINING_JOBS,
    "serving": paths.MODEL_SERVICES,
    "profile": paths.PERFORMANCE_PROFILES,
}

OPTIONAL: Final = frozenset({"training", "serving", "profile"})
"""Kinds that packing does without: clusters whose definitions are older than the operator lack some."""

# kopf would put the name of the system's user into it, and the user of an image has none
IDENTITY: Final[Any] = "stowage"
STOP_SECONDS: Final = 8.0  # kopf gives its own tasks 5 s when it is not told to end
CLOSING_SECONDS: Final = 0.1  # connections that kopf has closed take some turns of its loop to end
SETTLED_SECONDS: Final = 60.0  # having run so long, kopf has worked: earlier ends no longer count
MOST_ENDS: Final = 4  # in a row; then the process is better started anew

Heard = Callable[[str, str, str, bool], None]
"""Told the kind of key, the name of the object (`namespace/name` where it has one), its resource version, and
whether the object is gone."""


class EndlessBackoffs:
    """Seconds between tries that never run out: an outage must not end the process, however long it is.

    Args:
        generator: source of the jitter.
    """

    def __init__(self, generator: random.Random | None = None) -> None:
        self._generator = generator or random.Random()  # noqa: S311 - jitter only

    def __iter__(self) -> Iterator[float]:
        for seconds in itertools.chain((1.0, 1.0, 2.0, 3.0, 5.0), itertools.repeat(8.0)):
            yield seconds * self._generator.uniform(0.8, 1.2)


class DoorbellStopped(Exception):  # noqa: N818 - named after what happened
    """kopf ended although nobody asked: the process would be deaf to its resources.

    Args:
        words: what happened.
        final: starting it again makes no sense.
    """

    def __init__(self, words: str, *, final: bool = False) -> None:
        super().__init__(words)
        self.final = final


def settings(silence_seconds: float = SILENCE_SECONDS) -> kopf.OperatorSettings:
    """Settings that let kopf write nothing, and notice connections that are dead: silent for so long."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.watching.server_timeout = 290
    chosen.watching.client_timeout = 310
    chosen.watching.connect_timeout = 5
    chosen.watching.inactivity_timeout = silence_seconds
    chosen.networking.connect_timeout = 5
    chosen.networking.request_timeout = 30
    chosen.networking.error_backoffs = EndlessBackoffs()
    chosen.process.ultimate_exiting_timeout = None  # it would kill the whole process, of which kopf is a part
    return chosen


def registry(ring: Heard, log_in: Callable[[], Any]) -> kopf.OperatorRegistry:
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
        async def event(
            name: str,
            namespace: str | None,
            param: str,
            type: str | None,  # noqa: A002 - kopf's word
            meta: Mapping[str, Any],
            **_: object,
        ) -> None:
            full = f"{namespace}/{name}" if namespace else name
            ring(param, full, str(meta.get("resourceVersion", "")), type == "DELETED")

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


class _Stop:
    """Ends kopf from another thread.

    kopf would wait for a `threading.Event` in a thread that nothing ends: it could not end by itself any more, and
    nobody would hear that its watches have failed (seen with kopf 1.45.2).
    """

    def __init__(self) -> None:
        self.asked = False
        self._lock = threading.Lock()
        self._armed: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def arm(self) -> asyncio.Event:
        """The flag for kopf, made in its loop."""
        with self._lock:
            flag = asyncio.Event()
            self._armed = (asyncio.get_running_loop(), flag)
            if self.asked:
                flag.set()
            return flag

    def ask(self) -> None:
        """Let kopf end."""
        with self._lock:
            self.asked = True
            if self._armed is not None:
                loop, flag = self._armed
                with contextlib.suppress(RuntimeError):  # its loop has just ended by itself
                    loop.call_soon_threadsafe(flag.set)


class Doorbell:
    """The thread of kopf, and the audit of what it says.

    Args:
        api: whose credentials it uses.
        ring: called in this event loop.
        is_own: whether a version (kind of key, name, resource version) is what the caller wrote: not worth a ring.
        generator: source of the jitter.
        audit_seconds: between two audits.
    """

    def __init__(
        self,
        api: Api,
        ring: Ring,
        *,
        is_own: Callable[[str, str, str], bool] = lambda *_: False,
        generator: random.Random | None = None,
        audit_seconds: float = AUDIT_SECONDS,
    ) -> None:
        self._api = api
        self._ring = ring
        self._is_own = is_own
        self._generator = generator or random.Random()  # noqa: S311 - jitter only
        self._deaf = asyncio.Event()
        self._audit = Audit(
            api,
            COLLECTIONS,
            ring=ring,
            deaf=self._is_deaf,
            generator=self._generator,
            seconds=audit_seconds,
            optional=OPTIONAL,
        )
        self.starts = 0  # of kopf

    @property
    def troubles(self) -> Mapping[str, Trouble]:
        """Why policies and plans can not be read now, by the plural of the resource."""
        plurals = {kind: plural for plural, kind in KINDS.items()}
        return {plurals[kind]: trouble for kind, trouble in self._audit.troubles.items()}

    @property
    def unheard(self) -> int:
        """Changes that kopf has not told, since the start."""
        return self._audit.found

    async def run(self) -> None:
        """Ring until cancelled.

        Raises:
            DoorbellStopped: kopf ended by itself again and again, or does not end when it should, whatever the cause.
        """
        async with asyncio.TaskGroup() as group:
            audit = group.create_task(self._audit.run(), name="audit")
            try:
                stopped = await self._keep_running()
            finally:
                audit.cancel()
        raise stopped

    async def _keep_running(self) -> DoorbellStopped:
        """Run kopf again and again; returns why that has no sense any more."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(self._generator)
        while True:
            started = loop.time()
            self._deaf.clear()
            stopped = await self._run_once()
            if stopped.final:
                return stopped
            if loop.time() - started >= SETTLED_SECONDS:
                backoff.reset()
            seconds = backoff.next_seconds()
            if backoff.failures >= MOST_ENDS:
                return stopped
            logger.warning("%s; again in %.1f s", stopped, seconds)
            await asyncio.sleep(seconds)

    def _is_deaf(self, _: str) -> None:
        self._deaf.set()

    def _heard(self, kind: str, name: str, version: str, gone: bool) -> None:  # noqa: FBT001 - the shape of Heard
        self._audit.heard(kind, name, version, gone=gone)
        if gone or not self._is_own(kind, name, version):
            self._ring(kind, name, gone)

    async def _run_once(self) -> DoorbellStopped:
        """Run kopf until it ends, or is found to be deaf; cancelling ends it too."""
        loop = asyncio.get_running_loop()

        async def log_in() -> kopf.ConnectionInfo:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(connection_info(self._api), loop))

        def ring(kind: str, name: str, version: str, gone: bool) -> None:  # noqa: FBT001
            loop.call_soon_threadsafe(self._heard, kind, name, version, gone)

        self.starts += 1
        stop = _Stop()
        ended = _start(registry(ring, log_in), settings(self._api.silence_seconds or SILENCE_SECONDS), stop)
        deaf = asyncio.create_task(self._deaf.wait(), name="deafness")
        either: list[asyncio.Future[Any]] = [ended, deaf]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            deaf.cancel()
            if not ended.done():
                stop.ask()
                await asyncio.wait([ended], timeout=STOP_SECONDS)
        if not ended.done():
            return DoorbellStopped("kopf is deaf and does not end", final=True)
        if stop.asked:
            return DoorbellStopped("kopf was deaf to changes and was ended")
        error = ended.result()
        stopped = DoorbellStopped(f"kopf ended: {error or 'without an error'}")
        stopped.__cause__ = error
        return stopped


def _start(
    handlers: kopf.OperatorRegistry, chosen: kopf.OperatorSettings, stop: _Stop
) -> asyncio.Future[BaseException | None]:
    """Start kopf in a thread; the answer is done when it has ended, and holds its error."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[BaseException | None] = loop.create_future()

    async def operate() -> None:
        try:
            await kopf.operator(
                registry=handlers,
                settings=chosen,
                identity=IDENTITY,
                standalone=True,
                clusterwide=True,
                stop_flag=stop.arm(),
            )
        finally:
            await asyncio.sleep(CLOSING_SECONDS)

    def tell(error: BaseException | None) -> None:
        if not ended.done():
            ended.set_result(error)

    def work() -> None:
        error: BaseException | None = None
        try:
            asyncio.run(operate())
        except BaseException as caught:  # noqa: BLE001 - a thread's error has nowhere to go but through `tell`
            error = caught
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, error)

    threading.Thread(target=work, name="kopf", daemon=True).start()
    return ended
