"""Which running pods a ResourceQuota would not let in again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.volume_documents import Document, as_list, node, pod, quota
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.immovable import Immovable
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.kube.quotas import Quotas
from stowage_scheduler.kube.redact import redact
from stowage_scheduler.movability import Movability
from stowage_scheduler.options import PackOptions

BOTH = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}


def running(resources: Document | None = None, /, **spec: Any) -> Document:
    document = pod("p", on="a")
    document["spec"] |= {"priority": 5, "preemptionPolicy": "Never", **spec}
    document["spec"]["containers"] = [{"name": "main", "resources": resources or BOTH}]
    return document


def snapshot(*items: Document) -> Snapshot:
    found = read_dump(json.dumps(as_list(node("a"), *items)).encode()).snapshot
    assert not found.rejected
    return found


def over(*names: str, **spec: Any) -> Document:
    """A quota of which more is used than it allows."""
    return quota(hard=dict.fromkeys(names, "1"), used=dict.fromkeys(names, "1001m"), **spec)


def scoped(scope: str, operator: str = "Exists", *values: str) -> Document:
    requirement = {"scopeName": scope, "operator": operator, **({"values": list(values)} if values else {})}
    return over("pods", scopeSelector={"matchExpressions": [requirement]})


GPU = {"requests": {"cpu": "1", "example.com/gpu": "1", "hugepages-2Mi": "2Mi"}}


@pytest.mark.parametrize(
    ("item", "of", "refused"),
    [
        pytest.param(running(), over("requests.cpu"), True, id="more is used than allowed"),
        pytest.param(
            running(), quota(hard={"requests.cpu": "2"}, used={"requests.cpu": "2000m"}), False, id="just full"
        ),
        pytest.param(running(), over("cpu", "memory"), True, id="the short names"),
        pytest.param(running(), over("limits.memory"), True, id="limits"),
        pytest.param(running(), over("pods"), True, id="the number of pods"),
        pytest.param(running(), over("count/pods"), True, id="the number of objects"),
        pytest.param(running(), over("requests.storage", "services"), False, id="what no pod counts in"),
        pytest.param(running(), over("requests.example.com/gpu"), False, id="a resource that the pod does not use"),
        pytest.param(running(GPU), over("requests.example.com/gpu"), True, id="an extended resource"),
        pytest.param(running(GPU), over("example.com/gpu"), False, id="quotas know those by their requests alone"),
        pytest.param(running(GPU), over("hugepages-2Mi"), True, id="huge pages"),
        pytest.param(running(GPU), over("limits.ephemeral-storage"), False, id="no limit, no use"),
        pytest.param(running(), over("pods", scopes=["NotTerminating"]), True, id="without a deadline"),
        pytest.param(running(), over("pods", scopes=["Terminating"]), False, id="a quota for pods with a deadline"),
        pytest.param(running(activeDeadlineSeconds=60), over("pods", scopes=["Terminating"]), True, id="a deadline"),
        pytest.param(running(), over("pods", scopes=["BestEffort"]), False, id="a quota for best effort"),
        pytest.param(running({"limits": {}}), over("pods", scopes=["BestEffort"]), True, id="best effort"),
        pytest.param(
            running({"limits": {}}, resources={"requests": {"cpu": "1"}}),
            over("pods", scopes=["BestEffort"]),
            False,
            id="requests of the whole pod",
        ),
        pytest.param(
            running(), over("pods", scopes=["NotBestEffort", "Terminating"]), False, id="all scopes must hold"
        ),
        pytest.param(running(), scoped("PriorityClass"), False, id="no priority class"),
        pytest.param(running(priorityClassName="high"), scoped("PriorityClass"), True, id="any priority class"),
        pytest.param(
            running(priorityClassName="high"), scoped("PriorityClass", "In", "high", "top"), True, id="its class"
        ),
        pytest.param(
            running(priorityClassName="low"), scoped("PriorityClass", "In", "high"), False, id="another class"
        ),
        pytest.param(running(), scoped("PriorityClass", "NotIn", "high"), True, id="not that class"),
        pytest.param(running(), scoped("CrossNamespacePodAffinity"), True, id="a scope that nobody here can judge"),
        pytest.param(
            running({"requests": {"cpu": "1"}}),
            quota(hard={"limits.cpu": "9"}, used={"limits.cpu": "0"}),
            True,
            id="a quota on limits lets in no pod without one",
        ),
        pytest.param(
            running({"limits": {"cpu": "1"}}),
            quota(hard={"requests.cpu": "9"}, used={"requests.cpu": "1"}),
            False,
            id="a limit is a request too",
        ),
        pytest.param(
            running({"requests": {"cpu": "1"}}),
            quota(hard={"requests.memory": "9Gi"}, used={"requests.memory": "0"}),
            True,
            id="a quota on memory lets in no pod that asks for none",
        ),
        pytest.param(
            running({"requests": {"cpu": "1"}}, resources={"limits": {"memory": "1Gi"}}),
            quota(hard={"requests.memory": "9Gi"}, used={"requests.memory": "0"}),
            False,
            id="but one that speaks for the whole pod",
        ),
        pytest.param(running(), quota(hard={"pods": "1"}), False, id="a quota that was not counted yet"),
        pytest.param(
            running(), quota(hard={"pods": "9999999999999999999"}, used={"pods": "5"}), False, id="a limit beyond all"
        ),
    ],
)
def test_a_quota_that_would_not_let_the_pod_in_again(item: Document, of: Document, refused: bool) -> None:
    found = snapshot(item, of)
    assert (Quotas(found.quotas).refusing(found.pods[0]) is not None) is refused
    why = Movability(found, PackOptions()).immovable(found.pods[0])
    assert why is (Immovable.QUOTA_EXHAUSTED if refused else None)


def test_quotas_of_other_namespaces_say_nothing() -> None:
    other = over("pods")
    other["metadata"]["namespace"] = "other"
    found = snapshot(running(), other)
    assert Quotas(found.quotas).refusing(found.pods[0]) is None


def test_a_dump_keeps_what_quotas_look_at() -> None:
    items = [
        running(priorityClassName="high", activeDeadlineSeconds=5),
        scoped("PriorityClass", "In", "high"),
    ]
    document = redact(as_list(node("a"), *items))
    assert read_dump(json.dumps(document).encode()).snapshot == snapshot(*items)
    assert snapshot(*items).quotas[0].exceeded == ("pods",)
