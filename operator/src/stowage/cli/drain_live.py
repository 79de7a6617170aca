"""A drain of a live cluster: plan, cordon, plan again, write the plan, and see it through.

What it writes are cordons and PackingPlans: the operator carries those out, so each pod is evicted once, and its
replacement lands where the plan says, whatever happens to this command.
"""

from __future__ import annotations

import asyncio
import random
import string
import time
from collections.abc import Callable, Collection
from typing import Any

import msgspec
from msgspec import Struct, structs

from stowage.act.plans import create_plan, get_plan, list_plans
from stowage.api.names import COMPONENT_LABEL, DRAINS_ANNOTATION
from stowage.api.packing_plan import Approval, PackingPlan
from stowage.api.packing_policy import PackingPolicy
from stowage.cli.checks import check_operator, lease_of
from stowage.cli.cluster import read_list
from stowage.cli.drain_answer import DrainAnswer, PlanEnd, answer, sentence
from stowage.cli.drain_policy import chosen_for, refuse_unknown
from stowage.cli.errors import ClusterError, ExitCode, InputError
from stowage.cli.leftovers import Result
from stowage.cli.plan import budget_for
from stowage.decide import scope as scoping
from stowage.decide.document import plan_document, steering_of
from stowage.transport import Api, NotFound, paths
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.options import Drain, PackOptions

POLL_SECONDS = 0.5
MOST_GIVEN_UP = 3  # plans that the cluster overtook
BEAT_SECONDS = 15.0  # an extender's lease that is older tells of none

Say = Callable[[str], None]


class Request(Struct, frozen=True):
    """What a person asked for; times in seconds."""

    drain: Drain
    policy: str | None = None
    seconds: float | None = None
    units: float | None = None
    seed: int = 0
    timeout_seconds: float | None = None
    wait: bool = True
    operator_lease: str = ""


class Ended(Struct, frozen=True):
    """The last answer, the plans that were written, and whether the nodes are empty."""

    answer: DrainAnswer
    plans: tuple[PlanEnd, ...] = ()
    drained: bool = False


class _RefusedError(InputError):
    """A clear no."""

    code = ExitCode.NEGATIVE


class _Scene(Struct, frozen=True):
    """One look at the cluster."""

    snapshot: Snapshot
    policy: PackingPolicy
    options: PackOptions
    rivals: tuple[str, ...]  # plans that have to end first
    uncordoned: tuple[str, ...]


async def drain_live(api: Api, request: Request, say: Say) -> Ended:
    """Drain nodes of a cluster.

    Args:
        api: the connection, of a user who may cordon nodes and create PackingPlans.
        request: what to drain, and how.
        say: told what happens, line by line.

    Raises:
        InputError: no such node or policy; the policy is paused.
        ClusterError: no operator leads.
        ApiError: the cluster could not be reached, or refused.
    """
    lease = lease_of(request.operator_lease, "--operator-lease")
    leads = await check_operator(api, *lease, time.time())  # noqa: TID251 - compared with what the cluster writes
    if leads.result is not Result.PASSED:
        raise ClusterError(f"nobody would carry the plan out: {leads.found}; --dry-run shows it")
    work = _Drain(api, request, say, lease[0])
    try:
        async with asyncio.timeout(request.timeout_seconds):
            return await work.run()
    except TimeoutError:
        await work.give_up()
        raise _RefusedError(f"--timeout: not drained in time; {work.left_behind()}") from None
    except BaseException:
        await work.undo()
        raise


