"""What a PerformanceProfile says about itself: whether it can be used, and by how many services it is."""

from __future__ import annotations

from stowage.api.conditions import with_condition
from stowage.api.durations import instant
from stowage.api.performance_profile import (
    PerformanceProfile,
    PerformanceProfileStatus,
    ProfileCondition,
    ProfileReason,
)
from stowage.decide.serving.profile_resource import performance_of


def profile_status(profile: PerformanceProfile, services: int, now: float) -> PerformanceProfileStatus:
    """The status as it is now.

    Args:
        profile: with its last status.
        services: that name it.
        now: the time.
    """
    try:
        performance_of(profile.spec)
    except ValueError as error:  # of its curves together, which no schema sees
        is_usable, reason, message = False, ProfileReason.INVALID_SPEC, str(error)
    else:
        is_usable, reason, message = True, ProfileReason.ACCEPTED, ""
    generation = profile.metadata.generation or 0
    conditions = with_condition(
        profile.status.conditions,
        ProfileCondition.ACCEPTED,
        is_usable,
        reason,
        message,
        now=instant(now),
        observed_generation=generation,
    )
    return PerformanceProfileStatus(observed_generation=generation, services=services, conditions=conditions)
