"""How the webhook is registered: the one place for what it is asked about, and for what happens when it is silent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stowage.admission.review import Operation
from stowage.api.model_service import ModelService
from stowage.api.names import GROUP, VERSION
from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_policy import PackingPolicy
from stowage.api.performance_profile import PerformanceProfile
from stowage.api.training_job import TrainingJob

PATH: Final = "/validate"
WEBHOOK: Final = f"validate.{GROUP}"
TIMEOUT_SECONDS: Final = 5
DEFAULT_FAILURE_POLICY: Final = "Ignore"


def configuration(
    name: str,
    client_config: Mapping[str, Any],
    *,
    operator_user: str = "",
    failure_policy: str = DEFAULT_FAILURE_POLICY,
) -> dict[str, Any]:
    """The ValidatingWebhookConfiguration; `caBundle` is written into it by the operator, or by cert-manager.

    Args:
        name: of the configuration.
        client_config: `service` or `url` where the API server finds the webhook.
        operator_user: user name of the operator, whose own writes are not asked about; empty: all are.
        failure_policy: `Ignore` or `Fail`: what happens when no answer comes.
    """
    conditions = [{"name": "not-being-deleted", "expression": "!has(object.metadata.deletionTimestamp)"}]
    if operator_user:
        conditions.append({"name": "not-by-stowage", "expression": f"request.userInfo.username != '{operator_user}'"})
    webhook = {
        "name": WEBHOOK,
        "clientConfig": dict(client_config),
        "rules": [
            {
                "apiGroups": [GROUP],
                "apiVersions": [VERSION],
                "operations": [Operation.CREATE.value, Operation.UPDATE.value],
                "resources": [
                    PackingPolicy.plural,
                    PackingPlan.plural,
                    TrainingJob.plural,
                    ModelService.plural,
                    PerformanceProfile.plural,
                ],
                "scope": "*",
            }
        ],
        "namespaceSelector": {
            "matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]},
            ]
        },
        "matchConditions": conditions,
        "matchPolicy": "Equivalent",
        "failurePolicy": failure_policy,
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
        "admissionReviewVersions": ["v1"],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [webhook],
    }
