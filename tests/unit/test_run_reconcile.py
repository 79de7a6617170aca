"""Passes of the reconcilers while somebody changes the policy, or takes the lease, in their midst."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from stowage.decide.trigger import FIRST_BACKOFF_SECONDS
from stowage.run.freshness import Sight
from stowage.run.lease import Lease
from stowage.run.metrics import Metrics
from stowage.run.reconcile_plan import PlanReconciler
from stowage.run.reconcile_policy import PolicyReconciler
from stowage.run.settings import OperatorSettings
from stowage.run.solver import SolverError
from stowage.transport import Api, Forbidden, Invalid, NotFound, paths
from stowage_scheduler.cluster import Rejected, Snapshot
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.pack import pack
from stowage_scheduler.packing import Packing
from unit.builders import NOW, plan_resource, policy_resource
from unit.one_move import BEFORE, MOVE, PLACE, TO_N1, TO_N2

Document = dict[str, Any]
NAME = "default-20270115-080000-abcd"


class Cluster:
    """One policy and its plans; `on_read` may change things when a policy is read."""

    def __init__(self, policy: Document | None, *plans: Document) -> None:
        self.policy = policy
        self.plans = {one["metadata"]["name"]: one for one in plans}
        self.lease = SimpleNamespace(leading=True, epoch=3)
        self.writes: list[tuple[str, str]] = []
        self.statuses: list[Document] = []
        self.on_read: Callable[[], None] = lambda: None
        self.refusal: Exception | None = None
        self.refuses_plans: Exception | None = None
        self.rejected: list[Rejected] = []
        self.unheard: list[str] = []  # pods on every node that the store has not heard of
        self.settings = OperatorSettings()

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Document:
        await asyncio.sleep(0)  # others have their turn while a request is under way
        if path == paths.PODS:
            node = (query or {})["fieldSelector"].partition(",")[0].removeprefix("spec.nodeName=")
            uids = [*(pod.uid for pod in BEFORE.pods if pod.node == node), *self.unheard]
            return {"items": [{"metadata": {"uid": uid, "namespace": "a", "name": uid}} for uid in uids]}
        if path == paths.PACKING_PLANS:
            return {"items": list(copy.deepcopy(self.plans).values())}
        if path == paths.PACKING_POLICIES:
            return {"items": [copy.deepcopy(self.policy)] if self.policy else []}
        if path.startswith(paths.PACKING_POLICIES) and self.policy is not None:
            self.on_read()
            return copy.deepcopy(self.policy)
        plan = self.plans.get(path.rpartition("/")[2])
        if plan is None:
            raise NotFound("GET", status=404)
        return copy.deepcopy(plan)

    async def create(self, path: str, body: Document) -> Document:
        kind = path.rpartition("/")[2]
        self.writes.append(("POST", kind if kind != "events" else body["reason"]))
        if kind == "packingplans" and self.refuses_plans is not None:
            raise self.refuses_plans
        if kind == "eviction" and self.refusal is not None:
            raise self.refusal
        body["metadata"] |= {"resourceVersion": "1", "uid": "made"}
        return body

    async def replace(self, path: str, body: Document) -> Document:
        self.writes.append(("PUT", path.split("/")[4]))
        self.statuses.append(body["status"])
        if body["kind"] == "PackingPlan":
            self.plans[body["metadata"]["name"]] = body
        return body

    async def merge_patch(self, path: str, body: Document) -> Document:
        self.writes.append(("PATCH", path.rpartition("/")[2]))
        return body

    async def extenders(self) -> frozenset[str]:
        return frozenset({"host-a"})

    def parts(self) -> Document:
        pods = {pod.key: pod for pod in BEFORE.pods}
        store = SimpleNamespace(snapshot=lambda _: BEFORE, pods=pods, rejected=self.rejected)
        return {
            "api": cast("Api", self),
            "store": store,
            "lease": cast("Lease", self.lease),
            "metrics": Metrics(),
            "clock": lambda: NOW,
            "settings": self.settings,
            "pulses": SimpleNamespace(alive=self.extenders),
        }

    def plan_pass(self) -> PlanReconciler:
        return PlanReconciler(**self.parts())


class Packer:
    """A solver during whose work something happens."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self.meanwhile = meanwhile

    async def solve(self, snapshot: Snapshot, options: PackOptions, budget: Budget, seed: int) -> Packing:
        packing = pack(snapshot, options, structs.replace(budget, seconds=1.0, certify_seconds=0.0), seed, lambda: 0.0)
        self.meanwhile()
        return packing


def enforcing() -> Document:
    disruption = {"minPodAge": "0s", "ownerSettled": "0s"}
    return policy_resource(mode="Enforce", disruption=disruption).to_document()


def running(approval: str = "Approved") -> Document:
    status = {"phase": "Running", "epoch": 3, "startedAt": "2027-01-15T08:00:00Z"}
    document = plan_resource(NAME, MOVE, PLACE, slots=(TO_N2, TO_N1), approval=approval, status=status).to_document()
    seen = {"holder": "host-a", "observedPlan": document["metadata"]["uid"], "at": "2027-01-15T08:00:00Z"}
    document["status"]["extenders"] = [seen]
    return document


