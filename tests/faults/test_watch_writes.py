"""Writes that are refused, in conflict, throttled or based on old facts: plans end as without faults, others go on."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator

import pytest

from faults.followers import POD_WATCH, monotonic
from faults.oracles import alarms, bound_twice, evicted_twice, oversubscribed
from faults.probes import SHORT_TERMS, Probed, Start, start_operator
from faults.proxy import FaultProxy
from faults.script import Answer, Hold, Match
from faults.traffic import Request
from faults.watch_log import watch_log
from harness.story import Story
from harness.waiting import eventually
from harness.workbench import Document, Workbench, condition, pod_template
from stowage.observe.store import COLLECTIONS
from stowage.run.doorbell import KINDS
from stowage.run.queue import FIRST_RETRY_SECONDS
from stowage.transport import Api, paths

pytestmark = pytest.mark.usefixtures("operator")

OPERATORS = "^stowage-operator"
THROTTLED_SECONDS = 6.5
TERM_SECONDS = float(SHORT_TERMS["STOWAGE_RENEW_WITHIN_SECONDS"])
PACE_SECONDS = 0.8 * float(SHORT_TERMS["STOWAGE_LEASE_RETRY_SECONDS"])
RECONCILED = ("policy", "plan", "cluster")


@pytest.fixture
async def operator(start: Start) -> AsyncIterator[Probed]:
    """An operator that leads."""
    probed = start_operator(start)
    await probed.until_ready()
    await probed.until_leading()
    yield probed
    assert probed.process.exit_code is None, "it is still the same process"
    assert alarms(probed.process.log_tail(10_000)) == []


@pytest.fixture
def story(workbench: Workbench) -> Story:
    return Story(workbench, scheduler_name="default-scheduler")


def not_leases(request: Request) -> bool:
    return "/leases" not in request.path


async def test_f9_conflicts_are_read_again_and_a_refused_binding_is_no_lost_pod(
    proxy: FaultProxy, story: Story, api: Api
) -> None:
    patches = Match(methods=frozenset({"PUT", "PATCH"}), user_agent=OPERATORS, every=3, where=not_leases)
    conflicts = proxy.add(patches, Answer(409))
    bindings = proxy.add(Match(path="/binding$", user_agent=OPERATORS, last=2), Answer(409))
    async with watch_log(api, paths.PODS) as log:
        await story.begin(steering="Bind")
        nodes = (await api.get(paths.NODES))["items"]
        await story.plan_in("Done", timeout_seconds=60)
        await story.bench.until_ready("large", 1)
        await story.bench.until_ready("small", 2)
    assert conflicts.played >= 1
    assert bindings.played == 2
    assert evicted_twice(proxy.exchanges) == []
    assert list(oversubscribed(log.changes, nodes)) == []
    assert list(bound_twice(log.changes)) == []


async def test_f10_a_server_that_asks_to_be_left_alone_is_and_no_storm_follows(
    proxy: FaultProxy, operator: Probed, story: Story
) -> None:
    await story.held_back(steering="Bind")
    before, began = len(proxy.exchanges), monotonic()
    throttle = proxy.add(Match(), Answer(429, retry_after_seconds=2))
    proxy.cut()
    await asyncio.sleep(THROTTLED_SECONDS)

    def times(path: str) -> list[float]:
        return [one.at_seconds for one in proxy.seen(Match(), since=before) if one.request.path == path]

    async def all_asked_again() -> bool:
        # one that the server lacks is looked for each minute
        return all(len(times(collection.path)) > 2 for collection in COLLECTIONS if not collection.optional)

    await eventually(all_asked_again, what="each collection was asked for three times")
    assert await operator.live()
    asked = proxy.seen(Match(), since=before)
    passed = monotonic() - began
    assert throttle.played > 10
    for collection in COLLECTIONS:
        gaps = [later - sooner for sooner, later in itertools.pairwise(times(collection.path))]
        assert min(gaps, default=2.0) >= 2.0, f"{collection.path} was asked again before its time"
    renewals = [one for one in asked if not not_leases(one.request)]
    # the leader keeps its pace for its term, then it asks every 2 s too
    assert len(renewals) <= TERM_SECONDS / PACE_SECONDS + 2 + max(0.0, passed - TERM_SECONDS) / 2.0
    followers = {one.request.path for one in asked if one.request.query.get("watch")}
    each = 1 + passed / 2.0  # at once, then every 2 s
    assert len(asked) - len(renewals) <= each * (len(followers) + len(RECONCILED) + len(KINDS))  # kinds are audited too
    await story.let_go()
    proxy.clear()
    after = len(proxy.exchanges)
    freed = monotonic()
    await operator.until_ready(30.0)
    await story.plan_in("Done", timeout_seconds=30)
    passed = monotonic() - freed
    assert len(proxy.seen(Match(user_agent=OPERATORS), since=after)) <= 100 + 40 * passed
    assert evicted_twice(proxy.exchanges) == []


async def test_f12_words_of_a_webhook_that_refuses_a_plan_reach_the_policy_and_others_go_on(
    proxy: FaultProxy, story: Story, workbench: Workbench
) -> None:
    words = 'admission webhook "guard.example.com" denied the request: no plans today'
    rule = proxy.add(Match(path="/packingplans$", methods=frozenset({"POST"})), Answer(422, message=words))
    await story.begin(steering="Bind")

    async def told() -> Document:
        ready = condition(await workbench.api.get(paths.packing_policy(story.policy)), "Ready")
        assert (ready.get("status"), ready.get("reason")) == ("False", "PlanRefused"), ready
        return ready

    assert words in (await eventually(told, what="the policy tells"))["message"]
    await another_policy_is_handled(workbench, within_seconds=30.0)
    # ever more slowly: pauses of 0.25, 0.5, 1, … s, half of each by chance, and its own status rings it too
    times = [one.at_seconds for one in proxy.seen(rule.match)]
    assert len(times) <= 3 + math.log2(1 + (times[-1] - times[0]) / (FIRST_RETRY_SECONDS / 2))
    proxy.clear()
    await story.plan_in("Done", timeout_seconds=40)


async def test_f12_words_of_a_webhook_that_refuses_an_eviction_reach_the_plan_and_a_slow_one_holds_nobody_up(
    proxy: FaultProxy, story: Story, workbench: Workbench
) -> None:
    slow = proxy.add(Match(path="/eviction$", last=1), Hold())
    words = 'admission webhook "guard.example.com" denied the request: not this one'
    proxy.add(Match(path="/eviction$"), Answer(422, message=words))
    await story.begin(steering="Bind")

    async def asked() -> bool:
        return len(proxy.held(slow)) == 1

    await eventually(asked, what="an eviction is asked for")
    await another_policy_is_handled(workbench, within_seconds=10.0)
    proxy.held(slow)[0].drop()

    async def told() -> bool:
        plans = await story.plans()
        return any(words in str(plan.get("status", {})) for plan in plans)

    await eventually(told, timeout_seconds=40, what="the plan has the words of the webhook")

    async def announced() -> bool:
        events = (await workbench.api.get(paths.events(workbench.namespace)))["items"]
        return any(one["reason"] == "EvictionRefused" and words in one["note"] for one in events)

    await eventually(announced, what="an event on the pod has them too")


async def another_policy_is_handled(workbench: Workbench, *, within_seconds: float) -> None:
    name = f"other-{workbench.namespace}"
    document = {"apiVersion": "stowage.dev/v1alpha1", "kind": "PackingPolicy", "metadata": {"name": name}}
    await workbench.create(paths.PACKING_POLICIES, {**document, "spec": {"nodeSelector": {"of": name}}})

    async def handled() -> bool:
        return bool(condition(await workbench.api.get(paths.packing_policy(name)), "Ready"))

    await eventually(handled, timeout_seconds=within_seconds, what="another policy is handled meanwhile")


async def bind_by_somebody_else(workbench: Workbench, name: str, node: str, cpu: str) -> None:
    """A pod that another scheduler puts on a node; it cares for no taint."""
    template = pod_template("foreign", cpu=cpu, scheduler_name="somebody-else")
    pods = paths.in_namespace(paths.PODS, workbench.namespace)
    await workbench.api.create(pods, {**template, "metadata": {"name": name, "labels": {"app": "foreign"}}})
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }
    await workbench.api.create(f"{paths.pod(workbench.namespace, name)}/binding", binding)


@pytest.mark.parametrize(
    "frozen_at",
    [
        pytest.param("Proposed", id="before the plan begins"),
        pytest.param("Running", id="before its next eviction"),
    ],
)
async def test_f20_room_that_somebody_else_took_while_the_watch_was_frozen_is_not_given_away_again(
    proxy: FaultProxy, story: Story, workbench: Workbench, api: Api, frozen_at: str
) -> None:
    bench = story.bench
    async with watch_log(api, paths.PODS) as log:
        if frozen_at == "Proposed":
            await story.begin(mode="Recommend", steering="Bind")
            plan = await story.plan_in("Proposed")
        else:
            plan = await story.held_back(steering="Bind")
        nodes = (await api.get(paths.NODES))["items"]
        small = await story.uids("small")
        (target,) = {slot["node"] for slot in plan["spec"]["slots"] if slot["class"] != class_of_large(plan)}
        assert proxy.freeze(POD_WATCH) == 1
        await bind_by_somebody_else(workbench, "foreign", target, "4")
        if frozen_at == "Proposed":
            await story.approve(plan)
        else:
            await story.let_go()
        await asyncio.sleep(1.5)
        assert await story.uids("small") == small  # nobody lost a place for a plan that can not come true

        async def found_out() -> bool:
            return len([one for one in proxy.watches(POD_WATCH) if not one.frozen]) == 1

        # a silence alone is noticed after 70 s
        await eventually(found_out, timeout_seconds=30, what="the frozen watch is left")
        await story.plan_in("Superseded", "Aborted", timeout_seconds=40)
        assert await story.uids("small") == small
        assert await bench.bound("large") == {}
    assert list(oversubscribed(log.changes, nodes)) == []
    assert list(bound_twice(log.changes)) == []


async def test_f4_after_an_outage_nothing_is_done_that_made_sense_only_before_it(
    proxy: FaultProxy, story: Story, workbench: Workbench, api: Api
) -> None:
    plan = await story.held_back(steering="Bind")
    small = await story.uids("small")
    (target,) = {slot["node"] for slot in plan["spec"]["slots"] if slot["class"] != class_of_large(plan)}
    async with watch_log(api, paths.PODS) as log:
        nodes = (await api.get(paths.NODES))["items"]
        proxy.refuse()
        await bind_by_somebody_else(workbench, "foreign", target, "4")
        await story.let_go()
        await asyncio.sleep(4.0)
        proxy.accept()
        await story.plan_in("Superseded", "Aborted", timeout_seconds=40)
        assert await story.uids("small") == small
    assert list(oversubscribed(log.changes, nodes)) == []


def class_of_large(plan: Document) -> Document:
    """The class of the slot of the pod that waits: the one whose step is no eviction's."""
    evicted = {step["slot"] for step in plan["spec"]["steps"] if step["action"] == "Evict" and "slot" in step}
    (found,) = [slot["class"] for slot in plan["spec"]["slots"] if slot["id"] not in evicted]
    return dict(found)
