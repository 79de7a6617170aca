"""What the extender process follows, trusts and acknowledges."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness import virtual_time
from stowage.api.durations import instant
from stowage.api.packing_plan import Approval, PackingPlan
from stowage.api.packing_plan_status import PlanPhase
from stowage.observe.reflector import Absent, ObjectKey, Present, Reflector, Refused
from stowage.run.extender import Extender, ExtenderSettings
from stowage.run.extender_feed import Feed
from stowage.run.extender_plans import SeenPlan, read_plan
from stowage.run.freshness import LOOK_SECONDS, STALE_SECONDS, Freshness
from stowage.run.metrics import Metrics
from stowage.transport import Api, ApiUnavailable
from stowage_scheduler.cluster import OwnerRef, Pod, Rejected
from stowage_scheduler.kube.malformed import MalformedObject
from stowage_scheduler.reservations import ActivePlan, Reservations
from stowage_scheduler.slots import Slot, SlotClass, slot_class

NOW = 1_800_000_000.0
CLASS = {"controllerUid": "rs-1", "revision": "r1", "requests": "abc"}


def document(**status: Any) -> dict[str, Any]:
    slots = [
        {"id": "k001", "class": CLASS, "node": "n1", "standing": 2},
        {"id": "k002", "class": {**CLASS, "podName": "db-0"}, "node": "n2"},
    ]
    return {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "PackingPlan",
        "metadata": {"name": "p-1", "uid": "uid-1"},
        "spec": {"policy": "default", "approval": "Approved", "steering": "Extender", "slots": slots},
        "status": status,
    }


def read(plan: dict[str, Any]) -> SeenPlan:
    return read_plan(json.dumps(plan).encode())


def test_slots_are_read_as_the_full_model_reads_them() -> None:
    plan = document(slots=[{"id": "k001", "state": "Open"}, {"id": "k002", "state": "Filled"}])
    full = PackingPlan.parse(plan)
    assert read(plan).slots == ActivePlan("uid-1", "p-1", tuple(slot.to_fact() for slot in full.spec.slots))


@pytest.mark.parametrize("slots", [None, [], [{"id": "k001", "state": "Waiting"}]])
def test_slots_that_nobody_has_opened_wait(slots: list[dict[str, str]] | None) -> None:
    assert read(document(slots=slots)).slots.waiting == {"k001", "k002"}


@pytest.mark.parametrize(("approval", "phase"), list(itertools.product(Approval, [None, *PlanPhase])))
def test_a_plan_is_active_when_the_full_model_says_so(approval: Approval, phase: PlanPhase | None) -> None:
    plan = document(phase=phase and phase.value)
    plan["spec"]["approval"] = approval.value
    assert read(plan).active == PackingPlan.parse(plan).active


def test_a_plan_that_is_being_deleted_is_not_active() -> None:
    plan = document()
    plan["metadata"]["deletionTimestamp"] = "2026-01-01T10:00:00Z"
    assert not read(plan).active


def test_void_slots_are_left_out_and_filled_ones_stay() -> None:
    seen = read(document(slots=[{"id": "k001", "state": "Void"}, {"id": "k002", "state": "Filled"}]))
    assert [slot.id for slot in seen.slots.slots] == ["k002"]


def test_only_acknowledgements_of_this_very_plan_count() -> None:
    entries = [{"holder": "a", "observedPlan": "uid-1", "at": "t"}, {"holder": "b", "observedPlan": "old", "at": "t"}]
    assert read(document(extenders=entries)).observed_by == {"a"}


def test_a_plan_of_another_shape_is_refused_by_field() -> None:
    plan = document()
    plan["spec"]["slots"][0]["node"] = 7
    with pytest.raises(MalformedObject, match=r"PackingPlan p-1: spec\.slots\[0\]\.node"):
        read(plan)


class Followed:
    """A feed with its table, told of changes."""

    def __init__(self) -> None:
        self.rung: list[str] = []
        self.table = Reservations(lambda: 0.0)
        self.feed = Feed(self.table, self.rung.append, lambda: NOW)

    def plan(self, name: str, uid: str, *, active: bool = True) -> None:
        pod_class = slot_class(pod("x"))
        seen = SeenPlan(ActivePlan(uid, name, (Slot("k001", pod_class, "n1"),)), active)
        self.feed.on_plan(Present(ObjectKey("", name), seen))

    def pod(self, name: str, uid: str, node: str | None) -> None:
        self.feed.on_pod(Present(ObjectKey("a", name), pod(name, uid, node)))


def pod(name: str, uid: str = "", node: str | None = None) -> Pod:
    return Pod("a", name, uid or name, {"cpu": 1}, node=node, owner=OwnerRef("ReplicaSet", "web", "rs-web"))


@pytest.mark.parametrize(
    ("minutes_ago", "phase", "kept"),
    [(0, "Done", True), (59, "Done", True), (61, "Done", False), (1, "Superseded", False)],
)
def test_nodes_that_a_plan_has_emptied_are_kept_so_for_an_hour(minutes_ago: int, phase: str, kept: bool) -> None:
    followed, key = Followed(), ObjectKey("", "p-1")
    plan = document(phase=phase, finishedAt=f"{instant(NOW - 60 * minutes_ago):%Y-%m-%dT%H:%M:%SZ}")
    plan["spec"]["empties"] = ["n3"]
    followed.feed.on_plan(Present(key, read(plan)))
    names = ["n1", "n3"]
    assert list(followed.table.filter(pod("x"), names).node_names) == (["n1"] if kept else names)
    assert followed.table.idle is not kept
    followed.feed.on_plan(Absent(key))
    assert followed.table.filter(pod("x"), names).node_names is names


def test_an_active_plan_is_put_into_the_table_and_rung() -> None:
    followed = Followed()
    followed.plan("p-1", "uid-1")
    assert (list(followed.table.plans), followed.rung) == (["uid-1"], ["p-1"])


@pytest.mark.parametrize("end", ["not active", "deleted", "malformed", "another of its name"])
def test_a_plan_leaves_the_table_when_it_is_over(end: str) -> None:
    followed = Followed()
    followed.plan("p-1", "uid-1")
    key = ObjectKey("", "p-1")
    match end:
        case "not active":
            followed.plan("p-1", "uid-1", active=False)
        case "deleted":
            followed.feed.on_plan(Absent(key))
        case "malformed":
            followed.feed.on_plan(Refused(key, Rejected("PackingPlan", "p-1", "spec", "", "it must be there")))
        case _:
            followed.plan("p-1", "uid-2")
    assert list(followed.table.plans) == (["uid-2"] if end == "another of its name" else [])


@pytest.mark.parametrize("end", ["deleted", "malformed", "another of its name"])
def test_a_slot_opens_when_the_pod_in_it_is_gone(end: str) -> None:
    followed = Followed()
    followed.plan("p-1", "uid-1")
    followed.pod("web-1", "u1", "n1")
    assert followed.table.reserved_nodes == frozenset()
    key = ObjectKey("a", "web-1")
    match end:
        case "deleted":
            followed.feed.on_pod(Absent(key))
        case "malformed":
            followed.feed.on_pod(Refused(key, Rejected("Pod", "a/web-1", "spec", "", "it must be there")))
        case _:
            followed.pod("web-1", "u2", None)
    assert followed.table.reserved_nodes == {"n1"}


class Sight:
    """Freshness over two reflectors whose state is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pods = SimpleNamespace(synced=True, disconnected_since=None, trouble=None)
        self.plans = SimpleNamespace(synced=True, disconnected_since=None, trouble=None)
        reflectors = {"Pod": self.pods, "PackingPlan": self.plans}
        self.fresh = Freshness(cast("dict[str, Reflector[Any]]", reflectors), lambda: self.now)


