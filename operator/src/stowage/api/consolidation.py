"""When a policy empties nodes though no pod waits: the part of a PackingPolicy that speaks of consolidation."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from stowage.api.durations import Duration, within
from stowage.api.fields import Integer
from stowage.api.resource import SpecFields

MAX_EMPTIED = 1000


class ConsolidationMode(StrEnum):
    """Whether nodes are emptied. `Never` and not `Off`, which YAML reads as false."""

    NEVER = "Never"
    WHEN_QUIET = "WhenQuiet"


class Consolidation(SpecFields):
    """Moving pods away from little used nodes while no pod waits, so that whole nodes become free."""

    mode: Annotated[
        ConsolidationMode,
        Field(
            description="WhenQuiet: while nothing waits and nothing has changed for long enough, plans empty nodes by "
            "moves alone, within `disruption` and half of maxMovesPerHour. What becomes of empty nodes is for a "
            "node autoscaler. Never: nodes are not emptied."
        ),
    ] = ConsolidationMode.NEVER
    after: Annotated[Duration, within("1s", "24h")] = Duration("10m")
    """How long nothing must have changed: no pod came, no controller was scaled, no node joined, no plan ended."""
    min_emptied_nodes: Annotated[Integer, Field(ge=1, le=MAX_EMPTIED)] = 1
    """A plan that would empty fewer nodes is not made."""
