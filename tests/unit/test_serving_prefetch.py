"""Prefetch pods: which nodes get one, what is in it, and when it goes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from msgspec import structs

from harness.serving_children import NOW, role, service
from stowage.api.model_service import ModelService
from stowage.decide.serving.prefetch import AVOIDED_SECONDS, UNPLACED_SECONDS, PrefetchStep, prefetch_step
from stowage.decide.serving.prefetch_pod import NODE_ANNOTATION, fills_node, prefetch_pod
from stowage.decide.serving.unsupported import unsupported
from stowage.observe.reflector import ObjectKey, Present
from stowage.observe.store import Store
from stowage.run.serving_prefetch import REFUSED_SECONDS, ServingPrefetch
from stowage.transport import Forbidden
from stowage_scheduler.cluster import Effect, Node, OwnerRef, Pod, Taint
from stowage_scheduler.health import PodHealth
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import fact_of

GPU = "nvidia.com/gpu"
Document = dict[str, Any]

FETCH: Document = {
    "name": "fetch",
    "image": "fetch:1",
    "volumeMounts": [{"name": "weights", "mountPath": "/w"}],
    "resources": {"limits": {"memory": "8Gi", GPU: 1}},
}
TEMPLATE: Document = {
    "nodeSelector": {"kind": "gpu"},
    "tolerations": [{"key": GPU, "operator": "Exists"}],
    "priorityClassName": "high",
    "initContainers": [FETCH, {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}],
    "containers": [
        {
            "name": "engine",
            "image": "vllm:1",
            "resources": {"limits": {GPU: 2}},
            "securityContext": {"privileged": True, "runAsUser": 7},
        }
    ],
    "volumes": [
        {"name": "weights", "hostPath": {"path": "/var/weights"}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ],
}


def warm(nodes: int = 1, template: Document | None = None, **more: Any) -> ModelService:
    variant = {"name": "default", "template": {"spec": template or TEMPLATE}, **more}
    return service(role(variants=[variant]) | {"warm": {"nodes": nodes}}, model={"uri": "pvc://models/llama"})


def node(name: str, **facts: Any) -> Node:
    known: Document = {
        "allocatable": {"cpu": 8000, "memory": 64 << 30, GPU: 4, "pods": 110},
        "labels": {"kind": "gpu", "kubernetes.io/hostname": name},
    }
    return Node(name, **{**known, **facts})


def nodes(*found: Node) -> dict[str, Node]:
    return {one.name: one for one in found}


def replica(on: str) -> Pod:
    labels = {"stowage.dev/service": "llama", "stowage.dev/role": "unified"}
    return Pod("team", f"r-{on}", f"uid-r-{on}", {GPU: 2}, node=on, phase="Running", labels=labels)


def made(of: ModelService, on: str, **facts: Any) -> Pod:
    """The prefetch pod of a node, as it is observed once its kubelet runs it."""
    document = prefetch_pod(of, of.spec.roles[0], of.spec.roles[0].variants[0], on)
    document["metadata"]["uid"] = f"uid-{on}"
    fact = fact_of(decode_object("Pod", json.dumps(document).encode()))
    assert isinstance(fact, Pod)
    return structs.replace(fact, **{"node": on, "phase": "Running", "ready": True, "created_at": NOW - 60.0, **facts})


def step(of: ModelService, own: list[Pod], found: dict[str, Node], others: tuple[Pod, ...] = ()) -> PrefetchStep:
    return prefetch_step(of, own, found, [*own, *others], NOW)


def where(found: PrefetchStep) -> list[str]:
    return [one["metadata"]["annotations"][NODE_ANNOTATION] for one in found.create]


TAINT = Taint(GPU, Effect.NO_SCHEDULE)
OTHER_TAINT = Taint("maintenance", Effect.NO_SCHEDULE)

CHOICES = [
    pytest.param(nodes(node("b"), node("a")), [], ["a"], id="one that fits, by name"),
    pytest.param(nodes(node("a", labels={}), node("b")), [], ["b"], id="that the template's selector admits"),
    pytest.param(nodes(node("a", taints=(OTHER_TAINT,)), node("b", taints=(TAINT,))), [], ["b"], id="tolerated"),
    pytest.param(nodes(node("a", unschedulable=True), node("b")), [], ["b"], id="no cordoned one"),
    pytest.param(nodes(node("a", ready=False), node("b")), [], ["b"], id="no lost one"),
    pytest.param(nodes(node("a", allocatable={GPU: 1, "pods": 9}), node("b")), [], ["b"], id="large enough"),
    pytest.param(nodes(node("a"), node("b")), [replica("a")], ["b"], id="beyond those in use"),
    pytest.param(nodes(node("a")), [replica("a")], [], id="none where all are in use"),
]


@pytest.mark.parametrize(("found", "own", "chosen"), CHOICES)
def test_which_node_is_chosen(found: dict[str, Node], own: list[Pod], chosen: list[str]) -> None:
    assert where(step(warm(), own, found)) == chosen


def test_a_node_with_room_now_comes_before_a_full_one() -> None:
    full = Pod("x", "y", "z", {GPU: 4}, node="a", phase="Running")
    assert where(step(warm(), [], nodes(node("a"), node("b")), (full,))) == ["b"]
    assert where(step(warm(2), [], nodes(node("a"), node("b")), (full,))) == ["b", "a"]


def test_what_is_there_stays_and_counts_once_it_has_done_its_work() -> None:
    of, found = warm(), nodes(node("a"), node("b"))
    rests = step(of, [made(of, "b")], found)
    assert (rests.create, rests.delete, rests.cached_nodes) == ((), (), {"unified": 1})
    fetches = step(of, [made(of, "b", ready=False)], found)
    assert (fetches.create, fetches.delete, fetches.cached_nodes) == ((), (), {"unified": 0})
    sleepless = PodHealth(waiting=(("stowage-asleep", "RunContainerError"),), initialized_at=NOW - 5.0)
    assert step(of, [made(of, "b", ready=False, health=sleepless)], found).cached_nodes == {"unified": 1}
    failing = PodHealth(waiting=(("fetch", "CrashLoopBackOff"),))
    assert step(of, [made(of, "b", ready=False, health=failing)], found).cached_nodes == {"unified": 0}


def test_a_replica_that_comes_takes_the_place_and_another_node_is_warmed() -> None:
    of = warm()
    found = step(of, [made(of, "a"), replica("a")], nodes(node("a"), node("b")))
    assert [one.uid for one in found.delete] == ["uid-a"]
    assert where(found) == ["b"]


def test_fewer_nodes_keep_those_that_are_warm() -> None:
    of = warm(1)
    found = step(of, [made(of, "a", ready=False), made(of, "b")], nodes(node("a"), node("b")))
    assert [one.uid for one in found.delete] == ["uid-a"]
    assert step(warm(0), [made(of, "a")], nodes(node("a"))).delete[0].uid == "uid-a"


def test_another_template_is_another_pod_on_the_same_node() -> None:
    image = {**TEMPLATE, "containers": [{"name": "engine", "image": "vllm:2"}]}
    found = step(warm(1, image), [made(warm(), "b")], nodes(node("a"), node("b")))
    assert where(found) == ["b"]
    assert [one.uid for one in found.delete] == ["uid-b"]


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"phase": "Failed", "ready": False}, id="evicted"),
        pytest.param({"node": None, "phase": "Pending", "ready": False}, id="not placed"),
    ],
)
def test_a_node_that_does_not_take_its_pod_is_left_alone_for_a_while(facts: Document) -> None:
    of, both = warm(), nodes(node("a"), node("b"))
    bad = made(of, "a", **facts, created_at=NOW - UNPLACED_SECONDS)
    found = step(of, [bad], both)
    assert (where(found), found.delete) == (["b"], ()), "it stays as the mark"
    old = made(of, "a", **facts, created_at=NOW - AVOIDED_SECONDS)
    found = step(of, [old, made(of, "b")], both)
    assert (where(found), [one.uid for one in found.delete]) == ([], ["uid-a"])


def test_a_pod_of_somebody_else_is_left_alone() -> None:
    of = warm(0)
    theirs = structs.replace(made(warm(), "a"), owner=OwnerRef("Job", "x", "another"))
    assert step(of, [theirs], nodes(node("a"))).delete == ()


def test_what_the_pod_is_made_of() -> None:
    of = warm()
    spec = prefetch_pod(of, of.spec.roles[0], of.spec.roles[0].variants[0], "a")["spec"]
    (init,) = spec["initContainers"]
    assert (init["name"], init["resources"]["limits"]) == ("fetch", {"memory": "8Gi"})
    assert init["resources"]["requests"] == {"cpu": "1m", "memory": "1Mi"}
    assert [one["name"] for one in spec["volumes"]] == ["weights"]
    (asleep,) = spec["containers"]
    assert (asleep["image"], asleep["command"][0]) == ("vllm:1", "sleep")
    assert asleep["securityContext"]["runAsUser"] == 7
    assert "privileged" not in asleep["securityContext"]
    assert asleep["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert GPU not in json.dumps(spec["containers"] + spec["initContainers"])
    assert not {"priorityClassName", "schedulerName", "nodeSelector"} & set(spec)
    affinity = spec["affinity"]
    (term,) = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchFields"][0]["values"] == ["a"]
    (drawn,) = affinity["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    labels = drawn["podAffinityTerm"]["labelSelector"]["matchLabels"]
    assert labels == {"stowage.dev/service": "llama", "stowage.dev/role": "unified"}


@pytest.mark.parametrize(
    ("volume", "fills"),
    [
        pytest.param({"hostPath": {"path": "/w"}}, True, id="a folder of the node"),
        pytest.param({"persistentVolumeClaim": {"claimName": "w"}}, True, id="a claim"),
        pytest.param({"emptyDir": {}}, False, id="what goes with the pod"),
    ],
)
def test_weights_are_fetched_only_to_where_they_stay(volume: Document, fills: bool) -> None:
    of = warm(1, {**TEMPLATE, "volumes": [{"name": "weights", **volume}]})
    (variant,) = of.spec.roles[0].variants
    assert fills_node(variant) is fills
    assert ("initContainers" in prefetch_pod(of, of.spec.roles[0], variant, "a")["spec"]) is fills
    assert any("warm.nodes" in one for one in unsupported(of.spec)) is not fills


class Server:
    """Takes pods, or refuses them."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.deleted: list[str] = []
        self.refuses = False
        self.protected: list[str] = []

    async def create(self, path: str, body: Document) -> Document:
        if self.refuses:
            raise Forbidden(path, status=403, message="exceeded quota: pods")
        self.made.append(body["metadata"]["annotations"][NODE_ANNOTATION])
        return body

    async def delete(self, path: str, _options: Document) -> None:
        name = path.rpartition("/")[2]
        if self.refuses or name in self.protected:
            raise Forbidden(path, status=403, message="protected")
        self.deleted.append(name)


