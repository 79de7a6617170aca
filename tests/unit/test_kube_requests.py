from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stowage_scheduler.kube.malformed import FieldError
from stowage_scheduler.kube.objects import Pod
from stowage_scheduler.kube.requests import pod_requests


def asks(name: str = "main", /, *, limits: Any = None, **requests: Any) -> dict[str, Any]:
    return {"name": name, "resources": {"requests": requests, **({"limits": limits} if limits else {})}}


def sidecar(name: str = "proxy", /, **requests: Any) -> dict[str, Any]:
    return {**asks(name, **requests), "restartPolicy": "Always"}


def pod(status: dict[str, Any] | None = None, **spec: Any) -> Pod:
    bound = {"nodeName": "n1"} if status is not None else {}
    return msgspec.convert({"metadata": {"name": "p"}, "spec": {**bound, **spec}, "status": status}, Pod)


def holds(name: str = "main", *, allocated: dict[str, Any] | None = None, **actual: Any) -> dict[str, Any]:
    return {"name": name, "resources": {"requests": actual}, "allocatedResources": allocated}


INFEASIBLE = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}
DEFERRED = {"type": "PodResizePending", "status": "True", "reason": "Deferred"}

CASES = [
    pytest.param(pod(containers=[{"name": "main"}]), {}, id="a best-effort pod takes only its place"),
    pytest.param(pod(containers=[asks(cpu="0", memory="0")]), {}, id="zero stays zero, no default is added"),
    pytest.param(
        pod(containers=[asks(cpu="100m", memory="1Gi"), asks("b", cpu="200m")]),
        {"cpu": 300, "memory": 2**30},
        id="containers add up",
    ),
    pytest.param(
        pod(containers=[asks(cpu="100u"), asks("b", cpu="100u")]), {"cpu": 1}, id="the sum is rounded up once"
    ),
    pytest.param(
        pod(containers=[asks(cpu="100m", limits={"cpu": "1", "memory": "1k"})]),
        {"cpu": 100, "memory": 1000},
        id="a limit stands in for a missing request only",
    ),
    pytest.param(
        pod(containers=[asks(cpu="1")], initContainers=[asks("i1", cpu="3", memory="1"), asks("i2", cpu="2")]),
        {"cpu": 3000, "memory": 1},
        id="the largest init container counts, for they run one by one",
    ),
    pytest.param(
        pod(containers=[asks(cpu="1")], initContainers=[sidecar(cpu="1")]),
        {"cpu": 2000},
        id="a sidecar runs beside the containers",
    ),
    pytest.param(
        pod(containers=[asks(cpu="1")], initContainers=[sidecar(cpu="1"), asks("i", cpu="4")]),
        {"cpu": 5000},
        id="an init container runs beside the sidecars before it",
    ),
    pytest.param(
        pod(containers=[asks(cpu="1")], initContainers=[asks("i", cpu="4"), sidecar(cpu="2")]),
        {"cpu": 4000},
        id="but not beside those after it",
    ),
    pytest.param(
        pod(containers=[asks(cpu="1")], overhead={"cpu": "250m", "memory": "64"}),
        {"cpu": 1250, "memory": 64},
        id="overhead of the runtime comes on top",
    ),
    pytest.param(
        pod(containers=[asks(**{"nvidia.com/gpu": 8, "hugepages-2Mi": "4Mi", "ephemeral-storage": "1k"})]),
        {"nvidia.com/gpu": 8, "hugepages-2Mi": 4 * 2**20, "ephemeral-storage": 1000},
        id="extended resources, huge pages and ephemeral storage count",
    ),
    pytest.param(
        pod(containers=[asks(cpu="1", memory="5")], resources={"requests": {"cpu": "3"}}, overhead={"cpu": "1"}),
        {"cpu": 4000, "memory": 5},
        id="a pod-level request replaces the sum of that resource, overhead still comes on top",
    ),
    pytest.param(
        pod(containers=[asks(cpu="1"), asks("b", **{"a.b/c": 2})], resources={"requests": {"a.b/c": 9, "cpu": "2"}}),
        {"cpu": 2000, "a.b/c": 2},
        id="pod level knows only cpu, memory and huge pages",
    ),
    pytest.param(
        pod(containers=[asks(cpu="1")], resources={"limits": {"cpu": "4", "memory": "8"}}),
        {"cpu": 1000, "memory": 8},
        id="pod-level limits default to the containers' sum, then to themselves",
    ),
    pytest.param(
        pod({"containerStatuses": [holds(cpu="2")]}, containers=[asks(cpu="1")]),
        {"cpu": 2000},
        id="while shrinking in place the pod still holds what it had",
    ),
    pytest.param(
        pod({"containerStatuses": [holds(cpu="1", allocated={"cpu": "3"})]}, containers=[asks(cpu="2")]),
        {"cpu": 3000},
        id="allocated resources count too",
    ),
    pytest.param(
        pod({"containerStatuses": [holds(cpu="1")], "conditions": [DEFERRED]}, containers=[asks(cpu="4")]),
        {"cpu": 4000},
        id="a deferred growth keeps its claim",
    ),
    pytest.param(
        pod({"containerStatuses": [holds(cpu="1")], "conditions": [INFEASIBLE]}, containers=[asks(cpu="4")]),
        {"cpu": 1000},
        id="an infeasible growth does not",
    ),
    pytest.param(
        pod(
            {"initContainerStatuses": [holds("proxy", cpu="2"), holds("i", cpu="9")]},
            containers=[asks(cpu="1")],
            initContainers=[sidecar(cpu="1"), asks("i", cpu="1")],
        ),
        {"cpu": 3000},
        id="sidecars are resized like containers, init containers never",
    ),
    pytest.param(
        pod({"containerStatuses": [{"name": "main", "allocatedResources": {"cpu": "9"}}]}, containers=[asks(cpu="1")]),
        {"cpu": 1000},
        id="a status without resources says nothing",
    ),
    pytest.param(
        pod(
            {"resources": {"requests": {"cpu": "5"}}, "allocatedResources": {"cpu": "4"}},
            containers=[asks(cpu="1")],
            resources={"requests": {"cpu": "2"}},
        ),
        {"cpu": 5000},
        id="pod-level resources are resized in place too",
    ),
]


