"""Numbers in the words of commands, conditions and events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stowage_scheduler.counted import binary_bytes, counted
from stowage_scheduler.kube.quantity import parse_quantity, to_units

MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("count", "words", "told"),
    [
        pytest.param(0, ("move",), "0 moves", id="none-of-them"),
        pytest.param(1, ("eviction",), "1 eviction", id="one"),
        pytest.param(2, ("pod",), "2 pods", id="two"),
        pytest.param(1, ("stays pending", "stay pending"), "1 stays pending", id="one-does"),
        pytest.param(12, ("stays pending", "stay pending"), "12 stay pending", id="twelve-do"),
    ],
)
def test_a_number_and_what_it_counts(count: int, words: tuple[str, ...], told: str) -> None:
    assert counted(count, *words) == told


@pytest.mark.parametrize(
    ("amount_bytes", "told"),
    [
        pytest.param(65536 * MEBIBYTE, "64Gi", id="a-whole-number-of-GiB"),
        pytest.param(1536 * MEBIBYTE, "1536Mi", id="one-and-a-half-GiB"),
        pytest.param(2048 * 1024 * MEBIBYTE, "2Ti", id="TiB"),
        pytest.param(1, "1Mi", id="less-than-a-MiB-is-rounded-up"),
        pytest.param(0, "0Mi", id="nothing"),
    ],
)
def test_an_amount_of_bytes(amount_bytes: int, told: str) -> None:
    assert binary_bytes(amount_bytes) == told


@given(st.integers(min_value=0, max_value=1 << 53))
def test_the_words_for_bytes_are_enough_and_no_more_than_a_mebibyte_too_much(amount_bytes: int) -> None:
    told = to_units(parse_quantity(binary_bytes(amount_bytes)))
    assert amount_bytes <= told < amount_bytes + MEBIBYTE
