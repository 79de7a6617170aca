"""What kube-scheduler sends and gets, over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from stowage_scheduler import extender
from stowage_scheduler.cluster import OwnerRef, Pod
from stowage_scheduler.extender import Outcome, make_app
from stowage_scheduler.reservations import ActivePlan, Reservations
from stowage_scheduler.slots import Slot, slot_class


def pod_document(name: str, owner: str = "web") -> dict[str, Any]:
    """A pod as the API server writes it."""
    return {
        "metadata": {
            "name": name,
            "namespace": "a",
            "uid": f"uid-{name}",
            "creationTimestamp": "2026-01-01T10:00:00Z",
            "labels": {"pod-template-hash": "r1"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": owner, "uid": f"rs-{owner}", "controller": True}],
        },
        "spec": {
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}],
            "schedulerName": "stowage",
        },
        "status": {"phase": "Pending"},
    }


WEB = slot_class(
    Pod(
        "a",
        "web-1",
        "uid-web-1",
        {"cpu": 500, "memory": 2**30, "pods": 1},
        owner=OwnerRef("ReplicaSet", "web", "rs-web"),
        template_hash="r1",
    )
)
PLAN = ActivePlan("plan-uid", "default-1", (Slot("k001", WEB, "n2"),))


class Extender:
    """The app with a table, and what it was told to count."""

    def __init__(self) -> None:
        self.table = Reservations(lambda: 0.0)
        self.fresh = True
        self.answers: list[tuple[str, Outcome]] = []
        self.app = make_app(
            lambda: self.table,
            fresh=lambda: self.fresh,
            clock=lambda: 0.0,
            answered=lambda verb, outcome, _seconds: self.answers.append((verb, outcome)),
        )

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with TestClient(TestServer(self.app)) as client, client.post(path, data=data) as response:
            text = await response.text()
            return response.status, json.loads(text) if response.status == 200 else text


@pytest.fixture
def running() -> Extender:
    found = Extender()
    found.table.plan_seen(PLAN)
    return found


def filter_request(name: str, names: object, owner: str = "web") -> dict[str, Any]:
    return {"Pod": pod_document(name, owner), "Nodes": None, "NodeNames": names}


async def test_a_planned_pod_is_sent_to_its_slot(running: Extender) -> None:
    assert await running.post("/filter", filter_request("web-1", ["n1", "n2"])) == (
        200,
        {"Nodes": None, "NodeNames": ["n2"], "FailedNodes": {}, "FailedAndUnresolvableNodes": {}, "Error": ""},
    )
    assert running.answers == [("filter", Outcome.LEASED)]


async def test_an_outsider_is_refused_on_the_kept_node(running: Extender) -> None:
    status, reply = await running.post("/filter", filter_request("other-1", ["n1", "n2"], "other"))
    assert (status, reply["NodeNames"]) == (200, ["n1"])
    assert reply["FailedAndUnresolvableNodes"] == {"n2": "reserved by plan default-1"}
    assert running.answers == [("filter", Outcome.RESTRICTED)]


@pytest.mark.parametrize(("names", "echoed"), [(["n1", "n2"], ["n1", "n2"]), ([], [])])
async def test_without_a_plan_names_come_back_as_they_are(names: list[str], echoed: list[str]) -> None:
    idle = Extender()
    status, reply = await idle.post("/filter", filter_request("web-1", names))
    assert (status, reply["NodeNames"], reply["Error"]) == (200, echoed, "")
    assert idle.answers == [("filter", Outcome.ECHOED)]


async def test_stale_facts_steer_nobody(running: Extender) -> None:
    running.fresh = False
    status, reply = await running.post("/filter", filter_request("other-1", ["n1", "n2"], "other"))
    assert (status, reply["NodeNames"]) == (200, ["n1", "n2"])
    assert running.answers == [("filter", Outcome.UNSTEERED)]


META_VICTIMS = {"n1": {"Pods": [{"UID": "u1"}], "NumPDBViolations": 0}, "n2": {"Pods": [], "NumPDBViolations": 1}}


@pytest.mark.parametrize(
    ("pod", "kept"), [("web", {}), ("other", {"n1": META_VICTIMS["n1"]})], ids=["planned pod", "outsider"]
)
async def test_preemption_spares_kept_nodes(running: Extender, pod: str, kept: object) -> None:
    request = {
        "Pod": pod_document(f"{pod}-1", pod),
        "NodeNameToVictims": None,
        "NodeNameToMetaVictims": META_VICTIMS,
    }
    assert await running.post("/preempt", request) == (200, {"NodeNameToMetaVictims": kept})
    assert running.answers == [("preempt", Outcome.RESTRICTED)]


async def test_preemption_without_a_plan_keeps_all_candidates() -> None:
    request = {"Pod": pod_document("web-1"), "NodeNameToVictims": None, "NodeNameToMetaVictims": META_VICTIMS}
    assert await Extender().post("/preempt", request) == (200, {"NodeNameToMetaVictims": META_VICTIMS})


async def test_whole_nodes_are_an_error_that_the_scheduler_can_log(running: Extender) -> None:
    request = {"Pod": pod_document("web-1"), "Nodes": {"items": [{"metadata": {"name": "n1"}}]}, "NodeNames": None}
    status, reply = await running.post("/filter", request)
    assert status == 200
    assert "nodeCacheCapable: true" in reply["Error"]


def broken(field: str, value: object) -> dict[str, Any]:
    pod = pod_document("web-1")
    pod["spec"]["containers"][0]["resources"]["requests"][field] = value
    return {"Pod": pod, "NodeNames": ["n1"]}


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/filter", b"", "body"),
        ("/filter", b'{"Pod": {}, "NodeNames": [', "body"),
        ("/filter", b"[1, 2]", "body"),
        ("/filter", b"[" * 100_000, "body"),
        ("/filter", {"NodeNames": ["n1"]}, "Pod"),
        ("/filter", {"Pod": pod_document("web-1")}, "NodeNames"),
        ("/filter", {"Pod": pod_document("web-1"), "NodeNames": "n1"}, "NodeNames"),
        ("/filter", {"Pod": pod_document("web-1"), "NodeNames": ["n1", 2]}, "NodeNames"),
        ("/filter", b'{"Pod": {"metadata": {}, "spec": {}}, "NodeNames": ["\xff"]}', "NodeNames"),
        ("/filter", {"Pod": 7, "NodeNames": ["n1"]}, "Pod"),
        ("/filter", {"Pod": {"metadata": {"name": 5}, "spec": {}}, "NodeNames": ["n1"]}, "metadata.name"),
        ("/filter", broken("cpu", "-1"), "cpu"),
        ("/filter", broken("memory", "lots"), "memory"),
        ("/preempt", {"Pod": pod_document("web-1"), "NodeNameToMetaVictims": [1]}, "NodeNameToMetaVictims"),
        ("/preempt", {"Pod": pod_document("web-1"), "NodeNameToVictims": {"n1": {}}}, "nodeCacheCapable"),
    ],
)
async def test_what_makes_no_sense_is_refused_in_one_line_that_names_the_field(
    running: Extender, path: str, body: object, named: str
) -> None:
    status, text = await running.post(path, body)
    assert status == 400
    assert named in text
    assert text.count("\n") == 1
    assert len(text) < 400
    assert running.answers == [(path[1:], Outcome.MALFORMED)]


async def test_a_body_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extender, "MAX_BODY_BYTES", 1000)
    status, _ = await Extender().post("/filter", b" " * 2000)
    assert status == 413
