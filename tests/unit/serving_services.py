"""ModelServices with a status, for tests of what becomes of one."""

from __future__ import annotations

from typing import Any

from stowage.api.conditions import Condition, ConditionStatus
from stowage.api.durations import instant
from stowage.api.model_service import ModelService
from stowage.api.model_service_status import DecisionRecord, ModelServiceStatus, RoleStatus, VariantStatus

NOW = 1_790_000_000.0
Document = dict[str, Any]


def service(status: ModelServiceStatus | None = None, **spec: Any) -> ModelService:
    template = {"spec": {"containers": [{"name": "engine", "image": "vllm:1"}]}}
    document = {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": "chat", "namespace": "team", "uid": "u-1", "generation": 1, "resourceVersion": "7"},
        "spec": {"roles": [{"variants": [{"template": template}]}], **spec},
    }
    found = ModelService.parse(document)
    return found if status is None else found.model_copy(update={"status": status})


def condition(kind: str, status: str, reason: str, message: str = "", at: float = NOW) -> Condition:
    return Condition(
        type=kind,
        status=ConditionStatus(status),
        reason=reason,
        message=message,
        last_transition_time=instant(at),
        observed_generation=1,
    )


def role(desired: int = 1, ready: int = 1, **fields: Any) -> RoleStatus:
    variants = (VariantStatus(name="default", desired=desired, ready=ready),)
    return RoleStatus(name="unified", desired=desired, ready=ready, variants=variants, **fields)


def decision(before: int, after: int, reason: str = "Saturated", at: float = NOW, **fields: Any) -> DecisionRecord:
    return DecisionRecord(at=instant(at), role="unified", from_=before, to=after, reason=reason, **fields)
