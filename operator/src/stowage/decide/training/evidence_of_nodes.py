"""Evidence in the nodes that a job stands on: not ready, gone, with conditions or taints that say why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from stowage.api.training_words import Event
from stowage.decide.training.facts import Evidence, JobFacts
from stowage_scheduler.cluster import Effect, Node

NODE: Final = "node"
GONE: Final = "Gone"
READY: Final = "Ready"
OUT_OF_SERVICE: Final = "node.kubernetes.io/out-of-service"
"""An admin's word that the node is off: pods and volumes may be taken from it (KEP-2268)."""

_KUBERNETES_PREFIX: Final = "node.kubernetes.io/"
_OWN_PREFIX: Final = "stowage.dev/"
"""Taints that keep new pods away; who runs there may stay."""


def evidence_of_nodes(job: JobFacts, nodes: Mapping[str, Node], now: float) -> tuple[Evidence, ...]:
    """What the nodes of the job's seats say, by name in `nodes`; others are not looked at.

    Taints carry no time: one is as old as the youngest seat there, so that it is answered once for each.
    """
    used = sorted({seat.node for seat in job.seats if seat.node is not None and not seat.finished})
    return tuple(one for name in used for one in _of_node(job, name, nodes.get(name), now))


def _of_node(job: JobFacts, name: str, node: Node | None, now: float) -> Iterator[Evidence]:
    if node is None:
        yield Evidence(Event.NODE_LOST, now, NODE, node=name, name=GONE)
        return
    for one in node.conditions:
        event = Event.NODE_LOST if one.type == READY else Event.NODE_CONDITION
        words = ": ".join(part for part in (one.reason, one.message) if part)
        yield Evidence(event, one.since or 0.0, NODE, node=name, name=one.type, detail=words)
    starts = [seat.started_at for seat in job.seats if seat.node == name and seat.started_at is not None]
    since = max(starts, default=job.epoch_at)
    for taint in node.taints:
        if taint.key == OUT_OF_SERVICE:
            yield Evidence(Event.NODE_LOST, since, NODE, node=name, name=taint.key)
        elif taint.effect is not Effect.PREFER_NO_SCHEDULE and not taint.key.startswith(
            (_KUBERNETES_PREFIX, _OWN_PREFIX)
        ):
            yield Evidence(Event.NODE_TAINT, since, NODE, node=name, name=taint.key, detail=taint.value)
