"""What of a coordinator's report can be true: the rest is left out before anybody decides by it.

A coordinator runs in its user's namespace, and whoever reads the job's Secret can speak for it. So its numbers may be
beyond what a status can hold, its clock may stand in 1970, and its lists may be as long as a line allows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, TypeVar

from stowage.api.fields import MAX_COUNT, MAX_INT32
from stowage.api.names import MAX_JOB_NODES
from stowage_worker.evidence import FAILURES, LOG_RULE, MAX_EVIDENCE, NON_FINITE
from stowage_worker.messages import Evidence, MessageError, Progress, Report, SeatState, Straggling

MOST_SEATS: Final = 2 * MAX_JOB_NODES
MOST_EVIDENCE: Final = MAX_EVIDENCE + MOST_SEATS
"""As many as a coordinator keeps."""
MOST_STRAGGLERS: Final = 64
CLOCK_OFF_SECONDS: Final = 86_400.0
"""A clock that is further off says nothing about when things happened: then they happened when they were heard."""
LONGEST_SECONDS: Final = 1e9
_LONGEST_RUN_SECONDS: Final = 10 * 366 * 86_400.0
_WORD: Final = 64
_NAME: Final = 256
_TEXT: Final = 1024
_MOST_SIGNAL: Final = 128
_LEAST_CODE: Final = -(2**31)
_MOST_CODE: Final = 2**32 - 1

_NODE: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_EVENTS: Final = FAILURES | {NON_FINITE, LOG_RULE}
"""What a coordinator can see. Of nodes and devices it knows nothing: such a word would taint a node for everybody."""

_Kept = TypeVar("_Kept")


def sound(report: Report, now: float) -> Report:
    """The report with what can be true; one that is sound comes back as it is.

    Args:
        report: as it was received.
        now: seconds since 1970.

    Raises:
        MessageError: epoch or attempt are no numbers that anybody has counted to.
    """
    if not (0 <= report.epoch <= MAX_INT32 and 0 <= report.attempt <= MAX_INT32):
        raise MessageError("an epoch or attempt that nobody has counted to")
    return _changed(
        report,
        phase=plain(report.phase, _WORD),
        seats=_each(report.seats[:MOST_SEATS], map(_seat, report.seats)),
        evidence=_each(report.evidence[:MOST_EVIDENCE], _evidence(report.evidence, now)),
        progress=_progress(report.progress, now),
        stragglers=_each(report.stragglers[:MOST_STRAGGLERS], map(_straggling, report.stragglers)),
        started_at=_at(report.started_at, now, _LONGEST_RUN_SECONDS),
        first_step_at=_at(report.first_step_at, now, _LONGEST_RUN_SECONDS),
    )


def plain(text: str, most: int) -> str:
    """At most so many characters, none of which moves a cursor, ends a line or hides others."""
    cut = text[:most]
    return cut if cut.isprintable() else "".join(one if one.isprintable() else " " for one in cut)


def _each(found: tuple[_Kept, ...], sounder: Iterable[_Kept]) -> tuple[_Kept, ...]:
    """Of each the sound one; the tuple itself where all are, so that equal reports stay cheap to compare."""
    kept = tuple(one for _, one in zip(found, sounder, strict=False))
    return found if len(kept) == len(found) and all(a is b for a, b in zip(kept, found, strict=True)) else kept


def _seat(one: SeatState) -> SeatState:
    return _changed(
        one,
        seat=plain(one.seat, _WORD),
        pod=plain(one.pod, _WORD),
        state=plain(one.state, _WORD),
        address=plain(one.address, _NAME),
        node=one.node if len(one.node) < _NAME and _NODE.fullmatch(one.node) else "",
        silent_seconds=_seconds(one.silent_seconds) or 0.0,
    )


def _evidence(found: Iterable[Evidence], now: float) -> Iterator[Evidence]:
    for one in found:
        at = one.at if math.isfinite(one.at) and abs(one.at - now) <= CLOCK_OFF_SECONDS else now
        yield _changed(
            one,
            event=one.event if one.event in _EVENTS else "",
            at=at,
            seat=plain(one.seat, _WORD),
            rank=one.rank if -1 <= one.rank <= MAX_INT32 else -1,
            code=one.code if one.code is None or _LEAST_CODE <= one.code <= _MOST_CODE else None,
            signal=one.signal if one.signal is None or 0 <= one.signal <= _MOST_SIGNAL else None,
            error_type=plain(one.error_type, _NAME),
            error_message=plain(one.error_message, _TEXT),
            error_hash=one.error_hash[:_WORD] if one.error_hash[:_WORD].isalnum() and one.error_hash.isascii() else "",
            step=_step(one.step),
            detail=plain(one.detail, _TEXT),
            name=plain(one.name, _NAME),
        )


def _progress(one: Progress, now: float) -> Progress:
    return _changed(
        one,
        step=_step(one.step),
        tokens=one.tokens if 0 <= one.tokens <= MAX_COUNT else 0,
        step_seconds=_seconds(one.step_seconds),
        phase=plain(one.phase, _WORD),
        since_step_seconds=_seconds(one.since_step_seconds) or 0.0,
        checkpoint_step=_step(one.checkpoint_step),
        checkpoint_uri=plain(one.checkpoint_uri, _TEXT),
        checkpoint_seconds=_seconds(one.checkpoint_seconds),
        checkpoint_at=_at(one.checkpoint_at, now, _LONGEST_RUN_SECONDS),
    )


def _straggling(one: Straggling) -> Straggling:
    rank = one.rank if -1 <= one.rank <= MAX_INT32 else -1
    return _changed(one, rank=rank, seat=plain(one.seat, _WORD))


def _step(step: int) -> int:
    return step if -1 <= step <= MAX_COUNT else -1


def _seconds(seconds: float | None) -> float | None:
    """A span of time; None where it is none."""
    return seconds if seconds is not None and math.isfinite(seconds) and 0 <= seconds <= LONGEST_SECONDS else None


def _at(at: float | None, now: float, longest_ago_seconds: float) -> float | None:
    """A moment of the past, or of now by a clock that is a little off; None where it is none."""
    if at is None or not math.isfinite(at) or not now - longest_ago_seconds <= at <= now + CLOCK_OFF_SECONDS:
        return None
    return at


def _changed(value: _Kept, **fields: object) -> _Kept:
    """The value with these fields; itself where they are as they were."""
    if all(getattr(value, name) is field or getattr(value, name) == field for name, field in fields.items()):
        return value
    return replace(value, **fields)  # type: ignore[type-var]
