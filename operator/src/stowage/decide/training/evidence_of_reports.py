"""Evidence in what a coordinator reports: exits, silence, hangs, losses that are no numbers, lines of output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from stowage.api.training_words import Event
from stowage.decide.training.facts import Evidence
from stowage.decide.training.heard import Heard
from stowage_worker import messages
from stowage_worker.evidence import LEAVING, SUPERVISOR_LOST

COORDINATOR: Final = "coordinator"

_EVENTS: Final[Mapping[str, Event]] = {str(event): event for event in Event} | {"LogRule": Event.LOG}


def evidence_of_report(report: messages.Report, heard: Iterable[Heard] = ()) -> tuple[Evidence, ...]:
    """What a coordinator saw in its epoch. Words that a newer coordinator may use and this one does not are left out.

    Times are of the coordinator's clock, but never later than when it was `heard`: what is waited for would else last
    as much longer as that clock is ahead. Numbers below zero stand for nothing and become None.
    """
    first = {(one.event, one.seat, one.rank): one.at for one in heard}
    return tuple(_evidence(report, first))


def _evidence(report: messages.Report, first: Mapping[tuple[str, str, int], float]) -> Iterator[Evidence]:
    pods = {seat.seat: seat.pod for seat in report.seats}
    nodes = {seat.seat: seat.node for seat in report.seats}
    for one in report.evidence:
        event = _event(one)
        if event is None:
            continue
        yield Evidence(
            event=event,
            at=min(one.at, first.get((one.event, one.seat, one.rank), one.at)),
            source=COORDINATOR,
            seat=one.seat or None,
            node=nodes.get(one.seat) or None,
            rank=one.rank if one.rank >= 0 else None,
            epoch=one.epoch,
            code=one.code,
            signal=one.signal,
            error_type=one.error_type,
            error_message=one.error_message,
            error_hash=one.error_hash,
            step=one.step if one.step >= 0 else None,
            name=one.name,
            detail=one.detail,
            pod=pods.get(one.seat) if event is not Event.SUPERVISOR_LOST else None,
        )


def _event(one: messages.Evidence) -> Event | None:
    """What a word of the coordinator stands for; who is gone because its pod was told to end has not failed."""
    if (one.event, one.name) == (SUPERVISOR_LOST, LEAVING):
        return Event.DISRUPTION
    return _EVENTS.get(one.event)
