"""Reading and writing plans, and waking the pods that they have kept away."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from stowage.act.readable import read, readable, tell_once
from stowage.api.durations import instant
from stowage.api.fields import MAX_MESSAGE
from stowage.api.names import RELEASED_ANNOTATION
from stowage.api.packing_plan import Approval, PackingPlan
from stowage.api.packing_plan_status import PackingPlanStatus, PlanPhase
from stowage.api.reasons import PlanReason
from stowage.api.resource import InvalidObjectError
from stowage.transport import Api, Conflict, NotFound, paths

WRITE_TRIES: Final = 5

logger = logging.getLogger(__name__)


class StaleLeader(Exception):  # noqa: N818 - named after what happened
    """This process leads no longer, or a leader of a higher epoch has written: it must not act on the plan."""


class AbortedMeanwhile(Exception):  # noqa: N818
    """Somebody aborted the plan between the read and the write."""


async def list_plans(api: Api) -> tuple[PackingPlan, ...]:
    """All plans that can be read; the others are logged and left out."""
    return readable((await api.get(paths.PACKING_PLANS))["items"], PackingPlan)


async def plan_names(api: Api) -> tuple[str, ...]:
    """Names of all plans, those that cannot be read among them."""
    return tuple(item["metadata"]["name"] for item in (await api.get(paths.PACKING_PLANS))["items"])


async def get_plan(api: Api, name: str) -> PackingPlan | None:
    """A plan as it is now; None when it is gone."""
    try:
        return read(PackingPlan, await api.get(paths.packing_plan(name)))
    except NotFound:
        return None


async def abort_unreadable(
    api: Api, name: str, error: InvalidObjectError, *, epoch: int, now: float, leads: Callable[[], bool]
) -> bool:
    """End a plan that breaks a rule which the API server cannot see: an extender would keep its slots for ever.

    Args:
        api: the connection.
        name: of the plan.
        error: what is wrong with it.
        epoch: of the leader that writes.
        now: seconds since the epoch.
        leads: whether that leader's term still runs.

    Returns:
        Whether the plan has ended now, or before.
    """
    raw = await api.get(paths.packing_plan(name))
    tell_once(raw, error)
    metadata, status = raw["metadata"], raw.get("status") or {}
    if status.get("phase") in {phase.value for phase in PlanPhase if phase.ended}:
        return True
    if status.get("epoch", 0) > epoch or not leads():
        return True
    ended = {
        "phase": PlanPhase.ABORTED.value,
        "reason": PlanReason.INVALID_SPEC.value,
        "message": str(error)[:MAX_MESSAGE],
        "epoch": epoch,
        "finishedAt": f"{instant(now):%Y-%m-%dT%H:%M:%SZ}",
        "observedGeneration": metadata.get("generation", 0),
    }
    metadata.pop("managedFields", None)  # absent means untouched
    try:
        await api.replace(paths.packing_plan_status(name), {**raw, "status": {**status, **ended}})
    except Conflict:
        return False
    spec = raw.get("spec") or {}
    nodes = {part["node"] for kind in ("slots", "steps") for part in spec.get(kind) or ()}
    await _touch_one(api, nodes, name)
    return True


async def create_plan(api: Api, plan: PackingPlan) -> PackingPlan:
    """Write a new plan; its status comes with the next write, for creation leaves it out."""
    document = plan.to_document()
    document.pop("status", None)
    return read(PackingPlan, await api.create(paths.PACKING_PLANS, document))


async def write_status(
    api: Api,
    plan: PackingPlan,
    change: Callable[[PackingPlan], PackingPlanStatus],
    *,
    epoch: int,
    leads: Callable[[], bool],
) -> PackingPlan:
    """Write a plan's status, based on exactly what was read.

    Args:
        api: the connection.
        plan: as read.
        change: the new status for a plan as read; asked again when somebody wrote meanwhile.
        epoch: of the leader that writes.
        leads: whether that leader's term still runs; asked right before each try.

    Returns:
        The plan as written; as read when there was nothing to write.

    Raises:
        StaleLeader: the term ended, a leader of a higher epoch wrote, or the plan was made again.
        AbortedMeanwhile: somebody set `spec.approval: Aborted` since `plan` was read.
        Conflict: others wrote each time that this was tried.
        NotFound: the plan is gone.
    """
    current = plan
    for attempt in range(WRITE_TRIES):
        status = change(current)
        if status == current.status:
            return current
        if not leads():
            raise StaleLeader(f"plan {plan.name}: the lease of epoch {epoch} is lost")
        try:
            path = paths.packing_plan_status(current.name)
            return read(PackingPlan, await api.replace(path, _with_status(current, status)))
        except Conflict:
            if attempt == WRITE_TRIES - 1:
                raise
        current = read(PackingPlan, await api.get(paths.packing_plan(plan.name)))
        if current.status.epoch > epoch:
            raise StaleLeader(f"plan {plan.name}: epoch {current.status.epoch} wrote, this is epoch {epoch}")
        if current.metadata.uid != plan.metadata.uid:
            raise StaleLeader(f"plan {plan.name}: it was deleted and made again")
        if current.spec.approval is Approval.ABORTED and plan.spec.approval is not Approval.ABORTED:
            raise AbortedMeanwhile(f"plan {plan.name}: spec.approval is Aborted")
    raise AssertionError("unreachable: the last try returns or raises")


def _with_status(plan: PackingPlan, status: PackingPlanStatus) -> dict[str, Any]:
    document = plan.model_copy(update={"status": status}).to_document()
    document["metadata"].pop("managedFields", None)  # absent means untouched
    return document


async def wake_pods(api: Api, plan: PackingPlan, *, mark: str) -> str | None:
    """Touch one node of a plan, so that kube-scheduler tries pods again that the plan has kept away.

    Args:
        api: the connection.
        plan: the plan.
        mark: written behind the plan's name: touched twice with one value, a node makes no event.

    Returns:
        The node that was touched; None when none of the plan's nodes is left.
    """
    value = f"{plan.name}.{mark}" if mark else plan.name
    nodes = {slot.node for slot in plan.spec.slots} | {step.node for step in plan.spec.steps}
    return await _touch_one(api, nodes, value)


async def _touch_one(api: Api, nodes: Iterable[str], value: str) -> str | None:
    for name in sorted(nodes):
        try:
            await api.merge_patch(paths.node(name), {"metadata": {"annotations": {RELEASED_ANNOTATION: value}}})
        except NotFound:
            continue
        return name
    return None


async def delete_plan(api: Api, plan: PackingPlan) -> None:
    """Delete an old plan, if it is still the one that was read."""
    preconditions = {"uid": plan.metadata.uid} if plan.metadata.uid else {}
    try:
        await api.delete(
            paths.packing_plan(plan.name),
            {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions},
        )
    except (NotFound, Conflict):
        logger.debug("plan %s is gone already", plan.name)
