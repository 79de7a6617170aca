"""A role's count, split over its variants: what is there stays, more goes to the cheapest, less is the dearest's.

Which variants those are, a mix of least cost says where there is one (`role_mix.py`).

Else cheap is what costs least for what it serves, as WVA's cost optimiser has it (llm-d): up on the lowest cost for
each request per second, down on the highest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VariantShare:
    """One variant of a role.

    Attributes:
        name: of the variant.
        price: of a replica, in any unit that is the same for all; None: not known.
        capacity: what a replica serves, in any unit that is the same for all; more than 0.
        current: replicas that it shall have so far.
        most: replicas that it may have now.
    """

    name: str
    price: float | None
    capacity: float
    current: int
    most: int


def cheapest_first(variants: Sequence[VariantShare]) -> tuple[VariantShare, ...]:
    """By price for capacity; in the order given where equal, or where the price of one is not known."""
    if any(one.price is None for one in variants):
        return tuple(variants)
    return tuple(sorted(variants, key=lambda one: (one.price or 0.0) / one.capacity))


def in_order(variants: Sequence[VariantShare], names: Sequence[str]) -> tuple[VariantShare, ...]:
    """As a mix has them; those that it does not name come last, the cheapest of them first."""
    ranks = {name: rank for rank, name in enumerate(names)}
    return tuple(sorted(cheapest_first(variants), key=lambda one: ranks.get(one.name, len(ranks))))


def split(count: int, variants: Sequence[VariantShare], names: Sequence[str] = ()) -> Mapping[str, int]:
    """By variant, replicas that are `count` together, or as many as all may have where that is less.

    As few as possible change: nothing moves from one variant to another unless the first one may not have it.

    Args:
        count: of all together.
        variants: of the role.
        names: who gets replicas first, by the mix in force; empty: there is none, so the cheapest for what it serves.
    """
    order = in_order(variants, names)
    found = {one.name: max(0, min(one.current, one.most)) for one in order}
    lacking = count - sum(found.values())
    for one in order:
        more = max(0, min(lacking, one.most - found[one.name]))
        found[one.name] += more
        lacking -= more
    for one in reversed(order):
        fewer = max(0, min(-lacking, found[one.name]))
        found[one.name] -= fewer
        lacking += fewer
    return {one.name: found[one.name] for one in variants}
