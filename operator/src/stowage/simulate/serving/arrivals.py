"""Requests from recorded traces, and made more or fewer at unchanged duration.

`azure` reads the form of the Azure LLM inference traces (Patel et al., Splitwise, ISCA'24): one line per request with
`TIMESTAMP`, `ContextTokens`, `GeneratedTokens`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from stowage.simulate.openb import TraceError
from stowage.simulate.serving.csv_files import Row, columns_of, number, parsed, whole
from stowage.simulate.serving.requests import Requests, in_order
from stowage.simulate.serving.servegen import RATE_COLUMNS, servegen

AZURE_COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
LONGEST_SECONDS: Final = 31 * 86400.0
"""A trace that is longer has a mistake in a timestamp."""
MOST_TOKENS: Final = 10_000_000
MOST_REQUESTS: Final = 50_000_000
JITTER_SECONDS: Final = 10.0
"""Whole copies of a trace are shifted by up to so much, forward."""


def read_requests(
    file: Path, *, rate_scale: float = 1.0, seed: int = 0, start_seconds: float = 0.0, seconds: float = math.inf
) -> Requests:
    """Requests from a trace in the form of Azure, or from rates in the form of ServeGen, told apart by their columns.

    Args:
        file: the table.
        rate_scale: how many times as many requests arrive in the same time.
        seed: of copies, samples and lots.
        start_seconds: how far into the trace to begin
        seconds: and for how long; of ServeGen's week at most a day.

    Raises:
        TraceError: the file is not as expected; says line and field.
        ValueError: `rate_scale` is not more than 0, or makes too many requests.
    """
    names = columns_of(file)
    if set(RATE_COLUMNS) <= set(names):
        return servegen(file, rate_scale=rate_scale, seed=seed, start_seconds=start_seconds, seconds=seconds)
    requests = azure(file)
    first, end = np.searchsorted(requests.arrival_seconds, [start_seconds, start_seconds + seconds])
    if first == end:
        raise TraceError(f"{file}: no request from {start_seconds:g} s on for {seconds:g} s")
    part = Requests(
        requests.arrival_seconds[first:end] - requests.arrival_seconds[first],
        requests.prompt_tokens[first:end],
        requests.output_tokens[first:end],
    )
    return scaled(part, rate_scale, seed)


def azure(file: Path) -> Requests:
    """Every request of a file, from second 0 on, in order of arrival.

    `TIMESTAMP` is a date with time, or seconds; all lines have it in the same form.

    Raises:
        TraceError: the file is not as expected; says line and field.
    """
    rows = parsed(file, AZURE_COLUMNS, _azure_row)
    at = np.array([row[0] for row in rows])
    at -= at.min()
    if at.max() > LONGEST_SECONDS:
        late = int(at.argmax())
        raise TraceError(
            f"{file}, line {late + 2}: TIMESTAMP is {at.max() / 86400:.0f} days after the first, more than "
            f"{LONGEST_SECONDS / 86400:.0f}"
        )
    return in_order(at, np.array([row[1] for row in rows]), np.array([row[2] for row in rows]))


def scaled(requests: Requests, factor: float, seed: int = 0) -> Requests:
    """`factor` times as many requests in the same time.

    The first copy is the trace itself. Each further whole one is shifted by a jitter of its own, what would come after
    the end comes at the beginning instead; of the last, shifted like them, a sample makes up the fraction.

    Raises:
        ValueError: `factor` is not more than 0, or there would be too many requests.
    """
    if not factor > 0 or not factor * len(requests) <= MOST_REQUESTS:
        raise ValueError(f"rate scale {factor:g} is not more than 0, or gives more than {MOST_REQUESTS} requests")
    rng = np.random.default_rng(seed)
    copies = [_copy(requests, number, rng) for number in range(int(factor))]
    count = round((factor - int(factor)) * len(requests))
    if count:
        last = _copy(requests, int(factor), rng)
        chosen = np.sort(rng.choice(len(requests), count, replace=False))
        copies.append(Requests(last.arrival_seconds[chosen], last.prompt_tokens[chosen], last.output_tokens[chosen]))
    return _joined(copies)


def _copy(requests: Requests, number: int, rng: np.random.Generator) -> Requests:
    if number == 0 or requests.duration_seconds <= 0:
        return requests
    shifted = requests.arrival_seconds + rng.uniform(0.0, JITTER_SECONDS)
    return in_order(shifted % requests.duration_seconds, requests.prompt_tokens, requests.output_tokens)


def _joined(parts: Sequence[Requests]) -> Requests:
    if not parts:
        return Requests(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    return in_order(
        np.concatenate([part.arrival_seconds for part in parts]),
        np.concatenate([part.prompt_tokens for part in parts]),
        np.concatenate([part.output_tokens for part in parts]),
    )


def _azure_row(row: Row) -> tuple[float, int, int]:
    return (
        _timestamp(row),
        whole(row, "ContextTokens", least=1, most=MOST_TOKENS),
        whole(row, "GeneratedTokens", least=1, most=MOST_TOKENS),
    )


def _timestamp(row: Row) -> float:
    text = row["TIMESTAMP"].strip()
    if "-" not in text[1:]:
        return number(row, "TIMESTAMP")
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"TIMESTAMP is {text[:40]!r}, neither a date with time nor seconds") from None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
