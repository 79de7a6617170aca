"""Spans of time for people."""

from __future__ import annotations

from typing import Final

from stowage.api.training_job_status import RecoveryTimes
from stowage.decide.training.repair_times import STAGES

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400


def span(seconds: float) -> str:
    """Two units at most: `38 ms`, `1.2 s`, `45 s`, `2 min 5 s`, `3 h 10 min`, `2 d 4 h`."""
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{round(seconds * 1000)} ms" if seconds else "0 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, part, part_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // part
            return f"{whole // unit} {name}" + (f" {rest} {part_name}" if rest else "")
    return f"{whole} s"


def stages(times: RecoveryTimes) -> dict[str, float]:
    """Seconds of the stages that are over, by name, in their order."""
    known = ((stage, getattr(times, stage)) for stage in STAGES)
    return {stage: duration.seconds for stage, duration in known if duration is not None}


def stage_words(times: RecoveryTimes) -> str:
    """`detect 200 ms, decide 38 ms, schedule 3.1 s`: of those that are over."""
    return ", ".join(f"{stage} {span(seconds)}" for stage, seconds in stages(times).items())
