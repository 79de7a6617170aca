from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stowage_scheduler.kube.quantity import LARGEST, QuantityError, parse_quantity, to_milli, to_units

DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}

DIGITS = st.text("0123456789", min_size=1, max_size=12)
SCALES = st.one_of(
    st.sampled_from([(suffix, Fraction(10) ** power) for suffix, power in DECIMAL.items()]),
    st.sampled_from([(suffix, Fraction(2) ** power) for suffix, power in BINARY.items()]),
    st.integers(-30, 30).map(lambda power: (f"e{power}", Fraction(10) ** power)),
    st.integers(0, 30).map(lambda power: (f"E+{power}", Fraction(10) ** power)),
)


@given(whole=DIGITS, fraction=DIGITS, scale=SCALES)
def test_agrees_with_exact_fractions(whole: str, fraction: str, scale: tuple[str, Fraction]) -> None:
    suffix, factor = scale
    exact = (int(whole) + Fraction(int(fraction), 10 ** len(fraction))) * factor
    text = f"{whole}.{fraction}{suffix}"
    nanos = Fraction(ceil(exact * 10**9), 10**9)
    if nanos > LARGEST:
        with pytest.raises(QuantityError):
            parse_quantity(text)
        return
    parsed = parse_quantity(text)
    assert parsed == nanos * 10**9
    assert to_units(parsed) == ceil(nanos)
    assert to_milli(parsed) == ceil(nanos * 1000)


@given(st.one_of(st.text(max_size=80), st.text("0123456789+-.eEinumkKMGTP", max_size=12), st.integers(), st.floats()))
def test_answers_or_refuses_whatever_is_written(value: str | float) -> None:
    try:
        nanos = parse_quantity(value)
    except QuantityError:
        return
    assert 0 <= nanos <= LARGEST * 10**9
