"""What a role may have: its bounds, those of a schedule, and what the budget pays for.

Starting replicas are part of the count that is limited, so that one that is under way is never asked for twice.
"""

from __future__ import annotations

from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.settings import Settings


def limited(wanted: int, settings: Settings, scheduled_most: int | None = None) -> tuple[int, ScalingReason | None]:
    """The count within all limits, and the reason where that is not the one wanted.

    The lower bound is kept whatever a budget or a schedule says.
    """
    count, reason = wanted, None
    ceilings = [(settings.most, ScalingReason.AT_MAXIMUM)]
    if settings.budget_replicas is not None:
        ceilings.append((settings.budget_replicas, ScalingReason.BUDGET_REACHED))
    if scheduled_most is not None:
        ceilings.append((scheduled_most, ScalingReason.SCHEDULED))
    for ceiling, why in ceilings:
        if count > ceiling:
            count, reason = ceiling, why
    if count < settings.least:
        return settings.least, ScalingReason.AT_MINIMUM
    return count, reason
