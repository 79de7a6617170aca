"""Sentences that say what was seen, what is done about it, and what people can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from stowage.api.training_words import Action
from stowage.decide.training.facts import Budget, Evidence
from stowage.decide.training.recovery_reasons import RecoveryReason

MAX_MESSAGE: Final = 1024
_MAX_ERROR: Final = 300
_MAX_NAMES: Final = 5

_DONE: Final[Mapping[Action, str]] = {
    Action.IGNORE: "nothing is done",
    Action.RESTART_PROCESSES: "the processes start again",
    Action.RESTART_CONTAINER: "the container starts again",
    Action.REPLACE_NODE: "another node takes the place",
    Action.SHRINK: "the job goes on smaller",
    Action.PAUSE: "the job is paused until somebody looks",
    Action.FAIL: "the job fails",
}
_WITHOUT_EVIDENCE: Final[Mapping[RecoveryReason, str]] = {
    RecoveryReason.NOTHING_RUNS: "The job runs nothing that could be put right.",
    RecoveryReason.NOTHING_NEW: "Nothing was seen that is not answered yet.",
}


def sentence(
    reason: RecoveryReason,
    evidence: Evidence | None,
    *,
    action: Action = Action.IGNORE,
    rule: str = "",
    budget: Budget | None = None,
    size: int | None = None,
    spares: Sequence[str] = (),
    stuck: Sequence[str] = (),
    again_at: float | None = None,
) -> str:
    """One message for status and events, at most `MAX_MESSAGE` characters."""
    if evidence is None:
        return _WITHOUT_EVIDENCE.get(reason, "")
    parts = [f"{seen(evidence)}: {_DONE[action]}{_why(reason, budget)}."]
    if _lacks_python(evidence):
        parts.append("The image has to have Python 3.9 or newer as python3 on PATH, for the supervisor.")
    if rule:
        parts.append(f"The rule says: {rule}.")
    if again_at is not None:
        parts.append(f"It is looked at again {max(0.0, again_at - evidence.at):.0f} s after it was seen.")
    if size is not None:
        parts.append(f"The new size is {size} nodes.")
    if spares:
        parts.append(f"Spares that take over: {_names(spares)}.")
    if stuck:
        parts.append(
            f"Pods of {_names(stuck)} stay Terminating on dead nodes, and their seats are filled without them: their "
            "volumes may be attached there. They go when the node is back, when an admin who knows it to be off gives "
            "it the taint node.kubernetes.io/out-of-service, or with spec.recovery.forceDelete."
        )
    return " ".join(parts)[:MAX_MESSAGE]


def seen(one: Evidence) -> str:
    """What happened where, with the error's own words."""
    where = [f"rank {one.rank}"] if one.rank is not None and one.rank >= 0 else []
    where += [f"seat {one.seat}"] if one.seat else []
    where += [f"node {one.node}"] if one.node else []
    what = f"{one.event} {one.name}" if one.name else str(one.event)
    how = [f"code {one.code}"] if one.code is not None else []
    how += [f"signal {one.signal}"] if one.signal is not None else []
    how += [f"step {one.step}"] if one.step is not None and one.step >= 0 else []
    error = ": ".join(part for part in (one.error_type, one.error_message or one.detail) if part)
    text = what + (f" on {', '.join(where)}" if where else "") + (f" ({', '.join(how)})" if how else "")
    return text + (f", {error[:_MAX_ERROR]}" if error else "")


def _lacks_python(one: Evidence) -> bool:
    """Whether a container did not start for want of what starts the supervisor in it."""
    return "StartError" in one.name and '"python3"' in one.detail


def _why(reason: RecoveryReason, budget: Budget | None) -> str:
    match reason:
        case RecoveryReason.USER_ERROR:
            return ", for the same error came at the same step before"
        case RecoveryReason.ESCALATED:
            return ", for less does not help"
        case RecoveryReason.BUDGET_EXHAUSTED if budget is not None:
            return f", for {budget.restarts} restarts within {budget.window_seconds:.0f} s are used up"
        case RecoveryReason.NO_SMALLER_SIZE:
            return ", for no smaller size is allowed"
        case RecoveryReason.WAITS_FOR_CAUSE:
            return " yet, for the cluster may say why"
        case RecoveryReason.SPARE_LOST:
            return " but for a new spare"
        case _:
            return ""


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more
