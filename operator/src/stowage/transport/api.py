"""Requests to the API server, with raw bodies and typed errors.

Transport, log-in and kubeconfig come from the official client (`kubernetes.aio`); its generated models and
its watch helper are not used: bodies go straight between bytes and the few fields that Stowage reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec

from stowage.transport import credentials
from stowage.transport.errors import ApiUnavailable, CredentialsError, NotLeading, from_response
from stowage.transport.server_clock import ServerClock

JSON: Final = "application/json"
METADATA_LIST: Final = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{JSON}"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"  # JSON is YAML

CONNECT_SECONDS: Final = 5.0
NAME_SECONDS: Final = 15.0  # to a connection, its name looked up and a free place in the pool included
REQUEST_SECONDS: Final = 12.0  # above the 10 s that a webhook is given by default: the server's words are worth having
LIST_SECONDS: Final = 60.0  # a chunk of 500 large pods on a busy server
SILENCE_SECONDS: Final = 70.0  # longer than any healthy watch lasts: the connection is dead
WATCH_PART: Final = 6 / 7  # of the silence, asked of the server: bookmarks of quiet kinds may come later than both

Observer = Callable[[str, int, float], None]
"""Called after each request with its method (`WATCH` for watches), its HTTP status (0: no answer) and its seconds."""

Query = Mapping[str, str]


class Api:
    """A connection to one cluster; an async context manager.

    Every method raises a subclass of `ApiError`; none retries, for callers decide again from fresh facts.

    Args:
        client: a `kubernetes.aio.client.ApiClient`; closed with this object.
        field_manager: sent with each write that does not name another one.
        refresh: a task that keeps the token fresh; ended with this object.
    """

    def __init__(self, client: Any, *, field_manager: str, refresh: asyncio.Task[None] | None = None) -> None:  # noqa: ANN401
        self._client = client
        self._field_manager = field_manager
        self._refresh = refresh
        self.observer: Observer | None = None
        self.silence_seconds: float | None = None  # after which an open watch is dead; None: SILENCE_SECONDS
        self.clock = ServerClock()
        self._may_write: Callable[[], bool] | None = None  # None: always

    @classmethod
    async def connect(
        cls,
        *,
        kubeconfig: str | None = None,
        context: str | None = None,
        user_agent: str,
        field_manager: str | None = None,
    ) -> Self:
        """Find the cluster and make a client for it; nothing is sent yet.

        Args:
            kubeconfig: path of a kubeconfig; None: `$KUBECONFIG`, `~/.kube/config`, else the pod's service account.
            context: context of the kubeconfig; None: its current one.
            user_agent: like `stowage-operator/1.2.3`.
            field_manager: who owns the fields it writes; None: `user_agent` up to the slash.

        Raises:
            CredentialsError: there is no usable kubeconfig and this is not a pod.
        """
        from kubernetes.aio.client.api_client import ApiClient  # noqa: PLC0415 - slow to import, see credentials

        configuration, refresh = await credentials.load(kubeconfig, context)
        try:
            client = ApiClient(configuration)
        except OSError as error:  # a certificate or key file that does not load
            raise CredentialsError(f"TLS files of the kubeconfig: {error}") from error
        client.user_agent = user_agent
        return cls(client, field_manager=field_manager or user_agent.partition("/")[0], refresh=refresh)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections."""
        if self._refresh is not None:
            self._refresh.cancel()
        await self._client.close()

    def fenced(self, may_write: Callable[[], bool]) -> Self:
        """The same connection for who may write at times only.

        Whoever was paused after it last asked whether it leads wakes right before a request, and finds out here. What
        is on its way already is stopped by the versions and UIDs that it names.

        Args:
            may_write: asked right before each change; where it says no, the change raises `NotLeading`.
        """
        fenced = copy.copy(self)
        fenced._may_write = may_write  # noqa: SLF001 - of the same class
        return fenced

    @property
    def server(self) -> str:
        """The address of the API server."""
        return str(self._client.configuration.host)

    @property
    def client(self) -> Any:  # noqa: ANN401 - an untyped library's object
        """The official client, for log-in by other libraries."""
        return self._client

    async def get(self, path: str, query: Query | None = None) -> dict[str, Any]:
        """Read an object or a collection."""
        return self._document("GET", path, await self.get_bytes(path, query))

    async def get_bytes(self, path: str, query: Query | None = None, *, metadata_only: bool = False) -> bytes:
        """Read an object or a collection, undecoded.

        Args:
            path: of the object or collection.
            query: parameters; with `limit` an answer may take long.
            metadata_only: ask for nothing but the metadata of a collection's objects.
        """
        seconds = LIST_SECONDS if query and "limit" in query else REQUEST_SECONDS
        accept = METADATA_LIST if metadata_only else JSON
        return await self._call("GET", path, query=query, timeout_seconds=seconds, accept=accept)

    async def create(self, path: str, body: Mapping[str, Any], query: Query | None = None) -> dict[str, Any]:
        """Create an object in the collection at `path`, or post to a subresource such as eviction."""
        return self._document("POST", path, await self._call("POST", path, body=body, query=self._owned(query)))

    async def replace(self, path: str, body: Mapping[str, Any], query: Query | None = None) -> dict[str, Any]:
        """Replace an object; with `metadata.resourceVersion` a change since the read raises `Conflict`."""
        return self._document("PUT", path, await self._call("PUT", path, body=body, query=self._owned(query)))

    async def merge_patch(self, path: str, body: Mapping[str, Any], query: Query | None = None) -> dict[str, Any]:
        """Apply a JSON merge patch (RFC 7386)."""
        answer = await self._call("PATCH", path, body=body, query=self._owned(query), content_type=MERGE_PATCH)
        return self._document("PATCH", path, answer)

    async def strategic_patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Apply a strategic merge patch, which knows lists of Kubernetes' own kinds; custom resources refuse it."""
        answer = await self._call("PATCH", path, body=body, query=self._owned(None), content_type=STRATEGIC_PATCH)
        return self._document("PATCH", path, answer)

    async def apply(
        self, path: str, body: Mapping[str, Any], *, field_manager: str, force: bool = True
    ) -> dict[str, Any]:
        """Server-side apply (KEP-555) of the fields in `body`."""
        query = {"fieldManager": field_manager, "force": str(force).lower()}
        answer = await self._call("PATCH", path, body=body, query=query, content_type=APPLY_PATCH)
        return self._document("PATCH", path, answer)

    async def delete(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Delete an object; `body` may hold DeleteOptions with preconditions."""
        return self._document("DELETE", path, await self._call("DELETE", path, body=body))

    async def watch(
        self, path: str, query: Query, *, on_open: Callable[[], None] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Stream watch events, one raw JSON document each, until the server ends the watch.

        `watch`, `allowWatchBookmarks` and `timeoutSeconds` are set here; `query` holds the rest and wins. Lines may
        be as long as etcd allows objects to be, and longer. Use with `contextlib.aclosing`, so that leaving the loop
        ends the request. `on_open` is called once the server has accepted the watch, which may be long before the
        first event.

        Raises:
            Gone: the resource version is too old. (It may come in the stream instead, as an ERROR event.)
            ApiUnavailable: the connection broke, or was silent for longer than a watch lasts.
        """
        silence_seconds = self.silence_seconds or SILENCE_SECONDS
        lasts = str(max(1, round(silence_seconds * WATCH_PART)))
        full = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": lasts, **query}
        timeout = aiohttp.ClientTimeout(
            total=None, connect=NAME_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=silence_seconds
        )
        async with self._response("GET", path, query=full, timeout=timeout) as response:
            if on_open is not None:
                on_open()
            parts: list[bytes] = []  # of a line whose end has not come yet; joined once, so long lines stay linear
            async for chunk in response.content.iter_any():
                *ended, rest = chunk.split(b"\n")
                if ended:
                    ended[0] = b"".join([*parts, ended[0]])
                    parts = []
                    for line in ended:
                        if line:
                            yield line
                if rest:
                    parts.append(rest)

    def _owned(self, query: Query | None) -> Query:
        return {"fieldManager": self._field_manager, **(query or {})}

    @staticmethod
    def _document(method: str, path: str, answer: bytes) -> dict[str, Any]:
        try:
            return msgspec.json.decode(answer, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ApiUnavailable(f"{method} {path}", status=0, reason="NotJson", message=str(error)) from error

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Query | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        timeout_seconds: float = REQUEST_SECONDS,
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=CONNECT_SECONDS)
        async with self._response(
            method, path, body=body, query=query, content_type=content_type, accept=accept, timeout=timeout
        ) as response:
            return await response.read()

    @contextlib.asynccontextmanager
    async def _response(
        self,
        method: str,
        path: str,
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp enforces it per phase
        body: Mapping[str, Any] | None = None,
        query: Query | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send one request; the body of the `with` reads the answer under the same error handling."""
        request = f"{method} {path}"
        started = time.monotonic()  # noqa: TID251 - the edge of the process; only measured, never decided on
        status: int | None = None  # stays None when the caller gives up: that is nobody's fault
        try:
            verb, url, headers, data, _ = await self._client.param_serialize(
                method,
                path,
                query_params=dict(query or {}),
                header_params={"Content-Type": content_type, "Accept": accept},
                body=dict(body) if body is not None else None,
                auth_settings=["BearerToken"],
            )
            if method != "GET" and self._may_write is not None and not self._may_write():
                raise NotLeading(request)
            answer = await self._client.call_api(verb, url, headers, data, _request_timeout=timeout)
            response: aiohttp.ClientResponse = answer.response
            async with response:
                status = response.status
                self.clock.hear(response.headers.get("Date"))
                if status >= 400:
                    raise from_response(request, status, await response.read(), response.headers.get("Retry-After"))
                yield response
        except TimeoutError as error:
            status = 0
            message = f"no answer in time ({timeout.total or timeout.sock_read:g} s)"
            raise ApiUnavailable(request, status=0, reason="Timeout", message=message) from error
        except (aiohttp.ClientError, OSError) as error:
            status = 0
            message = str(error) or type(error).__name__
            raise ApiUnavailable(request, status=0, reason="Unreachable", message=message) from error
        finally:
            if self.observer is not None and status is not None:
                verb = "WATCH" if query and "watch" in query else method
                self.observer(verb, status, time.monotonic() - started)  # noqa: TID251
