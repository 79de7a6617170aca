"""The account of a job's time in its status, and back."""

from __future__ import annotations

from stowage.api.durations import instant
from stowage.api.training_job_status import Goodput, LostSeconds
from stowage.decide.training.goodput import Account, Seen


def goodput_record(account: Account) -> Goodput:
    """The account as the status keeps it: whole seconds, the ratio to a thousandth, causes by name."""
    lost = sorted((cause, round(seconds)) for cause, seconds in account.lost_seconds.items())
    return Goodput(
        ratio=f"{account.ratio:.3f}",
        productive_seconds=round(account.productive_seconds),
        open_seconds=round(account.open_seconds),
        lost_seconds=tuple(LostSeconds(cause=cause, seconds=seconds) for cause, seconds in lost if seconds),
        furthest_step=account.furthest_step if account.furthest_step >= 0 else None,
        since=instant(account.since),
        until=instant(account.until),
    )


def account_of(goodput: Goodput, last: Seen, *, created_at: float) -> Account:
    """The account to go on with, for an operator that has only the status.

    Args:
        goodput: as it is stored.
        last: the job as it was when that was stored, from the rest of the same status.
        created_at: when the job was made, seconds since 1970, where the status does not tell the beginning.
    """
    since = goodput.since.timestamp() if goodput.since is not None else created_at
    return Account(
        since=since,
        until=goodput.until.timestamp() if goodput.until is not None else since,
        productive_seconds=float(goodput.productive_seconds),
        open_seconds=float(goodput.open_seconds),
        lost_seconds={one.cause: float(one.seconds) for one in goodput.lost_seconds},
        furthest_step=goodput.furthest_step if goodput.furthest_step is not None else -1,
        last=last,
    )
