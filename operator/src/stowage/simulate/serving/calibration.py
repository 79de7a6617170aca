"""Step times of an engine from one recorded run: those with which the replica model retells part of it best.

What is told of single steps is little; but arrivals and lengths fix the whole run once the step times are known. So
the run is played with some, compared, and they are changed in logarithms until it does not get better. Only the first
requests are compared: the rest stays for judging.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from stowage.decide.serving.performance import Curve, Performance, constant, line
from stowage.simulate.serving.measured_runs import Run, play
from stowage.simulate.serving.requests import Floats

FITTED_SHARE: Final = 1 / 3
"""Of a run's requests, the first ones, from which step times are fitted."""
_ROUNDS: Final = 40
_FIRST_DAMPING: Final = 0.1
_MOST_DAMPING: Final = 1e6
_DIFFERENCE: Final = 0.02
_LONGEST_STEP: Final = 0.7
_LEAST_GAIN: Final = 1e-4
_TTFT_WEIGHT: Final = 0.1  # the time to first token hangs on when a step began: no single one may rule the fit
_POINTS: Final = 17


def calibrated(run: Run, start: Performance, share: float = FITTED_SHARE) -> Performance:
    """The performance that retells the first requests of a run.

    Fitted are base, per sequence and per KV token of a decode step, per token and per squared token of a prefill step,
    and the overhead of a request; the base is one and the same for both kinds of step, as both read all weights.

    Args:
        run: what was measured.
        start: limits, and where the search begins.
        share: of the requests, counted from the first, those that may be looked at.
    """
    seen = max(1, round(share * len(run.requests)))
    base = start.decode_seconds(0)
    first = np.log(
        [
            base,
            max(1e-7, start.decode_seconds(1) - base),
            max(1e-10, start.decode_seconds_per_kv_token(1)),
            max(1e-7, (start.prefill_seconds(1024) - start.prefill_seconds(0)) / 1024),
            1e-9,
            max(1e-3, start.overhead_seconds),
        ]
    )

    several = run.requests.output_tokens[:seen] > 1

    def residuals(point: Floats) -> Floats:
        ttft, decode = (seconds[:seen] for seconds in play(run.requests, _performance(point, start)))
        return np.concatenate(
            [
                np.log((ttft + decode) / run.end_to_end_seconds[:seen]),
                np.log(decode[several] / run.decode_seconds[:seen][several]),
                _TTFT_WEIGHT * np.clip(np.log(ttft / run.ttft_seconds[:seen]), -1.0, 1.0),
            ]
        )

    return _performance(least_squares(residuals, first), start)


def least_squares(residuals: Callable[[Floats], Floats], first: Floats) -> Floats:
    """Where the sum of squares is least near `first`, by the method of Levenberg and Marquardt (1963).

    Derivatives are differences over a step wide enough that a request which slips into another step does not rule them.
    """
    point, damping = first, _FIRST_DAMPING
    found = residuals(point)
    for _ in range(_ROUNDS):
        slopes = np.column_stack(
            [
                (residuals(point + row) - residuals(point - row)) / (2.0 * _DIFFERENCE)
                for row in _DIFFERENCE * np.eye(len(point))
            ]
        )
        normal, gradient = slopes.T @ slopes, slopes.T @ found
        better = False
        while not better and damping < _MOST_DAMPING:
            scale = np.diag(np.diag(normal) + 1e-9)
            step = np.clip(np.linalg.solve(normal + damping * scale, -gradient), -_LONGEST_STEP, _LONGEST_STEP)
            tried = residuals(point + step)
            better = float(tried @ tried) < float(found @ found)
            damping = damping / 5.0 if better else damping * 4.0
        if not better:
            break
        gain = 1.0 - float(tried @ tried) / float(found @ found)
        point, found = point + step, tried
        if gain < _LEAST_GAIN:
            break
    return point


def _performance(point: Floats, start: Performance) -> Performance:
    base, per_running, per_kv, per_prompt, per_square, overhead = (math.exp(min(value, 5.0)) for value in point)
    tokens = np.linspace(0.0, 2.0 * start.max_batched_tokens, _POINTS)
    return replace(
        start,
        prefill_seconds=Curve(
            tuple(tokens.tolist()), tuple((base + per_prompt * tokens + per_square * tokens**2).tolist())
        ),
        decode_seconds=line(base, per_running),
        decode_seconds_per_kv_token=constant(per_kv),
        overhead_seconds=overhead,
    )