def recommend(cluster: Cluster) -> None:
    assert cluster.policy is not None
    cluster.policy["spec"]["mode"] = "Recommend"
    cluster.policy["metadata"]["generation"] = 2


def pause(cluster: Cluster) -> None:
    assert cluster.policy is not None
    cluster.policy["spec"]["paused"] = True


def delete(cluster: Cluster) -> None:
    cluster.policy = None


def spoil(cluster: Cluster) -> None:
    assert cluster.policy is not None
    cluster.policy["spec"]["mode"] = "Sometimes"


def lose_lease(cluster: Cluster) -> None:
    cluster.lease.leading = False


def regain_lease(cluster: Cluster) -> None:
    cluster.lease.epoch = 5


@pytest.mark.parametrize(
    ("meanwhile", "made"),
    [
        pytest.param(lambda _: None, True, id="nothing"),
        pytest.param(recommend, False, id="its mode became Recommend"),
        pytest.param(pause, False, id="it was paused"),
        pytest.param(delete, False, id="it was deleted"),
        pytest.param(spoil, False, id="it cannot be read any more"),
        pytest.param(lose_lease, False, id="the lease was lost"),
        pytest.param(regain_lease, False, id="the lease was lost and gained again"),
    ],
)
async def test_an_answer_is_dropped_when_the_policy_or_the_lease_changed_during_the_packing(
    meanwhile: Callable[[Cluster], None], made: bool
) -> None:
    cluster = Cluster(enforcing())
    reconciler = PolicyReconciler(
        **cluster.parts(), solver=cast("Any", Packer(lambda: meanwhile(cluster))), generator=random.Random(1)
    )
    await reconciler.reconcile("default")
    assert (("POST", "packingplans") in cluster.writes) is made
    assert made or not cluster.writes


async def test_a_plan_that_is_slow_to_start_is_not_overtaken_by_a_rival() -> None:
    early, late = running(), running()
    late["metadata"] |= {"name": "default-20270115-080000-wxyz", "uid": "late"}
    for document in (early, late):
        seen = [{"holder": "host-a", "observedPlan": document["metadata"]["uid"], "at": "2027-01-15T08:00:00Z"}]
        document["status"] = {"extenders": seen}
    late["status"] |= {"phase": "Approved", "epoch": 3}
    cluster = Cluster(enforcing(), early, late)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def alive() -> frozenset[str]:
        asked.set()
        await go_on.wait()
        return frozenset({"host-a"})

    reconciler = PlanReconciler(**{**cluster.parts(), "pulses": cast("Any", SimpleNamespace(alive=alive))})
    slow = asyncio.create_task(reconciler.reconcile(late["metadata"]["name"]))
    await asked.wait()  # it has looked for rivals and found none
    reconciler._pulses = cast("Any", SimpleNamespace(alive=cluster.extenders))

    async def twice() -> None:
        await reconciler.reconcile(NAME)
        await reconciler.reconcile(NAME)

    quick = asyncio.create_task(twice())
    for _ in range(100):
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(slow, quick)
    phases = sorted(plan["status"]["phase"] for plan in cluster.plans.values())
    assert phases == ["Running", "Superseded"]
    assert cluster.writes.count(("POST", "eviction")) == 1


async def test_a_packer_that_died_is_asked_again_soon_although_nothing_changed() -> None:
    cluster = Cluster(enforcing())
    now = NOW

    def die() -> None:
        raise SolverError("ProcessExpired: Abnormal termination")

    packer = Packer(die)
    parts = {**cluster.parts(), "clock": lambda: now}
    reconciler = PolicyReconciler(**parts, solver=cast("Any", packer), generator=random.Random(1))
    await reconciler.reconcile("default")
    assert ("POST", "packingplans") not in cluster.writes
    packer.meanwhile = lambda: None
    now += FIRST_BACKOFF_SECONDS
    await reconciler.reconcile("default")
    assert ("POST", "packingplans") in cluster.writes


@pytest.mark.parametrize("approval", ["Approved", "Aborted"])
@pytest.mark.parametrize("meanwhile", [lose_lease, regain_lease])
async def test_a_pass_that_loses_its_lease_does_nothing(approval: str, meanwhile: Callable[[Cluster], None]) -> None:
    cluster = Cluster(enforcing(), running(approval))
    cluster.on_read = lambda: meanwhile(cluster)
    assert await cluster.plan_pass().reconcile(NAME) is None
    assert cluster.writes == []


async def test_a_departure_is_told_only_when_the_server_granted_it() -> None:
    cluster = Cluster(enforcing(), running())
    await cluster.plan_pass().reconcile(NAME)
    assert cluster.writes == [("PUT", "packingplans"), ("POST", "eviction"), ("POST", "Moving")]
    refused = Cluster(enforcing(), running())
    refused.refusal = Forbidden("POST", status=403, message="the webhook says no")
    await refused.plan_pass().reconcile(NAME)
    assert refused.writes == [("PUT", "packingplans"), ("POST", "eviction")]