def test_a_refusal_is_told_and_not_asked_for_again_at_once() -> None:
    now = NOW
    server, store = Server(), Store(now=lambda: now)
    store.handle("Node", Present(ObjectKey("", "a"), node("a")))
    prefetch = ServingPrefetch(server, store, lambda: now)  # type: ignore[arg-type]
    of = warm()

    def passes() -> tuple[str, ...]:
        prefetch.look(of, ())
        return asyncio.run(prefetch.act(of, lambda: True))

    server.refuses = True
    (words,) = passes()
    assert "exceeded quota" in words
    server.refuses = False
    assert passes() == (words,)
    assert server.made == []
    now += REFUSED_SECONDS
    assert passes() == ()
    assert server.made == ["a"]
    prefetch.look(of, (made(of, "a"),))
    off = of.model_copy(update={"spec": warm(0).spec})
    prefetch.look(off, (made(of, "a"),))
    server.refuses = True
    (words,) = asyncio.run(prefetch.act(off, lambda: True))
    assert words.endswith(": protected"), "the pass goes on, and tells it"
    server.refuses = False
    asyncio.run(prefetch.act(off, lambda: True))
    assert len(server.deleted) == 1


def test_a_pod_that_may_not_be_deleted_keeps_no_other_from_going_or_coming() -> None:
    server, store, of = Server(), Store(now=lambda: NOW), warm(1)
    for name in ("a", "b", "c"):
        store.handle("Node", Present(ObjectKey("", name), node(name)))
    prefetch = ServingPrefetch(server, store, lambda: NOW)  # type: ignore[arg-type]
    there = [made(of, "a"), made(of, "b")]
    prefetch.look(of, (*there, replica("a"), replica("b")))
    server.protected = [there[0].name]
    (words,) = asyncio.run(prefetch.act(of, lambda: True))
    assert words == f"prefetch pod {there[0].name}: protected"
    assert (server.deleted, server.made) == ([there[1].name], ["c"])