def test_a_silent_watch_is_fresh_for_ever() -> None:
    sight = Sight()
    sight.now = 1e6
    assert sight.fresh()


def test_before_the_first_lists_nothing_is_fresh() -> None:
    sight = Sight()
    sight.plans.synced = False
    assert sight.fresh.problems() == ["the first list of PackingPlan is not complete: every pod is admitted everywhere"]


def test_a_broken_watch_is_stale_after_ten_seconds_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sight = Sight()
    assert sight.fresh()
    sight.pods.disconnected_since = 100.0
    sight.now = 100.0 + STALE_SECONDS - 0.1
    assert sight.fresh()
    sight.now = 100.0 + STALE_SECONDS
    assert [sight.fresh(), sight.fresh()] == [False, False]
    sight.pods.disconnected_since = None
    assert sight.fresh()
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO"]
    assert "no watch of Pod for 10 s" in caplog.records[1].message


def test_a_lost_watch_is_told_although_nobody_asks(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        sight = Sight()
        looking = asyncio.create_task(sight.fresh.keep_looking())
        await asyncio.sleep(LOOK_SECONDS / 2)
        sight.plans.disconnected_since, sight.now = 0.0, STALE_SECONDS
        await asyncio.sleep(LOOK_SECONDS)
        looking.cancel()

    virtual_time.run(story())
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "no watch of PackingPlan for 10 s: every pod is admitted everywhere"
    ]


