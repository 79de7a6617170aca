"""Where the time of one recovery goes: detect, decide, schedule, start, restore, recompute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct, structs

from stowage_worker.messages import Progress

STAGES: Final = ("detect", "decide", "schedule", "start", "restore", "recompute")
"""In their order; each begins where the one before ended."""


class Repair(Struct, frozen=True):
    """One recovery under way: when it failed, how far training was, and the seconds of the stages that are over."""

    failed_at: float
    from_step: int | None = None
    spent_seconds: tuple[float, ...] = ()

    @property
    def stages(self) -> Mapping[str, float]:
        """Seconds by stage, of those that are over."""
        return dict(zip(STAGES, self.spent_seconds, strict=False))

    @property
    def over(self) -> bool:
        """Whether training is as far as it was."""
        return len(self.spent_seconds) == len(STAGES)


def begun(failed_at: float, seen_at: float, decided_at: float, from_step: int | None) -> Repair:
    """A recovery that was just decided; clocks of others that are ahead count as no time."""
    detect = max(0.0, seen_at - failed_at)
    return Repair(failed_at, from_step, (detect, max(0.0, decided_at - failed_at - detect)))


def went_on(
    repair: Repair,
    *,
    now: float,
    placed: bool,
    started_at: float | None = None,
    first_step_at: float | None = None,
    step: int | None = None,
    caught_up_at: float | None = None,
) -> Repair:
    """The recovery after one more look: each stage that is over gets its time, in order.

    Args:
        repair: as it was.
        now: seconds since 1970; the end of a stage whose own time nobody told.
        placed: whether every pod of the new epoch has a node.
        started_at: when every rank of it was started, if it was.
        first_step_at: when its first step was done, if it was.
        step: the last step that all ranks have done; with None nobody knows what was lost, and nothing is added.
        caught_up_at: when training was as far as before, if that is known better than by this look.
    """
    stepped = first_step_at is not None
    caught_up = stepped and (repair.from_step is None or step is None or step >= repair.from_step)
    ends = (
        ("schedule", started_at if started_at is not None else now if placed else None),
        ("start", started_at),
        ("restore", first_step_at),
        ("recompute", (now if caught_up_at is None else caught_up_at) if caught_up else None),
    )
    spent = list(repair.spent_seconds)
    for stage, end in ends:
        if STAGES.index(stage) < len(spent):
            continue
        if end is None:
            break
        spent.append(max(0.0, min(end, now) - repair.failed_at - sum(spent)))
    return structs.replace(repair, spent_seconds=tuple(spent))


def reached_at(progress: Progress, from_step: int | None, now: float) -> float | None:
    """When training came back to a step, from the length of the steps that followed; None: that cannot be told.

    Args:
        progress: as the coordinator told it last.
        from_step: to come back to.
        now: seconds since 1970, when that was told.
    """
    if from_step is None or progress.step < from_step or progress.step_seconds is None:
        return None
    return now - progress.since_step_seconds - (progress.step - from_step) * progress.step_seconds
