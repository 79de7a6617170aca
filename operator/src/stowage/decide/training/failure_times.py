"""When a failure happened and when it was first seen: the first two stages of its recovery."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from stowage.api.durations import instant, lasting
from stowage.api.training_job_status import LastFailure, RecoveryTimes, TrainingJobStatus
from stowage.api.training_words import Event
from stowage.decide.training.heard import Heard
from stowage.decide.training.repair_times import Repair, begun
from stowage_worker.evidence import SUPERVISOR_LOST

MOST_QUIET_SECONDS: Final = 7 * 86_400.0
"""Who says that nothing happened for longer has a clock that can not be trusted."""

_SEEN_AS_SILENCE: Final = frozenset({Event.NODE_LOST, Event.NODE_CONDITION, Event.NODE_TAINT, Event.CONTAINER_EXITED})
"""Failures whose first sign may be that a seat falls silent; who says why comes later."""


def timed(failure: LastFailure, heard: Iterable[Heard], rung_at: float | None, now: float) -> LastFailure:
    """A failure that was decided now, with the times of detection and decision as they were.

    A failure begins when its seat was last heard, or made its last step, where nothing tells it better; and it is seen
    when its evidence came in first, be it that the decision waited for another word.

    Args:
        failure: as it was written with the decision.
        heard: what the coordinator told, with the times at which the operator heard it.
        rung_at: when the cluster first told something that this decision is about; None: nothing.
        now: seconds since 1970.
    """
    ours = [one for one in heard if _is_about(one, failure)]
    failed_at = min([failure.at.timestamp(), *(one.at - min(one.quiet_seconds, MOST_QUIET_SECONDS) for one in ours)])
    seen_at = min([one.at for one in ours] or [rung_at if rung_at is not None else now])
    from_step = _from_step(failure)
    repair = begun(failed_at, max(failed_at, min(seen_at, now)), now, from_step)
    times = recovery_times(repair)
    return failure.model_copy(update={"at": instant(failed_at), "recovery": times, "from_step": from_step})


def is_cut_off(failure: LastFailure, status: TrainingJobStatus) -> bool:
    """Whether the job was paused or suspended since the decision: the start that comes then is no part of the recovery.

    Args:
        failure: with the stages of detection and decision.
        status: of the job, as it is now.
    """
    if status.active_since is None:
        return True
    spent = (failure.recovery.detect, failure.recovery.decide)
    decided_at = failure.at.timestamp() + sum(one.seconds for one in spent if one is not None)
    return decided_at < status.active_since.timestamp()


def recovery_times(repair: Repair) -> RecoveryTimes:
    """The stages that are over, to the millisecond."""
    return RecoveryTimes(**{stage: lasting(seconds) for stage, seconds in repair.stages.items()})


def _from_step(failure: LastFailure) -> int | None:
    """How far training was: signs of life are a second apart, and who failed says exactly how far it was itself."""
    told = [one.step for one in failure.evidence if one.event is failure.event and one.seat == failure.seat]
    return max((step for step in (failure.from_step, *told) if step is not None), default=None)


def _is_about(one: Heard, failure: LastFailure) -> bool:
    if failure.seat is not None and one.seat != failure.seat:
        return False
    if one.event == failure.event.value:
        return failure.rank is None or one.rank in {failure.rank, -1}
    return one.event == SUPERVISOR_LOST and failure.event in _SEEN_AS_SILENCE
