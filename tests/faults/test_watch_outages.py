"""The API server is away, refuses, or lost the custom resources: processes live on, say so, and recover.

Times are scaled: an outage of 60 s is 6 s here; leases are short. `make faults` plays the long ones.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from faults.followers import monotonic
from faults.oracles import alarms
from faults.probes import Probed, Start, start_extender, start_operator
from faults.proxy import FaultProxy
from faults.script import Answer, Freeze, Hold, Match
from harness.waiting import always, eventually
from harness.workbench import Document, Workbench, condition
from stowage.api import crd
from stowage.demo.local_cluster import LocalCluster
from stowage.transport import Api, NotFound, paths

OUTAGE_SECONDS = 5.0
BACK_WITHIN_SECONDS = 30.0
WATCHES = frozenset({"watch"})
LONG = pytest.mark.long_fault
AUDIT = {"STOWAGE_AUDIT_SECONDS": "2"}


class Policies:
    """Policies of a test that select no node: the operator has nothing to do with them but to write their status."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench

    async def come(self) -> str:
        name = f"p-{uuid.uuid4().hex[:8]}"
        document = {"apiVersion": "stowage.dev/v1alpha1", "kind": "PackingPolicy", "metadata": {"name": name}}
        return await self._workbench.create(
            paths.PACKING_POLICIES, {**document, "spec": {"nodeSelector": {"of": name}}}
        )

    async def read(self, name: str) -> Document:
        return await self._workbench.api.get(paths.packing_policy(name))

    async def until_handled(self, name: str, timeout_seconds: float) -> float:
        """Waits until the operator has said something of a policy; the seconds that it took."""
        started = monotonic()

        async def handled() -> bool:
            return bool(condition(await self.read(name), "Ready"))

        await eventually(handled, timeout_seconds=timeout_seconds, what=f"policy {name} has a status")
        return monotonic() - started


@pytest.fixture
def policies(workbench: Workbench) -> Policies:
    return Policies(workbench)


@pytest.fixture
async def operator(start: Start) -> AsyncIterator[Probed]:
    """An operator that leads."""
    probed = start_operator(start, environment=AUDIT)
    await probed.until_ready()
    await probed.until_leading()
    yield probed
    assert probed.process.exit_code is None, "it is still the same process"
    assert alarms(probed.process.log_tail(10_000)) == []


@pytest.mark.parametrize(
    ("how", "seconds"),
    [
        ("refused", OUTAGE_SECONDS),
        ("frozen", OUTAGE_SECONDS),
        pytest.param("refused", 60.0, marks=LONG),
        pytest.param("refused", 600.0, marks=LONG),
        pytest.param("frozen", 100.0, marks=LONG),  # longer than the silence that a watch may keep
    ],
)
async def test_f4_f8_an_outage_ends_no_process_and_is_over_soon_after_its_end(
    proxy: FaultProxy, operator: Probed, start: Start, policies: Policies, how: str, seconds: float
) -> None:
    extender = start_extender(start)
    await extender.until_ready()
    both = (operator, extender)
    if how == "refused":
        proxy.refuse()
    else:  # SIGSTOP: connections stay, nobody answers
        proxy.add(Match(), Hold())
        proxy.freeze()

    async def live() -> bool:
        return all([await one.live() for one in both])

    await always(live, for_seconds=seconds)
    if how == "refused":
        await eventually(lambda: says_that_it_sees_nothing(operator), what="it says that it sees nothing")
    new = await policies.come()  # while nobody hears of it
    if how == "refused":
        proxy.accept()
    else:
        proxy.clear()
        proxy.thaw()
    ended = monotonic()
    for one in both:
        await one.until_ready(BACK_WITHIN_SECONDS)
    await policies.until_handled(new, BACK_WITHIN_SECONDS - (monotonic() - ended))
    assert await live()
    assert extender.process.exit_code is None
    assert alarms(extender.process.log_tail(10_000)) == []


async def says_that_it_sees_nothing(operator: Probed) -> bool:
    status, text = await operator.ask("/readyz")
    assert (status, "is not followed: Unreachable" in text) == (503, True), text
    return await operator.metric("stowage_degraded", reason="Unreachable") >= 10


async def test_f11_without_a_right_the_policies_say_what_is_not_followed_and_recover_when_it_is_back(
    proxy: FaultProxy, operator: Probed, policies: Policies
) -> None:
    name = await policies.come()
    await policies.until_handled(name, BACK_WITHIN_SECONDS)
    jobs = Match(path=f"^{paths.JOBS}$", methods=frozenset({"GET"}))
    proxy.add(jobs, Answer(403, message="jobs.batch is forbidden"))
    proxy.cut(jobs)

    async def degraded(status: str) -> Document:
        found = condition(await policies.read(name), "Degraded")
        assert found.get("status") == status, found
        return found

    said = await eventually(lambda: degraded("True"), what="the policy is Degraded")
    assert said["reason"] == "NotFollowed"
    assert "Job is not followed: Forbidden" in said["message"]
    assert "jobs.batch is forbidden" in said["message"]
    assert condition(await policies.read(name), "Ready")["status"] == "False"
    status, text = await operator.ask("/readyz")
    assert (status, text.partition(":")[0]) == (503, "Job is not followed")
    assert await operator.live()
    assert await operator.metric("stowage_degraded", collection="Job", reason="Forbidden") == 1
    assert await operator.metric("stowage_watch_failures_total", collection="Job", reason="Forbidden") >= 1
    other = await policies.come()  # everything else is served
    await policies.until_handled(other, BACK_WITHIN_SECONDS)

    async def silent() -> bool:
        since = len(proxy.exchanges)
        await asyncio.sleep(2.0)
        written = [one for one in proxy.seen(Match(mutating=True), since=since) if "leases" not in one.request.path]
        assert written == []
        return True

    await eventually(silent, what="it has said it, and does not say it again and again")
    proxy.clear()
    await eventually(lambda: degraded("False"), timeout_seconds=BACK_WITHIN_SECONDS, what="it is over")
    await operator.until_ready(BACK_WITHIN_SECONDS)
    await eventually(lambda: shows_nothing(operator), what="the metric is nought")


