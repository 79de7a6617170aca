"""Why a recovery is decided as it is: a closed set of words, which status, events and metrics show."""

from __future__ import annotations

from enum import StrEnum


class RecoveryReason(StrEnum):
    """The word of a decision about evidence."""

    NOTHING_RUNS = "NothingRuns"
    """The job is suspended, paused or ended: there is nothing to put right."""
    NOTHING_NEW = "NothingNew"
    """All evidence is of older epochs, of pods given up, or answered already."""
    IGNORED_BY_RULE = "IgnoredByRule"
    """The rules that match say so."""
    WAITS_FOR_CAUSE = "WaitsForCause"
    """A seat is silent; for moments it is waited for the cluster to say why."""
    SPARE_LOST = "SpareLost"
    """Only spares are hit: they are replaced, and training goes on."""
    RULE_MATCHED = "RuleMatched"
    """A rule of the job says what to do."""
    FAILURE_RECOVERED = "FailureRecovered"
    """The default rules say what to do."""
    ESCALATED = "Escalated"
    """The cheaper action was tried at this seat or node within the window, and it failed again."""
    USER_ERROR = "UserError"
    """The same error at the same step for the second time: the program is at fault."""
    BUDGET_EXHAUSTED = "BudgetExhausted"
    """More recoveries in the window than `spec.recovery.budget` allows."""
    NO_SMALLER_SIZE = "NoSmallerSize"
    """Nothing but a smaller job would help, and no smaller size is allowed."""