class ApiDouble:
    """Keeps what is applied; fails as often as told."""

    def __init__(self) -> None:
        self.observer: object = None
        self.failures = 0
        self.applied: list[tuple[str, dict[str, Any], str]] = []

    async def apply(self, path: str, body: dict[str, Any], *, field_manager: str) -> None:
        if self.failures:
            self.failures -= 1
            raise ApiUnavailable(f"PATCH {path}", status=503)
        self.applied.append((path, body, field_manager))


class Process:
    """An extender process on an API double, in sight of the cluster."""

    def __init__(self) -> None:
        self.api = ApiDouble()
        settings = ExtenderSettings(holder="host-1")
        self.extender = Extender(cast("Api", self.api), settings, Metrics())
        for reflector in self.extender.reflectors.values():
            reflector._synced.set()
            reflector.disconnected_since = None

    def see(self, **fields: Any) -> None:
        plan = ActivePlan("uid-1", "p-1", (Slot("k001", SlotClass("rs-1", "r1", "abc"), "n1"),))
        self.extender.feed.on_plan(Present(ObjectKey("", "p-1"), SeenPlan(plan, **{"active": True, **fields})))

    async def acknowledge(self) -> float | None:
        return await self.extender._acknowledge(("plan", "p-1"))


async def test_an_active_plan_is_acknowledged_once_by_a_manager_of_this_holder() -> None:
    process = Process()
    process.see()
    assert [await process.acknowledge(), await process.acknowledge()] == [None, None]
    [(path, body, manager)] = process.api.applied
    [entry] = body["status"]["extenders"]
    assert path == "/apis/stowage.dev/v1alpha1/packingplans/p-1/status"
    assert body["metadata"] == {"name": "p-1", "uid": "uid-1"}
    assert (entry["holder"], entry["observedPlan"], manager) == ("host-1", "uid-1", "stowage-extender-host-1")


async def test_an_acknowledgement_that_failed_is_tried_again() -> None:
    process = Process()
    process.api.failures = 1
    process.see()
    with pytest.raises(ApiUnavailable):  # the queue brings the key back
        await process.acknowledge()
    await process.acknowledge()
    assert len(process.api.applied) == 1


@pytest.mark.parametrize("fields", [{"active": False}, {"observed_by": frozenset({"host-1"})}])
async def test_no_acknowledgement_without_need(fields: dict[str, Any]) -> None:
    process = Process()
    process.see(**fields)
    assert (await process.acknowledge(), process.api.applied) == (None, [])


async def test_no_acknowledgement_before_pods_are_in_sight() -> None:
    process = Process()
    process.extender.pods._synced.clear()
    process.see()
    assert await process.acknowledge() is not None
    assert process.api.applied == []


def test_a_holder_that_no_plan_could_name_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="holder"):
        ExtenderSettings(holder="Not A Host")
