"""Requests as the fault proxy sees and records them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "HEAD": "get"}


@dataclass(frozen=True)
class Request:
    """One request on its way to the API server.

    Attributes:
        index: number of the request since the proxy started, from 0, in order of arrival.
        method: of HTTP.
        path: without the query.
        query: its parameters, the last value of each.
        user_agent: header User-Agent.
        body: as sent.
        headers: of HTTP, by lower-case name.
    """

    index: int
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    user_agent: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def verb(self) -> str:
        """Kubernetes' word for it: get, list, watch, create, update, patch, delete or deletecollection."""
        if self.method in {"GET", "HEAD"}:
            if self.query.get("watch") in {"true", "1"}:
                return "watch"
            return "get" if _names_an_object(self.path) else "list"
        if self.method == "DELETE" and not _names_an_object(self.path):
            return "deletecollection"
        return _VERBS.get(self.method, self.method.lower())

    @property
    def mutating(self) -> bool:
        """Whether it asks for a change; reviews of access are asked by POST and change nothing."""
        return self.verb not in {"get", "list", "watch"} and "reviews" not in self.path.rpartition("/")[2]

    @property
    def field_manager(self) -> str:
        """Who wants to own the written fields, "" if it does not say."""
        return self.query.get("fieldManager", "")

    @property
    def digest(self) -> str:
        """Short fingerprint of the body, "" for none."""
        return hashlib.sha256(self.body).hexdigest()[:16] if self.body else ""

    @property
    def document(self) -> Any:
        """The body, decoded; None if it is no JSON (protobuf, none at all)."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass
class Exchange:
    """A request and what became of it.

    Attributes:
        request: as it came.
        at_seconds: when it came, since the proxy was made.
        server_status: what the API server answered; None: it was not asked, or it did not answer.
        client_status: what the client was sent; None: it heard nothing.
        fault: the fault that was played, as a word; "" for none.
        ended: nothing more will happen to it.
    """

    request: Request
    at_seconds: float
    server_status: int | None = None
    client_status: int | None = None
    fault: str = ""
    ended: bool = False

    @property
    def took_effect(self) -> bool:
        """Whether the API server accepted it, whatever the client was told."""
        return self.server_status is not None and self.server_status < 300


_PREFIX_PARTS = {"api": 2, "apis": 3}  # /api/v1, /apis/GROUP/VERSION


def _names_an_object(path: str) -> bool:
    """Whether a path ends at one object or a subresource of it, not at a collection."""
    parts = [part for part in path.split("/") if part]
    if not parts or parts[0] not in _PREFIX_PARTS:
        return True  # /version, /readyz
    rest = parts[_PREFIX_PARTS[parts[0]] :]
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in {"finalize", "status"}:
        rest = rest[2:]
    return len(rest) != 1
