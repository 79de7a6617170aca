"""Passes over a service against a server in memory: what is written, in which order, and that a rest is a rest."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from stowage.api.model_service import ModelService
from stowage.api.model_service_reasons import ServiceReason
from stowage.decide.serving.view import View
from stowage.observe.reflector import Absent, ObjectKey, Present
from stowage.observe.store import Store
from stowage.run.lease import Lease
from stowage.run.metrics import Metrics
from stowage.run.reconcile_serving import BETWEEN_SECONDS, ServingReconciler
from stowage.run.serving_children import REFUSED_SECONDS
from stowage.run.serving_signals import Look, ServingPod
from stowage.run.settings import OperatorSettings
from stowage.transport import Api, ApiError, Conflict, Forbidden, Invalid, NotFound
from stowage.transport.errors import Cause
from stowage_scheduler.cluster import Node, OwnerRef, Pod
from unit.builders import node as any_node
from unit.builders import pod as any_pod
from unit.serving_services import NOW, service

Document = dict[str, Any]
SERVICE = "/apis/stowage.dev/v1alpha1/namespaces/team/modelservices/chat"
DEPLOYMENT = "/apis/apps/v1/namespaces/team/deployments/chat-unified-default"


class Server:
    """Objects by path with versions, and the writes that were asked for."""

    def __init__(self) -> None:
        document = service().to_document()
        document["metadata"]["generation"] = 1
        self.objects: dict[str, Document] = {SERVICE: document}
        self.writes: list[tuple[str, str]] = []
        self.reads = 0
        self.forbids = ""
        self.patch_error: ApiError | None = None
        self._versions = iter(range(100, 10_000))

    async def get(self, path: str, query: dict[str, str] | None = None) -> Document:
        self.reads += 1
        if query is not None:
            found = [one for at, one in self.objects.items() if at.startswith(path + "/")]
            return {"items": copy.deepcopy(found)}
        if path not in self.objects:
            raise NotFound(path, status=404)
        return copy.deepcopy(self.objects[path])

    async def replace(self, path: str, body: Document) -> Document:
        target = path.removesuffix("/status")
        self.writes.append(("status", target.rpartition("/")[2]))
        self.objects[target]["status"] = body["status"]
        return self._touched(target)

    async def apply(self, path: str, body: Document, *, field_manager: str) -> Document:
        assert field_manager
        if self.forbids and self.forbids in path:
            raise Forbidden(path, status=403, message="exceeded quota: services")
        if "uid" in body["metadata"] and path not in self.objects:
            raise Conflict(path, status=409)
        self.writes.append(("apply", path.rpartition("/")[2]))
        there = self.objects.get(path, {"metadata": {"uid": f"uid-{next(self._versions)}", "generation": 0}})
        metadata = {**there["metadata"], **body["metadata"]}
        changed = there.get("spec") != body["spec"]
        metadata["generation"] = there["metadata"]["generation"] + changed
        self.objects[path] = {**body, "metadata": metadata}
        return self._touched(path)

    async def merge_patch(self, path: str, body: Document) -> Document:
        self.writes.append(("patch", path.rpartition("/")[2]))
        if self.patch_error is not None:
            raise self.patch_error
        return body

    async def create(self, path: str, body: Document) -> Document:
        assert path.endswith("/events")
        self.writes.append(("event", body["reason"]))
        return body

    def _touched(self, path: str) -> Document:
        self.objects[path]["metadata"]["resourceVersion"] = str(next(self._versions))
        return copy.deepcopy(self.objects[path])

    def told(self) -> list[tuple[str, str]]:
        writes, self.writes = self.writes, []
        return writes


class Silence:
    """Signals of which there are none."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[ServingPod, ...]]] = []
        self.cleared = 0
        self.is_awaited = False

    async def look(
        self,
        _service: ModelService,
        role: str,
        pods: tuple[ServingPod, ...],
        desired: int,
        cold_start_seconds: float,
        now: float,
        *,
        kv_tokens: int = 0,
    ) -> Look:
        assert kv_tokens >= 0
        self.asked.append((role, pods))
        view = View(now, desired, (), (), cold_start_seconds)
        missing = ServiceReason.SIGNALS_MISSING
        return Look(view, {}, problem=missing, message="nobody", sampled_at={}, is_awaited=self.is_awaited)

    def forget(self, _service_uid: str) -> None:
        self.cleared += 1

    def clear(self) -> None:
        self.cleared += 1


