"""The objects of a TrainingJob, to the last field that matters, and which nodes their pods may use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stowage.api.training_job import TrainingJob
from stowage.decide.training.children import (
    SeatPod,
    coordinator_pod,
    seat_pod,
    service,
    token_secret,
)
from stowage.decide.training.node_terms import without_nodes
from stowage_scheduler.cluster import Pod
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import fact_of

IMAGE = "example.com/stowage:1"
FIRST = SeatPod("s0", 1, gang_size=2, gated=True)
ONLY = "requiredDuringSchedulingIgnoredDuringExecution"


def job(**spec: Any) -> TrainingJob:
    container = {"name": "trainer", "image": "train:1", "command": ["python", "train.py"], "args": ["--fast"]}
    return TrainingJob.parse(
        {
            "metadata": {"name": "tiny", "namespace": "team", "uid": "0123456789ab"},
            "spec": {"template": {"spec": {"containers": [container]}}, **spec},
            "status": {"epoch": 4},
        }
    )


def container(document: dict[str, Any], name: str = "trainer") -> dict[str, Any]:
    spec = document["spec"]
    return next(one for one in (*spec["containers"], *spec.get("initContainers", [])) if one["name"] == name)


def test_a_seat_pod_is_the_template_with_the_supervisor_around_its_command() -> None:
    document = seat_pod(job(), FIRST, IMAGE)
    assert document["metadata"] == {
        "name": "tiny-s0-1",
        "namespace": "team",
        "labels": {
            "stowage.dev/job": "tiny",
            "stowage.dev/role": "seat",
            "stowage.dev/seat": "s0",
            "stowage.dev/attempt": "1",
            "stowage.dev/gang": "01234567-1",
            "stowage.dev/gang-size": "2",
        },
        "annotations": {"stowage.dev/epoch": "4", "stowage.dev/rank-order": "0"},
        "finalizers": ["stowage.dev/tracking"],
        "ownerReferences": [
            {
                "apiVersion": "stowage.dev/v1alpha1",
                "kind": "TrainingJob",
                "name": "tiny",
                "uid": "0123456789ab",
                "controller": True,
            }
        ],
    }
    spec = document["spec"]
    assert (spec["restartPolicy"], spec["hostname"], spec["subdomain"]) == ("OnFailure", "tiny-s0", "tiny")
    assert spec["schedulingGates"] == [{"name": "stowage.dev/gang"}]
    trainer = container(document)
    assert trainer["image"] == "train:1"
    assert trainer["command"] == [
        "python3", "/stowage/worker/stowage_worker", "run", "--", "python", "train.py", "--fast",
    ]  # fmt: skip
    assert "args" not in trainer
    assert trainer["lifecycle"] == {
        "preStop": {"exec": {"command": ["python3", "/stowage/worker/stowage_worker", "leave", "--seconds=20"]}}
    }
    given = {one["name"]: one.get("value") or one["valueFrom"]["fieldRef"]["fieldPath"] for one in trainer["env"]}
    assert given == {
        "STOWAGE_JOB": "team/tiny",
        "STOWAGE_SEAT": "s0",
        "STOWAGE_COORDINATOR": "tiny-coordinator.tiny.team.svc:7070",
        "STOWAGE_TOKEN_FILE": "/stowage/secret/token",
        "STOWAGE_PROCESSES": "1",
        "STOWAGE_FRAMEWORK": "Torch",
        "STOWAGE_CHECKPOINT_DIR": "/checkpoints/tiny",
        "STOWAGE_GRACE_SECONDS": "25",
        "STOWAGE_POD_UID": "metadata.uid",
        "STOWAGE_ADDRESS": "status.podIP",
        "STOWAGE_NODE": "spec.nodeName",
    }


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        pytest.param(FIRST, ("01234567-1", 2, ("stowage.dev/gang",)), id="behind the gate it is one of a gang of two"),
        pytest.param(SeatPod("s1", 3, 1, gated=True), ("01234567-3", 1, ("stowage.dev/gang",)), id="alone, later"),
        pytest.param(SeatPod("s1", 3, 1, gated=False), None, id="nobody packs it: no gate, no gang"),
    ],
)
def test_the_packer_reads_the_gang_that_was_meant(pod: SeatPod, expected: Any) -> None:
    document = seat_pod(job(topology={"keys": ["rack"]}), pod, IMAGE)
    document["metadata"]["uid"] = "pod-uid"
    fact = fact_of(decode_object("Pod", json.dumps(document).encode()))
    assert isinstance(fact, Pod)
    gang = fact.gang
    if expected is None:
        assert gang is None
        assert fact.gates == ()
    else:
        assert gang is not None
        assert (gang.name, gang.size, fact.gates) == expected
        assert gang.preferred == ("rack",)


WISH = "preferredDuringSchedulingIgnoredDuringExecution"


@pytest.mark.parametrize(
    ("pack", "pod", "near", "within"),
    [
        pytest.param("Required", FIRST, None, [], id="the packer looks after it"),
        pytest.param("Required", SeatPod("s0", 1, 2, gated=False), ONLY, [], id="kube-scheduler has to be told"),
        pytest.param("Preferred", SeatPod("s0", 1, 2, gated=False), WISH, [], id="kube-scheduler is told a wish"),
        pytest.param(
            "Required",
            SeatPod("s0", 2, 1, gated=False, domains=(("rack", "a"),)),
            WISH,
            [{"key": "rack", "operator": "In", "values": ["a"]}],
            id="the others stand in rack a: whoever is lost with its pods is no neighbour",
        ),
        pytest.param(
            "Required",
            SeatPod("s0", 2, 1, gated=True, domains=(("rack", "a"),)),
            None,
            [{"key": "rack", "operator": "In", "values": ["a"]}],
            id="for the packer too, which sees a gang of one",
        ),
    ],
)
def test_where_pods_stand_to_each_other(pack: str, pod: SeatPod, near: str | None, within: list[Any]) -> None:
    affinity = seat_pod(job(topology={"pack": pack, "keys": ["rack", "zone"]}), pod, IMAGE)["spec"].get("affinity", {})
    assert list(affinity.get("podAffinity", {})) == ([near] if near is not None else [])
    for term in affinity.get("podAffinity", {}).get(near or "", []):
        assert term.get("podAffinityTerm", term)["labelSelector"] == {
            "matchLabels": {"stowage.dev/job": "tiny", "stowage.dev/role": "seat"}
        }
    terms = affinity.get("nodeAffinity", {}).get(ONLY, {}).get("nodeSelectorTerms", [])
    assert [one["matchExpressions"] for one in terms] == ([within] if within else [])


@pytest.mark.parametrize(
    "added",
    [
        pytest.param(container(seat_pod(job(), FIRST, IMAGE), "stowage-install"), id="what brings the worker files"),
        pytest.param(container(coordinator_pod(job(), IMAGE), "coordinator"), id="the coordinator"),
    ],
)
def test_what_is_added_is_fit_for_restricted_namespaces(added: dict[str, Any]) -> None:
    context = added["securityContext"]
    assert added["image"] == IMAGE
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert (context["runAsNonRoot"], context["runAsUser"] > 0) == (True, True)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "limits" in added["resources"]


def test_nothing_of_the_users_is_lost() -> None:
    trainer = {
        "name": "trainer",
        "image": "train:1",
        "command": ["torchrun", "train.py"],
        "env": [{"name": "A", "value": "1"}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "resources": {"limits": {"nvidia.com/gpu": 8}},
        "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
    }
    pod = {
        "containers": [{"name": "side", "image": "side:1"}, trainer],
        "initContainers": [{"name": "fetch", "image": "fetch:1"}],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "nodeSelector": {"pool": "gpu"},
        "terminationGracePeriodSeconds": 120,
        "runtimeClassName": "nvidia",
    }
    template = {"metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}}, "spec": pod}
    volume = {"persistentVolumeClaim": {"claimName": "ckpt"}}
    document = seat_pod(job(template=template, checkpoint={"volume": volume}), FIRST, IMAGE)
    spec = document["spec"]
    assert spec["containers"][0] == {"name": "side", "image": "side:1"}
    assert [one["name"] for one in spec["initContainers"]] == ["stowage-install", "fetch"]
    assert [one["name"] for one in spec["volumes"]] == [
        "data", "stowage-worker", "stowage-token", "stowage-checkpoints",
    ]  # fmt: skip
    assert (spec["nodeSelector"], spec["runtimeClassName"]) == ({"pool": "gpu"}, "nvidia")
    assert document["metadata"]["labels"]["team"] == "a"
    assert document["metadata"]["annotations"]["note"] == "b"
    mounts = {one["mountPath"]: one["name"] for one in container(document)["volumeMounts"]}
    assert mounts["/data"] == "data"
    assert mounts["/checkpoints"] == "stowage-checkpoints"
    assert container(document)["env"][0] == {"name": "A", "value": "1"}
    assert {"name": "STOWAGE_GRACE_SECONDS", "value": "115"} in container(document)["env"]
    assert container(document)["resources"] == trainer["resources"]
    assert container(document)["lifecycle"] == trainer["lifecycle"]


def test_the_coordinator_stands_where_the_job_may_and_has_no_rights() -> None:
    pod = {
        "containers": [{"name": "trainer", "image": "a", "command": ["b"]}],
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "nodeSelector": {"pool": "gpu"},
    }
    spec = coordinator_pod(job(template={"spec": pod}), IMAGE)["spec"]
    assert spec["tolerations"] == pod["tolerations"]
    assert "nodeSelector" not in spec
    assert spec["automountServiceAccountToken"] is False
    assert (spec["hostname"], spec["subdomain"]) == ("tiny-coordinator", "tiny")


def test_names_lead_to_all_pods_before_they_are_ready() -> None:
    document = service(job())
    assert document["spec"]["clusterIP"] == "None"
    assert document["spec"]["publishNotReadyAddresses"] is True
    assert document["spec"]["selector"] == {"stowage.dev/job": "tiny"}


def test_the_token_is_in_the_secret_and_nowhere_else() -> None:
    assert token_secret(job(), "much-too-secret")["stringData"] == {"token": "much-too-secret"}
    others = (seat_pod(job(), FIRST, IMAGE), coordinator_pod(job(), IMAGE), service(job()))
    assert not any("much-too-secret" in str(document) for document in others)


BAN = {"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}
GPU = {"key": "pool", "operator": "In", "values": ["gpu"]}


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        pytest.param([], [{"matchFields": [BAN]}], id="any node is admitted: any but this one"),
        pytest.param(
            [{"matchExpressions": [GPU]}, {"matchFields": [BAN]}],
            [{"matchExpressions": [GPU], "matchFields": [BAN]}, {"matchFields": [BAN, BAN]}],
            id="terms are alternatives: each is narrowed",
        ),
        pytest.param([{}], [{}], id="a term that admits nothing admits nothing"),
    ],
)
def test_an_avoided_node_is_left_out_of_every_alternative(terms: list[Any], expected: list[Any]) -> None:
    affinity = {"nodeAffinity": {ONLY: {"nodeSelectorTerms": terms}}, "podAffinity": {"kept": True}}
    assert without_nodes(affinity, ["n1"]) == {
        "nodeAffinity": {ONLY: {"nodeSelectorTerms": expected}},
        "podAffinity": {"kept": True},
    }


def test_no_avoided_node_changes_nothing() -> None:
    assert without_nodes({"podAffinity": {}}, []) == {"podAffinity": {}}


def test_a_queue_of_kueue_admits_the_pods_that_are_asked_for_together() -> None:
    made = seat_pod(job(queueName="team-a"), FIRST, IMAGE)["metadata"]
    alone = seat_pod(job(queueName="team-a"), SeatPod("s1", 3, 1, gated=False), IMAGE)["metadata"]
    group = "kueue.x-k8s.io/pod-group-name"
    assert made["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert made["labels"][group] == "trainingjob-01234567-1"
    assert made["annotations"]["kueue.x-k8s.io/pod-group-total-count"] == "2"
    assert made["annotations"]["kueue.x-k8s.io/retriable-in-group"] == "false"
    assert alone["labels"][group] == "trainingjob-01234567-3", "who replaces a pod is no member of its group"
    assert alone["annotations"]["kueue.x-k8s.io/pod-group-total-count"] == "1"
    assert made["labels"]["stowage.dev/job"] == "tiny"
    assert not any("kueue" in key for key in seat_pod(job(), FIRST, IMAGE)["metadata"]["labels"])
    assert not any("kueue" in key for key in coordinator_pod(job(queueName="team-a"), IMAGE)["metadata"]["labels"])
