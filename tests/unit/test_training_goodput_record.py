"""An account of a job's time outlives the operator that kept it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stowage.api.training_job_status import Goodput
from stowage.api.training_words import JobPhase, Lost
from stowage.decide.training.goodput import Account, Seen
from stowage.decide.training.goodput_record import account_of, goodput_record

LAST = Seen(JobPhase.RUNNING, started=True, stepping=True, step=4)
seconds = st.integers(0, 10**9).map(float)
accounts = st.builds(
    Account,
    since=seconds,
    until=st.integers(10**9, 2 * 10**9).map(float),
    productive_seconds=seconds,
    open_seconds=seconds,
    lost_seconds=st.dictionaries(st.sampled_from(Lost), st.integers(1, 10**9).map(float)),
    furthest_step=st.integers(-1, 10**9),
    last=st.just(LAST),
)


@given(accounts)
def test_an_account_of_whole_seconds_comes_back_as_it_was(account: Account) -> None:
    stored = Goodput.model_validate(goodput_record(account).model_dump(mode="json", by_alias=True, exclude_none=True))
    assert account_of(stored, LAST, created_at=0.0) == account


def test_people_read_round_numbers() -> None:
    lost = {Lost.RESIZE: 0.2, Lost.INITIALIZATION: 4.6}
    shown = goodput_record(Account(1000.0, 1200.0, 190.4, 4.0, lost))
    assert (shown.ratio, shown.productive_seconds, shown.furthest_step) == ("0.972", 190, None)
    assert [(one.cause, one.seconds) for one in shown.lost_seconds] == [(Lost.INITIALIZATION, 5)]


@pytest.mark.parametrize("created_at", [0.0, 500.0])
def test_an_account_without_its_beginning_begins_with_the_job(created_at: float) -> None:
    account = account_of(Goodput(ratio="0"), LAST, created_at=created_at)
    assert (account.since, account.until, account.ratio) == (created_at, created_at, 0.0)