class Theatre:
    def __init__(self) -> None:
        self.now = NOW
        self.server, self.signals, self.metrics = Server(), Silence(), Metrics()
        self.store = Store(now=lambda: self.now)
        self.rung: list[str] = []
        self.reconciler = ServingReconciler(
            api=cast("Api", self.server),
            store=self.store,
            lease=cast("Lease", SimpleNamespace(leading=True, epoch=1)),
            metrics=self.metrics,
            clock=lambda: self.now,
            settings=OperatorSettings(),
            ring=lambda key, _: self.rung.append(key),
            signals=self.signals,
        )
        self.store.subscribe(self.reconciler.on_store_event)

    async def look(self, seconds: float = 5.0) -> list[tuple[str, str]]:
        """One pass a while later; what it wrote."""
        self.now += seconds
        self.again = await self.reconciler.reconcile("team/chat")
        return self.server.told()

    def show(self, one: Pod, *, gone: bool = False) -> None:
        key = ObjectKey(one.namespace, one.name)
        self.store.handle("Pod", Absent(key) if gone else Present(key, one))

    @property
    def status(self) -> Document:
        return dict(self.server.objects[SERVICE]["status"])

    def condition(self, kind: str) -> tuple[str, str]:
        (one,) = [one for one in self.status["conditions"] if one["type"] == kind]
        return one["status"], one["reason"]


def replica(name: str = "chat-unified-default-1-a", **fields: Any) -> Pod:
    labels = {
        "stowage.dev/service": "chat",
        "stowage.dev/role": "unified",
        "stowage.dev/variant": "default",
        "stowage.dev/takes-requests": "true",
    }
    owner = OwnerRef("ReplicaSet", "chat-unified-default-1", "rs-1")
    return any_pod(name, "n1", labels=labels, owner=owner, **fields)


async def test_the_status_is_written_before_anything_is_made() -> None:
    theatre = Theatre()
    writes = await theatre.look()
    assert writes[0] == ("status", "chat")
    assert sorted(writes[1:]) == [
        ("apply", "chat"),
        ("apply", "chat-unified"),
        ("apply", "chat-unified"),
        ("apply", "chat-unified-default"),
    ]
    assert theatre.server.objects[DEPLOYMENT]["spec"]["replicas"] == 1
    assert (theatre.status["desiredReplicas"], theatre.condition("Available")) == (1, ("False", "ReplicasStarting"))


async def test_a_service_at_rest_is_written_nowhere_and_read_once_a_look() -> None:
    theatre = Theatre()
    await theatre.look()
    theatre.show(replica())
    await theatre.look()
    await theatre.look()
    theatre.server.reads = 0
    for _ in range(5):
        assert await theatre.look() == []
    assert theatre.server.reads == 5


async def test_a_service_that_somebody_deletes_comes_back_within_a_minute() -> None:
    theatre = Theatre()
    await theatre.look()
    await theatre.look(60.0)
    path = "/api/v1/namespaces/team/services/chat"
    before = theatre.server.objects.pop(path)["metadata"]["uid"]
    writes = [one for seconds in (30.0, 30.0) for one in await theatre.look(seconds)]
    assert ("apply", "chat") in writes
    assert theatre.server.objects[path]["metadata"]["uid"] != before
    assert [one for one in await theatre.look() if one[0] == "apply"] == []


