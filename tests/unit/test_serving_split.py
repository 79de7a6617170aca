"""A role's count goes to the cheapest variants first, and nothing moves without need."""

from __future__ import annotations

import pytest

from stowage.decide.serving.split import VariantShare, split


def share(
    name: str, current: int = 0, most: int = 100, price: float | None = 1.0, capacity: float = 1.0
) -> VariantShare:
    return VariantShare(name, price, capacity, current, most)


CASES = [
    pytest.param(3, [share("a", price=2.0), share("b", price=1.0)], {"a": 0, "b": 3}, id="new ones are the cheapest"),
    pytest.param(
        3,
        [share("a", price=2.0, capacity=4.0), share("b", price=1.0)],
        {"a": 3, "b": 0},
        id="cheap is price for capacity",
    ),
    pytest.param(
        5,
        [share("a", price=1.0, most=2), share("b", price=2.0)],
        {"a": 2, "b": 3},
        id="what the cheapest lacks is others'",
    ),
    pytest.param(
        3,
        [share("a", price=1.0), share("b", current=3, price=9.0)],
        {"a": 0, "b": 3},
        id="dear ones that are there stay",
    ),
    pytest.param(
        2,
        [share("a", current=2, price=1.0), share("b", current=2, price=9.0)],
        {"a": 2, "b": 0},
        id="dear ones go first",
    ),
    pytest.param(
        4,
        [share("a", current=4, most=1, price=1.0), share("b", price=9.0)],
        {"a": 1, "b": 3},
        id="above its most it moves",
    ),
    pytest.param(9, [share("a", most=2), share("b", most=3)], {"a": 2, "b": 3}, id="no more than all may have"),
    pytest.param(
        2,
        [share("a", price=None), share("b", price=1.0)],
        {"a": 2, "b": 0},
        id="without a price the order is the spec's",
    ),
    pytest.param(0, [share("a", current=2), share("b", current=1)], {"a": 0, "b": 0}, id="to zero"),
]


@pytest.mark.parametrize(("count", "shares", "expected"), CASES)
def test_a_count_is_split(count: int, shares: list[VariantShare], expected: dict[str, int]) -> None:
    assert split(count, shares) == expected
