"""Histograms on other bounds than their own."""

from __future__ import annotations

import math

import pytest

from stowage.decide.serving.signals_buckets import Row, more, on_bounds, plus

INF = math.inf


@pytest.mark.parametrize(
    ("bounds", "counts", "wanted", "row"),
    [
        pytest.param((1, 2, INF), (3, 5, 6), (1.0, 2.0), (3, 5, 6), id="the same bounds: the same counts"),
        pytest.param((2, INF), (10, 12), (1.0, 2.0), (5, 10, 12), id="within the first bucket, spread evenly from 0"),
        pytest.param((1, 3, INF), (4, 10, 10), (2.0,), (7, 10), id="within a bucket, spread evenly"),
        pytest.param((1, INF), (4, 10), (2.0, 50.0), (4, 4, 10), id="beyond the last bound nobody is called fast"),
        pytest.param((0.5, 1, 2, INF), (1, 2, 3, 4), (1.0,), (2, 4), id="finer buckets add up"),
        pytest.param((1, 2, INF), (5, 3, 6), (1.0, 2.0), (5, 5, 6), id="a row that falls is raised"),
        pytest.param((INF,), (7,), (1.0,), (0, 7), id="only a count of all"),
        pytest.param((1, 2), (3, 5), (1.0,), None, id="no count of all"),
        pytest.param((), (), (1.0,), None, id="nothing"),
    ],
)
def test_rows(bounds: tuple[float, ...], counts: tuple[float, ...], wanted: tuple[float, ...], row: Row | None) -> None:
    assert on_bounds(bounds, counts, wanted) == row


def test_what_was_counted_between_two_rows_is_cumulative_even_if_the_rows_were_torn() -> None:
    assert more((1.0, 2.0, 3.0), (2.0, 5.0, 9.0)) == (1.0, 3.0, 6.0)
    assert more((1.0, 4.0, 5.0), (4.0, 4.0, 6.0)) == (3.0, 3.0, 3.0)


def test_an_empty_row_adds_nothing() -> None:
    assert plus((), (1.0, 2.0)) == (1.0, 2.0) == plus((1.0, 2.0), ())
    assert plus((1.0, 2.0), (1.0, 5.0)) == (2.0, 7.0)
