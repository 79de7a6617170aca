"""What it costs to move a pod, in restart seconds: the measure by which plans with the same pods placed compare.

Time until the replacement serves, work that is done again, and what others have to wait for a budget. Old pods cost
a little more than young ones, so that of equal moves the one that disturbs least is chosen. What nobody wrote down
comes in steps of 15 s: where many pods cost the same, the least cost is found and proven in a third of the time.
"""

from __future__ import annotations

from datetime import datetime

from stowage_scheduler.cluster import DisruptionBudget, Pod

COST_ANNOTATION = "stowage.dev/move-cost-seconds"  # says all of it
RESTART_ANNOTATION = "stowage.dev/restart-seconds"
CHECKPOINT_ANNOTATION = "stowage.dev/checkpointed-at"

_RESTART_SECONDS = 30  # when nobody says otherwise
_MOST_SECONDS = 9_999_999  # seven digits are 115 days
_STEP_SECONDS = 15
_OLDER_SECONDS = (3_600, 86_400)  # than each of these: a step more
_SCARCE = (1, 3)  # not more than so many disruptions left of a budget: a step more each, for those under it wait


def move_cost_seconds(pod: Pod, budgets: tuple[DisruptionBudget, ...], now: float) -> int:
    """The cost of one move, at least 1, or plans would shuffle pods for nothing.

    Args:
        pod: it runs or waits; one that waits costs what its replicas would.
        budgets: the PodDisruptionBudgets that cover it.
        now: seconds since the epoch.
    """
    told = _seconds(pod, COST_ANNOTATION)
    if told is not None:
        return max(1, told)
    restart = _seconds(pod, RESTART_ANNOTATION)
    cost = _RESTART_SECONDS if restart is None else restart
    if pod.node is not None:
        age = max(0.0, now - runs_since(pod))
        cost += -(-_lost_work_seconds(pod, age, now) // _STEP_SECONDS) * _STEP_SECONDS
        cost += sum(age >= older for older in _OLDER_SECONDS) * _STEP_SECONDS
    cost += sum(budget.disruptions_allowed <= few for budget in budgets for few in _SCARCE) * _STEP_SECONDS
    return max(1, min(_MOST_SECONDS, cost))


def runs_since(pod: Pod) -> float:
    """When a running pod was bound, or created where nobody says; seconds since the epoch."""
    return pod.bound_at if pod.bound_at is not None else pod.created_at


def _lost_work_seconds(pod: Pod, age: float, now: float) -> int:
    """Work since the last checkpoint; a pod of a batch Job without any does all of it again."""
    saved = _time(pod.annotations.get(CHECKPOINT_ANNOTATION, ""))
    if saved is not None:
        return int(max(0.0, min(age, now - saved)))
    return int(age) if pod.owner is not None and pod.owner.kind == "Job" else 0


def _seconds(pod: Pod, annotation: str) -> int | None:
    text = pod.annotations.get(annotation, "")
    return min(_MOST_SECONDS, int(text[:8])) if text.isascii() and text.isdigit() else None


def _time(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None for anything else."""
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.timestamp() if time.tzinfo is not None else None
