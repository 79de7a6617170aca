"""Replicas of several pods, seen through a store that may be behind, and made where the API server lets them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from harness.serving_groups import grouped, wide
from stowage.act.serving import ChildTaken
from stowage.api.durations import instant
from stowage.api.model_service import ModelService
from stowage.api.model_service_status import GroupStatus, ModelServiceStatus, RoleStatus, VariantStatus
from stowage.decide.serving.group_children import GroupPod, template_hash
from stowage.decide.serving.group_facts import Groups
from stowage.decide.serving.group_step import GroupWork
from stowage.decide.serving.service_facts import PodRef
from stowage.observe.store import Store
from stowage.run.serving_groups import ServingGroups
from stowage.transport import Api, Conflict, Forbidden, NotFound, paths
from stowage_scheduler.cluster import OwnerRef, Pod
from unit.builders import pod as any_pod
from unit.test_reconcile_serving import SERVICE, Theatre

NOW = 1_000_000.0
PODS = "/api/v1/namespaces/team/pods"
OWNED = {"ownerReferences": [{"uid": "service-uid"}]}
KEY = ("unified", "default")
Document = dict[str, Any]


class Server:
    """Pods by name, and what was asked for."""

    def __init__(self) -> None:
        self.pods: dict[str, Document] = {}
        self.policies: list[Document] = []
        self.made: list[Document] = []
        self.deleted: list[tuple[str, str]] = []
        self.forbids = ""

    async def get(self, path: str) -> Document:
        if path.endswith("packingpolicies"):
            return {"items": self.policies}
        name = path.removeprefix(f"{PODS}/")
        if name not in self.pods:
            raise NotFound(path, status=404)
        return {"metadata": self.pods[name]}

    async def create(self, path: str, body: Document) -> Document:
        name = body["metadata"]["name"]
        assert path == PODS
        if name in self.pods:
            raise Conflict(path, status=409)
        if self.forbids and name.endswith(self.forbids):
            raise Forbidden(path, status=403, message="exceeded quota: pods")
        self.made.append(body)
        return body

    async def delete(self, path: str, body: Document) -> Document:
        if self.forbids and path.endswith(self.forbids):
            raise Forbidden(path, status=403, message="protected")
        self.deleted.append((path, body["preconditions"]["uid"]))
        return {}


def groups_of(server: Server) -> ServingGroups:
    return ServingGroups(cast("Api", server), Store(now=lambda: NOW), lambda: NOW)


def member(index: int) -> Pod:
    labels = {"service": "llama", "role": "unified", "variant": "default", "group": "0", "attempt": "0"}
    owned = {f"stowage.dev/{key}": value for key, value in {**labels, "group-index": str(index)}.items()}
    name = f"llama-unified-default-0-0-{index}"
    return any_pod(name, "n1", labels=owned, owner=OwnerRef("ModelService", "llama", "service-uid"))


def whole(of: ModelService) -> ModelService:
    record = GroupStatus(ordinal=0, size=2, whole=True, since=instant(NOW - 900))
    roles = (RoleStatus(name="unified", desired=1, variants=(VariantStatus(name="default", groups=(record,)),)),)
    return of.model_copy(update={"status": ModelServiceStatus(roles=roles)})


def asked(of: ModelService, *indices: int) -> GroupWork:
    role = of.spec.roles[0]
    return GroupWork(tuple(GroupPod(role, role.variants[0], 0, 0, index) for index in indices))


async def test_a_pod_that_only_the_store_does_not_know_is_waited_for() -> None:
    server, of = Server(), whole(grouped())
    server.pods["llama-unified-default-0-0-1"] = OWNED
    assert await groups_of(server).seen(of, [member(0)], NOW) is None


@pytest.mark.parametrize(
    "there",
    [
        pytest.param({}, id="the API server has none either"),
        pytest.param({"llama-unified-default-0-0-1": {**OWNED, "deletionTimestamp": "now"}}, id="it is going"),
        pytest.param({"llama-unified-default-0-0-1": {}}, id="another pod has its name"),
    ],
)
async def test_a_pod_that_is_really_gone_breaks_its_replica(there: dict[str, Document]) -> None:
    server, of = Server(), whole(grouped())
    server.pods |= there
    found = await groups_of(server).seen(of, [member(0)], NOW)
    assert found is not None
    (replica,) = found.replicas[KEY]
    assert (replica.record.attempt, replica.record.reason) == (1, "PodDeleted")


@pytest.mark.parametrize(
    ("spec", "gated"),
    [
        pytest.param({}, True, id="a policy covers it"),
        pytest.param({"paused": True}, False, id="it is paused"),
        pytest.param({"schedulerNames": ["another"]}, False, id="of another scheduler"),
        pytest.param({"podSelector": {"matchLabels": {"stowage.dev/role": "prefill"}}}, False, id="of another role"),
    ],
)
async def test_pods_are_gated_where_somebody_opens_the_gate(spec: Document, gated: bool) -> None:
    server, of = Server(), grouped()
    policy = {"apiVersion": "stowage.dev/v1alpha1", "kind": "PackingPolicy", "metadata": {"name": "p"}}
    server.policies = [{**policy, "spec": {"schedulerNames": ["default-scheduler"], **spec}}]
    found = await groups_of(server).seen(of, [], NOW)
    assert found is not None
    assert found.gated == (frozenset({KEY}) if gated else frozenset())


async def test_pods_are_deleted_exactly_and_made() -> None:
    server, of = Server(), grouped()
    groups = groups_of(server)
    work = GroupWork(asked(of, 0, 1).create, (PodRef("team", "old", "u-1"),))
    await groups.carry_out(of, work, Groups(), [])
    assert server.deleted == [(f"{PODS}/old", "u-1")]
    assert [one["metadata"]["name"][-3:] for one in server.made] == ["0-0", "0-1"]


async def test_a_pod_that_may_not_be_deleted_keeps_none_from_being_made() -> None:
    server, of = Server(), grouped()
    server.forbids = "-old"
    groups = groups_of(server)
    work = GroupWork(asked(of, 0, 1).create, (PodRef("team", "p-old", "u-1"),))
    with pytest.raises(Forbidden):
        await groups.carry_out(of, work, Groups(), ())
    assert len(server.made) == 2


async def test_what_the_api_server_refuses_is_told_until_it_lets_it() -> None:
    server, of = Server(), grouped(wide())
    groups = groups_of(server)
    server.forbids = "-1"
    await groups.carry_out(of, asked(of, 0, 1), Groups(), [])
    assert len(server.made) == 1, "the others are made all the same"
    found = await groups.seen(of, [], NOW)
    assert found is not None
    assert found.failures == {KEY: "exceeded quota: pods"}
    server.forbids = ""
    await groups.carry_out(of, asked(of, 1), Groups(), [])
    found = await groups.seen(of, [], NOW)
    assert found is not None
    assert found.failures == {}


async def test_a_name_that_is_taken_is_told_and_one_of_our_own_is_well() -> None:
    server, of = Server(), grouped()
    server.pods["llama-unified-default-0-0-0"] = OWNED
    await groups_of(server).carry_out(of, asked(of, 0), Groups(), [])
    server.pods["llama-unified-default-0-0-0"] = {}
    with pytest.raises(ChildTaken, match="not of this service"):
        await groups_of(server).carry_out(of, asked(of, 0), Groups(), [])


async def test_a_pass_sees_one_replica_by_its_first_pod_and_rests() -> None:
    theatre = Theatre()
    variant = theatre.server.objects[SERVICE]["spec"]["roles"][0]["variants"][0]
    variant["group"] = {"size": 2}
    theatre.server.objects[paths.PACKING_POLICIES] = {"items": []}
    template = template_hash(ModelService.parse(theatre.server.objects[SERVICE]).spec.roles[0].variants[0])
    for index in range(2):
        labels = {"service": "chat", "role": "unified", "variant": "default", "group": "0", "attempt": "0"}
        owned = {**labels, "group-index": str(index), "template-hash": template}
        theatre.show(
            any_pod(
                f"chat-unified-default-0-0-{index}",
                "n1",
                labels={f"stowage.dev/{key}": value for key, value in owned.items()},
                owner=OwnerRef("ModelService", "chat", theatre.server.objects[SERVICE]["metadata"]["uid"]),
                ready=True,
            )
        )
    writes = await theatre.look()
    assert ("apply", "chat-unified.groups") in writes
    assert ("apply", "chat--groups") in writes
    assert ("apply", "chat-unified-default") not in writes, "there is no Deployment of groups"
    (asked_for,) = {tuple(pod.name for pod in pods) for _, pods in theatre.signals.asked}
    assert asked_for == ("chat-unified-default-0-0-0",), "the others are not read"
    assert (theatre.status["readyReplicas"], theatre.condition("Available")) == (1, ("True", "ReplicasReady"))
    await theatre.look()
    for _ in range(3):
        assert await theatre.look() == []
