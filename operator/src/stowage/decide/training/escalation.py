"""What failed escalates, within a budget: both are read from the recoveries that the job's status remembers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from stowage.api.training_words import Action, Domain, Event
from stowage.decide.training.causes import Cause
from stowage.decide.training.facts import Budget, History, JobFacts, Recovery
from stowage.decide.training.failure_domain import is_consequence

LADDER: Final = (
    Action.IGNORE,
    Action.RESTART_PROCESSES,
    Action.RESTART_CONTAINER,
    Action.REPLACE_NODE,
    Action.SHRINK,
    Action.PAUSE,
    Action.FAIL,
)
"""By rising cost."""

TRIES: Final[Mapping[Action, int]] = {
    Action.RESTART_PROCESSES: 2,
    Action.RESTART_CONTAINER: 1,
    Action.REPLACE_NODE: 2,
    Action.SHRINK: 1,
}
"""How often an action may be taken at the same place within a window before the next one is."""

MAX_REMEMBERED: Final = 50
"""Recoveries in a status, and so the most restarts that a budget can tell apart from any number."""
MAX_PER_DECISION: Final = 8

TOLD_LATE_SECONDS: Final = 300.0
"""So long Kubernetes may take to tell that a node is lost, by its settings: 40 to 50 s by default."""

_OF_PLACES: Final = frozenset(
    {
        Event.NODE_LOST,
        Event.NODE_CONDITION,
        Event.NODE_TAINT,
        Event.DEVICE_UNHEALTHY,
        Event.POD_DELETED,
        Event.SUPERVISOR_LOST,
        Event.IMAGE_UNAVAILABLE,
    }
)


def costs_more(action: Action, other: Action) -> bool:
    """Whether `action` stands above `other`."""
    return LADDER.index(action) > LADDER.index(other)


def escalated(cause: Cause, job: JobFacts, history: History, now: float) -> Action:
    """The action for a cause after what was tried at its place within the budget's window.

    Never less than what was tried there last. A failure of the workload never costs a node: another one would not
    help. A disruption is nobody's failure and does not escalate; nor do rules that say `Pause` or `Fail`.
    """
    if cause.blameless or cause.action not in TRIES:
        return cause.action
    tried = [one.action for one in _tried_here(cause, job, history, now)]
    if cause.domain is Domain.WORKLOAD:
        return _of_workload(cause.action, tried)
    action = max((cause.action, *tried), key=LADDER.index)
    while tried.count(action) >= TRIES.get(action, len(tried) + 1):
        action = LADDER[LADDER.index(action) + 1]
    return action


def _of_workload(action: Action, tried: list[Action]) -> Action:
    """Up to a new container, where it stays until the budget is used up; a rule that costs a node fails after that."""
    if costs_more(action, Action.RESTART_CONTAINER):
        return Action.FAIL if tried.count(action) >= TRIES[action] else action
    exhausted = tried.count(Action.RESTART_PROCESSES) >= TRIES[Action.RESTART_PROCESSES]
    return Action.RESTART_CONTAINER if exhausted or Action.RESTART_CONTAINER in tried else action


def _tried_here(cause: Cause, job: JobFacts, history: History, now: float) -> Iterable[Recovery]:
    """What was tried for the same kind of failure, of the same seat or node, once for each decision.

    That nodes fail is no fault of the seat that stands on them: such failures count where they were, and a seat that
    loses one node after the other is bounded by the budget alone.
    """
    since = now - job.budget.window_seconds
    kind = cause.evidence.event in _OF_PLACES
    here = cause.node or cause.evidence.node
    found = {}
    for past in _since_pause(history.recoveries):
        place = past.node == cause.node if cause.node is not None else past.seat == cause.evidence.seat
        also = cause.node is not None and past.seat is not None and past.seat in cause.seats
        alike = (past.event in _OF_PLACES) is kind and past.event is not Event.DISRUPTION
        of_node = kind and Domain.INFRASTRUCTURE in {past.domain, cause.domain}
        if of_node and here is not None:
            place, also = past.node == here and not _is_told_again(cause, past), False
        if past.at > since and alike and (place or also) and past.action in TRIES:
            found[past.epoch] = past
    return found.values()


def _is_told_again(cause: Cause, past: Recovery) -> bool:
    """Whether Kubernetes tells only now of the loss of a node that its supervisor's silence had told of."""
    one = cause.evidence
    return (past.event, one.event) == (Event.SUPERVISOR_LOST, Event.NODE_LOST) and one.at - past.at < TOLD_LATE_SECONDS


