"""Children of a service: applied where they are not as they were applied, and asked for only where that may be."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest

from stowage.act.serving import ChildTaken
from stowage.api.model_service import ModelService
from stowage.decide.serving.service_facts import ChildRef
from stowage.observe.reflector import Absent, ObjectKey, Present
from stowage.observe.store import Store
from stowage.run.serving_children import APPLIED_SECONDS, LISTED_SECONDS, TAKEN_SECONDS, ServingChildren
from stowage.transport import Api, Conflict, Forbidden, NotFound
from stowage_scheduler.cluster import OwnerRef, Workload
from unit.serving_services import NOW, role, service

Document = dict[str, Any]
OWNER = {"kind": "ModelService", "name": "chat", "uid": "u-1"}


def child(kind: str, name: str, **spec: Any) -> Document:
    return {"kind": kind, "metadata": {"name": name, "ownerReferences": [OWNER]}, "spec": spec}


def deployment(replicas: int = 1) -> Document:
    return child("Deployment", "chat-unified-default", replicas=replicas)


class Server:
    """Objects by path, and what was asked."""

    def __init__(self) -> None:
        self.objects: dict[str, Document] = {}
        self.asked: list[tuple[str, str]] = []
        self.keeps = ""
        self._uids = iter(range(100))

    async def get(self, path: str, query: dict[str, str] | None = None) -> Document:
        self._note("LIST" if query else "GET", path)
        if query:
            assert query == {"labelSelector": "stowage.dev/service=chat"}
            return {"items": [copy.deepcopy(one) for at, one in self.objects.items() if at.startswith(path + "/")]}
        if path not in self.objects:
            raise NotFound(path, status=404)
        return self.objects[path]

    async def apply(self, path: str, body: Document, *, field_manager: str) -> Document:
        self._note("APPLY", path)
        assert field_manager == "stowage-operator"
        there, given = self.objects.get(path), body["metadata"].get("uid")
        if given is not None and (there is None or there["metadata"]["uid"] != given):
            raise Conflict(path, status=409)
        field = "resourceVersion" if "/services/" in path else "generation"
        version = 1 if there is None else int(there["metadata"][field]) + (there["spec"] != body["spec"])
        uid = given or f"c-{next(self._uids)}"
        self.objects[path] = {**body, "metadata": {**body["metadata"], "uid": uid, field: version}}
        return copy.deepcopy(self.objects[path])

    async def merge_patch(self, path: str, body: Document, query: dict[str, str]) -> Document:
        self._note("PATCH", path)
        assert query == {"fieldManager": "stowage-operator"}
        there = self.objects.get(path)
        if there is None or there["metadata"]["uid"] != body["metadata"]["uid"]:
            raise Conflict(path, status=409)
        there["spec"] |= body["spec"]
        there["metadata"]["generation"] += 1
        return copy.deepcopy(there)

    async def delete(self, path: str, body: Document) -> Document:
        self._note("DELETE", path)
        if self.keeps and path.endswith(f"/{self.keeps}"):
            raise Forbidden(path, status=403, message="protected")
        assert body["preconditions"] == {"uid": self.objects.pop(path)["metadata"]["uid"]}
        return {}

    def _note(self, verb: str, path: str) -> None:
        self.asked.append((verb, path.rpartition("/")[2]))

    def told(self) -> list[tuple[str, str]]:
        asked, self.asked = self.asked, []
        return asked


class Theatre:
    def __init__(self) -> None:
        self.server = Server()
        self.now = NOW
        self.store = Store(now=lambda: self.now)
        self.children = ServingChildren(cast("Api", self.server), self.store, lambda: self.now)

    async def apply(self, *documents: Document, of: ModelService | None = None) -> list[tuple[str, str]]:
        one = of or service()
        await self.children.deployments(one, pods=1)
        await self.children.others(one)
        self.server.told()
        await self.children.apply(one, documents)
        return self.server.told()

    def changed(self) -> None:
        """The reflector tells of the Deployment."""
        self.rung("chat-unified-default")

    def rung(self, name: str, owner: OwnerRef | None = None, *, is_gone: bool = False) -> str | None:
        owner = owner or OwnerRef("ModelService", "chat", "u-1")
        fact = Workload("Deployment", "team", name, f"uid-of-{name}", owner=owner)
        key = ObjectKey("team", name)
        self.store.handle("Deployment", Absent(key) if is_gone else Present(key, fact))
        return self.children.deployment_changed(f"team/{name}")


async def test_a_child_is_looked_for_and_applied_once_and_again_where_it_is_another() -> None:
    theatre = Theatre()
    name = "chat-unified-default"
    assert await theatre.apply(deployment(1)) == [("GET", name), ("APPLY", name)]
    assert await theatre.apply(deployment(1)) == []
    assert await theatre.apply(deployment(2), child("Service", "chat")) == [
        ("APPLY", name),
        ("GET", "chat"),
        ("APPLY", "chat"),
    ]
    theatre.now += APPLIED_SECONDS
    again = await theatre.apply(deployment(2), child("Service", "chat"))
    assert again == [("APPLY", name), ("APPLY", "chat")], "what somebody changed or deleted comes back"


async def test_a_new_process_applies_once_what_is_there() -> None:
    theatre = Theatre()
    await theatre.apply(deployment(), child("Service", "chat"))
    before = {path: one["metadata"] for path, one in theatre.server.objects.items()}
    theatre.children.clear()
    found = await theatre.apply(deployment(), child("Service", "chat"))
    assert found == [("APPLY", "chat-unified-default"), ("APPLY", "chat")], "it is known to be there by the lists"
    assert {path: one["metadata"] for path, one in theatre.server.objects.items()} == before


async def test_what_is_of_somebody_else_is_left_alone() -> None:
    theatre = Theatre()
    path = "/api/v1/namespaces/team/services/chat"
    theatre.server.objects[path] = {"metadata": {"name": "chat", "uid": "x"}, "spec": {}}
    with pytest.raises(ChildTaken, match="Service chat is there already, and is not of this service"):
        await theatre.apply(child("Service", "chat"))
    theatre.server.objects[path]["metadata"] |= {"ownerReferences": [OWNER], "deletionTimestamp": "now"}
    theatre.now += TAKEN_SECONDS
    with pytest.raises(ChildTaken, match="still going"):
        await theatre.apply(child("Service", "chat"))


async def test_a_deployment_that_was_deleted_is_made_anew() -> None:
    theatre = Theatre()
    await theatre.apply(deployment())
    theatre.server.objects.clear()
    theatre.changed()
    assert [verb for verb, _ in await theatre.apply(deployment())] == ["APPLY", "GET", "APPLY"]
    (made,) = theatre.server.objects.values()
    assert made["metadata"]["uid"] == "c-1"


async def test_a_template_that_somebody_changed_is_applied_over() -> None:
    theatre = Theatre()
    await theatre.apply(deployment())
    (there,) = theatre.server.objects.values()
    there["metadata"]["generation"] += 1
    assert await theatre.apply(deployment()) == [], "nobody has told of it"
    theatre.changed()
    assert await theatre.apply(deployment()) == [("APPLY", "chat-unified-default")]


@pytest.mark.parametrize(("kind", "field"), [("Service", "resourceVersion"), ("PodDisruptionBudget", "generation")])
async def test_what_somebody_changed_comes_back_once_it_is_listed(kind: str, field: str) -> None:
    theatre = Theatre()
    wanted = child(kind, "chat")
    await theatre.apply(wanted)
    (there,) = theatre.server.objects.values()
    there["metadata"][field] += 1
    theatre.now += LISTED_SECONDS - 1
    assert await theatre.apply(wanted) == [], "nobody has told of it"
    theatre.now += 1
    assert await theatre.apply(wanted) == [("APPLY", "chat")]
    theatre.now += LISTED_SECONDS
    assert await theatre.apply(wanted) == [], "it rests"


async def test_deployments_are_listed_when_one_has_changed_or_pods_are_missing() -> None:
    theatre = Theatre()
    lists = [("LIST", "deployments")]
    await theatre.apply(deployment(2))

    async def asked(pods: int) -> list[tuple[str, str]]:
        (found,) = (await theatre.children.deployments(service(), pods)).values()
        assert found.replicas == 2
        return theatre.server.told()

    assert await asked(pods=2) == []
    theatre.now += LISTED_SECONDS / 2
    assert await asked(pods=2) == []
    assert await asked(pods=1) == lists, "its status may say why"
    assert await asked(pods=1) == []
    theatre.now += LISTED_SECONDS
    assert await asked(pods=2) == lists
    theatre.changed()
    assert await asked(pods=2) == lists


async def test_who_else_writes_is_told_by_what_the_last_status_asked_for() -> None:
    theatre = Theatre()
    await theatre.apply(deployment(3))
    (there,) = theatre.server.objects.values()
    there["metadata"]["managedFields"] = [{"manager": "hpa", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]
    for desired, manager in ((1, "hpa"), (3, "")):
        theatre.changed()
        one = service()
        one = one.model_copy(update={"status": one.status.model_copy(update={"roles": (role(desired),)})})
        (found,) = (await theatre.children.deployments(one, 3)).values()
        assert found.replicas_manager == manager


async def test_what_is_left_over_is_deleted_by_its_uid() -> None:
    theatre = Theatre()
    await theatre.apply(child("Service", "chat-old"))
    uid = next(iter(theatre.server.objects.values()))["metadata"]["uid"]
    await theatre.children.delete(service(), [ChildRef("Service", "chat-old", uid)])
    assert theatre.server.told() == [("DELETE", "chat-old")]


async def test_what_may_not_be_deleted_keeps_nothing_else_that_is_left_over() -> None:
    theatre = Theatre()
    await theatre.apply(child("Service", "chat-old"), child("Service", "chat-older"), deployment(3))
    kept, gone, lowered = (
        ChildRef(one["kind"], one["metadata"]["name"], one["metadata"]["uid"])
        for one in theatre.server.objects.values()
    )
    theatre.server.keeps = kept.name
    with pytest.raises(Forbidden, match="protected"):
        await theatre.children.delete(service(), [kept, gone], {lowered: 1})
    assert theatre.server.told() == [("DELETE", kept.name), ("DELETE", gone.name), ("PATCH", lowered.name)]


async def test_a_deployment_that_is_left_over_is_lowered_by_its_uid() -> None:
    theatre = Theatre()
    await theatre.apply(deployment(3))
    uid = next(iter(theatre.server.objects.values()))["metadata"]["uid"]
    name = "chat-unified-default"
    await theatre.children.delete(service(), (), {ChildRef("Deployment", name, uid): 1})
    assert theatre.server.told() == [("PATCH", name)]
    assert (await theatre.children.deployments(service(), 1))[name].replicas == 1
    await theatre.children.delete(service(), (), {ChildRef("Deployment", name, "of another one"): 0})
    assert (await theatre.children.deployments(service(), 1))[name].replicas == 1


def test_a_deployment_rings_the_service_that_owns_it_also_when_it_is_gone() -> None:
    theatre = Theatre()
    assert theatre.rung("chat-a") == "team/chat"
    assert theatre.rung("other", OwnerRef("Kustomization", "x", "u")) is None
    assert theatre.rung("chat-a", is_gone=True) == "team/chat"
    assert theatre.rung("chat-a", is_gone=True) is None