async def test_f11_custom_resources_that_are_deleted_and_come_again_are_followed_again(
    cluster: LocalCluster, api: Api, operator: Probed, policies: Policies
) -> None:
    definitions = {document["metadata"]["name"]: document for document in crd.documents()}
    names = [name for name in definitions if name.startswith("packing")]
    definitions_path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    try:
        for name in names:
            await api.delete(paths.named(definitions_path, name))

        async def says_so() -> bool:
            status, text = await operator.ask("/readyz")
            return status == 503 and "packingpolicies is not followed: NotServed" in text

        await eventually(says_so, what="readyz says that the resources are gone")
        assert await operator.live()
        await eventually(lambda: are_gone(api, definitions_path, names), what="no definition is still on its way out")
    finally:
        cluster.apply([definitions[name] for name in names])
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{name}" for name in names))
    await operator.until_ready(BACK_WITHIN_SECONDS)
    new = await eventually(lambda: comes_if_served(policies), what="a policy can be made again")
    await policies.until_handled(new, 30.0)


async def are_gone(api: Api, collection: str, names: list[str]) -> bool:
    left = {document["metadata"]["name"] for document in (await api.get(collection))["items"]}
    return not left & {*names}


async def comes_if_served(policies: Policies) -> str:
    try:
        return await policies.come()
    except NotFound as error:
        raise AssertionError(error) from error


async def test_f11_a_right_that_was_never_given_is_told_as_well(
    proxy: FaultProxy, start: Start, policies: Policies
) -> None:
    proxy.add(Match(path=f"^{paths.JOBS}$", methods=frozenset({"GET"})), Answer(403))
    operator = start_operator(start, environment=AUDIT)
    await operator.until_leading(60.0)
    name = await policies.come()

    async def told() -> bool:
        found = condition(await policies.read(name), "Degraded")
        return found.get("status") == "True" and "Job is not followed: Forbidden" in found["message"]

    await eventually(told, what="the policy is Degraded")
    assert await operator.live()
    assert not await operator.ready()
    proxy.clear()
    await operator.until_ready(BACK_WITHIN_SECONDS)
    await eventually(lambda: _watching(policies, name), timeout_seconds=BACK_WITHIN_SECONDS, what="it is over")


async def _watching(policies: Policies, name: str) -> bool:
    return condition(await policies.read(name), "Degraded")["status"] == "False"


async def shows_nothing(operator: Probed) -> bool:
    return await operator.metric("stowage_degraded") == 0


POLICY_WATCH = Match(path=f"^{paths.PACKING_POLICIES}$", verbs=WATCHES)


async def test_f7_kopf_is_told_an_error_and_then_refused_and_hears_again(
    proxy: FaultProxy, operator: Probed, policies: Policies
) -> None:
    await eventually(lambda: _watched(proxy), what="kopf watches")
    assert proxy.inject_error(500, POLICY_WATCH) == 1
    new = await policies.come()
    await policies.until_handled(new, BACK_WITHIN_SECONDS)
    proxy.add(Match(path=f"^{paths.PACKING_POLICIES}", verbs=frozenset({"list", "watch"})), Answer(503))
    proxy.cut(POLICY_WATCH)
    await asyncio.sleep(OUTAGE_SECONDS)
    assert await operator.live()
    new = await policies.come()
    proxy.clear()
    await policies.until_handled(new, BACK_WITHIN_SECONDS)


async def test_f7_f8_kopf_is_deaf_and_its_resources_are_heard_of_all_the_same(
    proxy: FaultProxy, operator: Probed, policies: Policies
) -> None:
    await eventually(lambda: _watched(proxy), what="kopf watches")
    starts = await operator.metric("stowage_doorbell_starts_total")
    proxy.add(POLICY_WATCH, Freeze())
    assert proxy.freeze(POLICY_WATCH) == 1
    new = await policies.come()
    await policies.until_handled(new, BACK_WITHIN_SECONDS)  # by audits of 2 s: a silence alone is noticed after 70 s
    proxy.clear()

    async def restarted() -> bool:
        return await operator.metric("stowage_doorbell_starts_total") > starts

    await eventually(restarted, what="kopf was started again")
    assert await operator.metric("stowage_doorbell_unheard_changes_total") >= 1

    async def heard() -> bool:
        assert await _watched(proxy)
        unheard = await operator.metric("stowage_doorbell_unheard_changes_total")
        await policies.until_handled(await policies.come(), BACK_WITHIN_SECONDS)
        return await operator.metric("stowage_doorbell_unheard_changes_total") == unheard

    # one that was started again sooner than the fault was over is found out once more
    await eventually(heard, timeout_seconds=60, what="kopf hears again")


async def _watched(proxy: FaultProxy) -> bool:
    return any(not watch.frozen for watch in proxy.watches(POLICY_WATCH))
