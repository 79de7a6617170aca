"""What the API server made of an action on a pod."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

from stowage.transport import ApiError, Conflict, Forbidden, Invalid, NotFound, NotLeading, TooManyRequests

RETRY_SECONDS: Final = 5.0
CONFLICT_RETRY_SECONDS: Final = 0.2
BAD_REQUEST: Final = 400  # of an admission webhook, or a request that makes no sense


class Answer(StrEnum):
    """What became of a request to evict a pod, to bind it, or to take its gate away."""

    EVICTED = "evicted"
    BOUND = "bound"
    UNGATED = "ungated"
    GONE = "gone"
    ELSEWHERE = "elsewhere"  # somebody else bound it
    CHANGED = "changed"  # somebody wrote between the read and the request
    BLOCKED_BY_BUDGET = "blocked"
    THROTTLED = "throttled"
    REFUSED = "refused"
    FAILED = "failed"


class Reply(Struct, frozen=True):
    """The answer to a request; `retry_after_seconds` speaks of those that may be repeated."""

    answer: Answer
    message: str = ""
    retry_after_seconds: float = RETRY_SECONDS


def reply_to(error: ApiError) -> Reply:
    """What an error means for any action on a pod.

    Raises:
        NotLeading: nothing was asked, so there is no answer.
    """
    words = error.message or str(error)
    match error:
        case NotLeading():
            raise error
        case NotFound():
            return Reply(Answer.GONE, words)
        case Conflict():
            return Reply(Answer.CHANGED, words, CONFLICT_RETRY_SECONDS)
        case TooManyRequests():
            return Reply(Answer.THROTTLED, words, error.retry_after_seconds or RETRY_SECONDS)
        case Invalid() | Forbidden():
            return Reply(Answer.REFUSED, words)
    return Reply(Answer.REFUSED if error.status == BAD_REQUEST else Answer.FAILED, words)
