"""What is read of a Deployment, and who is said to write its replicas."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.decide.serving.service_facts import DeploymentFact
from stowage.observe.deployment_facts import deployment_fact

Document = dict[str, Any]


def owns_replicas(manager: str, **fields: Any) -> Document:
    return {"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}, **fields}


def deployment(replicas: int = 2, managed: tuple[Document, ...] = (), **status: Any) -> Document:
    metadata = {"name": "chat-unified-default", "uid": "d-1", "generation": 3, "managedFields": list(managed)}
    usual = {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1}
    return {"metadata": metadata, "spec": {"replicas": replicas}, "status": {**usual, **status}}


@pytest.mark.parametrize(
    ("document", "wanted", "manager"),
    [
        pytest.param(deployment(2, (owns_replicas("stowage-operator"),)), 3, "", id="Stowage alone"),
        pytest.param(deployment(5, (owns_replicas("kubectl", subresource="scale"),)), 3, "kubectl", id="kubectl scale"),
        pytest.param(deployment(3, (owns_replicas("kubectl"),)), 3, "", id="with the number that is wanted"),
        pytest.param(deployment(5, (owns_replicas("hpa"),)), None, "hpa", id="before anything was decided"),
        pytest.param(
            deployment(5, ({"manager": "x", "fieldsV1": {"f:metadata": {"f:labels": {}}}},)), 3, "", id="other fields"
        ),
        pytest.param(deployment(5, ({"manager": "x"},)), 3, "", id="a manager without fields"),
        pytest.param(
            deployment(5, (owns_replicas("kubectl"), owns_replicas("stowage-operator"))),
            3,
            "",
            id="scaled back by hand, and draining since: both own the same number",
        ),
        pytest.param(deployment(5), 3, "", id="nobody"),
    ],
)
def test_who_else_writes_replicas(document: Document, wanted: int | None, manager: str) -> None:
    assert deployment_fact(document, wanted).replicas_manager == manager


def test_how_a_deployment_is() -> None:
    fact = deployment_fact(deployment(), 2)
    assert fact == DeploymentFact("chat-unified-default", "d-1", 2, 1, is_settled=True)
    assert not deployment_fact(deployment(observedGeneration=2), 2).is_settled
    assert not deployment_fact(deployment(updatedReplicas=1), 2).is_settled
    quota = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus"}
    stalled = {"type": "Progressing", "status": "False"}
    fact = deployment_fact(deployment(conditions=[quota, stalled]), 2)
    assert (fact.failure, fact.is_stalled) == ("exceeded quota: gpus", True)


def test_only_annotations_of_stowage_are_kept() -> None:
    document = deployment()
    document["metadata"]["annotations"] = {"stowage.dev/a": "1", "deployment.kubernetes.io/revision": "4"}
    assert deployment_fact(document, 2).annotations == {"stowage.dev/a": "1"}
