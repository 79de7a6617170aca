"""Nodes that the pods of a job keep away from: for a day, a bounded share, and never at the price of long waiting.

A node that failed a moment ago is the worst of choices, but a job that has no other one is better off on it: nodes
come back, and where as many nodes are as the job has seats it would wait for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stowage.api.durations import instant
from stowage.api.training_job_status import MAX_AVOIDED, AvoidedNode, TrainingJobStatus
from stowage.decide.training.facts import Decision
from stowage.decide.training.node_memory import MEMORY_SECONDS, largest_share
from stowage.decide.training.seats import fresh_attempt, members_of
from stowage.decide.training.spares import vacated
from stowage_scheduler.cluster import Node, Pod

WAIT_SECONDS: Final = 60.0
"""A pod that has found no node for so long may use those that were kept away from."""

RECENT_SECONDS: Final = 300.0
"""So long after its failure a node is not forgotten for others, however small the cluster is."""


def avoided(
    before: tuple[AvoidedNode, ...], decision: Decision, nodes: Mapping[str, Node], now: float
) -> tuple[AvoidedNode, ...]:
    """What is kept away from after a decision, oldest first: at most the bounded share of the cluster's nodes.

    Those of the last minutes count all: Kubernetes may not know yet that they are dead, and binds pods to them.
    """
    at = instant(now)
    fresh = [
        AvoidedNode(node=node, at=at, reason=why, cordon=node in decision.cordon)
        for node, why in sorted(decision.avoid.items())
    ]
    kept = [
        one
        for one in before
        if one.node not in decision.avoid and one.node in nodes and one.at.timestamp() > now - MEMORY_SECONDS
    ]
    recent = sum(one.at.timestamp() > now - RECENT_SECONDS for one in kept)
    most = min(MAX_AVOIDED, max(recent + len(fresh), largest_share(len(nodes))))
    return tuple([*kept, *fresh][-most:]) if most else ()


def relieved(
    status: TrainingJobStatus, current: Mapping[str, Pod], now: float
) -> tuple[TrainingJobStatus, float | None]:
    """The status where nobody waits for long only because of nodes that are kept away from, and when to look again.

    Pods cannot be told that they may use a node after all, so those that wait are made anew. What nobody may use is
    kept out by its taint, which this does not touch.
    """
    if not any(not one.cordon for one in status.avoided_nodes):
        return status, None
    waits = [seat for seat in members_of(status.seats) if seat.node is None]
    since = [current[seat.seat].created_at for seat in waits if seat.seat in current]
    if not since:
        return status, None
    until = min(since) + WAIT_SECONDS
    if now < until:
        return status, until
    attempt = fresh_attempt(status, current.values())
    anew = {seat.seat for seat in waits}
    seats = tuple(vacated(seat, attempt) if seat.seat in anew else seat for seat in status.seats)
    left = tuple(one for one in status.avoided_nodes if one.cordon)
    return status.model_copy(update={"seats": seats, "avoided_nodes": left}), None
