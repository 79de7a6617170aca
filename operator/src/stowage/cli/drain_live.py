"""A drain of a live cluster: plan, cordon, plan again, write the plan, and see it through.

What it writes are cordons and PackingPlans: the operator carries those out, so each pod is evicted once, and its
replacement lands where the plan says, whatever happens to this command.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import string
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct, structs

from stowage.act.plans import list_plans
from stowage.api.names import COMPONENT_LABEL, DRAINS_ANNOTATION
from stowage.api.packing_plan import Approval, PackingPlan
from stowage.api.packing_policy import PackingPolicy
from stowage.cli.checks import check_operator, lease_of
from stowage.cli.cluster import read_list
from stowage.cli.drain_answer import DrainAnswer, PlanEnd, answer, sentence
from stowage.cli.drain_cordons import Cordons
from stowage.cli.drain_plans import POLL_SECONDS, DrainPlans, Pause
from stowage.cli.drain_policy import chosen_for, outside_words, refuse_unknown
from stowage.cli.drain_rounds import Rounds, Sent, came_back, names_of, on_their_way_out, sent_by
from stowage.cli.errors import ClusterError, ExitCode, InputError
from stowage.cli.leftovers import Result
from stowage.cli.plan import budget_for
from stowage.cli.server_time import server_time
from stowage.decide import scope as scoping
from stowage.decide.document import plan_document, steering_of
from stowage.transport import Api, ApiError, paths
from stowage_scheduler.cluster import Pod, Snapshot
from stowage_scheduler.counted import counted
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.options import Drain, PackOptions

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
    """The last answer, the plans that were written, and whether the nodes are empty.

    With `under_way` they are not, but nobody was asked to wait for it.
    """

    answer: DrainAnswer
    plans: tuple[PlanEnd, ...] = ()
    drained: bool = False
    under_way: bool = False


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


async def drain_live(api: Api, request: Request, say: Say, pause: Pause = asyncio.sleep) -> Ended:
    """Drain nodes of a cluster.

    Args:
        api: the connection, of a user who may cordon nodes and create PackingPlans.
        request: what to drain, and how.
        say: told what happens, line by line.
        pause: waits for some seconds.

    Raises:
        InputError: no such node or policy; the policy is paused; out of time, or stopped by SIGTERM.
        ClusterError: no operator leads.
        ApiError: the cluster could not be reached, or refused.
    """
    lease = lease_of(request.operator_lease, "--operator-lease")
    leads = await check_operator(api, *lease, await server_time(api))
    if leads.result is not Result.PASSED:
        raise ClusterError(f"nobody would carry the plan out: {leads.found}; --dry-run shows it")
    work = _Drain(api, request, say, lease[0], pause)
    with _sigterm_cancels() as terminated:
        try:
            async with asyncio.timeout(request.timeout_seconds):
                return await work.run()
        except TimeoutError:
            await work.give_up()
            raise _RefusedError(f"--timeout: not drained in time; {work.left_behind()}") from None
        except BaseException:
            with contextlib.suppress(ApiError):  # told already, and what led here matters more
                await work.undo()
            if terminated.is_set():
                raise _RefusedError(f"SIGTERM: not drained; {work.left_behind()}") from None
            if work.touched:
                say(work.left_behind())
            raise


@contextlib.contextmanager
def _sigterm_cancels() -> Iterator[asyncio.Event]:
    """SIGTERM ends the current task as Ctrl-C does; the event tells which of them it was."""
    loop, task, received = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()

    def stop() -> None:
        received.set()
        if task is not None:
            task.cancel()

    try:
        loop.add_signal_handler(signal.SIGTERM, stop)
    except (NotImplementedError, RuntimeError, ValueError):  # not on this system, or not in the main thread
        yield received
        return
    try:
        yield received
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


class _Drain:
    def __init__(self, api: Api, request: Request, say: Say, namespace: str, pause: Pause) -> None:
        self._api = api
        self._request = request
        self._say = say
        self._namespace = namespace
        self._pause = pause
        self._cordons = Cordons(api, say)
        self._plans = DrainPlans(api, say, pause)
        self._rounds = Rounds()
        self._given = DrainAnswer(tuple(sorted(request.drain.nodes)))
        self._sent: list[Sent] = []
        self._told: set[str] = set()  # what is worth saying once

    async def run(self) -> Ended:
        """Plan and act until the nodes are empty, or it can not go on."""
        while True:
            scene = await self._look()
            if scene.rivals:
                self._say(f"waiting for plan {scene.rivals[0]} to end")
                await self._plans.until_ended(scene.rivals[0])
                continue
            ended = await self._round(scene)
            if ended is not None:
                return ended

    async def _round(self, scene: _Scene) -> Ended | None:
        """What follows from one look; None: look again."""
        back = came_back(scene.snapshot, self._request.drain.nodes, self._sent)
        if back is not None:
            where = f"pod {back.key} came back to node {back.node}, in place of one that was evicted"
            return self._ended(f"{where}: its scheduler ignores the cordon; {self.left_behind()}")
        given = self._given = await self._answer(scene)
        if not given.possible:
            await self.undo()
            return self._ended(f"{sentence(given)}; {self.left_behind()}" if self._plans else "")
        if scene.uncordoned:
            self._say(sentence(given))
            await self._cordons.set(scene.uncordoned)
            return None  # whoever came meanwhile has to leave, too
        if given.packing is not None and given.packing.steps:
            return await self._act(given, scene)
        going = on_their_way_out(scene.snapshot, self._request.drain.nodes)
        if not going:
            return Ended(given, self._plans.ends, drained=True)
        if not self._request.wait:
            self._say(f"no other pod has to leave; on their way out: {names_of(going.values())}")
            return Ended(given, self._plans.ends, under_way=True)
        await self._until_gone(going)
        return None

    async def _act(self, given: DrainAnswer, scene: _Scene) -> Ended | None:
        """Write a plan and see it through, unless too many of them changed nothing."""
        seconds = self._rounds.judge(given.leaving)
        if self._rounds.hopeless:
            plans = counted(self._rounds.in_vain, "plan")
            return self._ended(f"{sentence(given)}, after {plans} in vain; {self.left_behind()}")
        if seconds:
            await self._pause(seconds)
            return None  # planned on what is there after the pause
        plan = await self._write(given, scene)
        if not self._request.wait:
            return Ended(given, self._plans.ends, under_way=True)
        end = await self._plans.until_ended(plan.name)
        if end.phase == "Aborted":
            return self._ended(f"plan {end.name} ended as {end.phase} ({end.reason}); {self.left_behind()}")
        return None

    @property
    def touched(self) -> bool:
        """Whether something stays changed, or may."""
        return bool(self._plans) or bool(self._cordons.names)

    def left_behind(self) -> str:
        """What stays changed."""
        if not self._plans:
            names = ", ".join(self._cordons.names)
            return f"nothing was evicted, but {names} may be cordoned" if names else "nothing was evicted"
        running = "; ".join(f"plan {name} goes on (to stop it: stowage abort {name})" for name in self._plans.running)
        return "the nodes stay cordoned" + (f"; {running}" if running else "")

    async def give_up(self) -> None:
        """Stop the plan that runs, or may run; without any, take the cordons back."""
        await self._plans.stop()
        await self._take_back()

    async def undo(self) -> None:
        """Take the cordons back, as long as no plan was written; one of which nobody knows is stopped first."""
        await self._plans.stop(unsure_only=True)
        await self._take_back()

    async def _take_back(self) -> None:
        if not self._plans:
            await self._cordons.take_back()

    def _ended(self, why: str) -> Ended:
        """The end of a drain that can not go on."""
        if why:
            self._say(why)
        return Ended(self._given, self._plans.ends)

    async def _until_gone(self, pods: Mapping[str, Pod]) -> None:
        """Wait for pods on their way out: they hold the node until they are gone."""
        self._once(f"waiting for pods on their way out: {names_of(pods.values())}")
        while await self._any_left(pods):
            await self._pause(POLL_SECONDS)

    async def _any_left(self, pods: Mapping[str, Pod]) -> bool:
        for node in sorted({pod.node or "" for pod in pods.values()}):
            found = await self._api.get(paths.PODS, {"fieldSelector": f"spec.nodeName={node}"})
            here = [(pods[uid], item) for item in found["items"] if (uid := item["metadata"].get("uid")) in pods]
            if any(_leaves(item, by_itself=not pod.leaving) for pod, item in here):
                return True
        return False

    def _once(self, words: str) -> None:
        if words not in self._told:
            self._told.add(words)
            self._say(words)

    async def _look(self) -> _Scene:
        now = await server_time(self._api)  # once a look: decisions get it as an argument
        plans = await list_plans(self._api)  # before the pods: a plan that has ended is seen in them
        facts = read_dump(msgspec.json.encode(await read_list(self._api)), now=now)
        nodes = self._request.drain.nodes
        refuse_unknown(nodes, facts.snapshot)
        chosen = chosen_for(self._request.policy, facts, nodes)
        policy = chosen.policy
        if policy is None or policy.metadata.uid is None:
            raise _RefusedError("no PackingPolicy in the cluster to drain under; --dry-run shows the plan without one")
        outside = outside_words(policy, facts, nodes)
        if outside:
            self._once(outside)
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

    async def _write(self, given: DrainAnswer, scene: _Scene) -> PackingPlan:
        if given.packing is None:
            raise AssertionError("unreachable: only what is possible is written")
        suffix = "".join(random.SystemRandom().choices(string.ascii_lowercase + string.digits, k=4))
        now = await server_time(self._api)
        steering = steering_of(scene.policy, await self._extenders(now))
        made = plan_document(given.packing, scene.policy, scene.snapshot, steering=steering, suffix=suffix, now=now)
        spec = made.spec.model_copy(update={"approval": Approval.APPROVED})
        notes = {**made.metadata.annotations, DRAINS_ANNOTATION: ",".join(given.nodes)}
        metadata = made.metadata.model_copy(update={"annotations": notes})
        self._rounds.begin(given.leaving)
        plan = await self._plans.write(made.model_copy(update={"spec": spec, "metadata": metadata}))
        written = plan.metadata.creation_timestamp
        self._sent.append(sent_by(given, scene.snapshot, written.timestamp() if written is not None else None))
        return plan

    async def _extenders(self, now: float) -> list[str]:
        """Holders of the leases of extenders that were renewed a moment ago."""
        found = await self._api.get(paths.leases(self._namespace), {"labelSelector": f"{COMPONENT_LABEL}=extender"})
        return [
            str(lease["spec"].get("holderIdentity", ""))
            for lease in found["items"]
            if abs(now - _seconds(lease["spec"].get("renewTime"))) < BEAT_SECONDS
        ]


def _leaves(pod: Mapping[str, Any], *, by_itself: bool) -> bool:
    """Whether a pod, as the API server sent it, is on its way out, or will be, and still holds its room."""
    status = pod.get("status") or {}
    targeted = any(
        one.get("type") == "DisruptionTarget" and one.get("status") == "True" for one in status.get("conditions") or ()
    )
    going = "deletionTimestamp" in pod["metadata"] or targeted or by_itself
    return going and status.get("phase") not in {"Succeeded", "Failed"}


def _seconds(moment: Any) -> float:  # noqa: ANN401 - as the API server sent it
    from datetime import datetime

    try:
        return datetime.fromisoformat(str(moment)).timestamp()
    except ValueError:
        return 0.0
