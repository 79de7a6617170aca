"""Looking for nodes to empty: what is remembered of it, and that a pod which waits ends it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from harness.facts import packed
from stowage.api.reasons import PolicyReason
from stowage.decide.consolidation import Looked, cut_off
from stowage.observe.store import Store
from stowage.run.consolidator import Consolidator, Found
from stowage.run.metrics import Metrics
from stowage.run.reconcile_plan import PlanReconciler
from stowage.run.reconcile_policy import PolicyReconciler
from stowage.run.solver import Solver, SolverError
from stowage.transport import Invalid, NotLeading
from stowage_scheduler.cluster import Pod, Snapshot
from stowage_scheduler.emptying import Consolidation
from stowage_scheduler.options import Drain, PackOptions
from unit.builders import NOW, node, pod, policy_resource, replica_set, snapshot
from unit.test_run_reconcile import NAME, Cluster, Document, running

WEB, API = pod("web-1", "n1"), pod("api-1", "n2", app="api")
CLUSTER = snapshot(node("n1"), node("n2"), WEB, API, replica_set("web", 1), replica_set("api", 1))
POLICY = policy_resource(consolidation={"mode": "WhenQuiet"})
PACKING = packed(CLUSTER, PackOptions(drain=Drain(frozenset({"n1"}), voluntary=True)))
FOUND = Consolidation(("n1",), PACKING)
WAITS = pod("new-1", app="new")
CUT_OFF = cut_off(Looked(), NOW)
Work = Callable[[dict[str, Pod]], Awaitable[Consolidation]]


async def search(work: Work) -> tuple[Found | None, Looked, Metrics]:
    """One search; `work` is the solver's, and may change the pods of the store meanwhile."""
    pods = {one.key: one for one in CLUSTER.pods}

    async def consolidate(*_: object) -> Consolidation:
        return await work(pods)

    metrics = Metrics()
    solver = cast("Solver", SimpleNamespace(consolidate=consolidate))
    searching = Consolidator(solver, cast("Store", SimpleNamespace(pods=pods)), metrics, lambda: NOW, 1)
    searching.know([POLICY])
    found = await searching.search(POLICY, CLUSTER, PackOptions(), "mark")
    return found, searching.looked(POLICY), metrics


async def there_is_one(_: dict[str, Pod]) -> Consolidation:
    return FOUND


async def there_is_none(_: dict[str, Pod]) -> Consolidation:
    return Consolidation()


async def a_pod_moves_meanwhile(pods: dict[str, Pod]) -> Consolidation:
    pods[WEB.key] = structs.replace(WEB, terminating=True)
    return FOUND


async def a_pod_waits_at_its_end(pods: dict[str, Pod]) -> Consolidation:
    pods[WAITS.key] = WAITS
    return FOUND


async def a_pod_waits_and_it_goes_on(pods: dict[str, Pod]) -> Consolidation:
    pods[WAITS.key] = WAITS
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def a_pod_that_no_policy_plans_for_waits(pods: dict[str, Pod]) -> Consolidation:
    pods[WAITS.key] = structs.replace(WAITS, scheduler_name="batch")
    return FOUND


async def it_fails(_: dict[str, Pod]) -> Consolidation:
    raise SolverError("no memory")


@pytest.mark.parametrize(
    ("work", "nodes", "looked", "outcome"),
    [
        pytest.param(there_is_one, ("n1",), Looked(), "found", id="a-node-can-be-emptied"),
        pytest.param(there_is_none, None, Looked("mark", NOW), "nothing", id="no-node-can-be-emptied"),
        pytest.param(a_pod_moves_meanwhile, None, CUT_OFF, "overtaken", id="the-cluster-changed-meanwhile"),
        pytest.param(a_pod_waits_at_its_end, None, CUT_OFF, "overtaken", id="a-pod-waits-at-its-end"),
        pytest.param(a_pod_waits_and_it_goes_on, None, CUT_OFF, "overtaken", id="a-pod-that-waits-ends-it"),
        pytest.param(
            a_pod_that_no_policy_plans_for_waits, ("n1",), Looked(), "found", id="a-pod-of-another-scheduler-waits"
        ),
        pytest.param(
            it_fails, None, Looked("", NOW, PolicyReason.SOLVER_FAILED, "no memory"), "failed", id="the-solver-fails"
        ),
    ],
)
async def test_what_comes_of_a_search(work: Work, nodes: tuple[str, ...] | None, looked: Looked, outcome: str) -> None:
    found, remembered, metrics = await search(work)
    assert (None if found is None else found.nodes) == nodes
    assert remembered == looked
    assert counted(metrics) == {outcome: 1.0}


