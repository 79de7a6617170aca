"""The PackingPlans of one drain: written, followed to their end, and stopped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from stowage.act.plans import create_plan, get_plan
from stowage.api.packing_plan import Approval, PackingPlan
from stowage.cli.drain_answer import PlanEnd
from stowage.transport import Api, ApiError, NotFound, paths
from stowage_scheduler.counted import counted

POLL_SECONDS = 0.5
TRIES = 3  # to find a plan whose writing was cut short
WRITING = "Writing"  # sent, and nobody knows yet whether it arrived

Pause = Callable[[float], Awaitable[None]]


class DrainPlans:
    """What this command wrote, by name.

    Args:
        api: the connection.
        say: told what happens, line by line.
        pause: waits for some seconds.
    """

    def __init__(self, api: Api, say: Callable[[str], None], pause: Pause) -> None:
        self._api = api
        self._say = say
        self._pause = pause
        self._found: dict[str, PlanEnd] = {}

    def __bool__(self) -> bool:
        """Whether there is one, or may be."""
        return bool(self._found)

    @property
    def ends(self) -> tuple[PlanEnd, ...]:
        """How each of them stands, in the order of writing."""
        return tuple(self._found.values())

    @property
    def running(self) -> tuple[str, ...]:
        """Names of those that are not known to have ended."""
        return tuple(end.name for end in self._found.values() if not is_over(end))

    async def write(self, plan: PackingPlan) -> PackingPlan:
        """Write a plan; it is known from before it is sent, for an answer may never come.

        Raises:
            ApiError: refused (then it is forgotten), or nobody knows.
        """
        self._found[plan.name] = PlanEnd(plan.name, WRITING)
        try:
            written = await create_plan(self._api, plan)
        except ApiError as error:
            if 400 <= error.status < 500:
                del self._found[plan.name]
            raise
        self._found[plan.name] = PlanEnd(plan.name, "Approved")
        self._say(f"plan {plan.name}: {counted(len(plan.spec.steps), 'step')} (to stop it: stowage abort {plan.name})")
        return written

    async def until_ended(self, name: str) -> PlanEnd:
        """Follow a plan, also one of somebody else; what it says is told for those of this command."""
        told = ""
        while True:
            plan = await get_plan(self._api, name)
            end = PlanEnd(name, "Aborted", "PlanGone") if plan is None else _end_of(plan)
            if name in self._found:
                self._found[name] = end
                words = _progress_of(plan)
                if words != told:
                    self._say(f"plan {name}: {words}")
                    told = words
            if is_over(end):
                return end
            await self._pause(POLL_SECONDS)

    async def stop(self, *, unsure_only: bool = False) -> None:
        """Stop those that are not known to have ended; one that was never written is forgotten.

        Args:
            unsure_only: only those of which nobody knows whether they were written.

        Raises:
            ApiError: the first failure, after all were tried.
        """
        failures = []
        for name in self.running:
            unsure = self._found[name].phase == WRITING
            if unsure_only and not unsure:
                continue
            try:
                if await self._stop(name, TRIES if unsure else 1):
                    self._found[name] = PlanEnd(name, "Approved", "Stopped")
                    self._say(f"plan {name} is stopped")
                elif unsure:
                    del self._found[name]
                else:
                    self._found[name] = PlanEnd(name, "Aborted", "PlanGone")
            except ApiError as error:
                self._say(f"plan {name} may go on (to stop it: stowage abort {name}): {error}")
                failures.append(error)
        if failures:
            raise failures[0]

    async def _stop(self, name: str, tries: int) -> bool:
        """Whether the plan was there to be stopped; a request that was cut short may still arrive."""
        for attempt in range(tries):
            try:
                await self._api.merge_patch(paths.packing_plan(name), {"spec": {"approval": Approval.ABORTED.value}})
            except NotFound:
                if attempt < tries - 1:
                    await self._pause(POLL_SECONDS)
            else:
                return True
        return False


def is_over(end: PlanEnd) -> bool:
    """Whether a plan does nothing any more."""
    return end.phase in {"Done", "Aborted", "Superseded"} or end.reason == "Stopped"


def _end_of(plan: PackingPlan) -> PlanEnd:
    status = plan.status
    return PlanEnd(plan.name, status.phase.value if status.phase is not None else "Approved", status.reason or "")


def _progress_of(plan: PackingPlan | None) -> str:
    if plan is None:
        return "it was deleted"
    settled = sum(step.state.settled for step in plan.status.steps)
    phase = plan.status.phase.value if plan.status.phase is not None else "written"
    words = f"{phase}, {settled} of {counted(len(plan.spec.steps), 'step')} settled"
    return words + (f" ({plan.status.reason}: {plan.status.message})" if plan.status.message else "")
