"""A Deployment as the API server writes it, and what deciding about a ModelService is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stowage.api.names import GROUP, OPERATOR_MANAGER
from stowage.decide.serving.service_facts import DeploymentFact

NOBODY: Final = "somebody unknown"
_REPLICAS: Final = "f:replicas"


def deployment_fact(document: Mapping[str, Any], wanted: int | None) -> DeploymentFact:
    """The fact of one Deployment.

    Whoever owns `spec.replicas` beside Stowage is named only where the number is not the one that is wanted: with
    the same number nobody disagrees, and Stowage may take the field back.

    Args:
        document: the Deployment.
        wanted: replicas that it shall have by the last status of its service; None: nobody has decided.
    """
    metadata, spec, status = document["metadata"], document.get("spec") or {}, document.get("status") or {}
    replicas = int(spec.get("replicas", 1))
    conditions = {one.get("type"): one for one in status.get("conditions") or ()}
    failure, progress = conditions.get("ReplicaFailure", {}), conditions.get("Progressing", {})
    observed = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    everywhere = status.get("updatedReplicas", 0) >= status.get("replicas", 0)
    return DeploymentFact(
        name=metadata["name"],
        uid=metadata["uid"],
        replicas=replicas,
        ready_replicas=int(status.get("readyReplicas", 0)),
        is_settled=observed and everywhere,
        replicas_manager="" if replicas == wanted else _other_manager(metadata),
        failure=(failure.get("message") or "pods cannot be made") if failure.get("status") == "True" else "",
        is_stalled=progress.get("status") == "False",
        annotations={
            key: value for key, value in (metadata.get("annotations") or {}).items() if key.startswith(f"{GROUP}/")
        },
    )


def _other_manager(metadata: Mapping[str, Any]) -> str:
    """Who owns `spec.replicas` where Stowage does not; empty: nobody.

    Who writes another number takes the field from its owners: with Stowage among them, its number stands.
    """
    owners = [
        str(one.get("manager") or NOBODY)
        for one in metadata.get("managedFields") or ()
        if _REPLICAS in ((one.get("fieldsV1") or {}).get("f:spec") or {})
    ]
    return "" if OPERATOR_MANAGER in owners else next(iter(owners), "")
