"""What local mode does about a failure: start all again, unless it is the same mistake once more. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from stowage_worker.exits import shell_code
from stowage_worker.messages import Evidence

NO_FAILURES = frozenset({"NonFinite", "LogRule"})
"""Events that are only told: the program runs on, and may well mean to."""
_LOST_PEER = re.compile(r"(?i)connection ?(reset|closed|refused|aborted)|broken ?pipe|nccl|gloo|time(d ?|)out|peer")
GENERAL_CODE = 1
"""Where no process gave a code: a hang, a supervisor that was lost."""


@dataclass(frozen=True)
class Mistake:
    """What makes two failures the same: the exception, or the code without one, at a step."""

    what: str
    step: int


@dataclass(frozen=True)
class Answer:
    """`code` None: start all again in a new epoch; else end the job with it."""

    reason: str
    code: int | None = None


def mistakes_of(evidence: Sequence[Evidence]) -> dict[Mistake, Evidence]:
    """The user's mistakes in the evidence of one epoch; none where something was ended from outside.

    A rank that is killed makes others fail when they wait for it: those exceptions are nobody's mistake.
    """
    if any(one.signal is not None or one.event == "SupervisorLost" for one in evidence):
        return {}
    found: dict[Mistake, Evidence] = {}
    for one in evidence:
        if one.error_hash:
            found.setdefault(Mistake(one.error_hash, one.step), one)
        elif one.code and one.step >= 0:  # a code alone says little where no steps are told
            found.setdefault(Mistake(f"code {one.code}", one.step), one)
    return found


def answer_to(
    evidence: Sequence[Evidence], earlier: frozenset[Mistake], *, restarts: int, restarts_allowed: int
) -> Answer:
    """What to do about a failed epoch.

    Args:
        evidence: of this epoch, earliest first.
        earlier: the mistakes of the failed epoch before.
        restarts: so far.
        restarts_allowed: the budget.
    """
    found = mistakes_of(evidence)
    for mistake, one in sorted(found.items(), key=lambda item: follows(item[1])):
        if mistake in earlier:
            what = one.error_type or one.event
            where = f" at step {one.step}" if one.step >= 0 else ""
            told = f": {one.error_message}" if one.error_message else ""
            return Answer(f"the same failure twice{where}, {what}{told}", code_of([one]))
    if restarts >= restarts_allowed:
        return Answer(f"all {restarts_allowed} restarts are used up", code_of(evidence))
    return Answer("started again")


def follows(one: Evidence) -> bool:
    """Whether it reads like what a rank says when another one is gone: the reason is told by others, if by any."""
    return bool(_LOST_PEER.search(f"{one.error_type} {one.error_message}"))


def code_of(evidence: Sequence[Evidence]) -> int:
    """The code of the process that failed first, as a shell tells it."""
    for one in sorted(evidence, key=follows):
        if one.code or one.signal is not None:
            return shell_code(one.code, one.signal)
    return GENERAL_CODE
