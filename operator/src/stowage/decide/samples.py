"""Answers of Prometheus as values: series by their labels, each number with its own time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

MAX_SAMPLES: Final = 50_000
"""Of one answer: 500 jobs with a hundred series each."""
STALE_SECONDS: Final = 60.0
"""An answer of so long ago comes from a cache; one so far ahead from a clock that is wrong."""


class UnreadableAnswerError(ValueError):
    """What came is no answer to a query, or more of one than anybody can use."""


class TooManySamplesError(UnreadableAnswerError):
    """The answer has more than `MAX_SAMPLES` samples."""


class StaleAnswerError(ValueError):
    """The answer is about another time than the one that was asked for."""


class Sample(Struct, frozen=True):
    """One number of one series.

    Attributes:
        labels: of the series; values are whatever somebody exposed.
        value: may be NaN or infinite: so may what was measured.
        at: its own time, seconds since 1970, by Prometheus's clock. The answer to an instant query has the time of the
            evaluation, unless the query is a range selector: that one has the time of each scrape.
    """

    labels: Mapping[str, str]
    value: float
    at: float


def samples_of(result: object, asked_at: float | None = None) -> tuple[Sample, ...]:
    """The samples of `data.result`: a vector, or a matrix; native histograms are left out, they are no numbers.

    Args:
        result: as JSON has it.
        asked_at: time of the evaluation that was asked for, seconds since 1970, which a vector has to be of; None: any.

    Raises:
        StaleAnswerError: it is of another time.
        TooManySamplesError: it is too long.
        UnreadableAnswerError: it is something else, such as a scalar, which belongs to no series.
    """
    if not isinstance(result, list):
        raise UnreadableAnswerError("the result is no list of series")
    found: list[Sample] = []
    for series in result:
        if not isinstance(series, Mapping) or not isinstance(series.get("metric"), Mapping):
            raise UnreadableAnswerError("the result is no vector or matrix: only those have labels")
        labels = {str(name): str(value) for name, value in series["metric"].items()}
        of_vector = "value" in series
        points = [series["value"]] if of_vector else series.get("values") or []
        if not isinstance(points, list):
            raise UnreadableAnswerError("a series has no list of values")
        if len(found) + len(points) > MAX_SAMPLES:
            raise TooManySamplesError(f"more than {MAX_SAMPLES} samples")
        samples = [_sample(labels, point) for point in points]
        if of_vector and asked_at is not None and not abs(samples[0].at - asked_at) <= STALE_SECONDS:
            raise StaleAnswerError(f"evaluated {asked_at - samples[0].at:.0f} s before the time that was asked for")
        found += samples
    return tuple(found)


def _sample(labels: Mapping[str, str], point: Any) -> Sample:  # noqa: ANN401 - whatever the server sent
    try:
        at, text = point
        return Sample(labels, float(text), float(at))
    except (TypeError, ValueError, OverflowError) as error:
        raise UnreadableAnswerError("a value is no pair of a time and a number") from error