async def test_a_plan_that_cannot_be_read_is_aborted_once_in_words(caplog: pytest.LogCaptureFixture) -> None:
    bad = running()
    bad["status"], bad["metadata"]["resourceVersion"] = {}, "1"
    bad["spec"]["steps"][0]["after"] = ["s999"]
    cluster = Cluster(enforcing(), bad)
    for _ in range(3):
        assert await cluster.plan_pass().reconcile(NAME) is None
    status = cluster.plans[NAME]["status"]
    assert (status["phase"], status["reason"]) == ("Aborted", "InvalidSpec")
    assert "after names s999" in status["message"]
    assert cluster.writes == [("PUT", "packingplans"), ("PATCH", "n1")]
    assert len([one for one in caplog.records if "left out" in one.message]) == 1


async def test_nobody_is_evicted_while_the_server_knows_pods_that_the_store_has_not_heard_of() -> None:
    cluster = Cluster(enforcing(), running())
    cluster.unheard = ["bound-by-somebody-else"]
    assert await cluster.plan_pass().reconcile(NAME) == 1.0
    assert cluster.writes == []
    cluster.rejected = [Rejected("Pod", "a/bound-by-somebody-else", "spec", "", "it must make sense")]
    await cluster.plan_pass().reconcile(NAME)  # now it has heard of it
    assert ("POST", "eviction") in cluster.writes


class Blind:
    """A view that has lost the jobs."""

    complete = False

    def degraded(self) -> dict[str, str]:
        return {"Job": "Forbidden: GET /apis/batch/v1/jobs: 403"}


async def test_nothing_is_planned_or_begun_on_old_facts_and_the_policy_says_why() -> None:
    cluster = Cluster(enforcing(), running())
    parts = cluster.parts() | {"sight": cast("Sight", Blind())}
    assert await PlanReconciler(**parts).reconcile(NAME) == 1.0
    assert cluster.writes == []
    packer = Packer(lambda: pytest.fail("it packed"))
    policies = PolicyReconciler(**parts, solver=cast("Any", packer), generator=random.Random(1))
    await policies.reconcile("default")
    assert cluster.writes == [("PUT", "packingpolicies")]
    (status,) = cluster.statuses
    said = {one["type"]: (one["status"], one["reason"], one["message"]) for one in status["conditions"]}
    words = "Job is not followed: Forbidden: GET /apis/batch/v1/jobs: 403"
    assert said == {"Ready": ("False", "NotFollowed", words), "Degraded": ("True", "NotFollowed", words)}


async def test_an_aborted_plan_ends_also_when_nothing_is_seen() -> None:
    cluster = Cluster(enforcing(), running("Aborted"))
    await PlanReconciler(**cluster.parts() | {"sight": cast("Sight", Blind())}).reconcile(NAME)
    assert cluster.statuses[0]["phase"] == "Aborted"


async def test_a_plan_that_a_webhook_refuses_is_told_in_the_policy_and_tried_again_later() -> None:
    cluster = Cluster(enforcing())
    cluster.refuses_plans = Invalid("POST packingplans", status=422, message="denied by guard.example.com")
    policies = PolicyReconciler(**cluster.parts(), solver=cast("Any", Packer(lambda: None)), generator=random.Random(1))
    with pytest.raises(Invalid):  # the queue comes back, later and later
        await policies.reconcile("default")
    (ready,) = [one for one in cluster.statuses[-1]["conditions"] if one["type"] == "Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "PlanRefused")
    assert "denied by guard.example.com" in ready["message"]


@pytest.mark.parametrize("steering", ["Extender", "Bind"])
@pytest.mark.parametrize(("watched", "touches"), [((), True), (("a",), False)], ids=["whole cluster", "a namespace"])
async def test_after_a_plan_nodes_are_touched_only_by_who_may(
    steering: str, watched: tuple[str, ...], touches: bool
) -> None:
    ended = {"phase": "Done", "epoch": 3, "finishedAt": "2027-01-15T08:00:00Z"}
    plan = plan_resource(NAME, MOVE, PLACE, slots=(TO_N2, TO_N1), status=ended, steering=steering).to_document()
    cluster = Cluster(enforcing(), plan)
    cluster.settings = OperatorSettings(watch_namespaces=watched)
    reads: list[str] = []
    answer = cluster.get

    async def get(path: str, query: Mapping[str, str] | None = None) -> Document:
        reads.append(path)
        return await answer(path, query)

    cluster.get = get  # type: ignore[method-assign]
    with contextlib.suppress(NotFound):  # the fake has no nodes to read
        await cluster.plan_pass().reconcile(NAME)
    nodes = {path for path in reads if path.startswith(paths.NODES)} | {
        name for verb, name in cluster.writes if verb == "PATCH"
    }
    assert bool(nodes) is touches
