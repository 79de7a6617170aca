"""The next value of a short series by the autoregressive model that fits best.

Stands in for `pmdarima.auto_arima`, Dynamo's default predictor, without its moving-average terms: orders (p, d) with
p up to 2 and d up to 1, fitted by least squares on the values after the first, chosen by Akaike's criterion. As there:
the last value until five are known; a constant series is itself; where the order collapses to p = 0 the logarithm is
tried; never below zero. Source: `components/src/dynamo/planner/core/load/predictors.py` of ai-dynamo/dynamo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_VALUES = 5
_MOST_ORDER, _MOST_DIFFERENCES = 2, 1
_LEAST_ERROR = 1e-12


@dataclass(frozen=True, slots=True)
class _Fit:
    order: int
    criterion: float
    next_value: float


def next_value(values: Sequence[float]) -> float:
    """The value expected after `values` (oldest first, at least 0); 0 without any."""
    if not values:
        return 0.0
    if len(values) < LEAST_VALUES or len(set(values)) == 1:
        return values[-1]
    found = _best(np.array(values))
    if found.order == 0:
        logarithm = _best(np.log1p(np.array(values))).next_value
        return max(0.0, math.expm1(min(logarithm, 2 * math.log1p(max(values)) + 1)))
    return max(0.0, found.next_value)


def _best(series: NDArray[np.float64]) -> _Fit:
    return min(
        (_fit(series, order, times) for times in range(_MOST_DIFFERENCES + 1) for order in range(_MOST_ORDER + 1)),
        key=lambda fit: fit.criterion,
    )


def _fit(series: NDArray[np.float64], order: int, differences: int) -> _Fit:
    """Least squares of each value (or difference) on the `order` before it, and on a constant unless differenced."""
    level = series[-1] if differences else 0.0
    stationary = np.diff(series, differences) if differences else series
    # all orders explain the same values, or their criteria could not be compared
    explained = series[_MOST_ORDER + _MOST_DIFFERENCES :]
    first = len(stationary) - len(explained)
    columns = [stationary[first - lag : len(stationary) - lag] for lag in range(1, order + 1)]
    if not differences:
        columns.append(np.ones(len(explained)))
    target = stationary[first:]
    if not columns:
        return _Fit(0, _criterion(target, 0), float(level))
    matrix = np.column_stack(columns)
    weights, *_ = np.linalg.lstsq(matrix, target, rcond=None)
    newest = [stationary[-lag] for lag in range(1, order + 1)] + ([] if differences else [1.0])
    error = target - matrix @ weights
    return _Fit(order, _criterion(error, len(columns)), float(level + np.dot(weights, newest)))


def _criterion(error: NDArray[np.float64], parameters: int) -> float:
    variance = max(_LEAST_ERROR, float(np.mean(error**2)))
    return len(error) * math.log(variance) + 2 * (parameters + 1)
