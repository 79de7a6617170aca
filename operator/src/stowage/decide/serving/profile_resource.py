"""A PerformanceProfile as the `Performance` that decisions and simulations use, and back again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from stowage.api.durations import lasting
from stowage.api.engine_type import EngineType
from stowage.api.performance_profile import (
    MAX_DECODE_ROWS,
    MAX_PREFILL_ROWS,
    DecodeFit,
    DecodeRow,
    Fitted,
    Measured,
    Parallelism,
    PerformanceProfileSpec,
    PrefillFit,
    PrefillRow,
    ProfiledEngine,
)
from stowage.decide.serving.performance import SHORTEST_STEP_SECONDS, Curve, Performance, constant, line, measured_curve
from stowage.decide.serving.performance_fit import decode_curves

_MILLISECONDS: Final = 1000.0
_STEP: Final = 1.1
"""From one point of a parabola to the next: the line between them is off by less than a quarter of a percent."""
_SHORTEST_SECONDS: Final = 10 * SHORTEST_STEP_SECONDS
"""Of a step, where noise would have it take none."""
_FAR_TOKENS: Final = 1_000_000
"""Between the two rows that tell what a token in the KV cache costs."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What was measured, beside how fast it was."""

    model: str
    accelerator: str
    engine: EngineType = EngineType.VLLM
    version: str | None = None
    tensor: int = 1
    pipeline: int = 1
    source: str = ""
    measured_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Steps:
    prefill: Curve
    decode: Curve
    per_kv_token: Curve


def performance_of(profile: PerformanceProfileSpec) -> Performance:
    """What a profile says, as curves in seconds.

    Measured rows become curves as in `measured_curve`: the median of repeated rows, pooled until none falls. What a
    token in the KV cache adds is the least-squares slope over the rows of as many requests; for a number of requests
    of which all rows have the same `kvTokens` it is that of the numbers beside it. Where that is so of all numbers, one
    slope is fitted to all rows (`decode_curves`).
    """
    if profile.measured is not None:
        steps = _measured(profile.measured)
    elif profile.fitted is not None:
        steps = _fitted(profile.fitted, profile.kv_cache_tokens)
    else:
        raise AssertionError("the model holds that one of the two is given")
    return Performance(
        prefill_seconds=steps.prefill,
        decode_seconds=steps.decode,
        kv_capacity_tokens=profile.kv_cache_tokens,
        decode_seconds_per_kv_token=steps.per_kv_token,
        mixed_factor=float(profile.mixed_factor),
        max_running=profile.max_running,
        max_batched_tokens=profile.max_batched_tokens,
        overhead_seconds=profile.overhead.seconds,
    )


def profile_of(performance: Performance, origin: Origin) -> PerformanceProfileSpec:
    """A profile with rows that give `performance` again, as exactly as they are written.

    Raises:
        ValueError: a curve has more points than a profile may have rows; pydantic's own for a field of `origin`.
    """
    prefill = [
        PrefillRow(tokens=at, milliseconds=_written(performance.prefill_seconds(at)))
        for at in _whole(performance.prefill_seconds.at)
    ]
    decode = []
    apart = (0, _FAR_TOKENS) if any(performance.decode_seconds_per_kv_token.values) else (0,)
    for running in _whole((*performance.decode_seconds.at, *performance.decode_seconds_per_kv_token.at)):
        for kv_tokens in apart:
            seconds = performance.decode_step_seconds(running, kv_tokens)
            decode.append(DecodeRow(running=running, kv_tokens=kv_tokens, milliseconds=_written(seconds)))
    if len(prefill) > MAX_PREFILL_ROWS or len(decode) > MAX_DECODE_ROWS:
        raise ValueError(
            f"a profile has at most {MAX_PREFILL_ROWS} rows of prefill and {MAX_DECODE_ROWS} of decode, not "
            f"{len(prefill)} and {len(decode)}: leave some measurements out"
        )
    return PerformanceProfileSpec(
        model=origin.model,
        accelerator=origin.accelerator,
        engine=ProfiledEngine(type=origin.engine, version=origin.version),
        parallelism=Parallelism(tensor=origin.tensor, pipeline=origin.pipeline),
        kv_cache_tokens=performance.kv_capacity_tokens,
        max_running=performance.max_running,
        max_batched_tokens=performance.max_batched_tokens,
        mixed_factor=_decimal(performance.mixed_factor),
        overhead=lasting(performance.overhead_seconds),
        measured=Measured(prefill=tuple(prefill), decode=tuple(decode)),
        source=origin.source,
        measured_at=origin.measured_at,
    )