@pytest.mark.parametrize(("raw", "expected"), CASES)
def test_counts_requests_as_the_scheduler_does(raw: Pod, expected: dict[str, int]) -> None:
    assert pod_requests(raw) == {"pods": 1, **expected}


def test_the_status_of_an_unbound_pod_does_not_count() -> None:
    raw = msgspec.convert(
        {
            "metadata": {},
            "spec": {"containers": [asks(cpu="1")]},
            "status": {"containerStatuses": [holds(cpu="2")]},
        },
        Pod,
    )
    assert pod_requests(raw)["cpu"] == 1000


@pytest.mark.parametrize(
    ("raw", "field", "rule"),
    [
        pytest.param(
            pod(containers=[asks(cpu="x")]), "spec.containers[0].resources.requests[cpu]", "quantity", id="no number"
        ),
        pytest.param(
            pod(containers=[{"name": "a"}, asks(limits={"memory": "-1"})]),
            "spec.containers[1].resources.limits[memory]",
            "negative",
            id="a negative limit that would become a request",
        ),
        pytest.param(
            pod(containers=[asks(), asks("b", memory="8E")]),
            "spec.containers[1].resources.requests[memory]",
            "2^53",
            id="an absurd amount",
        ),
        pytest.param(
            pod(containers=[asks(cpu="5P"), asks("b", cpu="5P")]),
            "spec.containers[].resources.requests[cpu]",
            "2^53",
            id="an absurd sum",
        ),
        pytest.param(
            pod(containers=[asks(gpu=1)]),
            "spec.containers[].resources.requests[gpu]",
            "domain/name",
            id="a resource that no scheduler counts",
        ),
        pytest.param(pod(containers=[], overhead={"cpu": "-1"}), "spec.overhead[cpu]", "negative", id="bad overhead"),
    ],
)
def test_refuses_requests_that_are_none(raw: Pod, field: str, rule: str) -> None:
    with pytest.raises(FieldError) as caught:
        pod_requests(raw)
    assert caught.value.field == field
    assert rule in caught.value.rule
