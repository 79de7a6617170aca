"""One pass over one PerformanceProfile: whether it can be used, and who names it, into its status."""

from __future__ import annotations

from collections.abc import Callable

from stowage.act.serving import get_profile, refuse_unreadable_profile, write_profile_status
from stowage.api.resource import InvalidObjectError
from stowage.decide.serving.profile_status import profile_status
from stowage.run.lease import Lease, term_of
from stowage.transport import Api


async def tell_profile(
    api: Api, lease: Lease, clock: Callable[[], float], name: str, services: int
) -> tuple[str, int] | None:
    """Write the status of a profile where it is not as it shall be.

    Args:
        api: the connection.
        lease: of the leader; nothing is written without it.
        clock: seconds since 1970.
        name: of the profile; one that is gone has no status.
        services: that name it.

    Returns:
        UID and generation of its spec; None where there is none that can be used.
    """
    leads = term_of(lease)
    try:
        profile = await get_profile(api, name)
    except InvalidObjectError as error:
        await refuse_unreadable_profile(api, name, error, now=clock(), leads=leads)
        return None
    if profile is None:
        return None
    await write_profile_status(api, profile, profile_status(profile, services, clock()), leads=leads)
    return profile.metadata.uid or "", profile.metadata.generation or 0