def is_spent(recoveries: Iterable[Recovery], budget: Budget, now: float) -> bool:
    """Whether the window that ends at `now` has no restart left; disruptions do not count."""
    return starts_used(recoveries, budget, now) >= allowed_starts(budget)


def starts_used(recoveries: Iterable[Recovery], budget: Budget, now: float) -> int:
    """Starts that count in the window that ends at `now`."""
    since = now - budget.window_seconds
    counted = (one for one in _since_pause(recoveries) if one.action in TRIES and not one.blameless)
    return len({one.epoch for one in counted if one.at > since})


def _since_pause(recoveries: Iterable[Recovery]) -> tuple[Recovery, ...]:
    """What came after the last pause: somebody has looked at what was before, and let the job go on."""
    known = tuple(recoveries)
    paused = (number for number, one in enumerate(known) if one.action is Action.PAUSE)
    return known[max(paused, default=-1) + 1 :]


def allowed_starts(budget: Budget) -> int:
    """Of a budget, in its window: no more than a status remembers."""
    return min(budget.restarts, MAX_REMEMBERED)


def is_repeated_user_error(cause: Cause, history: History, since: float, resumed_from: int | None = None) -> bool:
    """Whether the same exception, or a loss that is no number, came at the same step before: the program's fault.

    A rule of the job that matched knows better. Errors of processes that lost their peers say nothing. Where no step
    is told only errors within the budget's window count: any two of one kind in a job's life would be alike.

    Args:
        cause: of the failure.
        history: what went before.
        since: when the budget's window began.
        resumed_from: the step of the checkpoint that the job went on from, where it counts for a rank that told none.
    """
    one = cause.evidence
    told = one.event is Event.NON_FINITE or (one.event is Event.PROCESS_EXITED and bool(one.error_hash))
    if cause.by_user or not told or cause.domain is Domain.INFRASTRUCTURE or is_consequence(one):
        return False
    return any(
        past.event is one.event
        and past.error_hash == one.error_hash
        and (past.step == one.step or (one.step is None and _is_behind(past.step, resumed_from)))
        and (one.step is not None or past.at > since)
        for past in history.recoveries
    )


def _is_behind(step: int | None, resumed_from: int | None) -> bool:
    """Whether who goes on from a checkpoint does so right behind a step; some number checkpoints by the next step."""
    return step is not None and resumed_from is not None and resumed_from - step in {0, 1}


def remembered(recoveries: Iterable[Recovery], new: Iterable[Recovery]) -> tuple[Recovery, ...]:
    """The history for the status, oldest first, at most `MAX_REMEMBERED`.

    Where there is too much, losses of spares and further lines of one decision go first, then disruptions, then the
    oldest: what counts in budgets stays longest.
    """
    kept = [*recoveries, *new]
    seen: set[int] = set()
    worth: list[tuple[bool, bool, int]] = []
    for number, one in enumerate(kept):
        ignored = one.action is Action.IGNORE
        worth.append((not ignored and one.epoch not in seen, not one.blameless, number))
        if not ignored:
            seen.add(one.epoch)
    stay = {number for *_, number in sorted(worth, reverse=True)[:MAX_REMEMBERED]}
    return tuple(one for number, one in enumerate(kept) if number in stay)
