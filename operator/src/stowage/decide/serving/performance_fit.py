"""From measurements of a replica to its performance: least squares without negative coefficients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stowage.decide.serving.performance import Curve, constant, measured_curve

Floats = NDArray[np.float64]


def nonnegative_fit(matrix: Floats, target: Floats) -> Floats:
    """The `x >= 0` with the least `|matrix x - target|` (Lawson and Hanson, Solving Least Squares Problems, 1974).

    Args:
        matrix: one row per measurement, one column per coefficient.
        target: one value per measurement.
    """
    columns = matrix.shape[1]
    scale = np.maximum(np.linalg.norm(matrix, axis=0), 1e-300)
    scaled = matrix / scale
    x = np.zeros(columns)
    free = np.zeros(columns, dtype=bool)
    for _ in range(3 * columns + 3):
        gradient = scaled.T @ (target - scaled @ x)
        gradient[free] = -np.inf
        best = int(gradient.argmax())
        if gradient[best] <= 1e-12 * max(1.0, float(np.abs(target).max(initial=0.0))):
            break
        free[best] = True
        while True:
            trial = np.zeros(columns)
            trial[free] = np.linalg.lstsq(scaled[:, free], target, rcond=None)[0]
            low = free & (trial <= 0)
            if not low.any():
                break
            step = float((x[low] / np.maximum(x[low] - trial[low], 1e-300)).min())
            x += step * (trial - x)
            free &= x > 1e-15
        x = trial
    fitted: Floats = x / scale
    return fitted


def decode_curves(
    running: Sequence[float], kv_tokens: Sequence[float], seconds: Sequence[float]
) -> tuple[Curve, Curve]:
    """`decode_seconds` and `decode_seconds_per_kv_token` of a `Performance` from measured steps without prompts.

    A step is `base + a * running + b * kv_tokens`, as in DistServe (Zhong et al., OSDI'24), fitted so that relative
    errors count alike; then what `b * kv_tokens` leaves of each measurement becomes a curve over `running`, so that
    base and slope need not be one line.

    Args:
        running: sequences per measured step.
        kv_tokens: tokens in the KV cache at that step, of all of them together.
        seconds: how long it took.

    Raises:
        ValueError: there is no measurement, or one took no time.
    """
    sequences, tokens, measured = (np.asarray(values, dtype=np.float64) for values in (running, kv_tokens, seconds))
    if not len(measured) or (measured <= 0).any():
        raise ValueError("steps are measured, and take more than 0 seconds")
    matrix = np.column_stack([np.ones(len(measured)), sequences, tokens]) / measured[:, None]
    _, _, per_token = nonnegative_fit(matrix, np.ones(len(measured)))
    least = 0.05 * float(measured.min())
    rest = np.maximum(least, measured - per_token * tokens)
    return measured_curve(zip(sequences.tolist(), rest.tolist(), strict=True)), constant(float(per_token))
