"""Requests from ServeGen's rates per client and its quantiles of token counts (Xiang et al., arXiv 2505.09999).

For each client and window of ten minutes the rate, the coefficient of variation of the times between arrivals and the
kind of their distribution are known: times are drawn from that distribution with that mean and variation. Lengths are
drawn from the client's quantiles, prompts and outputs apart; a client without any takes those of another one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from stowage.simulate.openb import TraceError
from stowage.simulate.serving.csv_files import Row, number, parsed, whole
from stowage.simulate.serving.requests import Floats, Ints, Requests, in_order

RATE_COLUMNS: Final = ("client", "t_s", "rate_rps", "cv", "pattern")
WINDOW_SECONDS: Final = 600.0
MOST_SECONDS: Final = 86400.0
MOST_REQUESTS: Final = 20_000_000
_SHARES: Final = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99)
_LEAST_SHAPE: Final = 0.02


@dataclass(frozen=True, slots=True)
class _Window:
    client: int
    at: float
    rate: float
    variation: float
    pattern: str


def servegen(
    file: Path, *, rate_scale: float = 1.0, seed: int = 0, start_seconds: float = 0.0, seconds: float = 3600.0
) -> Requests:
    """Requests from `..._client_rates.csv[.gz]` and `..._token_quantiles.csv` beside it.

    Raises:
        TraceError: a file is not as expected, or no client is active in that time.
        ValueError: `rate_scale` is not more than 0, or makes too many requests.
    """
    seconds = min(seconds, MOST_SECONDS)
    windows = [
        one
        for one in parsed(file, RATE_COLUMNS, _window)
        if start_seconds - WINDOW_SECONDS < one.at < start_seconds + seconds
    ]
    expected = rate_scale * WINDOW_SECONDS * sum(one.rate for one in windows)
    if not rate_scale > 0 or expected > MOST_REQUESTS:
        raise ValueError(f"rate scale {rate_scale:g} is not more than 0, or gives more than {MOST_REQUESTS} requests")
    if not windows:
        raise TraceError(f"{file}: no client is active from {start_seconds:g} s on for {seconds:g} s")
    lengths = _Lengths(_beside(file), sorted({one.client for one in windows}), seed)
    parts = [_requests_of(one, rate_scale, seed, lengths) for one in windows]
    at = np.concatenate([part[0] for part in parts]) - start_seconds
    inside = (at >= 0) & (at < seconds)
    prompts, outputs = (np.concatenate([part[column] for part in parts]) for column in (1, 2))
    return in_order(at[inside], prompts[inside], outputs[inside])


def _requests_of(one: _Window, scale: float, seed: int, lengths: _Lengths) -> tuple[Floats, Ints, Ints]:
    rng = np.random.default_rng((seed, one.client, int(one.at)))
    gaps: list[Floats] = []
    mean, reached = 1.0 / (one.rate * scale), 0.0
    count = int(WINDOW_SECONDS / mean) + 16
    while reached < WINDOW_SECONDS:
        drawn = _gaps(one, mean, count, rng)
        if not gaps:
            drawn[0] *= rng.random()  # the window does not begin with an arrival
        gaps.append(drawn)
        reached += float(drawn.sum())
    at = np.cumsum(np.concatenate(gaps))
    at = at[at < WINDOW_SECONDS]
    prompts, outputs = lengths.draw(one.client, len(at), rng)
    return one.at + at, prompts, outputs


def _gaps(one: _Window, mean: float, count: int, rng: np.random.Generator) -> Floats:
    if one.variation <= 0.0:
        return np.full(count, mean)
    if one.pattern == "Gamma":
        shape = max(_LEAST_SHAPE, 1.0 / one.variation**2)
        return np.maximum(1e-9, rng.gamma(shape, mean / shape, count))
    shape = weibull_shape(one.variation)
    return np.maximum(1e-9, rng.weibull(shape, count) * (mean / math.gamma(1.0 + 1.0 / shape)))


def weibull_shape(variation: float) -> float:
    """The shape of a Weibull distribution with that coefficient of variation, by bisection."""
    low, high = 0.1, 50.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        log_ratio = math.lgamma(1.0 + 2.0 / middle) - 2.0 * math.lgamma(1.0 + 1.0 / middle)
        if math.expm1(log_ratio) > variation**2:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


class _Lengths:
    """Token counts by client."""

    def __init__(self, file: Path, clients: list[int], seed: int) -> None:
        columns = ("client", "field", "mean_rate_rps", *(f"p{share}" for share in _SHARES))
        found: dict[tuple[int, str], list[float]] = {}
        rates: dict[int, float] = {}
        for client, field, rate, quantiles in parsed(file, columns, _quantiles):
            found[client, field] = quantiles
            rates[client] = rate
        known = sorted(
            client for client in rates if {(client, "input_tokens"), (client, "output_tokens")} <= set(found)
        )
        if not known:
            raise TraceError(f"{file}: no client has both input_tokens and output_tokens")
        weights = np.array([max(rates[client], 1e-9) for client in known])
        rng = np.random.default_rng(seed)
        self._stands_for = {one: int(rng.choice(known, p=weights / weights.sum())) for one in clients}
        self._stands_for.update({one: one for one in known})
        self._quantiles: Mapping[tuple[int, str], list[float]] = found

    def draw(self, client: int, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        whose = self._stands_for[client]
        prompts, outputs = (
            np.interp(100.0 * rng.random(count), _SHARES, self._quantiles[whose, field])
            for field in ("input_tokens", "output_tokens")
        )
        return np.maximum(1, np.rint(prompts)).astype(np.int64), np.maximum(1, np.rint(outputs)).astype(np.int64)


def _beside(file: Path) -> Path:
    return file.with_name(file.name.split("_client_rates")[0] + "_token_quantiles.csv")


def _window(row: Row) -> _Window:
    pattern = row["pattern"].strip()
    if pattern not in ("Gamma", "Weibull"):
        raise ValueError(f"pattern is {pattern[:40]!r}, neither Gamma nor Weibull")
    rate = number(row, "rate_rps")
    if rate <= 0:
        raise ValueError(f"rate_rps is {row['rate_rps']}, not more than 0")
    return _Window(whole(row, "client"), number(row, "t_s"), rate, number(row, "cv"), pattern)


def _quantiles(row: Row) -> tuple[int, str, float, list[float]]:
    field = row["field"].strip()
    if field not in ("input_tokens", "output_tokens"):
        raise ValueError(f"field is {field[:40]!r}, neither input_tokens nor output_tokens")
    quantiles = [number(row, f"p{share}") for share in _SHARES]
    if any(a > b for a, b in itertools.pairwise(quantiles)):
        raise ValueError("a quantile is less than the one before")
    return whole(row, "client"), field, number(row, "mean_rate_rps"), quantiles
