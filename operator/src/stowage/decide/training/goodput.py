"""Where a job's time goes: productive steps, and all that was lost, by cause.

The words are those of Google's ML Goodput. An account is a small value that fits into the status: each pass of the
operator adds the seconds since the one before, so nothing of the past has to be kept or asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field, structs

from stowage.api.training_words import Domain, JobPhase, Lost

RESTORING: Final = "Restoring"
"""The phase in which programs say that they read a checkpoint."""


class Seen(Struct, frozen=True):
    """How a job is at one instant, as far as its time is concerned.

    `started`: every rank of the epoch was started. `stepping`: one step at least was made in this epoch. `step` is the
    last step that all ranks have done, None where the program tells none: then all time in `Running` is productive.
    `checkpoint_step` and `checkpoint_seconds` tell the last checkpoint and how long training stood still for it.
    """

    phase: JobPhase
    started: bool = False
    stepping: bool = False
    step: int | None = None
    program: str = ""
    domain: Domain = Domain.UNKNOWN
    checkpoint_step: int = -1
    checkpoint_seconds: float | None = None


class Account(Struct, frozen=True):
    """Seconds of a job from `since` to `until`; productive, open and lost ones together are all of them.

    `open_seconds` are those since the last step: productive once the next one is done, lost if it never is.
    `furthest_step` is the furthest that training ever was: steps up to it are done again, and that is lost.
    """

    since: float
    until: float
    productive_seconds: float = 0.0
    open_seconds: float = 0.0
    lost_seconds: Mapping[Lost, float] = field(default_factory=dict)
    furthest_step: int = -1
    last: Seen = Seen(JobPhase.PENDING)

    @property
    def ratio(self) -> float:
        """Productive time over all time, 0 to 1; open time counts as productive until it is lost."""
        total = self.until - self.since
        if total <= 0:
            return 0.0
        return min(1.0, max(0.0, (self.productive_seconds + self.open_seconds) / total))


def opened(now: float) -> Account:
    """The account of a job that begins now."""
    return Account(since=now, until=now)


def passed(account: Account, seen: Seen, now: float) -> Account:
    """The account after the time up to `now`, which was as the account saw it last; `seen` is how it is now.

    A clock that goes back adds nothing. Once the job has ended nothing is added either.
    """
    if account.last.phase.ended:
        return account
    seconds = max(0.0, now - account.until)
    before = account.last
    cause = _cause(before)
    if cause is None and before.step is not None:
        account = _trained(account, seen, seconds)
    elif cause is None:
        account = structs.replace(account, productive_seconds=account.productive_seconds + seconds)
    else:
        account = _lost(account, cause, seconds)
    if _cause(seen) is not None and account.open_seconds:
        account = _closed(account, seen)
    account = _saved(account, seen)
    furthest = max(account.furthest_step, -1 if seen.step is None else seen.step)
    return structs.replace(account, until=max(now, account.until), furthest_step=furthest, last=seen)


def _cause(seen: Seen) -> Lost | None:
    """What time is lost to in this state; None: steps are made."""
    match seen.phase:
        case JobPhase.SUSPENDED:
            return Lost.SUSPENDED
        case JobPhase.PAUSED | JobPhase.SUCCEEDED | JobPhase.FAILED:
            return Lost.OTHER
    if seen.started:
        if seen.stepping or (seen.step is None and seen.phase is JobPhase.RUNNING):
            return None
        return Lost.CHECKPOINT_RESTORE if seen.program == RESTORING else Lost.PROGRAM_STARTUP
    match seen.phase:
        case JobPhase.RECOVERING | JobPhase.RUNNING:
            return _recovery(seen.domain)
        case JobPhase.RESIZING:
            return Lost.RESIZE
        case _:
            return Lost.INITIALIZATION


def _recovery(domain: Domain) -> Lost:
    """Unknown counts as the program's: nobody shall be shown a fault of the cluster that nobody has seen."""
    return Lost.INFRASTRUCTURE_RECOVERY if domain is Domain.INFRASTRUCTURE else Lost.WORKLOAD_RECOVERY


def _trained(account: Account, seen: Seen, seconds: float) -> Account:
    """Add time in which steps were made: those that were done before are lost, and the last one is open."""
    first, last = account.last.step or 0, seen.step
    if last is None or last <= first:
        return structs.replace(account, open_seconds=account.open_seconds + seconds)
    again = min(max(0, account.furthest_step - first), last - first) / (last - first)
    closed = account.open_seconds + seconds
    account = structs.replace(
        account, productive_seconds=account.productive_seconds + closed * (1 - again), open_seconds=0.0
    )
    return _lost(account, Lost.WASTED_PROGRESS, closed * again)


def _closed(account: Account, seen: Seen) -> Account:
    """The step that was open will not be done: its time belongs to what ended it."""
    if seen.phase is JobPhase.SUCCEEDED:
        return structs.replace(
            account, productive_seconds=account.productive_seconds + account.open_seconds, open_seconds=0.0
        )
    match seen.phase:
        case JobPhase.SUSPENDED | JobPhase.RESIZING:
            cause = Lost.WASTED_PROGRESS
        case _:
            cause = _recovery(seen.domain)
    return _lost(structs.replace(account, open_seconds=0.0), cause, account.open_seconds)


def _saved(account: Account, seen: Seen) -> Account:
    """Move the time of a new checkpoint from the productive to the lost."""
    before = account.last
    is_known = seen.checkpoint_step == before.checkpoint_step and before.checkpoint_seconds is not None
    if seen.checkpoint_seconds is None or is_known or seen.checkpoint_step < before.checkpoint_step:
        return account  # of one that was told without its seconds they come later
    from_open = min(account.open_seconds, max(0.0, seen.checkpoint_seconds))
    from_rest = min(account.productive_seconds, max(0.0, seen.checkpoint_seconds) - from_open)
    account = structs.replace(
        account,
        open_seconds=account.open_seconds - from_open,
        productive_seconds=account.productive_seconds - from_rest,
    )
    return _lost(account, Lost.CHECKPOINT_SAVE, from_open + from_rest)


def _lost(account: Account, cause: Lost, seconds: float) -> Account:
    if seconds <= 0:
        return account
    lost = {**account.lost_seconds, cause: account.lost_seconds.get(cause, 0.0) + seconds}
    return structs.replace(account, lost_seconds=lost)