async def test_searches_that_are_cut_off_are_counted_until_one_has_an_answer() -> None:
    pods = {one.key: one for one in CLUSTER.pods}
    works = [a_pod_waits_at_its_end, a_pod_waits_at_its_end, there_is_none, a_pod_waits_at_its_end, there_is_one]

    async def consolidate(*_: object) -> Consolidation:
        pods.pop(WAITS.key, None)
        return await works.pop(0)(pods)

    solver = cast("Solver", SimpleNamespace(consolidate=consolidate))
    searching = Consolidator(solver, cast("Store", SimpleNamespace(pods=pods)), Metrics(), lambda: NOW, 1)
    searching.know([POLICY])
    counts = []
    while works:
        await searching.search(POLICY, CLUSTER, PackOptions(), "mark")
        counts.append(searching.looked(POLICY).cut_off)
        pods.pop(WAITS.key, None)
    assert counts == [1, 2, 0, 1, 0]


def counted(metrics: Metrics) -> dict[str, Any]:
    samples = [sample for one in metrics.registry.collect() for sample in one.samples]
    return {
        one.labels["outcome"]: one.value for one in samples if one.name == "stowage_consolidations_total" and one.value
    }


class Searcher:
    """A solver that counts how often it was asked to look for nodes to empty."""

    def __init__(self) -> None:
        self.asked = 0
        self.max_moves: int | None = None

    async def consolidate(self, _: Snapshot, options: PackOptions, *__: object) -> Consolidation:
        self.asked += 1
        self.max_moves = options.max_moves
        return FOUND


class Quiet(Cluster):
    """That cluster's API server."""

    def __init__(self) -> None:
        disruption = {"minPodAge": "0s", "ownerSettled": "0s"}
        spec = {"mode": "Enforce", "disruption": disruption, "consolidation": {"mode": "WhenQuiet", "after": "1m"}}
        super().__init__(policy_resource(**spec).to_document())
        self.searcher = Searcher()
        self.made: list[Document] = []

    async def create(self, path: str, body: Document) -> Document:
        made = await super().create(path, body)
        self.made.append(made)
        return made

    def condition(self) -> Document:
        written = [status for status in self.statuses if "pendingPods" in status][-1]
        return next(one for one in written["conditions"] if one["type"] == "Consolidated")


def quiet(cluster: Quiet) -> PolicyReconciler:
    """Passes over a policy that empties nodes, in a cluster where nothing happens."""
    pods = {one.key: one for one in CLUSTER.pods}
    store = SimpleNamespace(snapshot=lambda _: CLUSTER, pods=pods, rejected=[])
    parts = {**cluster.parts(), "store": store, "solver": cluster.searcher}
    return PolicyReconciler(**parts, generator=random.Random(1))


async def test_a_pass_writes_the_plan_and_hands_it_on() -> None:
    cluster = Quiet()
    _, plans = await quiet(cluster).reconcile("default")
    (plan,) = cluster.made
    assert plans == (plan["metadata"]["name"],)
    assert (plan["spec"]["empties"], plan["spec"]["approval"]) == (["n1"], "Approved")
    assert (cluster.condition()["status"], cluster.condition()["reason"]) == ("False", "Consolidating")


