"""What the Pod Security level `restricted` asks of a container, for those that Stowage adds to namespaces of users."""

from __future__ import annotations

from typing import Any, Final

RESTRICTED: Final[dict[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 65532,  # of our image
    "seccompProfile": {"type": "RuntimeDefault"},
}