def _measured(rows: Measured) -> _Steps:
    prefill = measured_curve((one.tokens, _seconds(one.milliseconds)) for one in rows.prefill)
    by_running: dict[int, list[tuple[float, float]]] = {}
    for one in rows.decode:
        by_running.setdefault(one.running, []).append((one.kv_tokens, _seconds(one.milliseconds)))
    slopes = [(running, slope) for running, points in by_running.items() if (slope := _slope(points)) is not None]
    if not slopes:
        columns = zip(*((one.running, one.kv_tokens, _seconds(one.milliseconds)) for one in rows.decode), strict=True)
        return _Steps(prefill, *decode_curves(*columns))
    per_kv_token = measured_curve(slopes)
    decode = measured_curve(
        (running, max(_SHORTEST_SECONDS, seconds - per_kv_token(running) * kv_tokens))
        for running, points in by_running.items()
        for kv_tokens, seconds in points
    )
    return _Steps(prefill, decode, per_kv_token)


def _slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Of the least-squares line, at least 0; None where no two points lie apart."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return None
    return max(0.0, sum((x - mean_x) * (y - mean_y) for x, y in points) / spread)


def _fitted(fit: Fitted, kv_cache_tokens: int) -> _Steps:
    small, large = fit.decode, fit.decode_large_batch
    if large is None:
        decode = line(_seconds(small.base), _seconds(small.per_request))
        return _Steps(_parabola(fit.prefill, kv_cache_tokens), decode, constant(_seconds(small.per_kv_token)))
    first = large.from_running
    # the last point says how the curve goes on
    fits: tuple[tuple[int, DecodeFit], ...] = ((0, small), (first - 1, small), (first, large), (first + 1, large))
    at = tuple(float(running) for running, _ in fits)
    decode = Curve(
        at, _never_falling(_seconds(one.base) + _seconds(one.per_request) * running for running, one in fits)
    )
    per_kv_token = Curve(at, _never_falling(_seconds(one.per_kv_token) for _, one in fits))
    return _Steps(_parabola(fit.prefill, kv_cache_tokens), decode, per_kv_token)


def _parabola(fit: PrefillFit, most_tokens: int) -> Curve:
    base, linear, squared = _seconds(fit.base), _seconds(fit.per_token), _seconds(fit.per_squared_token)
    if not squared:
        return line(base, linear)
    points = [0.0, 1.0]
    while points[-1] < most_tokens:
        points.append(points[-1] * _STEP)
    return Curve(tuple(points), tuple(base + linear * at + squared * at * at for at in points))


def _never_falling(values: Iterable[float]) -> tuple[float, ...]:
    """Where more requests are said to take less time than fewer, they take as much."""
    return tuple(itertools.accumulate(values, max))


def _whole(points: Sequence[float]) -> list[int]:
    """The points as whole numbers from 1, and one more where that moved some: it says how the curve goes on."""
    whole = {max(1, round(point)) for point in points}
    return sorted(whole if whole == set(points) else whole | {max(whole) + 1})


def _seconds(milliseconds: str) -> float:
    return float(milliseconds) / _MILLISECONDS


def _written(seconds: float) -> str:
    return _decimal(seconds * _MILLISECONDS)


def _decimal(number: float) -> str:
    return f"{number:.12f}".rstrip("0").rstrip(".")
