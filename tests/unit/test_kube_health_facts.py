"""What is read of the health of nodes and of the pods of training jobs and model services."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.health import ContainerEnd, NodeCondition, PodHealth
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import fact_of
from stowage_scheduler.kube.redact import redact

AT = "2026-01-01T00:00:10Z"
SECONDS = 1767225610.0


def node(*conditions: dict[str, Any]) -> tuple[NodeCondition, ...]:
    document = {"kind": "Node", "metadata": {"name": "n1"}, "status": {"conditions": conditions}}
    fact = fact_of(decode_object("Node", msgspec.json.encode(document)))
    assert isinstance(fact, Node)
    return fact.conditions


def health(labels: dict[str, str] | None = None, **status: Any) -> PodHealth | None:
    metadata = {"name": "train-s0-1", "namespace": "team", "labels": labels or {"stowage.dev/seat": "s0"}}
    document = {"kind": "Pod", "metadata": metadata, "spec": {"containers": []}, "status": status}
    fact = fact_of(decode_object("Pod", msgspec.json.encode(document)))
    assert isinstance(fact, Pod)
    return fact.health


ENDED = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": AT, "message": "secret"}}


WORDS = f'no task: {"runc create failed: " * 20}exec: "python3": executable file not found in $PATH: unknown'
NOT_STARTED = {"exitCode": 128, "reason": "StartError", "message": WORDS.replace("task: ", "task:\n\x1b")}


def test_nodes_keep_the_conditions_that_say_that_something_is_wrong() -> None:
    assert node(
        {"type": "Ready", "status": "True", "lastHeartbeatTime": AT},
        {"type": "MemoryPressure", "status": "False"},
        {"type": "SysLogsXIDError", "status": "True", "reason": "Xid", "message": "[79] x", "lastTransitionTime": AT},
    ) == (NodeCondition("SysLogsXIDError", "True", "Xid", "[79] x", SECONDS),)
    assert [one.type for one in node({"type": "Ready", "status": "Unknown"})] == ["Ready"]


def test_a_heartbeat_changes_nothing() -> None:
    first = {"type": "KernelDeadlock", "status": "True", "lastHeartbeatTime": AT}
    assert node(first) == node({**first, "lastHeartbeatTime": "2026-01-01T00:05:00Z"})


@pytest.mark.parametrize(
    ("status", "read"),
    [
        pytest.param(
            {"containerStatuses": [{"name": "t", "restartCount": 1, "state": {"running": {}}, "lastState": ENDED}]},
            PodHealth(ends=(ContainerEnd("t", 137, 0, "OOMKilled", SECONDS, 1),)),
            id="a container that runs again",
        ),
        pytest.param(
            {"containerStatuses": [{"name": "t", "state": {"terminated": NOT_STARTED}}]},
            PodHealth(ends=(ContainerEnd("t", 128, reason="StartError", message=WORDS[-200:]),)),
            id="a container that did not start, with the end of the runtime's words",
        ),
        pytest.param(
            {"initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 2, "signal": 9}}}]},
            PodHealth(ends=(ContainerEnd("i", 2, 9, init=True),)),
            id="an init container that failed",
        ),
        pytest.param(
            {"containerStatuses": [{"name": "t", "state": {"waiting": {"reason": "ErrImagePull", "message": "x"}}}]},
            PodHealth(waiting=(("t", "ErrImagePull"),)),
            id="an image that is not to be had",
        ),
        pytest.param(
            {
                "containerStatuses": [
                    {
                        "name": "t",
                        "allocatedResourcesStatus": [
                            {
                                "name": "nvidia.com/gpu",
                                "resources": [
                                    {"resourceID": "gpu-0", "health": "Healthy"},
                                    {"resourceID": "gpu-1", "health": "Unhealthy"},
                                ],
                            }
                        ],
                    }
                ]
            },
            PodHealth(devices=("nvidia.com/gpu/gpu-1",)),
            id="a device that is not well",
        ),
        pytest.param(
            {
                "reason": "Evicted",
                "conditions": [
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "TerminationByKubelet",
                        "lastTransitionTime": AT,
                    }
                ],
            },
            PodHealth(disruption="TerminationByKubelet", disrupted_at=SECONDS, reason="Evicted"),
            id="an eviction",
        ),
        pytest.param(
            {"conditions": [{"type": "DisruptionTarget", "status": "False"}]},
            None,
            id="a disruption that was called off",
        ),
        pytest.param({"phase": "Running"}, None, id="nothing to tell"),
    ],
)
def test_pods_of_seats_tell_their_health(status: dict[str, Any], read: PodHealth | None) -> None:
    assert health(**status) == read


def test_what_a_program_printed_is_in_no_dump() -> None:
    metadata = {"name": "train-s0-1", "namespace": "team", "labels": {"stowage.dev/seat": "s0"}}
    status = {"containerStatuses": [{"name": "t", "state": {"terminated": NOT_STARTED}, "lastState": ENDED}]}
    dumped = redact({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": status})
    assert "secret" not in str(dumped)
    assert "executable file not found" in str(dumped)


def test_a_deletion_was_asked_for_before_its_grace_period() -> None:
    metadata = {
        "name": "train-s0-1",
        "namespace": "team",
        "labels": {"stowage.dev/seat": "s0"},
        "deletionTimestamp": AT,
        "deletionGracePeriodSeconds": 30,
    }
    document = {"kind": "Pod", "metadata": metadata, "spec": {"containers": []}, "status": {}}
    fact = fact_of(decode_object("Pod", msgspec.json.encode(document)))
    assert isinstance(fact, Pod)
    assert fact.health == PodHealth(deleted_at=SECONDS - 30)


def test_other_pods_are_not_asked() -> None:
    assert health(labels={"app": "web"}, containerStatuses=[{"name": "t", "lastState": ENDED}]) is None


def test_pods_of_services_tell_how_far_their_start_is() -> None:
    serves = {"stowage.dev/service": "chat"}
    running = {"name": "engine", "restartCount": 0, "state": {"running": {"startedAt": AT}}}
    begun = {"type": "Initialized", "status": "True", "lastTransitionTime": AT}
    found = health(serves, containerStatuses=[running], conditions=[begun])
    assert found == PodHealth(started_at=SECONDS), "without init containers the condition says nothing"
    ended = {"name": "weights", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}
    found = health(serves, containerStatuses=[running], initContainerStatuses=[ended], conditions=[begun])
    assert found is not None
    assert (found.started_at, found.initialized_at) == (SECONDS, SECONDS)
    assert health(containerStatuses=[running], conditions=[begun]) is None, "jobs have no use for it"
