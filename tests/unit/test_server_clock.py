"""The API server's time of day, told by the answers that it gives."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from stowage.transport.server_clock import COARSE_SECONDS, ServerClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


def date(seconds: float) -> str:
    """As HTTP writes it: whole seconds."""
    return format_datetime(datetime.fromtimestamp(int(seconds), UTC), usegmt=True)


class Watch:
    """A stopwatch that is set by hand; it begins anywhere."""

    def __init__(self) -> None:
        self.at = 1234.5

    def __call__(self) -> float:
        return self.at


@pytest.mark.parametrize(
    ("heard", "shows"),
    [
        pytest.param([], None, id="nothing-heard"),
        pytest.param([(0.0, None)], None, id="an-answer-without-a-date"),
        pytest.param([(0.0, "yesterday"), (0.0, "")], None, id="what-is-no-date"),
        pytest.param([(0.0, date(NOON))], NOON + 10, id="it-goes-on-by-the-stopwatch"),
        pytest.param([(0.0, date(NOON)), (9.2, date(NOON + 9.9))], NOON + 10, id="a-later-answer-was-cut-more"),
        pytest.param([(0.9, date(NOON + 0.9)), (2.0, date(NOON + 2))], NOON + 10, id="a-later-answer-was-cut-less"),
        pytest.param([(0.0, date(NOON)), (5.0, date(NOON - 3595))], NOON - 3590, id="it-was-set-back"),
        pytest.param([(0.0, date(NOON)), (5.0, date(NOON + 3605))], NOON + 3610, id="it-was-set-on"),
    ],
)
def test_what_it_shows_ten_seconds_later(heard: list[tuple[float, str | None]], shows: float | None) -> None:
    watch = Watch()
    began = watch.at
    clock = ServerClock(watch)
    for after, told in heard:
        watch.at = began + after
        clock.hear(told)
    watch.at = began + 10
    assert clock.now() == (None if shows is None else pytest.approx(shows))


def test_it_is_never_more_than_a_moment_behind() -> None:
    watch = Watch()
    clock, began = ServerClock(watch), watch.at
    for tenth in range(200):
        passed = tenth * 0.37
        watch.at = began + passed
        clock.hear(date(NOON + 0.123 + passed))
        now = clock.now()
        assert now is not None
        assert 0 <= NOON + 0.123 + passed - now <= COARSE_SECONDS


def test_until_the_server_tells_another_clock_is_shown() -> None:
    clock = ServerClock(Watch())
    shown = clock.otherwise(lambda: 7.0)
    assert shown() == 7.0
    clock.hear(date(NOON))
    assert shown() == NOON