async def test_a_plan_that_is_refused_is_told_and_not_made_again_at_once() -> None:
    cluster = Quiet()
    cluster.refuses_plans = Invalid("POST packingplans", status=422, message="denied by guard.example.com")
    reconciler = quiet(cluster)
    again_seconds, plans = await reconciler.reconcile("default")
    assert (again_seconds, plans) == (60.0, ())
    assert cluster.condition()["reason"] == "PlanRefused"
    assert "denied by guard.example.com" in cluster.condition()["message"]
    await reconciler.reconcile("default")
    assert cluster.searcher.asked == 1


async def test_a_plan_that_was_not_sent_is_not_refused() -> None:
    cluster = Quiet()
    cluster.refuses_plans = NotLeading("POST packingplans")
    reconciler = quiet(cluster)
    with pytest.raises(NotLeading):
        await reconciler.reconcile("default")
    cluster.refuses_plans = None
    _, plans = await reconciler.reconcile("default")
    assert len(plans) == 1, "the next term makes it at once"


async def test_a_search_may_take_half_of_the_moves_of_an_hour() -> None:
    cluster = Quiet()
    assert cluster.policy is not None
    cluster.policy["spec"]["disruption"]["maxMovesPerHour"] = 8
    await quiet(cluster).reconcile("default")
    assert cluster.searcher.max_moves == 4


async def test_a_plan_under_way_gives_way_to_a_pod_that_waits() -> None:
    document = running()
    document["spec"]["empties"] = ["n1"]
    cluster = Cluster(policy_resource(mode="Enforce", consolidation={"mode": "WhenQuiet"}).to_document(), document)
    await cluster.plan_pass().reconcile(NAME)
    assert (cluster.statuses[-1]["phase"], cluster.statuses[-1]["reason"]) == ("Superseded", "PodWaits")


@pytest.mark.parametrize(("empties", "counted_nodes"), [(["gone-1", "gone-2"], 2.0), ([], 0.0)])
async def test_nodes_that_a_plan_has_emptied_are_counted(empties: list[str], counted_nodes: float) -> None:
    document = running()
    document["spec"] |= {"steps": [], "slots": [], "empties": empties}
    cluster = Cluster(policy_resource(mode="Enforce", consolidation={"mode": "WhenQuiet"}).to_document(), document)
    metrics = Metrics()
    await PlanReconciler(**{**cluster.parts(), "metrics": metrics}).reconcile(NAME)
    assert cluster.statuses[-1]["phase"] == "Done"
    assert metrics.registry.get_sample_value("stowage_emptied_nodes_total") == counted_nodes


async def test_what_is_known_of_policies_that_are_gone_is_forgotten() -> None:
    solver = cast("Solver", SimpleNamespace(consolidate=lambda *_: there_is_none({})))
    searching = Consolidator(solver, cast("Store", SimpleNamespace(pods={})), Metrics(), lambda: NOW, 1)
    searching.know([POLICY])
    await searching.search(POLICY, CLUSTER, PackOptions(), "mark")
    searching.know([POLICY])
    assert searching.looked(POLICY) == Looked("mark", NOW)
    searching.know([])
    assert searching.looked(POLICY) == Looked()


async def test_a_search_that_is_cut_off_is_cancelled() -> None:
    """Cancelled, it ends its worker: else that would go on to the end of its time."""
    ended: list[bool] = []

    async def until_cancelled(pods: dict[str, Pod]) -> Consolidation:
        try:
            return await a_pod_waits_and_it_goes_on(pods)
        except asyncio.CancelledError:
            ended.append(True)
            raise

    await search(until_cancelled)
    await asyncio.sleep(0)
    assert ended == [True]


async def test_a_policy_that_changed_during_the_search_gets_no_plan() -> None:
    cluster = Quiet()
    assert cluster.policy is not None
    metadata = cluster.policy["metadata"]
    cluster.on_read = lambda: metadata.update(generation=2)
    again_seconds, plans = await quiet(cluster).reconcile("default")
    assert (again_seconds, plans, cluster.made) == (15.0, (), [])
    assert cluster.condition()["reason"] == "NotQuiet"
