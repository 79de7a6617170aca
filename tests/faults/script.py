"""Scripts of faults: which requests meet which fault. Pure: the same requests in the same order, the same faults."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from faults.traffic import Request


class Side(enum.Enum):
    """Where on its way a request meets a fault."""

    BEFORE = "before"  # it has not reached the API server
    AFTER = "after"  # the API server has answered, the client has not heard


@dataclass(frozen=True)
class Hold:
    """Keep the request until somebody releases it."""

    side: Side = Side.BEFORE


@dataclass(frozen=True)
class Delay:
    """Let the request wait."""

    seconds: float
    side: Side = Side.BEFORE


@dataclass(frozen=True)
class Drop:
    """End the connection without an answer."""

    side: Side = Side.BEFORE


REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True)
class Answer:
    """Answer in the API server's place.

    Attributes:
        status: of HTTP.
        retry_after_seconds: header Retry-After.
        reason: Kubernetes' reason; "": the usual one of the status.
        message: for people.
        causes: `details.causes` of the Status.
        body: instead of a Status, as it is.
    """

    status: int
    retry_after_seconds: int | None = None
    reason: str = ""
    message: str = "a fault of the test"
    causes: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None

    @property
    def payload(self) -> bytes:
        """The body of the answer."""
        if self.body is not None:
            return self.body
        return json.dumps(status_document(self.status, self.reason, self.message, self.causes)).encode()


@dataclass(frozen=True)
class Freeze:
    """Let a watch fall silent after some events; the connection stays open and no end is sent."""

    after_events: int = 0


@dataclass(frozen=True)
class Cut:
    """End a watch after some events, or after some time, whatever comes first.

    Attributes:
        after_events: passed on before.
        after_seconds: None: any time.
        abruptly: in the middle of the stream, not as an end that the server wants.
    """

    after_events: int | None = None
    after_seconds: float | None = None
    abruptly: bool = False


@dataclass(frozen=True)
class InjectError:
    """Put an ERROR event into a watch after some events, then end it, as the API server does."""

    code: int
    after_events: int = 0
    ends: bool = True


@dataclass(frozen=True)
class Duplicate:
    """Send each event of a watch several times."""

    times: int = 2


Fault = Hold | Delay | Drop | Answer | Freeze | Cut | InjectError | Duplicate
WATCH_FAULTS = (Freeze, Cut, InjectError, Duplicate)


@dataclass(frozen=True)
class Match:
    """What requests a rule is for; what is not given matches all.

    Attributes:
        path: regular expression, searched for in the path.
        methods: of HTTP.
        verbs: of Kubernetes, such as "watch".
        user_agent: regular expression, searched for in the header.
        mutating: whether the request asks for a change.
        first: number of the first matching request that meets the fault, from 1.
        last: number of the last one; None: all from `first` on.
        every: of these only each n-th, beginning with `first`.
        where: any further condition.
    """

    path: str = ""
    methods: frozenset[str] | None = None
    verbs: frozenset[str] | None = None
    user_agent: str = ""
    mutating: bool | None = None
    first: int = 1
    last: int | None = None
    every: int = 1
    where: Callable[[Request], bool] | None = None

    @classmethod
    def nth(cls, number: int, **fields: Any) -> Match:
        """The n-th matching request alone."""
        return cls(first=number, last=number, **fields)

    def fits(self, request: Request) -> bool:
        """Whether the request is of the kind, whatever its number."""
        return (
            re.search(self.path, request.path) is not None
            and re.search(self.user_agent, request.user_agent) is not None
            and (self.methods is None or request.method in self.methods)
            and (self.verbs is None or request.verb in self.verbs)
            and (self.mutating is None or request.mutating == self.mutating)
            and (self.where is None or self.where(request))
        )

    def takes(self, number: int) -> bool:
        """Whether the n-th matching request meets the fault."""
        in_range = number >= self.first and (self.last is None or number <= self.last)
        return in_range and (number - self.first) % self.every == 0


@dataclass
class Rule:
    """A fault for some requests.

    Attributes:
        match: which ones.
        fault: what happens to them.
        name: for people and for `FaultProxy.held`.
        seen: how many requests of the kind came so far.
        played: how many met the fault.
    """

    match: Match
    fault: Fault
    name: str = ""
    seen: int = 0
    played: int = 0


@dataclass
class Script:
    """Rules in order: each counts the requests of its kind; the first one whose turn it is gives the fault."""

    rules: list[Rule] = field(default_factory=list)

    def add(self, match: Match, fault: Fault, name: str = "") -> Rule:
        """Adds a rule after the others."""
        rule = Rule(match, fault, name)
        self.rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Takes a rule out; requests that it holds stay held."""
        self.rules = [other for other in self.rules if other is not rule]

    def clear(self) -> None:
        """Takes all rules out."""
        self.rules = []

    def decide(self, request: Request) -> Rule | None:
        """The rule for a request, None if it meets no fault; to be asked once for each request, in order."""
        chosen: Rule | None = None
        for rule in self.rules:
            if not rule.match.fits(request):
                continue
            if isinstance(rule.fault, WATCH_FAULTS) and request.verb != "watch":
                continue
            rule.seen += 1
            if chosen is None and rule.match.takes(rule.seen):
                rule.played += 1
                chosen = rule
        return chosen


def status_document(
    code: int, reason: str = "", message: str = "", causes: Iterable[tuple[str, str]] = ()
) -> dict[str, Any]:
    """A Kubernetes Status of a failure."""
    document: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason or REASONS.get(code, "Unknown"),
        "code": code,
    }
    listed = [{"reason": kind, "message": words} for kind, words in causes]
    return {**document, "details": {"causes": listed}} if listed else document
