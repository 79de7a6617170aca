"""The metrics of ModelServices. None has a service's name as a label: what one service does stands in its status."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from stowage.api.model_service_reasons import ScalingReason, ServiceReason
from stowage.run.metric import Label, Metric, Unit, counter, gauge, histogram

DRAIN_SECONDS: Final = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


class ReplicaState(StrEnum):
    """What replicas are, or shall be."""

    DESIRED = "desired"
    READY = "ready"
    STARTING = "starting"
    DRAINING = "draining"
    SPARE = "spare"


class Direction(StrEnum):
    """Where a decision leads."""

    UP = "up"
    DOWN = "down"


def _values(values: Iterable[StrEnum]) -> tuple[str, ...]:
    return tuple(one.value for one in values)


QUANTILES: Final = ("0.5", "0.9")
_WHY: Final = Label("reason", _values(ScalingReason))

SERVICES: Final = gauge(
    "serving_services",
    Unit.SERVICES,
    "ModelServices by the reasons of their conditions: each counts once for every reason that they have",
    Label("reason", _values(ServiceReason)),
)
ROLES: Final = gauge(
    "serving_roles", Unit.ROLES, "Roles of ModelServices by why they have as many replicas as they have", _WHY
)
REPLICAS: Final = gauge(
    "serving_replicas", Unit.REPLICAS, "Replicas of all ModelServices", Label("state", _values(ReplicaState))
)
CACHED_NODES: Final = gauge(
    "serving_cached_nodes",
    Unit.NODES,
    "Nodes without a replica that hold image and weights of a role, summed over the roles of all ModelServices",
)
DECISIONS: Final = counter(
    "serving_decisions",
    Unit.TIMES,
    "Changes of the number of replicas, by reason and direction",
    _WHY,
    Label("direction", _values(Direction)),
)
SIGNAL_AGE: Final = gauge(
    "serving_signal_age_seconds",
    Unit.SECONDS,
    "Age of the newest sample of the service whose newest sample is the oldest; 0 without one",
)
ATTAINMENT: Final = gauge(
    "serving_attainment_ratio",
    Unit.RATIO,
    "Lowest share of requests that met every target, over the services with targets; 1 without one",
)
COLD_START: Final = gauge(
    "serving_cold_start_seconds",
    Unit.SECONDS,
    "How long replicas take to start, in the service where they take longest; 0 while nothing is known",
    Label("quantile", QUANTILES),
)
DRAIN: Final = histogram(
    "serving_drain", "From when a replica gets no new requests until it is deleted", buckets=DRAIN_SECONDS
)
HELD: Final = gauge(
    "serving_held_requests",
    Unit.REQUESTS,
    "Requests that wait for the first replica of a ModelService, as activators told last",
)

OF_SERVING: Final[tuple[Metric, ...]] = (
    *(SERVICES, ROLES, REPLICAS, CACHED_NODES, DECISIONS),
    *(SIGNAL_AGE, ATTAINMENT, COLD_START, DRAIN, HELD),
)
"""All of them, in the order of the reference."""
