"""One writer: two operators through the proxy, one killed or paused; and the fence that holds when all else fails.

Terms are short: 5 s for 15, 3.5 s for 10, 0.6 s for 2. `make faults` plays the real ones.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from faults.followers import monotonic
from faults.oracles import alarms, is_lease
from faults.probes import SHORT_TERMS, Probed, Start, start_operator
from faults.proxy import FaultProxy
from faults.script import Hold, Match
from faults.traffic import Exchange
from harness.story import Story
from harness.waiting import always, eventually
from harness.workbench import Workbench, pod_template
from stowage.act.answers import Answer
from stowage.act.evictions import evict
from stowage.act.plans import StaleLeader, get_plan, write_status
from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_plan_status import PackingPlanStatus
from stowage.api.resource import part_to_document
from stowage.transport import Api, NotFound, paths
from stowage_scheduler.packing import PodRef
from unit.builders import plan_resource
from unit.one_move import MOVE, PLACE, TO_N1, TO_N2

LEASE_SECONDS = float(SHORT_TERMS["STOWAGE_LEASE_SECONDS"])
RENEW_WITHIN_SECONDS = float(SHORT_TERMS["STOWAGE_RENEW_WITHIN_SECONDS"])
PACE_SECONDS = 0.8 * float(SHORT_TERMS["STOWAGE_LEASE_RETRY_SECONDS"])  # between two looks at the lease, at least
NAMESPACE = "stowage-system"
LONG = pytest.mark.long_fault
REAL_TERMS = {
    "STOWAGE_LEASE_SECONDS": "15",
    "STOWAGE_RENEW_WITHIN_SECONDS": "10",
    "STOWAGE_LEASE_RETRY_SECONDS": "2",
}


class Pair:
    """Two operators that compete for one lease, and what each has written: the lease tells them apart."""

    def __init__(self, proxy: FaultProxy, api: Api, start: Start, lease_name: str) -> None:
        self._proxy = proxy
        self._api = api
        self._start = start
        self.lease_name = lease_name

    def launch(self, identity: str, **environment: str) -> Probed:
        # each speaks through a connection of its own; its identity is in its lease, its epoch in what it writes
        return start_operator(self._start, lease_name=self.lease_name, identity=identity, environment=environment)

    async def spec(self) -> dict[str, Any]:
        try:
            spec: dict[str, Any] = (await self._api.get(paths.lease(NAMESPACE, self.lease_name)))["spec"]
        except NotFound:
            return {}
        return spec

    async def until_held_by(self, identity: str, timeout_seconds: float = 30.0) -> int:
        """Waits until a process of that identity holds the lease; its epoch."""

        async def held() -> int:
            spec = await self.spec()
            return spec["leaseTransitions"] if str(spec.get("holderIdentity")).startswith(f"{identity}_") else 0

        return await eventually(held, timeout_seconds=timeout_seconds, what=f"{identity} holds the lease")

    def writes(self, since: int = 0) -> list[Exchange]:
        """Changes that operators asked for, but those of leases."""
        asked = self._proxy.seen(Match(mutating=True, user_agent="^stowage-operator"), since=since)
        return [exchange for exchange in asked if not is_lease(exchange)]

    def renewals(self, identity: str, since: int = 0) -> list[Exchange]:
        """Writes of the lease by one process that the API server took."""
        return [one for one in self.lease_writes(since) if _holder(one).startswith(f"{identity}_")]

    def looks(self, since: int = 0) -> list[Exchange]:
        """Reads of the lease."""
        return self._proxy.seen(Match(path=f"/leases/{self.lease_name}$", methods=frozenset({"GET"})), since=since)

    def taken_early(self) -> list[str]:
        """Take-overs from a holder whose term was not over: it had renewed the lease a moment ago."""
        return [
            f"{_holder(after)} took the lease {seconds:.1f} s after {_holder(before)} had written it"
            for before, after in itertools.pairwise(self.lease_writes())
            if _holder(before) != _holder(after) and (seconds := after.at_seconds - before.at_seconds) < LEASE_SECONDS
        ]

    def lease_writes(self, since: int = 0) -> list[Exchange]:
        """Writes of the lease that the API server took."""
        asked = self._proxy.seen(Match(path=f"/leases(/{self.lease_name})?$", mutating=True), since=since)
        return [one for one in asked if one.took_effect]


def _holder(exchange: Exchange) -> str:
    return str(exchange.request.document["spec"]["holderIdentity"])


@pytest.fixture
def pair(proxy: FaultProxy, api: Api, start: Start, workbench: Workbench) -> Pair:
    return Pair(proxy, api, start, f"lease-{workbench.namespace}")


async def leaders(*operators: Probed) -> int:
    return sum([await one.metric("stowage_leader") == 1 for one in operators if one.process.exit_code is None])


async def test_f17_of_two_started_at_once_exactly_one_is_active_and_never_none(pair: Pair) -> None:
    both = (pair.launch("a"), pair.launch("b"))
    for one in both:
        await one.until_ready()

    async def one_leads() -> bool:
        return await leaders(*both) == 1

    async def never_two() -> bool:
        # one after the other is asked: who leads first still has to when the other one says so
        first, second, again = [await leaders(one) for one in (*both, both[0])]
        return first + second + again < 3

    await eventually(one_leads, what="one of them leads")
    await always(never_two, for_seconds=LEASE_SECONDS)
    await eventually(one_leads, what="one of them leads")
    # a term ends only when its leader could not renew it in time: then there is a gap between the writes, but for
    # the first term, which counts from the first look, and a start takes a while
    writes = pair.lease_writes()
    gaps = [after.at_seconds - before.at_seconds for before, after in itertools.pairwise(writes)]
    terms = {one.request.document["spec"]["leaseTransitions"] for one in writes}
    assert len(terms) <= 2 + sum(gap > RENEW_WITHIN_SECONDS / 2 for gap in gaps)
    assert pair.taken_early() == []


@LONG
async def test_f17_a_rolling_update_hands_over_at_once(pair: Pair) -> None:
    old = pair.launch("old")
    await pair.until_held_by("old", 30)
    new = pair.launch("new")
    await new.until_ready()
    old.process.signal(signal.SIGTERM)
    asked = monotonic()
    assert old.process.wait(15) == 0
    await pair.until_held_by("new", 15)
    assert monotonic() - asked < LEASE_SECONDS + 1.0  # it was released: nobody waits for its end


async def test_f16_the_standby_takes_over_from_a_killed_leader_and_goes_on_with_its_plan(
    pair: Pair, proxy: FaultProxy, workbench: Workbench
) -> None:
    story = Story(workbench, scheduler_name="default-scheduler")
    leader = pair.launch("leader")
    await pair.until_held_by("leader", 30)
    standby = pair.launch("standby")
    await standby.until_ready()
    before = (await story.held_back(steering="Bind"))["status"]["epoch"]
    leader.process.signal(signal.SIGKILL)
    killed = len(proxy.exchanges)
    epoch = await pair.until_held_by("standby")
    assert epoch > before
    # it sees the last renewal, then looks on for a term; not by the clock, for other work may keep it waiting

    async def taken() -> list[Exchange]:
        return pair.renewals("standby", killed)

    first = (await eventually(taken, what="the proxy has heard of it"))[0].request.index
    assert len([one for one in pair.looks(killed) if one.request.index < first]) <= 3 + LEASE_SECONDS / PACE_SECONDS
    await story.let_go()
    plan = await story.plan_in("Done")
    assert plan["status"]["epoch"] >= epoch
    await workbench.until_ready("large", 1)


async def test_f16_a_leader_that_was_paused_writes_nothing_when_it_wakes(
    pair: Pair, proxy: FaultProxy, workbench: Workbench
) -> None:
    story = Story(workbench, scheduler_name="default-scheduler")
    old = pair.launch("old")
    await pair.until_held_by("old", 30)
    new = pair.launch("new")
    await new.until_ready()
    await story.held_back(steering="Bind")
    # it is paused with the lease renewed and its next look at the plan due in a moment
    old.process.signal(signal.SIGSTOP)
    epoch = await pair.until_held_by("new")

    async def carried_on() -> bool:
        return (await story.plan_in("Running"))["status"]["epoch"] == epoch

    await eventually(carried_on, what="the new leader has the plan")
    new.process.signal(signal.SIGSTOP)
    await passed_on(proxy)  # now every write there is comes from the old one
    awake = len(proxy.exchanges)
    old.process.signal(signal.SIGCONT)
    await story.let_go()  # the world changes: a leader would act at once

    async def is_awake() -> bool:
        return len(proxy.seen(Match(user_agent="^stowage-operator"), since=awake)) > 0

    await eventually(is_awake, what="the old leader asks for something")
    await asyncio.sleep(1.5)  # less than the new one's lease still lasts
    renewed = pair.renewals("old", awake)
    until = renewed[0].request.index if renewed else len(proxy.exchanges)
    assert [one for one in pair.writes(awake) if one.request.index < until] == []
    assert pair.taken_early() == []
    new.process.signal(signal.SIGCONT)
    assert (await story.plan_in("Done"))["status"]["epoch"] >= epoch
    assert alarms(old.process.log_tail(10_000)) == []


async def passed_on(proxy: FaultProxy) -> None:
    """All that was sent to the proxy before has reached it: what is sent now comes after it."""
    async with aiohttp.ClientSession() as session, session.get(f"{proxy.url}/version") as answer:
        assert answer.status == 200


@LONG
async def test_f16_with_the_terms_that_people_run_a_leader_paused_for_30_s_is_replaced_and_writes_nothing(
    pair: Pair, proxy: FaultProxy, workbench: Workbench
) -> None:
    story = Story(workbench, scheduler_name="default-scheduler")
    old = pair.launch("old", **REAL_TERMS)
    await pair.until_held_by("old", 60)
    new = pair.launch("new", **REAL_TERMS)
    await new.until_ready()
    await story.held_back(steering="Bind")
    old.process.signal(signal.SIGSTOP)
    paused = monotonic()
    epoch = await pair.until_held_by("new", 25)
    assert monotonic() - paused <= 15 + 5
    await asyncio.sleep(max(0.0, 30 - (monotonic() - paused)))
    awake = len(proxy.exchanges)
    old.process.signal(signal.SIGCONT)
    await story.let_go()
    assert (await story.plan_in("Done"))["status"]["epoch"] == epoch
    await asyncio.sleep(5.0)
    assert pair.renewals("old", awake) == []
    assert await old.metric("stowage_leader") == 0
    assert alarms(old.process.log_tail(10_000)) == []


async def test_f16_a_write_that_waited_while_another_became_leader_is_refused(
    pair: Pair, proxy: FaultProxy, workbench: Workbench
) -> None:
    """The worst moment: the check of the lease has passed, the request has left, and then everything stops."""
    story = Story(workbench, scheduler_name="default-scheduler")
    old = pair.launch("old")
    await pair.until_held_by("old", 30)
    new = pair.launch("new")
    await new.until_ready()
    await story.begin(mode="Recommend", steering="Bind")
    plan = await story.plan_in("Proposed")
    name = plan["metadata"]["name"]
    status = Match(path=f"/packingplans/{name}/status$", methods=frozenset({"PUT"}))
    rule = proxy.add(status, Hold(), "the old leader's intent")
    await story.approve(plan)
    await eventually(lambda: _held(proxy, rule), what="the old leader's write is on its way")
    old.process.signal(signal.SIGSTOP)
    (held,) = proxy.held(rule)
    proxy.remove(rule)
    epoch = await pair.until_held_by("new")
    await story.plan_in("Done")
    held.release()
    await eventually(lambda: _ended(held.exchange), what="the late write is answered")
    assert held.exchange.server_status == 409
    old.process.signal(signal.SIGCONT)
    await asyncio.sleep(1.0)
    now = (await workbench.api.get(paths.packing_plan(name)))["status"]
    assert now["phase"] == "Done"
    assert now["epoch"] >= epoch


async def _held(proxy: FaultProxy, rule: Any) -> bool:
    return len(proxy.held(rule)) == 1


async def _ended(exchange: Exchange) -> bool:
    return exchange.ended


# the fence alone: a leader whose look at its lease says yes for ever


def still_leading() -> bool:
    return True


def by_epoch(epoch: int, what: str = "an intent") -> Callable[[PackingPlan], PackingPlanStatus]:
    """A status as a leader of that epoch would write it."""
    return lambda fresh: fresh.status.model_copy(update={"epoch": epoch, "message": f"{what} of epoch {epoch}"})


@pytest.fixture
async def overtaken(workbench: Workbench) -> PackingPlan:
    """A plan as the leader of epoch 1 has read it; since then the leader of epoch 2 has written."""
    document = plan_resource(f"plan-{workbench.namespace}", MOVE, PLACE, slots=(TO_N2, TO_N1)).to_document()
    document["metadata"] = {"name": document["metadata"]["name"]}
    name = await workbench.create(paths.PACKING_PLANS, {**document, "status": {}})
    read = await get_plan(workbench.api, name)
    assert read is not None
    read = await write_status(workbench.api, read, by_epoch(1), epoch=1, leads=still_leading)
    await write_status(workbench.api, read, by_epoch(2), epoch=2, leads=still_leading)
    return read


async def epoch_of(api: Api, plan: PackingPlan) -> int:
    epoch: int = (await api.get(paths.packing_plan(plan.name)))["status"]["epoch"]
    return epoch


async def test_fence_an_intent_of_an_overtaken_leader_is_refused(api: Api, overtaken: PackingPlan) -> None:
    with pytest.raises(StaleLeader, match="epoch 2 wrote, this is epoch 1"):
        await write_status(api, overtaken, by_epoch(1, "a late intent"), epoch=1, leads=still_leading)
    assert await epoch_of(api, overtaken) == 2


async def test_fence_without_the_resource_version_the_same_write_goes_through(api: Api, overtaken: PackingPlan) -> None:
    status = part_to_document(by_epoch(1, "a late intent")(overtaken))
    await api.merge_patch(paths.packing_plan_status(overtaken.name), {"status": status})
    assert await epoch_of(api, overtaken) == 1  # so it is the version that holds the first try back …


async def test_fence_without_a_look_at_the_epoch_the_second_try_goes_through(api: Api, overtaken: PackingPlan) -> None:
    fresh = await get_plan(api, overtaken.name)
    assert fresh is not None
    document = {**fresh.to_document(), "status": part_to_document(by_epoch(1, "a late intent")(fresh))}
    await api.replace(paths.packing_plan_status(overtaken.name), document)
    assert await epoch_of(api, overtaken) == 1  # … and the epoch that holds back the one after reading again


@LONG  # the API server itself tries such an eviction for 10 s
async def test_fence_a_late_eviction_never_hits_a_successor_of_the_same_name(api: Api, workbench: Workbench) -> None:
    path = paths.pod(workbench.namespace, "seat-0")

    async def made() -> str:
        template = pod_template("seat", scheduler_name="nobody")
        pods = paths.in_namespace(paths.PODS, workbench.namespace)
        created = await api.create(pods, {**template, "metadata": {"name": "seat-0"}})
        return str(created["metadata"]["uid"])

    first = await made()
    await api.delete(path, {"gracePeriodSeconds": 0})
    second = await made()
    late = PodRef(workbench.namespace, "seat-0", first)
    assert (await evict(api, late)).answer is Answer.GONE
    assert (await api.get(path))["metadata"]["uid"] == second
    # the same without the UID would have gone through
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "seat-0"}}
    await api.create(paths.eviction(workbench.namespace, "seat-0"), body)
    with pytest.raises(NotFound):
        await api.get(path)
