"""What went wrong, as the coordinator tells it: bounded in number and size, each thing once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from stowage_worker.messages import Evidence, Exited, Matched, RankProgress

PROCESS_EXITED = "ProcessExited"
SUPERVISOR_LOST = "SupervisorLost"
HANG = "Hang"
NON_FINITE = "NonFinite"
LOG_RULE = "LogRule"
START_TIMEOUT = "StartTimeout"
LEAVING = "Leaving"
"""Name of a `SupervisorLost` of a pod that was told to end: nobody's failure."""
FAILURES = frozenset({PROCESS_EXITED, SUPERVISOR_LOST, HANG, START_TIMEOUT})
"""With these an epoch cannot end well; what the others mean is for rules to say."""

MAX_EVIDENCE = 3000
"""Beyond it only seats that have told nothing yet are added."""
MAX_OF_SEAT = 16
MAX_WITH_TEXTS = 64
MAX_TEXT = 1000
_Key = tuple[str, str, int, str]


def of_exit(seat: str, message: Exited, wall: float) -> Evidence:
    """A process that ended other than with code 0."""
    return Evidence(
        PROCESS_EXITED,
        message.epoch,
        wall,
        seat=seat,
        rank=message.rank,
        code=message.code,
        signal=message.signal,
        error_type=message.error_type[:MAX_TEXT],
        error_message=message.error_message[:MAX_TEXT],
        error_hash=message.error_hash[:MAX_TEXT],
        step=message.step,
    )


def of_match(seat: str, message: Matched, wall: float) -> Evidence:
    """A line of output that a rule of the job names."""
    return Evidence(
        LOG_RULE,
        message.epoch,
        wall,
        seat=seat,
        rank=message.rank,
        name=message.rule[:MAX_TEXT],
        detail=message.line[:MAX_TEXT],
    )


def of_loss(seat: str, epoch: int, progress: tuple[RankProgress, ...], wall: float) -> Evidence | None:
    """A loss that is no finite number; None: all are."""
    for one in progress:
        if one.loss is not None and not math.isfinite(one.loss):
            return Evidence(
                NON_FINITE, epoch, wall, seat=seat, rank=one.rank, step=one.step, detail=f"the loss is {one.loss}"
            )
    return None


@dataclass(frozen=True)
class EvidenceLog:
    """What is known of one epoch, in the order in which it came; copied at each addition, so it may be shared."""

    entries: Mapping[_Key, Evidence] = field(default_factory=dict)
    of_seat: Mapping[str, int] = field(default_factory=dict)
    with_texts: int = 0
    has_failed: bool = False
    """Something is known with which the epoch cannot end well."""

    def added(self, one: Evidence) -> EvidenceLog:
        """With one more, unless it is known or its seat has told enough; what is known is never dropped."""
        key = (one.event, one.seat, one.rank, one.name)
        of_seat = self.of_seat.get(one.seat, 0)
        if key in self.entries or of_seat >= MAX_OF_SEAT or (of_seat and len(self.entries) >= MAX_EVIDENCE):
            return self
        if self.with_texts >= MAX_WITH_TEXTS and one.event in (PROCESS_EXITED, LOG_RULE):
            one = replace(one, error_message="", detail="")
        return EvidenceLog(
            {**self.entries, key: one},
            {**self.of_seat, one.seat: of_seat + 1},
            self.with_texts + bool(one.error_message or one.detail),
            self.has_failed or one.event in FAILURES,
        )

    def of_epoch(self, epoch: int) -> EvidenceLog:
        """Without what belongs to other epochs."""
        kept = EvidenceLog()
        for one in self.entries.values():
            if one.epoch == epoch:
                kept = kept.added(one)
        return kept

    def has(self, event: str, seat: str | None = None) -> bool:
        """Whether something of this kind is known, of a seat or of any."""
        return any(one.event == event and seat in (None, one.seat) for one in self.entries.values())
