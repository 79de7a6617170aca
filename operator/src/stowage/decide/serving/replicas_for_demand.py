"""How many replicas an uncertain demand is worth: the newsvendor's rule with the price of an idle replica.

Another replica is kept as long as the misses that it avoids are worth more than it costs idle (Arrow, Harris and
Marschak, 1951; for serving: HARMONY, 2408.01000, which takes the least expected cost over a distribution of demand).
The quantile of demand that is served follows from that price; it is no setting of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stowage.decide.serving.latency_model import LOGISTIC_SCALE, Capacity

MOST_MISSES = 0.2
MOST_MISSES_OF_BUDGET = 5.0
"""However dear replicas are, no load is planned that misses more than so many times what may be missed."""
PRICE_OF_BUDGET = 25.0
"""A replica that saves less than so many times what may be missed of its own capacity is idle. Tuned in simulations."""
MOST_REPLICAS = 100_000


@dataclass(frozen=True, slots=True)
class Expected:
    """Demand in requests per second: its logarithm is spread around that of `requests_per_second`.

    `spread` is the standard deviation of the logarithm. The tails are those of a logistic distribution, which are
    longer than a normal one's, as those of demand are.
    """

    requests_per_second: float
    spread: float

    def exceeds(self, requests_per_second: float) -> float:
        """The probability that more comes than that."""
        if self.requests_per_second <= 0:
            return 0.0
        if requests_per_second <= 0:
            return 1.0
        distance = math.log(requests_per_second / self.requests_per_second) / (LOGISTIC_SCALE * max(1e-6, self.spread))
        return 1 / (1 + math.exp(min(700.0, distance)))


@dataclass(frozen=True, slots=True)
class Price:
    """When another replica is not worth it any more.

    Attributes:
        idle: what a replica must save, as a share of the requests that it could serve.
        most_missed: share of requests that no plan may miss, whatever replicas cost.
        quantile: of demand that is served whatever it costs; None: `idle` decides.
    """

    idle: float
    most_missed: float
    quantile: float | None = None


def price(attainment: float, cost_ratio: float | None, factor: float) -> Price:
    """From what may be missed and what a miss costs; `factor` is what was learned of misses."""
    may_miss = 1 - attainment
    quantile = None if cost_ratio is None else cost_ratio / (cost_ratio + 1)
    most = min(MOST_MISSES, MOST_MISSES_OF_BUDGET * may_miss * factor)
    return Price(PRICE_OF_BUDGET * may_miss * factor, most, quantile)


def replicas_for(expected: Expected, capacity: Capacity, price: Price) -> int:
    """The fewest replicas of which the next one is not worth its price; at least 1."""
    bears = capacity.requests_per_second
    load = expected.requests_per_second / bears
    spread = math.hypot(expected.spread, capacity.spread)
    expected = Expected(expected.requests_per_second, spread)
    count = max(1, math.ceil(load))  # never less than the median
    missed = expected.exceeds(count * bears)
    while count < MOST_REPLICAS:
        then = expected.exceeds((count + 1) * bears)
        if price.quantile is not None:
            enough = missed <= 1 - price.quantile
        else:
            enough = missed <= price.most_missed and load * (missed - then) <= price.idle
        if enough:
            break
        count, missed = count + 1, then
    return count
