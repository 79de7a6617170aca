from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from stowage.api.durations import LONGEST_SECONDS, Duration, Instant, instant, lasting


class Holder(BaseModel):
    at: Instant


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("0", 0, id="zero needs no unit"),
        pytest.param("0s", 0, id="zero seconds"),
        pytest.param("30s", 30, id="seconds"),
        pytest.param("500ms", 0.5, id="milliseconds are not minutes"),
        pytest.param("15m", 900, id="minutes are not milliseconds"),
        pytest.param("1h2m3s", 3723, id="hours, minutes and seconds"),
        pytest.param("1.5h", 5400, id="a fraction of an hour"),
        pytest.param("250us", 0.00025, id="microseconds"),
        pytest.param("2s1m", 62, id="units in any order, as Go reads them"),
    ],
)
def test_duration_in_seconds(text: str, seconds: float) -> None:
    assert Duration(text).seconds == pytest.approx(seconds)
    assert str(Duration(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("30", id="no unit"),
        pytest.param("1d", id="days"),
        pytest.param("-1s", id="negative"),
        pytest.param("1 s", id="a space"),
        pytest.param("1s\n", id="a line end"),
        pytest.param(".5s", id="no digit before the point"),
        pytest.param("1e3s", id="an exponent"),
        pytest.param("P1D", id="ISO 8601"),
        pytest.param("1s" * 17, id="longer than any need"),
        pytest.param("9999999999h", id="longer than nanoseconds can count"),
        pytest.param("٣s", id="digits of another script"),
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="such as 30s"):
        Duration(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        pytest.param("2026-01-01T10:15:00Z", "2026-01-01T10:15:00Z", id="whole seconds"),
        pytest.param("2026-01-01T10:15:00.123456Z", "2026-01-01T10:15:00.123456Z", id="microseconds are kept"),
        pytest.param("2026-01-01T12:15:00+02:00", "2026-01-01T10:15:00Z", id="another zone becomes UTC"),
    ],
)
def test_instant_is_written_in_utc(text: str, written: str) -> None:
    assert Holder.model_validate({"at": text}).model_dump(mode="json") == {"at": written}


@pytest.mark.parametrize("value", ["2026-01-01T10:15:00", "yesterday", 1767262500, "1767262500", "2026-01-01"])
def test_what_is_no_instant(value: object) -> None:
    with pytest.raises(ValidationError):
        Holder.model_validate({"at": value})


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001
def test_instant_survives_the_way_out_and_back(at: datetime) -> None:
    assert Holder.model_validate(Holder(at=at).model_dump(mode="json")).at == at
    assert abs(instant(at.timestamp()) - at).total_seconds() < 1e-5


@given(st.floats())
def test_a_span_can_always_be_written(seconds: float) -> None:
    written = lasting(seconds)
    assert Duration(written) == written
    if 0 <= seconds <= LONGEST_SECONDS:
        assert written.seconds == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0s"), (0.0004, "0s"), (1.0, "1s"), (94.25, "94.25s"), (100, "100s")]
)
def test_a_span_has_no_more_digits_than_it_needs(seconds: float, text: str) -> None:
    assert lasting(seconds) == text
