"""TrainingJobs cut down to what tells how they are: no commands, no environment, no words of programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stowage_scheduler.kube.redacted_parts import POD_SPEC, Document, object_of, objects_of, only, without

LEFT_OUT: Final = "(left out)"

_SPEC: Final = (
    *("framework", "nodes", "processesPerNode", "topology", "batch", "model", "layouts", "elastic", "recovery"),
    *("suspend", "queueName", "activeDeadline", "startDeadline", "ttlAfterFinished"),
)
_CHECKPOINT: Final = ("directory", "interval", "inMemory")
_WORDS: Final = frozenset({"message", "detail", "uri", "phase"})
"""Fields of the status that may hold words of programs, of logs, or addresses with credentials in them."""


def redacted_job(document: Mapping[str, Any]) -> Document:
    """Spec and status of a TrainingJob, which can be read as one again.

    Containers keep their names and resources, volumes their names; a command stands there as `(left out)`.
    """
    spec, status = object_of(document.get("spec")), object_of(document.get("status"))
    template = object_of(object_of(spec.get("template")).get("spec"))
    containers = [
        {
            "name": one.get("name", ""),
            "command": [LEFT_OUT],
            **only(one, ("resources",)),
        }
        for one in objects_of(template.get("containers"))
    ]
    pod = {**only(template, POD_SPEC), "containers": containers}
    kept = {**only(spec, _SPEC), "template": {"spec": pod}}
    checkpoint = only(object_of(spec.get("checkpoint")), _CHECKPOINT)
    return {"spec": {**kept, **({"checkpoint": checkpoint} if checkpoint else {})}, "status": _told(status)}


def _told(status: Document) -> Document:
    """What the operator tells of a job, with its own words alone."""
    return {**only(status, ("phase",)), **without(status, _WORDS)}