async def test_pods_ring_their_service_and_passes_keep_a_distance() -> None:
    theatre = Theatre()
    await theatre.look()
    theatre.show(replica())
    theatre.show(any_pod("web", "n1"))
    assert theatre.rung == ["team/chat"]
    theatre.server.reads = 0
    assert await theatre.look(BETWEEN_SECONDS / 4) == []
    assert (theatre.server.reads, theatre.again) == (0, pytest.approx(BETWEEN_SECONDS * 3 / 4))
    await theatre.look(BETWEEN_SECONDS)
    assert theatre.status["readyReplicas"] == 1
    (role, (pod,)) = theatre.signals.asked[-1]
    assert (role, pod.name, pod.is_ready, pod.is_draining) == ("unified", "chat-unified-default-1-a", True, False)


async def test_pods_that_somebody_else_made_do_not_count() -> None:
    theatre = Theatre()
    theatre.show(structs.replace(replica(), owner=OwnerRef("ReplicaSet", "fake-1", "rs-2")))
    await theatre.look()
    assert theatre.status["readyReplicas"] == 0


async def test_what_the_server_refuses_is_told_in_its_words_and_keeps_nothing_else_back() -> None:
    theatre = Theatre()
    theatre.server.forbids = "/services/"
    writes = await theatre.look()
    assert ("apply", "chat-unified-default") in writes
    assert theatre.rung == ["team/chat"]
    writes = await theatre.look()
    assert theatre.condition("Accepted") == ("False", "ChildRefused")
    assert ("event", "NotAccepted") in writes
    assert theatre.rung == ["team/chat"], "the same words are nothing new"
    theatre.server.forbids = ""
    assert not [name for verb, name in await theatre.look() if verb == "apply"], "what was refused rests"
    await theatre.look(REFUSED_SECONDS)
    await theatre.look()
    assert theatre.condition("Accepted") == ("True", "Accepted")


async def test_a_name_that_another_service_has_is_told_with_its_owner_and_all_else_is_made() -> None:
    """Service `chat-unified` belongs to the role of one service, and would to another service of that name."""
    theatre = Theatre()
    path = "/api/v1/namespaces/team/services/chat-unified"
    owner = {"kind": "ModelService", "name": "chat-unified", "uid": "u-2", "controller": True}
    theatre.server.objects[path] = {"metadata": {"name": "chat-unified", "uid": "s-1", "ownerReferences": [owner]}}
    writes = await theatre.look()
    assert sorted(writes[1:]) == [("apply", "chat"), ("apply", "chat-unified"), ("apply", "chat-unified-default")]
    await theatre.look()
    (accepted,) = [one for one in theatre.status["conditions"] if one["type"] == "Accepted"]
    assert accepted["reason"] == "ChildRefused"
    assert "Service chat-unified is there already" in accepted["message"]
    assert "ModelService chat-unified has it" in accepted["message"]


PATCHES = [
    pytest.param(NotFound("PATCH", status=404), False, id="gone"),
    pytest.param(Conflict("PATCH", status=409), False, id="written by others all the time"),
    pytest.param(Invalid("PATCH", status=422, causes=(Cause(field="metadata.uid"),)), False, id="another of its name"),
    pytest.param(Invalid("PATCH", status=422, message="no such label"), True, id="no valid patch"),
]


@pytest.mark.parametrize(("error", "is_told"), PATCHES)
async def test_what_a_patch_of_a_pod_may_come_to(error: ApiError, is_told: bool) -> None:
    theatre = Theatre()
    await theatre.look()
    theatre.show(structs.replace(replica(), labels={**replica().labels, "stowage.dev/takes-requests": "false"}))
    theatre.server.patch_error = error
    assert ("patch", replica().name) in await theatre.look(), "it gets requests again"
    await theatre.look()
    expected = ("False", "ChildRefused") if is_told else ("True", "Accepted")
    assert theatre.condition("Accepted") == expected
    theatre.server.patch_error = None
    assert ("patch", replica().name) in await theatre.look(), "what was not done is asked for again"


async def test_replicas_that_go_are_patched_before_their_deployment_shrinks() -> None:
    theatre = Theatre()
    theatre.server.objects[SERVICE]["spec"]["replicas"] = 2
    await theatre.look()
    replicas = [replica(f"chat-unified-default-1-{name}") for name in "ab"]
    for one in replicas:
        theatre.show(one)
    await theatre.look()
    document = theatre.server.objects[SERVICE]
    document["spec"]["replicas"], document["metadata"]["generation"] = 1, 2
    await theatre.look()
    writes = await theatre.look()
    assert theatre.server.objects[DEPLOYMENT]["spec"]["replicas"] == 2, "its pods have not been seen with the label yet"
    assert [one for one in writes if one[0] == "apply" and one[1].endswith("default")] == []


