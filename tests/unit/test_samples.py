"""Answers of Prometheus: what is read, and what is no answer."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stowage.decide import samples
from stowage.decide.samples import Sample, StaleAnswerError, UnreadableAnswerError, samples_of

NOW = 1_790_000_000.0
LABELS = {"__name__": "loss", "namespace": "team"}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        pytest.param([], (), id="nothing"),
        pytest.param([{"metric": {}, "value": [NOW, "1.5"]}], (Sample({}, 1.5, NOW),), id="a vector without labels"),
        pytest.param([{"metric": LABELS, "value": [NOW, "-0"]}], (Sample(LABELS, 0.0, NOW),), id="labels are kept"),
        pytest.param(
            [{"metric": {}, "values": [[NOW, "1"], [NOW + 15, "2"]]}],
            (Sample({}, 1.0, NOW), Sample({}, 2.0, NOW + 15)),
            id="a matrix, each with its own time",
        ),
        pytest.param([{"metric": {}, "values": []}], (), id="a series without values"),
        pytest.param([{"metric": {}, "histogram": [NOW, {"count": "1"}]}], (), id="a native histogram is no number"),
        pytest.param([{"metric": {}, "value": [NOW, "+Inf"]}], (Sample({}, math.inf, NOW),), id="infinity is one"),
    ],
)
def test_answers_are_read(result: Any, expected: tuple[Sample, ...]) -> None:
    assert samples_of(result) == expected


def test_no_number_is_kept_as_such() -> None:
    (one,) = samples_of([{"metric": {}, "value": [NOW, "NaN"]}])
    assert math.isnan(one.value)


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(None, id="nothing at all"),
        pytest.param({"a": 1}, id="an object"),
        pytest.param("success", id="text"),
        pytest.param([NOW, "3"], id="a scalar belongs to nobody"),
        pytest.param([{"value": [NOW, "1"]}], id="no labels"),
        pytest.param([{"metric": [], "value": [NOW, "1"]}], id="labels in a list"),
        pytest.param([{"metric": {}, "value": [NOW]}], id="no value"),
        pytest.param([{"metric": {}, "value": [NOW, "1", "2"]}], id="two values"),
        pytest.param([{"metric": {}, "value": ["now", "1"]}], id="a time in words"),
        pytest.param([{"metric": {}, "value": [NOW, "many"]}], id="a value in words"),
        pytest.param([{"metric": {}, "value": [NOW, None]}], id="a value that is none"),
        pytest.param([{"metric": {}, "value": [NOW, {}]}], id="a value that is an object"),
        pytest.param([{"metric": {}, "values": {"0": [NOW, "1"]}}], id="values in an object"),
        pytest.param([{"metric": {}, "value": [10**400, "1"]}], id="a time beyond all bounds"),
    ],
)
def test_everything_else_is_refused(result: Any) -> None:
    with pytest.raises(UnreadableAnswerError):
        samples_of(result)


def test_an_answer_has_a_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MAX_SAMPLES", 3)
    series = [{"metric": {}, "values": [[NOW, "1"], [NOW + 1, "1"]]}]
    assert len(samples_of(series)) == 2
    with pytest.raises(UnreadableAnswerError, match="more than 3 samples"):
        samples_of(series * 2)


@pytest.mark.parametrize("seconds", [-3600.0, -61.0, 61.0, math.nan], ids=str)
def test_a_vector_of_another_time_is_stale(seconds: float) -> None:
    with pytest.raises(StaleAnswerError):
        samples_of([{"metric": {}, "value": [NOW + seconds, "1"]}], NOW)


def test_samples_of_a_range_have_the_times_of_their_scrapes() -> None:
    (one,) = samples_of([{"metric": {}, "values": [[NOW - 3600, "1"]]}], NOW)
    assert one.at == NOW - 3600
