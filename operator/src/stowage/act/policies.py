"""Reading policies and writing their status."""

from __future__ import annotations

from collections.abc import Callable

from stowage.act.readable import read, readable
from stowage.api.packing_policy import PackingPolicy, PackingPolicyStatus
from stowage.transport import Api, Conflict, NotFound, paths

WRITE_TRIES = 3


async def list_policies(api: Api) -> tuple[PackingPolicy, ...]:
    """All policies that can be read; the others are logged and left out."""
    return readable((await api.get(paths.PACKING_POLICIES))["items"], PackingPolicy)


async def get_policy(api: Api, name: str) -> PackingPolicy | None:
    """A policy as it is now; None when it is gone or going."""
    try:
        policy = read(PackingPolicy, await api.get(paths.packing_policy(name)))
    except NotFound:
        return None
    return policy if policy.metadata.deletion_timestamp is None else None


async def write_policy_status(
    api: Api,
    policy: PackingPolicy,
    change: Callable[[PackingPolicy], PackingPolicyStatus],
    *,
    leads: Callable[[], bool],
) -> None:
    """Write a policy's status if it changed.

    Args:
        api: the connection.
        policy: as read.
        change: the new status for a policy as read; asked again when somebody wrote meanwhile.
        leads: whether this process still leads; asked right before each try, nothing is written when it does not.

    Raises:
        Conflict: others wrote each time that this was tried.
    """
    current: PackingPolicy | None = policy
    for attempt in range(WRITE_TRIES):
        if current is None:
            return
        status = change(current)
        if status == current.status or not leads():
            return
        document = current.model_copy(update={"status": status}).to_document()
        document["metadata"].pop("managedFields", None)
        try:
            await api.replace(paths.packing_policy_status(policy.name), document)
        except NotFound:
            return
        except Conflict:
            if attempt == WRITE_TRIES - 1:
                raise
            current = await get_policy(api, policy.name)
        else:
            return