def with_gpus(name: str, devices: int) -> Node:
    one = any_node(name)
    return structs.replace(one, allocatable={**one.allocatable, "nvidia.com/gpu": devices})


async def test_of_two_replicas_that_goes_whose_node_gets_the_larger_room() -> None:
    theatre = Theatre()
    theatre.server.objects[SERVICE]["spec"]["replicas"] = 2
    for name, devices in (("n1", 1), ("n2", 8)):
        key = ObjectKey("", name)
        theatre.store.handle("Node", Present(key, with_gpus(name, devices)))
    await theatre.look()
    pods = [structs.replace(replica(f"chat-unified-default-1-{name}"), node=f"n{name}") for name in "12"]
    for one in pods:
        theatre.show(structs.replace(one, requests={**one.requests, "nvidia.com/gpu": 1}))
    deployment = theatre.server.objects[DEPLOYMENT]
    seen = deployment["metadata"]["generation"]
    deployment["status"] = {"observedGeneration": seen, "replicas": 2, "updatedReplicas": 2}
    await theatre.look(120.0)
    document = theatre.server.objects[SERVICE]
    document["spec"]["replicas"], document["metadata"]["generation"] = 1, 2
    writes = await theatre.look()
    assert [name for verb, name in writes if verb == "patch"] == ["chat-unified-default-1-2"]


async def test_what_is_own_does_not_ring_and_what_is_gone_is_forgotten() -> None:
    theatre = Theatre()
    await theatre.look()
    version = theatre.server.objects[SERVICE]["metadata"]["resourceVersion"]
    assert theatre.reconciler.is_own("team/chat", version)
    del theatre.server.objects[SERVICE]
    assert await theatre.look() == []
    assert (theatre.again, theatre.signals.cleared) == (None, 1)
    assert not theatre.reconciler.is_own("team/chat", version)


async def test_who_leads_again_applies_once_and_nothing_changes() -> None:
    theatre = Theatre()
    await theatre.look()
    theatre.show(replica())
    await theatre.look()
    before = copy.deepcopy({path: one.get("spec") for path, one in theatre.server.objects.items()})
    theatre.reconciler.stand_by()
    writes = await theatre.look()
    assert {verb for verb, _ in writes} <= {"apply"}
    assert {path: one.get("spec") for path, one in theatre.server.objects.items()} == before
    assert await theatre.look() == []


async def test_a_service_that_may_go_to_zero_has_an_activator_that_is_no_replica() -> None:
    theatre = Theatre()
    theatre.server.objects[SERVICE]["spec"]["scaling"] = {"scaleToZero": {"after": "10m"}}
    writes = await theatre.look()
    assert ("apply", "chat-activator") in writes
    own = theatre.server.objects["/api/v1/namespaces/team/services/chat"]
    assert own["spec"]["selector"] == {"stowage.dev/service": "chat", "stowage.dev/component": "activator"}
    labels = {"stowage.dev/service": "chat", "stowage.dev/component": "activator"}
    owner = OwnerRef("ReplicaSet", "chat-activator-1", "rs-9")
    theatre.show(any_pod("chat-activator-1-a", "n1", labels=labels, owner=owner))
    theatre.show(replica())
    await theatre.look()
    assert theatre.status["readyReplicas"] == 1
    own = theatre.server.objects["/api/v1/namespaces/team/services/chat"]
    assert own["spec"]["selector"]["stowage.dev/role"] == "unified", "a replica answers now"
    await theatre.look()
    theatre.server.reads = 0
    for _ in range(5):
        assert await theatre.look() == []
    assert theatre.server.reads <= 5 + 4, "the activator is no replica that is missing: children are not listed anew"
    await theatre.reconciler.close()
