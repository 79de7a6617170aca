"""What a mix of accelerator variants is chosen from: demand by size of request, what replicas manage, what there is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Final, TypeAlias

MICRO: Final = 1_000_000
"""Costs are whole millionths of what is counted, so that sums of them are exact."""
REPLICA: Final = 10**9
"""Loads are whole billionths of a replica."""
MOST_REPLICAS: Final = 10_000
"""A variant that would need more replicas for one bucket alone is as good as one that cannot serve it."""
SLICES: Final = 100
"""Whole percents, as routers weigh: so fine that the shares hardly bind, and free where slices are counted."""
LARGEST: Final = 10**12
"""Of a cost or a use: a million an hour. Who has larger ones counts in a larger unit."""


Shares: TypeAlias = tuple[tuple[int, ...], ...]
"""`[bucket][variant]`: how many slices of a bucket a variant serves."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Requests of about one size: its tokens stand for all of them; `requests_per_second` is what arrives."""

    input_tokens: int
    output_tokens: int
    requests_per_second: float


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run a replica: an accelerator and how many of it.

    Attributes:
        name: what people call it.
        cost_micro_per_hour: of a replica, in millionths: of money, or of watts for the least power.
        uses: what a replica takes of each stock, like `{"h100": 2}`; a stock may be a quota or a power cap too.
        present: replicas that there are now.
        least: replicas that there have to be.
        start_cost_micro: for each replica more than now, spread over the hours that a mix is expected to last.
        stop_cost_micro: the same for each replica fewer.
    """

    name: str
    cost_micro_per_hour: int
    uses: Mapping[str, int] = field(default_factory=dict)
    present: int = 0
    least: int = 0
    start_cost_micro: int = 0
    stop_cost_micro: int = 0

    def cost_micro(self, count: int) -> int:
        """Of so many replicas in an hour, the switch to them included."""
        switched = self.start_cost_micro * max(0, count - self.present)
        switched += self.stop_cost_micro * max(0, self.present - count)
        return self.cost_micro_per_hour * count + switched


@dataclass(frozen=True, slots=True)
class MixProblem:
    """The integer programme of Mélange (Griggs et al., arXiv:2404.14527), with stocks and the cost of switching.

    Attributes:
        buckets: demand.
        variants: what may serve it.
        replica_requests_per_second: `[bucket][variant]`: what one replica serves of this size alone within the latency
            targets; 0 where it cannot.
        stock: units of what `Variant.uses` names; what is not named here is not scarce.
        slices: in how many equal parts a bucket's demand may be shared among variants.

    Raises:
        ValueError: a number is negative or not finite, the table does not fit, or a name occurs twice.
    """

    buckets: tuple[Bucket, ...]
    variants: tuple[Variant, ...]
    replica_requests_per_second: tuple[tuple[float, ...], ...]
    stock: Mapping[str, int] = field(default_factory=dict)
    slices: int = SLICES

    def __post_init__(self) -> None:
        table = self.replica_requests_per_second
        if len(table) != len(self.buckets) or any(len(row) != len(self.variants) for row in table):
            raise ValueError("replica_requests_per_second needs a row for each bucket and a column for each variant")
        rates = [bucket.requests_per_second for bucket in self.buckets] + [rate for row in table for rate in row]
        if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
            raise ValueError("requests per second are finite and at least 0")
        for variant in self.variants:
            costs = (variant.cost_micro_per_hour, variant.start_cost_micro, variant.stop_cost_micro)
            if min(*costs, variant.present, variant.least, *variant.uses.values()) < 0:
                raise ValueError(f"variant {variant.name}: costs, counts and uses are at least 0")
            if max(*costs, *variant.uses.values()) > LARGEST:
                raise ValueError(f"variant {variant.name}: costs and uses are at most {LARGEST}")
            if max(variant.present, variant.least) > MOST_REPLICAS:
                raise ValueError(f"variant {variant.name}: more than {MOST_REPLICAS} replicas")
        if len({variant.name for variant in self.variants}) != len(self.variants):
            raise ValueError("variants need names of their own")
        if any(units < 0 for units in self.stock.values()) or not 1 <= self.slices <= SLICES:
            raise ValueError(f"stocks are at least 0, slices 1 to {SLICES}")

    def load(self, bucket: int, variant: int) -> int | None:
        """Billionths of replicas that the whole bucket takes of a variant alone; None where it cannot serve it.

        What is less than a billionth is left out: nothing is measured that well, and the last digit of a float shall
        not cost a replica. All that follows is exact.
        """
        rate = self.replica_requests_per_second[bucket][variant]
        if not rate:
            return None
        needed = math.floor(Fraction(self.buckets[bucket].requests_per_second) / Fraction(rate) * REPLICA)
        return needed if needed <= MOST_REPLICAS * REPLICA else None

    def cost_micro(self, counts: tuple[int, ...]) -> int:
        """Of these counts in an hour, switching included."""
        return sum(variant.cost_micro(count) for variant, count in zip(self.variants, counts, strict=True))

    def used(self, counts: tuple[int, ...]) -> dict[str, int]:
        """Units of each stock that these counts take."""
        return {
            name: sum(variant.uses.get(name, 0) * count for variant, count in zip(self.variants, counts, strict=True))
            for name in self.stock
        }

    def holds(self, counts: tuple[int, ...], shares: Shares) -> bool:
        """Whether these counts serve all demand by these shares, and keep to all limits."""
        loads = [0] * len(self.variants)
        for bucket, row in enumerate(shares):
            if self.buckets[bucket].requests_per_second and sum(row) != self.slices:
                return False
            for variant, share in enumerate(row):
                load = self.load(bucket, variant) if share else 0
                if load is None:
                    return False
                loads[variant] += load * share
        return (
            all(load <= count * self.slices * REPLICA for load, count in zip(loads, counts, strict=True))
            and all(count >= variant.least for count, variant in zip(counts, self.variants, strict=True))
            and all(units <= self.stock[name] for name, units in self.used(counts).items())
        )


class MixReason(StrEnum):
    """How the search for a mix ended."""

    OPTIMAL = "Optimal"
    """No mix costs less."""
    BUDGET_SPENT = "BudgetSpent"
    """A mix was found; one that costs less, but not less than the bound, may exist."""
    SLO_OUT_OF_REACH = "SloOutOfReach"
    """No variant serves some bucket within the latency targets, however many replicas there are."""
    OUT_OF_STOCK = "OutOfStock"
    """There is too little of a stock."""
    UNDECIDED = "Undecided"
    """The budget was spent before a mix was found."""


@dataclass(frozen=True, slots=True)
class Lack:
    """With `more` units of each of these stocks, and no change elsewhere, there is a mix."""

    more: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Mix:
    """The answer; counts and shares are empty where there is none.

    Attributes:
        reason: how the search ended.
        counts: replicas of each variant.
        shares: `[bucket][variant]`: how many of `MixProblem.slices` of a bucket a variant serves.
        cost_micro: in an hour, the cost of switching included.
        bound_micro: no mix costs less; equal to `cost_micro` where the mix is optimal.
        lacks: where the stock is too small, what would help, the smallest first: each entry alone is enough.
        out_of_reach: buckets that no variant can serve.
    """

    reason: MixReason
    counts: tuple[int, ...] = ()
    shares: Shares = ()
    cost_micro: int | None = None
    bound_micro: int = 0
    lacks: tuple[Lack, ...] = ()
    out_of_reach: tuple[int, ...] = ()