class _Drain:
    def __init__(self, api: Api, request: Request, say: Say, namespace: str) -> None:
        self._api = api
        self._request = request
        self._say = say
        self._namespace = namespace
        self._cordoned: list[str] = []  # by this command
        self._plans: dict[str, PlanEnd] = {}

    async def run(self) -> Ended:
        """Plan and act until the nodes are empty, or it can not go on."""
        while True:
            scene = await self._look()
            if scene.rivals:
                self._say(f"waiting for plan {scene.rivals[0]} to end")
                await self._until_ended(scene.rivals[0])
                continue
            given = await self._answer(scene)
            if not given.possible:
                await self.undo()
                return self._ended(given)
            if scene.uncordoned:
                self._say(sentence(given))
                await self._cordon(scene.uncordoned)
                continue  # whoever came meanwhile has to leave, too
            if given.packing is not None and given.packing.steps:
                plan = await self._write(given, scene)
                if not self._request.wait:
                    return self._ended(given)
                end = await self._until_ended(plan.name)
                if end.phase == "Aborted" or self._given_up() > MOST_GIVEN_UP:
                    self._say(f"plan {end.name} ended as {end.phase} ({end.reason}); {self.left_behind()}")
                    return self._ended(given)
            elif not _still_there(scene.snapshot, self._request.drain.nodes):
                return self._ended(given, drained=True)
            elif not self._request.wait:
                return self._ended(given)
            else:
                await asyncio.sleep(POLL_SECONDS)  # pods on their way out hold the node until they are gone

    def left_behind(self) -> str:
        """What stays changed."""
        return "the nodes stay cordoned" if self._plans else "nothing was evicted"

    async def give_up(self) -> None:
        """Stop the plan that runs, or take back what was done without one."""
        running = [end for end in self._plans.values() if not _is_over(end)]
        for end in running:
            await self._api.merge_patch(paths.packing_plan(end.name), {"spec": {"approval": Approval.ABORTED.value}})
            self._say(f"plan {end.name} is stopped")
        await self.undo()

    async def undo(self) -> None:
        """Take back the cordons of this command, as long as no plan was written."""
        cordoned, self._cordoned = self._cordoned, []
        if self._plans:
            return
        for name in cordoned:
            await self._api.merge_patch(paths.node(name), {"spec": {"unschedulable": None}})
            self._say(f"node {name} uncordoned")

    def _ended(self, given: DrainAnswer, *, drained: bool = False) -> Ended:
        return Ended(given, tuple(self._plans.values()), drained)

    def _given_up(self) -> int:
        return sum(end.phase == "Superseded" for end in self._plans.values())

    async def _look(self) -> _Scene:
        now = time.time()  # noqa: TID251 - a command reads the clock once a look, decisions get it as an argument
        plans = await list_plans(self._api)  # before the pods: a plan that has ended is seen in them
        facts = read_dump(msgspec.json.encode(await read_list(self._api)), now=now)
        nodes = self._request.drain.nodes
        refuse_unknown(nodes, facts.snapshot)
        chosen = chosen_for(self._request.policy, facts, nodes)
        policy = chosen.policy
        if policy is None or policy.metadata.uid is None:
            raise _RefusedError("no PackingPolicy in the cluster to drain under; --dry-run shows the plan without one")
        if policy.spec.paused:
            raise _RefusedError(f"PackingPolicy {policy.name} is paused: stowage resume {policy.name}")
        under_way = [plan for plan in plans if plan.active]
        others = [plan for plan in under_way if plan.spec.policy != policy.name]
        rivals = [p for p in under_way if p.spec.policy == policy.name or scoping.nodes_of(p) & nodes]
        own = [plan for plan in plans if plan.spec.policy == policy.name]
        every = frozenset(node.name for node in facts.snapshot.nodes)
        scope = scoping.Scope(every - chosen.held_by_others, {})
        left = scoping.moves_left(policy, own, now)
        options = scoping.options(policy, left, scoping.free_nodes(scope, others))
        uncordoned = [n.name for n in facts.snapshot.nodes if n.name in nodes and not n.unschedulable]
        return _Scene(
            scoping.without_planned(facts.snapshot, others),
            policy,
            structs.replace(options, drain=self._request.drain),
            tuple(plan.name for plan in rivals),
            tuple(sorted(uncordoned)),
        )

    async def _answer(self, scene: _Scene) -> DrainAnswer:
        budget = budget_for(scene.policy, self._request.seconds, self._request.units)
        return await asyncio.to_thread(answer, scene.snapshot, scene.options, budget, self._request.seed)

    async def _cordon(self, names: Collection[str]) -> None:
        for name in names:
            self._cordoned.append(name)
            await self._api.merge_patch(paths.node(name), {"spec": {"unschedulable": True}})
            self._say(f"node {name} cordoned")

    async def _write(self, given: DrainAnswer, scene: _Scene) -> PackingPlan:
        if given.packing is None:
            raise AssertionError("unreachable: only what is possible is written")
        suffix = "".join(random.SystemRandom().choices(string.ascii_lowercase + string.digits, k=4))
        now = time.time()  # noqa: TID251 - the name of a plan tells when it was made
        steering = steering_of(scene.policy, await self._extenders(now))
        made = plan_document(given.packing, scene.policy, scene.snapshot, steering=steering, suffix=suffix, now=now)
        spec = made.spec.model_copy(update={"approval": Approval.APPROVED})
        notes = {**made.metadata.annotations, DRAINS_ANNOTATION: ",".join(given.nodes)}
        metadata = made.metadata.model_copy(update={"annotations": notes})
        plan = await create_plan(self._api, made.model_copy(update={"spec": spec, "metadata": metadata}))
        self._plans[plan.name] = PlanEnd(plan.name, "Approved")
        self._say(f"plan {plan.name}: {len(plan.spec.steps)} steps (to stop it: stowage abort {plan.name})")
        return plan

    async def _extenders(self, now: float) -> list[str]:
        """Holders of the leases of extenders that were renewed a moment ago."""
        found = await self._api.get(paths.leases(self._namespace), {"labelSelector": f"{COMPONENT_LABEL}=extender"})
        return [
            str(lease["spec"].get("holderIdentity", ""))
            for lease in found["items"]
            if abs(now - _seconds(lease["spec"].get("renewTime"))) < BEAT_SECONDS
        ]

    async def _until_ended(self, name: str) -> PlanEnd:
        told = ""
        while True:
            try:
                plan = await get_plan(self._api, name)
            except NotFound:
                plan = None
            end = PlanEnd(name, "Aborted", "PlanGone") if plan is None else _end_of(plan)
            if name in self._plans:
                self._plans[name] = end
                words = _progress_of(plan)
                if words != told:
                    self._say(f"plan {name}: {words}")
                    told = words
            if _is_over(end):
                return end
            await asyncio.sleep(POLL_SECONDS)


def _still_there(snapshot: Snapshot, nodes: Collection[str]) -> bool:
    """Whether pods on their way out still hold room on the nodes."""
    return any(pod.node in nodes and pod.leaving and not pod.finished for pod in snapshot.pods)


def _end_of(plan: PackingPlan) -> PlanEnd:
    status = plan.status
    return PlanEnd(plan.name, status.phase.value if status.phase is not None else "Approved", status.reason or "")


def _is_over(end: PlanEnd) -> bool:
    return end.phase in {"Done", "Aborted", "Superseded"}


def _progress_of(plan: PackingPlan | None) -> str:
    if plan is None:
        return "it was deleted"
    settled = sum(step.state.settled for step in plan.status.steps)
    phase = plan.status.phase.value if plan.status.phase is not None else "written"
    words = f"{phase}, {settled} of {len(plan.spec.steps)} steps settled"
    return words + (f" ({plan.status.reason}: {plan.status.message})" if plan.status.message else "")


def _seconds(moment: Any) -> float:  # noqa: ANN401 - as the API server sent it
    from datetime import datetime

    try:
        return datetime.fromisoformat(str(moment)).timestamp()
    except ValueError:
        return 0.0
