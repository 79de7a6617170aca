"""From evidence to causes: what explains what, so that one failure is answered once.

A lost node explains the supervisors, containers and ranks on it; a lost seat explains why the ranks of others ended;
among ranks that ended together the first that did not merely lose its peers is the cause.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from stowage.api.training_words import Action, Domain, Event
from stowage.decide.training.facts import Evidence, JobFacts
from stowage.decide.training.failure_domain import domain_of, is_blameless, is_consequence
from stowage.decide.training.rules import Match, matched

_OF_NODES: Final = (Event.NODE_LOST, Event.DEVICE_UNHEALTHY, Event.NODE_CONDITION, Event.NODE_TAINT)
_OF_SEATS: Final = (
    Event.DISRUPTION,
    Event.POD_DELETED,
    Event.IMAGE_UNAVAILABLE,
    Event.OUT_OF_MEMORY,
    Event.CONTAINER_EXITED,
    Event.SUPERVISOR_LOST,
)
OF_RANKS: Final = (
    Event.PROCESS_EXITED,
    Event.NON_FINITE,
    Event.LOG,
    Event.PROMQL,
    Event.HANG,
    Event.START_TIMEOUT,
    Event.COORDINATOR_LOST,
)
_STRENGTH: Final = {event: rank for group in (_OF_NODES, _OF_SEATS, OF_RANKS) for rank, event in enumerate(group)}
"""Within its group, the lower explains the higher."""


class Cause(Struct, frozen=True):
    """One thing that went wrong: the evidence that tells it best, its rule, and the seats that it hit.

    `node` is set where the node itself is the cause. `by_user`: a rule of the job matched.
    """

    evidence: Evidence
    action: Action
    domain: Domain
    seats: tuple[str, ...] = ()
    node: str | None = None
    by_user: bool = False
    message: str = ""
    blameless: bool = False


def causes_of(job: JobFacts, evidence: Iterable[Evidence]) -> tuple[Cause, ...]:
    """The causes behind fresh evidence, nodes first; evidence that rules ignore makes none.

    Evidence that a rule of the job names is never explained away by that of other seats; spares explain nothing, for
    nobody needs them to run.
    """
    told = [(one, matched(one, job.rules)) for one in evidence]
    telling = [(one, match) for one, match in told if match.rule.action is not Action.IGNORE]
    by_node: dict[str, list[tuple[Evidence, Match]]] = {}
    by_seat: dict[str, list[tuple[Evidence, Match]]] = {}
    ranks: list[tuple[Evidence, Match]] = []
    for one, match in telling:
        if one.event in _OF_NODES and one.node is not None:
            by_node.setdefault(one.node, []).append((one, match))
        elif one.event in _OF_NODES or (one.event in _OF_SEATS and one.seat is not None):
            by_seat.setdefault(one.seat or "", []).append((one, match))
        else:
            ranks.append((one, match))
    causes = [_cause(job, group, node=node) for node, group in sorted(by_node.items())]
    covered = {seat for cause in causes for seat in cause.seats}
    causes += [_cause(job, group) for seat, group in sorted(by_seat.items()) if seat not in covered]
    covered |= set(by_seat)
    spares = {seat.seat for seat in job.seats if seat.spare}
    explained = any(set(cause.seats) - spares for cause in causes)
    left = [(one, m) for one, m in ranks if not explained or (m.number is not None and one.seat not in covered)]
    return (*causes, _cause(job, left)) if left else tuple(causes)


def _cause(job: JobFacts, group: list[tuple[Evidence, Match]], *, node: str | None = None) -> Cause:
    one, match = min(group, key=_telling_first)
    if node is not None:
        seats = tuple(seat.seat for seat in job.seats if seat.node == node and not seat.finished)
    else:
        seats = (one.seat,) if one.seat is not None else ()
    return Cause(
        evidence=one,
        action=match.rule.action,
        domain=domain_of(one),
        seats=seats,
        node=node,
        by_user=match.number is not None,
        message=match.rule.message,
        blameless=is_blameless(one),
    )


def _telling_first(pair: tuple[Evidence, Match]) -> tuple[object, ...]:
    one, match = pair
    return (
        match.number is None,
        match.number or 0,
        is_consequence(one),
        _STRENGTH[one.event],
        one.at,
        one.seat or "",
        -1 if one.rank is None else one.rank,
        one.event,
    )
