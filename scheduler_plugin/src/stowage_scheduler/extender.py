"""The edge to kube-scheduler: its HTTP extender protocol (KEP-1819) as an aiohttp app over a reservation table.

kube-scheduler asks once per pod, with the names of the nodes that passed its own filters. With no plan
running the names go back as the bytes they came in. Names of fields are Go's, without JSON tags
(`k8s.io/kube-scheduler/extender/v1`).

The scheduler must be told that we know nodes by name (`nodeCacheCapable: true`) and that it may go on
without us (`ignorable: true`): an answer that is not 200 then costs no pod its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from enum import StrEnum
from typing import Final, Protocol, TypeVar

import msgspec
from aiohttp import web

from stowage_scheduler.cluster import Pod
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import fact_of
from stowage_scheduler.kube.malformed import MalformedObject
from stowage_scheduler.reservations import FilterAnswer

MAX_BODY_BYTES: Final = 64 * 2**20
_LONGEST_ERROR: Final = 300
_NULL: Final = msgspec.Raw(b"null")
_NOT_CAPABLE: Final = "whole Node objects are not read: set nodeCacheCapable: true for this extender"
_AFTER_NAMES: Final = b',"FailedNodes":{},"FailedAndUnresolvableNodes":{},"Error":""}'


class Outcome(StrEnum):
    """What an answer was, for metrics."""

    ECHOED = "echoed"  # no plan is running
    ADMITTED = "admitted"  # a plan is running, and nothing offered was refused
    RESTRICTED = "restricted"  # nodes kept for a plan were refused
    LEASED = "leased"  # sent to the node of its slot
    HELD_BACK = "held_back"  # none of the offered nodes is for this pod now
    UNSTEERED = "unsteered"  # the facts are stale: everything is admitted
    MALFORMED = "malformed"  # not understood


class Steering(Protocol):
    """What the app asks: `stowage_scheduler.reservations.Reservations`."""

    @property
    def idle(self) -> bool:
        """Whether no plan is running."""

    def filter(self, pod: Pod, node_names: Sequence[str]) -> FilterAnswer:
        """Which of the nodes the pod may use."""

    def preempt(self, pod: Pod, candidates: Collection[str]) -> list[str]:
        """On which of the nodes the pod may preempt others."""


Answered = Callable[[str, Outcome, float], None]
"""Told of each answer: verb, outcome, seconds."""


class RequestError(ValueError):
    """A body that is not what kube-scheduler sends; the message is one line that names the field."""


class _FilterArguments(msgspec.Struct):
    pod: msgspec.Raw = msgspec.field(name="Pod")
    nodes: msgspec.Raw = msgspec.field(name="Nodes", default=_NULL)
    node_names: msgspec.Raw = msgspec.field(name="NodeNames", default=_NULL)


class _PreemptArguments(msgspec.Struct):
    pod: msgspec.Raw = msgspec.field(name="Pod")
    victims: msgspec.Raw = msgspec.field(name="NodeNameToVictims", default=_NULL)
    meta_victims: msgspec.Raw = msgspec.field(name="NodeNameToMetaVictims", default=_NULL)


class _FilterResult(msgspec.Struct):
    node_names: Sequence[str] = msgspec.field(name="NodeNames")
    refused: dict[str, str] = msgspec.field(name="FailedAndUnresolvableNodes", default_factory=dict)
    error: str = msgspec.field(name="Error", default="")
    nodes: None = msgspec.field(name="Nodes", default=None)
    failed_nodes: dict[str, str] = msgspec.field(name="FailedNodes", default_factory=dict)


class _PreemptResult(msgspec.Struct):
    meta_victims: dict[str, msgspec.Raw] = msgspec.field(name="NodeNameToMetaVictims")


_T = TypeVar("_T")
_filter_arguments = msgspec.json.Decoder(_FilterArguments)
_preempt_arguments = msgspec.json.Decoder(_PreemptArguments)
_names = msgspec.json.Decoder(list[str])
_victims_by_node = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


def make_app(
    reservations: Callable[[], Steering],
    *,
    fresh: Callable[[], bool],
    clock: Callable[[], float],
    answered: Answered | None = None,
    routes: Collection[web.RouteDef] = (),
) -> web.Application:
    """The app that kube-scheduler talks to.

    Args:
        reservations: the table of slots and leases; asked for on every request.
        fresh: whether the table follows the cluster. If not, everything is admitted: an extender that knows
            old plans only would do more harm than none.
        clock: seconds, to measure how long answers take.
        answered: told of every answer.
        routes: more routes of the same server, such as health and metrics.

    Returns:
        An app with POST /filter and POST /preempt. A body that makes no sense gets 400 and one line of text.
    """

    def verb(
        name: str, answer: Callable[[bytes, Steering | None], tuple[bytes, Outcome]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.Response:
            body = await request.read()
            started = clock()
            try:
                reply, outcome = answer(body, reservations() if fresh() else None)
                response = web.Response(body=reply, content_type="application/json")
            except RequestError as error:
                outcome = Outcome.MALFORMED
                response = web.Response(text=f"{name}: {error}\n", status=400)
            if answered is not None:
                answered(name, outcome, clock() - started)
            return response

        return handle

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.add_routes(
        [web.post("/filter", verb("filter", filter_body)), web.post("/preempt", verb("preempt", preempt_body))]
    )
    app.add_routes(routes)
    return app


def filter_body(body: bytes, steering: Steering | None) -> tuple[bytes, Outcome]:
    """Answer ExtenderArgs with ExtenderFilterResult; `steering` None admits everything.

    Raises:
        RequestError: the body is not what kube-scheduler sends.
    """
    arguments = _decode(_filter_arguments, body, "body")
    offered = bytes(arguments.node_names)
    if offered == b"null" and bytes(arguments.nodes) != b"null":
        # as an error inside a proper answer it reaches the scheduler's log; of other statuses only the number does
        return _encoder.encode(_FilterResult([], error=f"Nodes: {_NOT_CAPABLE}")), Outcome.MALFORMED
    if not offered.startswith(b"["):
        raise RequestError("NodeNames: must be a list of node names")
    if steering is None or steering.idle:
        return _echo(offered), Outcome.UNSTEERED if steering is None else Outcome.ECHOED
    names = _decode(_names, offered, "NodeNames")
    answer = steering.filter(_read_pod(arguments.pod), names)
    if answer.node_names is names:
        return _echo(offered), Outcome.ADMITTED
    return _encoder.encode(_FilterResult(answer.node_names, answer.refused)), _outcome(answer, names)


def preempt_body(body: bytes, steering: Steering | None) -> tuple[bytes, Outcome]:
    """Answer ExtenderPreemptionArgs with ExtenderPreemptionResult; `steering` None keeps all candidates.

    Raises:
        RequestError: the body is not what kube-scheduler sends.
    """
    arguments = _decode(_preempt_arguments, body, "body")
    offered = bytes(arguments.meta_victims)
    if offered == b"null":
        if bytes(arguments.victims) not in {b"null", b"{}"}:
            raise RequestError(f"NodeNameToVictims: {_NOT_CAPABLE}")
        offered = b"{}"
    candidates = _decode(_victims_by_node, offered, "NodeNameToMetaVictims")
    if steering is None or steering.idle:
        outcome = Outcome.UNSTEERED if steering is None else Outcome.ECHOED
        return _encoder.encode(_PreemptResult(candidates)), outcome
    kept = steering.preempt(_read_pod(arguments.pod), candidates)
    outcome = Outcome.ADMITTED if len(kept) == len(candidates) else Outcome.RESTRICTED
    return _encoder.encode(_PreemptResult({node: candidates[node] for node in kept})), outcome


def _echo(offered: bytes) -> bytes:
    """The answer that admits every node: the names go back as the bytes they came in."""
    return b'{"Nodes":null,"NodeNames":' + offered + _AFTER_NAMES


def _outcome(answer: FilterAnswer, offered: Sequence[str]) -> Outcome:
    if answer.lease is not None:
        return Outcome.LEASED
    if len(answer.node_names) == len(offered):
        return Outcome.ADMITTED
    return Outcome.RESTRICTED if answer.node_names else Outcome.HELD_BACK


def _read_pod(raw: msgspec.Raw) -> Pod:
    try:
        fact = fact_of(decode_object("Pod", raw))
    except MalformedObject as error:
        raise RequestError(f"Pod: {_one_line(error)}") from error
    if not isinstance(fact, Pod):
        raise TypeError(f"the fact of a pod is a {type(fact).__name__}")
    return fact


def _decode(decoder: msgspec.json.Decoder[_T], raw: bytes | msgspec.Raw, field: str) -> _T:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RequestError(f"{field}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:_LONGEST_ERROR]
