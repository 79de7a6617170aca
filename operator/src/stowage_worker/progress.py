"""Reads what ranks told of their progress; anything may stand in those files."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Callable

from stowage_worker.messages import RankProgress
from stowage_worker.readings import read_some

MAX_FILE_BYTES = 16 << 10
_BOUND = 1 << 62


class ProgressReader:
    """Follows the progress files of one epoch on one node; time is an argument of each reading.

    Args:
        files: by rank.
        now: steady clock.
        wall: seconds since 1970, as files have it.

    Attributes:
        can_yield: whether a rank has asked `should_yield`, so that a request will be seen.
    """

    def __init__(self, files: dict[int, Path], now: float, wall: Callable[[], float] = time.time) -> None:  # noqa: TID251
        self._files = files
        self._wall = wall
        self._read_at = dict.fromkeys(files, now)
        self._last: dict[int, RankProgress] = {}
        self._changed_at = dict.fromkeys(files, now)
        self._ended: set[int] = set()
        self.can_yield = False

    def read(self, now: float) -> tuple[RankProgress, ...]:
        """What each rank told last, in order of ranks; those that told nothing have step -1.

        Ranks that have ended are left out while others run: nothing more is expected of them.
        """
        return tuple(self.of(rank, now) for rank in sorted(self._files.keys() - self._ended or self._files))

    def end(self, rank: int) -> None:
        """A rank's process has ended."""
        self._ended.add(rank)

    def of(self, rank: int, now: float) -> RankProgress:
        """What one rank told last."""
        document, told_at = _document(self._files[rank])
        before = self._last.get(rank, RankProgress(rank))
        if document is None:
            found = before
        else:
            found = _progress(rank, document)
            self.can_yield = self.can_yield or document.get("yields") is True
        if found.step != before.step or found.phase != before.phase:
            # it may have changed right after the last look; a wall clock that was set does no harm within that
            ago = self._wall() - told_at
            self._changed_at[rank] = now - min(max(ago, 0.0), max(now - self._read_at[rank], 0.0))
        self._read_at[rank] = now
        self._last[rank] = found
        return _with_age(found, max(0.0, now - self._changed_at[rank]))


def _with_age(progress: RankProgress, seconds: float) -> RankProgress:
    return RankProgress(**{**vars(progress), "since_step_seconds": round(seconds, 3)})


def _document(file: Path) -> tuple[dict[str, object] | None, float]:
    """The file's object and when it was written; None where there is none, or a shell is in the middle of writing."""
    try:
        text, at = read_some(file, MAX_FILE_BYTES + 1)
        document = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None, 0.0
    return (document if isinstance(document, dict) else None), at


def _progress(rank: int, document: dict[str, object]) -> RankProgress:
    return RankProgress(
        rank=rank,
        step=_whole(document.get("step"), -1),
        tokens=_whole(document.get("tokens"), 0),
        loss=_number(document.get("loss")),
        phase=_text(document.get("phase"), 40),
        step_seconds=_seconds(document.get("step_seconds")),
        wait_seconds=_seconds(document.get("wait_seconds")),
        checkpoint_step=_whole(document.get("checkpoint_step"), -1),
        checkpoint_uri=_text(document.get("checkpoint_uri"), 1000),
        checkpoint_seconds=_seconds(document.get("checkpoint_seconds")),
        asked_step=_whole(document.get("asked_step"), -1),
        request=_whole(document.get("request"), 0),
        is_late=document.get("late") is True,
    )


def _whole(value: object, default: int) -> int:
    number = _number(value)
    return int(number) if number is not None and -1 <= number < _BOUND else default


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _seconds(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and math.isfinite(number) and number >= 0 else None


def _text(value: object, limit: int) -> str:
    return value[:limit] if isinstance(value, str) else ""
