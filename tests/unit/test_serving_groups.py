"""Replicas of several pods: what they are made of, and what becomes of one whose pods come, break and go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.serving_children import CONTAINER, NOW, deployment, pod, service
from harness.serving_groups import GroupWorld, grouped, member, wide
from stowage.api.durations import instant
from stowage.api.model_service import ModelService
from stowage.api.model_service_status import GroupStatus, ModelServiceStatus, RoleStatus, VariantStatus
from stowage.decide.serving.cold_start import start_of
from stowage.decide.serving.drain import GONE_COST
from stowage.decide.serving.group_children import GroupPod, group_documents, group_pod, template_hash
from stowage.decide.serving.group_facts import Groups, MemberFact, groups_of, missing
from stowage.decide.serving.group_step import wait_seconds
from stowage.decide.serving.service_facts import PodFact
from stowage.decide.serving.spend import uses

KEY = ("unified", "default")
RACK = {"pack": "Required", "keys": ["rack", "zone"]}
SERVICE = grouped()
HASH = template_hash(SERVICE.spec.roles[0].variants[0])


def made(of: ModelService, index: int, *, gated: bool = True) -> dict[str, Any]:
    role = of.spec.roles[0]
    return group_pod(of, GroupPod(role, role.variants[0], 3, 1, index), gated=gated)


def record(**fields: Any) -> GroupStatus:
    return GroupStatus(**{"ordinal": 0, "size": 2, "whole": True, "since": instant(NOW - 900), **fields})


def told(*records: GroupStatus, of: ModelService = SERVICE) -> ModelService:
    variants = (VariantStatus(name="default", desired=len(records), groups=records),)
    roles = (RoleStatus(name="unified", desired=len(records), variants=variants),)
    return of.model_copy(update={"status": ModelServiceStatus(roles=roles)})


def pair(**facts: Any) -> list[MemberFact]:
    return [member(0, index, hash_=HASH, **facts) for index in range(2)]


def changed(index: int, **facts: Any) -> list[MemberFact]:
    """A pair, of which one pod is otherwise."""
    found = pair()
    found[index] = replace(found[index], pod=replace(found[index].pod, **facts))
    return found


def one(groups: Groups) -> tuple[GroupStatus, PodFact]:
    (replica,) = groups.replicas[KEY]
    return replica.record, replica.fact


def _first(world: GroupWorld) -> list[PodFact]:
    return [each.pod for each in world.live.values() if each.index == 0]


def test_the_first_pod_is_of_the_template_and_takes_the_requests() -> None:
    of = grouped(wide(group={"topology": RACK}))
    found = made(of, 0)
    metadata, spec = found["metadata"], found["spec"]
    assert metadata["name"] == "llama-unified-default-3-1-0"
    assert metadata["labels"] == {
        "stowage.dev/service": "llama",
        "stowage.dev/role": "unified",
        "stowage.dev/variant": "default",
        "stowage.dev/group": "3",
        "stowage.dev/group-index": "0",
        "stowage.dev/attempt": "1",
        "stowage.dev/template-hash": template_hash(of.spec.roles[0].variants[0]),
        "stowage.dev/takes-requests": "true",
        "stowage.dev/gang": "service--unified-default-3-1",
        "stowage.dev/gang-size": "2",
    }
    assert metadata["annotations"] == {"stowage.dev/required-topology": "rack,zone"}
    assert metadata["ownerReferences"][0]["uid"] == "service-uid"
    assert spec["schedulingGates"] == [{"name": "stowage.dev/gang"}]
    assert (spec["hostname"], spec["subdomain"]) == ("unified-default-3-1-0", "llama--groups")
    assert "preStop" in spec["containers"][0]["lifecycle"]
    (apart,) = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["topologyKey"] == "kubernetes.io/hostname"
    assert apart["labelSelector"]["matchLabels"].items() <= metadata["labels"].items()
    assert "podAffinity" not in spec["affinity"]


def test_the_others_are_of_the_workers_template_and_get_no_requests() -> None:
    container = {**CONTAINER, "env": [{"name": "LWS_GROUP_SIZE", "value": "9"}, {"name": "MINE", "value": "1"}]}
    workers = {"metadata": {"labels": {"is": "worker"}}, "spec": {"containers": [container]}}
    of = grouped(wide(size=3, group={"workers": workers}))
    found = made(of, 2, gated=False)
    labels, spec = found["metadata"]["labels"], found["spec"]
    assert labels["is"] == "worker"
    assert not {"stowage.dev/takes-requests", "stowage.dev/gang"} & set(labels)
    assert "schedulingGates" not in spec
    assert "lifecycle" not in spec["containers"][0]
    assert [(one["name"], one["value"]) for one in spec["containers"][0]["env"]] == [
        ("LWS_LEADER_ADDRESS", "unified-default-3-1-0.llama--groups.team.svc"),
        ("LWS_WORKER_INDEX", "2"),
        ("LWS_GROUP_SIZE", "9"),
        ("MINE", "1"),
    ], "what the template sets itself stays"


def test_without_a_policy_kube_scheduler_is_asked_to_keep_them_close() -> None:
    spec = made(grouped(wide(group={"topology": RACK})), 1, gated=False)["spec"]
    near = spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert [term["topologyKey"] for term in near] == ["rack", "zone"]


def test_names_fit_however_long_those_of_service_role_and_variant_are() -> None:
    of = grouped(wide("v" * 15))
    document = of.to_document()
    document["metadata"]["name"] = "s" * 47
    document["spec"]["roles"][0]["name"] = "r" * 15
    long = ModelService.parse(document)
    role = long.spec.roles[0]
    found = group_pod(long, GroupPod(role, role.variants[0], 999, 999_999, 63), gated=True)
    assert len(found["spec"]["hostname"]) <= 63
    assert len(found["spec"]["subdomain"]) <= 63
    assert all(len(value) <= 63 for value in found["metadata"]["labels"].values())
    assert len(found["metadata"]["name"]) <= 253


def test_the_budget_is_all_pods_and_the_service_names_pods_before_they_are_ready() -> None:
    headless, budget = group_documents(SERVICE, {KEY: (record(), record(ordinal=1, size=3))})
    assert (headless["metadata"]["name"], headless["spec"]["clusterIP"]) == ("llama--groups", "None")
    assert headless["spec"]["publishNotReadyAddresses"] is True
    assert (budget["metadata"]["name"], budget["spec"]["minAvailable"]) == ("llama-unified.groups", 5)
    assert group_documents(SERVICE, {})[1]["spec"]["minAvailable"] == 0
    assert group_documents(service(), {}) == ()


@pytest.mark.parametrize(
    ("variant", "gpus"),
    [
        pytest.param(wide(size=3), 6.0, id="all pods alike"),
        pytest.param(
            wide(size=3, group={"workers": {"spec": {"containers": [{"name": "w", "image": "i"}]}}}),
            2.0,
            id="workers without",
        ),
        pytest.param(wide(size=3, gpus=5), 5.0, id="as the variant says"),
    ],
)
def test_gpus_are_those_of_all_pods_of_a_replica(variant: dict[str, Any], gpus: float) -> None:
    assert uses(grouped(variant).spec.roles[0].variants[0])["gpus"] == gpus


@pytest.mark.parametrize(
    ("image", "size", "same"),
    [
        pytest.param("vllm:1", 2, True, id="the same"),
        pytest.param("vllm:2", 2, False, id="another image"),
        pytest.param("vllm:1", 3, False, id="another size"),
    ],
)
def test_a_hash_tells_what_replicas_are_made_from(image: str, size: int, same: bool) -> None:
    other = grouped(wide(image=image, size=size, costPerHour="3")).spec.roles[0].variants[0]
    assert (template_hash(other) == HASH) is same


def test_a_replica_is_one_pod_for_all_that_decides() -> None:
    found = pair()
    found[1] = replace(found[1], pod=replace(found[1].pod, ready_at=NOW - 3000.0, scheduled_at=NOW - 3500.0))
    after, fact = one(groups_of(told(record()), found, NOW))
    assert (fact.ref, fact.ordinal, fact.is_ready, fact.node) == (found[0].pod.ref, 0, True, "n0-0")
    start = start_of(fact)
    assert start is not None
    assert start.seconds == 600.0, "until its last pod was ready"
    assert dict(start.phases)["Schedule"] == 100.0, "until its last pod had a node"
    assert after.container_restarts == 0


@pytest.mark.parametrize(
    ("facts", "ready", "node"),
    [
        pytest.param({"is_ready": False, "ready_at": None}, False, "n0-0", id="one pod is not ready"),
        pytest.param({"is_ready": False, "ready_at": None, "node": None}, False, None, id="one pod has no node"),
    ],
)
def test_it_is_as_far_as_its_last_pod(facts: dict[str, Any], ready: bool, node: str | None) -> None:
    _, fact = one(groups_of(told(record()), changed(1, **facts), NOW))
    assert (fact.is_ready, fact.node) == (ready, node)


def test_behind_a_gate_it_waits_since_all_of_it_was_there() -> None:
    waits = [
        replace(found, is_gated=True, pod=replace(found.pod, node=None, is_ready=False, created_at=NOW - 130.0 + index))
        for index, found in enumerate(pair())
    ]
    _, fact = one(groups_of(told(record()), waits, NOW))
    assert fact.unschedulable_since == NOW - 129.0
    assert "placed together" in fact.unschedulable_message


@pytest.mark.parametrize(
    ("known", "members", "reason"),
    [
        pytest.param(record(), pair(), None, id="whole and well"),
        pytest.param(record(), changed(1, is_terminating=True), "PodDeleted", id="one pod is deleted"),
        pytest.param(record(), pair()[:1], "PodDeleted", id="one pod is gone"),
        pytest.param(record(), [], "PodDeleted", id="all pods are gone"),
        pytest.param(record(), [pair()[0], member(0, 1, hash_=HASH, has_ended=True)], "PodEnded", id="one has ended"),
        pytest.param(
            record(container_restarts=1), changed(1, restarts=2), "ContainerRestarted", id="a container began again"
        ),
        pytest.param(record(container_restarts=2), changed(1, restarts=2), None, id="as often as before it answered"),
        pytest.param(record(), changed(0, restarts=5, is_ready=False, ready_at=None), None, id="before it answered"),
        pytest.param(record(whole=False), pair()[1:], None, id="the store has not seen all of its pods yet"),
    ],
)
def test_what_breaks_a_replica(known: GroupStatus, members: list[MemberFact], reason: str | None) -> None:
    groups = groups_of(told(known), members, NOW)
    after, fact = one(groups)
    assert after.reason == reason
    assert after.attempt == (0 if reason is None else 1)
    assert after.restarts == (0 if reason is None else 1)
    if reason is not None:
        assert not fact.is_ready
        assert (fact.ref.uid, fact.deletion_cost) == ("", GONE_COST)
        assert set(groups.strays) == {each.pod.ref for each in members if not each.pod.is_terminating}


def test_one_that_is_half_made_of_an_older_template_is_made_anew_and_did_not_fail() -> None:
    groups = groups_of(told(record(whole=False)), [member(0, 0, hash_="older")], NOW)
    after, _ = one(groups)
    assert (after.attempt, after.restarts, after.reason) == (1, 0, None)
    assert len(groups.strays) == 1


def test_a_replica_that_breaks_while_it_leaves_does_not_come_back() -> None:
    leaving = changed(0, takes_requests=False, draining_since=NOW - 5.0)
    groups = groups_of(told(record()), leaving[:1], NOW)
    assert groups.replicas[KEY] == ()
    assert groups.strays == (leaving[0].pod.ref,)


def test_one_that_fails_again_and_again_counts_as_one_that_can_not_start() -> None:
    _, fact = one(groups_of(told(record(restarts=1)), [], NOW))
    assert fact.trouble == "PodDeleted"
    after, fact = one(groups_of(told(record(restarts=3, reason="PodDeleted")), pair(), NOW))
    assert (after.restarts, fact.trouble) == (0, ""), "ten minutes of service make it a good one"


def test_a_pod_with_labels_that_are_none_is_a_stray() -> None:
    odd = replace(member(hash_=HASH), ordinal=-1)
    groups = groups_of(told(), [odd], NOW)
    assert (groups.replicas[KEY], groups.strays) == ((), (odd.pod.ref,))


def test_what_is_there_is_taken_over_where_a_status_was_lost() -> None:
    (found,) = groups_of(grouped(), pair(), NOW).replicas[KEY]
    assert (found.record.whole, found.record.attempt, found.fact.is_ready) == (True, 0, True)


def test_pods_of_which_the_status_speaks_and_the_store_does_not_are_asked_for() -> None:
    of = told(record(), record(ordinal=1, whole=False))
    assert missing(of, pair()[1:]) == ("llama-unified-default-0-0-0",)


@pytest.mark.parametrize(("restarts", "seconds"), [(0, 0.0), (1, 0.0), (2, 10.0), (3, 20.0), (7, 300.0), (900, 300.0)])
def test_each_restart_in_a_row_waits_twice_as_long(restarts: int, seconds: float) -> None:
    assert wait_seconds(restarts) == seconds


def test_ordinals_that_are_free_are_used_first() -> None:
    world, of = GroupWorld(), grouped(replicas=3)
    for _ in range(6):
        of, _ = world.look(of)
    drained = "llama-unified-default-1-0-0"
    world.change(drained, takes_requests=False, draining_since=world.now - 100.0, deletion_cost=GONE_COST)
    of = grouped(replicas=2).model_copy(update={"status": of.status})
    for _ in range(3):
        of, _ = world.look(of)
    assert {each.ordinal for each in world.live.values()} == {0, 2}
    of = grouped(replicas=3).model_copy(update={"status": of.status})
    of, step = world.look(of)
    assert [(each.ordinal, each.index) for each in step.groups.create] == [(1, 0), (1, 1)]


def test_an_ordinal_whose_old_pods_still_go_begins_with_another_attempt() -> None:
    world, of = GroupWorld(), grouped(replicas=0)
    of, _ = world.look(of)
    world.members = {each.pod.ref.name: each for each in (member(0, 0, attempt=4, is_terminating=True),)}
    of, step = world.look(grouped(replicas=1).model_copy(update={"status": of.status}))
    assert {(each.ordinal, each.attempt) for each in step.groups.create} == {(0, 5)}


def test_a_roll_out_leaves_a_replica_of_the_older_template_alone_while_it_starts() -> None:
    world, of = GroupWorld(), grouped(replicas=2)
    for _ in range(2):
        of, _ = world.look(of)
    starting = set(world.live)
    of = grouped(wide(image="vllm:2"), replicas=2).model_copy(update={"status": of.status})
    of, step = world.look(of)
    assert len(step.groups.create) == 2
    of, _ = world.look(of)
    assert starting <= set(world.live), "it will answer before a new one does"


def test_a_replica_that_leaves_drains_by_its_first_pod_and_goes_whole() -> None:
    world, of = GroupWorld(), grouped(replicas=2)
    for _ in range(6):
        of, _ = world.look(of)
    of = grouped(replicas=1).model_copy(update={"status": of.status})
    of, step = world.look(of)
    (first,) = step.drain
    assert first.name.endswith("-0")
    assert not step.groups.delete, "it has requests until somebody knows better"
    deleted: list[str] = []
    for _ in range(4):
        of, step = world.look(of)
        deleted += [ref.name for ref in step.groups.delete]
    head = first.name.rpartition("-")[0]
    assert sorted(deleted) == [f"{head}-0", f"{head}-1"]


def test_a_variant_that_is_no_group_any_more_leaves_when_its_deployment_answers() -> None:
    world, of = GroupWorld(), grouped(replicas=1)
    for _ in range(6):
        of, _ = world.look(of)
    single = wide()
    del single["group"]
    of = grouped(single, replicas=1).model_copy(update={"status": of.status})
    of, step = world.look(of)
    assert "Deployment" in {each["kind"] for each in step.apply}
    assert (step.drain, step.groups.delete) == ((), ()), "nobody else answers yet"
    assert (of.status.roles[0].ready, len(world.live)) == (1, 2)
    world.singles, world.deployments = (pod(7),), (deployment(1),)
    of, step = world.look(of)
    assert [ref.name for ref in step.drain] == ["llama-unified-default-0-0-0"]
    for _ in range(4):
        of, _ = world.look(of)
    assert (of.status.roles[0].ready, world.live) == (1, {})


def test_a_variant_that_becomes_a_group_has_one_replica_more_at_a_time() -> None:
    world, of = GroupWorld(), grouped(replicas=3)
    world.singles, world.deployments = tuple(map(pod, range(3))), (deployment(3),)
    of, step = world.look(of)
    assert {each.ordinal for each in step.groups.create} == {0}
    assert (step.drain, step.lower) == ((), {})
    seen = []
    for _ in range(25):
        of, step = world.look(of)
        seen.append((len(world.singles), len(world.live) // 2))
        assert sum(each.is_ready and each.takes_requests for each in (*world.singles, *_first(world))) >= 3
    assert list(dict.fromkeys(seen)) == [(3, 1), (3, 2), (2, 2), (2, 3), (1, 3), (0, 3)]
    assert world.deployments == ()


def test_no_room_sends_replicas_to_another_variant_and_the_status_remembers() -> None:
    world = GroupWorld(nodes=1)
    of = grouped(wide(costPerHour="1"), wide("other", costPerHour="2"), replicas=1)
    for _ in range(12):
        of, _ = world.look(of)
    default, elsewhere = of.status.roles[0].variants
    assert default.out_of_stock_until is not None
    assert (default.desired, elsewhere.desired) == (0, 1)
