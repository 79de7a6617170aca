"""The Deployment of a service's activator, which takes requests while there is no replica."""

from __future__ import annotations

from typing import Any, Final

from stowage.api.model_service import ModelService
from stowage.api.model_service_scaling import ScaleToZero
from stowage.api.names import ACTIVATOR_COMPONENT, COMPONENT_LABEL, SERVICE_LABEL
from stowage.api.resource import part_to_document
from stowage.decide.restricted import RESTRICTED
from stowage.decide.serving.needed_roles import needed_roles

Document = dict[str, Any]

REQUESTS_PORT: Final = 8080
STATUS_PORT: Final = 8081
SUFFIX: Final = "-activator"
CONNECTION_BYTES: Final = 256 * 1024
"""Of memory for each request that waits: what was read of its body, and what the connection takes."""
BASE_BYTES: Final = 160 * 1024 * 1024
FORGET_SECONDS: Final = 10
"""As for replicas: proxies learn late that a pod goes."""
_HANDED_ON: Final = ("imagePullSecrets", "tolerations", "priorityClassName")


def activator_name(service: str) -> str:
    """The name of the Deployment."""
    return f"{service}{SUFFIX}"


def activator_labels(service: str) -> dict[str, str]:
    """What selects its pods; none of a role has them."""
    return {SERVICE_LABEL: service, COMPONENT_LABEL: ACTIVATOR_COMPONENT}


def activator(service: ModelService, given: ScaleToZero, metadata: Document, image: str) -> Document:
    """The Deployment: one small pod that knows neither the API server nor any Secret.

    It is there as long as `scaleToZero` is: requests that come while it starts would be lost.

    Args:
        service: whose.
        given: when the service goes to zero, and what is held then.
        metadata: of a child of that service, with the name and without labels of its own.
        image: of Stowage.
    """
    labels = activator_labels(service.name)
    port, roles = service.spec.engine.answers_at, [one.name for one in service.spec.roles]
    first = roles[0]
    address = {one: f"{service.name}-{one}.{service.namespace}.svc:{port}" for one in needed_roles(roles)}
    others = [where for one, where in address.items() if one != first]
    drain_seconds = int(given.hold.longest.seconds + service.spec.scaling.scale_down.drain_deadline.seconds)
    arguments = {
        "host": "0.0.0.0",  # noqa: S104 - of its pod
        "metrics-host": "0.0.0.0",  # noqa: S104
        "port": REQUESTS_PORT,
        "metrics-port": STATUS_PORT,
        "forward-to": address[first],
        **({"needs": ",".join(others)} if others else {}),
        "requests": given.hold.requests,
        "longest-seconds": f"{given.hold.longest.seconds:g}",
        "drain-seconds": drain_seconds,
    }
    template = part_to_document(service.spec.roles[0].variants[0].template.spec)
    limit = (BASE_BYTES + given.hold.requests * CONNECTION_BYTES) // (1024 * 1024)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**metadata, "labels": labels},
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    **{key: template[key] for key in _HANDED_ON if key in template},
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": FORGET_SECONDS + drain_seconds + 5,
                    "containers": [
                        {
                            "name": "activator",
                            "image": image,
                            "command": ["stowage", "activator"],
                            "args": [f"--{name}={value}" for name, value in arguments.items()],
                            "ports": [
                                {"name": "requests", "containerPort": REQUESTS_PORT, "protocol": "TCP"},
                                {"name": "status", "containerPort": STATUS_PORT, "protocol": "TCP"},
                            ],
                            "readinessProbe": {
                                "httpGet": {"path": "/readyz", "port": STATUS_PORT},
                                "periodSeconds": 2,
                                "timeoutSeconds": 2,
                            },
                            "livenessProbe": {
                                "httpGet": {"path": "/healthz", "port": STATUS_PORT},
                                "periodSeconds": 10,
                                "timeoutSeconds": 5,
                                "failureThreshold": 6,
                            },
                            "lifecycle": {"preStop": {"sleep": {"seconds": FORGET_SECONDS}}},
                            "resources": {
                                "requests": {"cpu": "20m", "memory": "96Mi"},
                                "limits": {"memory": f"{limit}Mi"},
                            },
                            "securityContext": RESTRICTED,
                        }
                    ],
                },
            },
        },
    }
