"""A decision about a role's replicas, with its reason and the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from stowage.api.model_service_reasons import ScalingReason

Inputs = tuple[tuple[str, float], ...]
"""Names with units and finite numbers, in order of name."""
Asked = tuple[tuple[str, int], ...]
"""Names of recommenders with the replicas that they need."""


class Recommender(StrEnum):
    """Who asked for a number of replicas."""

    CONCURRENCY = "Concurrency"
    SATURATION = "Saturation"
    SLO = "Slo"
    FORECAST = "Forecast"
    SCHEDULE = "Schedule"
    NONE = "None"
    """Nobody: the number is held for want of knowledge."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What one recommender says.

    Fewer than `needed` replicas are too few; down to `enough` (at least `needed`) the role may shrink now. Between the
    two nothing has to change, which keeps the count from going to and fro.
    """

    recommender: Recommender
    needed: int
    enough: int
    reason: ScalingReason
    inputs: Inputs = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """A count of replicas with its reason, before it is a decision.

    `is_informed`: made on sound signals; `asked`: what each recommender needs.
    """

    replicas: int
    reason: ScalingReason
    recommender: Recommender
    inputs: Inputs
    is_informed: bool = True
    asked: Asked = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """From how many replicas to how many, at `at` seconds.

    `recommender` is the one whose number it was; `valid_until` is when the decision must be made anew at the latest:
    after that it is still the floor below which nothing falls for lack of knowledge. `asked` is what each recommender
    needs, also those whose number it was not.
    """

    at: float
    from_replicas: int
    to_replicas: int
    reason: ScalingReason
    recommender: Recommender
    inputs: Inputs
    valid_until: float
    asked: Asked = ()


def inputs(values: Mapping[str, float | None]) -> Inputs:
    """The known and finite ones of `values`, in order of name."""
    known = ((name, float(value)) for name, value in values.items() if value is not None)
    return tuple(sorted((name, value) for name, value in known if math.isfinite(value)))
