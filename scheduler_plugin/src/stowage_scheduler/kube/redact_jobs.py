"""TrainingJobs cut down to what tells how they are: no commands, no environment, no words of programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

LEFT_OUT: Final = "(left out)"

_SPEC: Final = (
    *("framework", "nodes", "processesPerNode", "topology", "batch", "model", "layouts", "elastic", "recovery"),
    *("suspend", "queueName", "activeDeadline", "startDeadline", "ttlAfterFinished"),
)
_POD_SPEC: Final = ("nodeSelector", "schedulerName", "priorityClassName", "terminationGracePeriodSeconds")
_CHECKPOINT: Final = ("directory", "interval", "inMemory")
_WORDS: Final = frozenset({"message", "detail", "uri", "phase"})
"""Fields of the status that may hold words of programs, of logs, or addresses with credentials in them."""

Document = dict[str, Any]


def redacted_job(document: Mapping[str, Any]) -> Document:
    """Spec and status of a TrainingJob, which can be read as one again.

    Containers keep their names and resources, volumes their names; a command stands there as `(left out)`.
    """
    spec, status = _object(document.get("spec")), _object(document.get("status"))
    template = _object(_object(spec.get("template")).get("spec"))
    containers = [
        {
            "name": one.get("name", ""),
            "command": [LEFT_OUT],
            **_kept(one, ("resources",)),
        }
        for one in _objects(template.get("containers"))
    ]
    pod = {**_kept(template, _POD_SPEC), "containers": containers}
    kept = {**_kept(spec, _SPEC), "template": {"spec": pod}}
    checkpoint = _kept(_object(spec.get("checkpoint")), _CHECKPOINT)
    return {"spec": {**kept, **({"checkpoint": checkpoint} if checkpoint else {})}, "status": _told(status)}


def _told(status: Document) -> Document:
    """What the operator tells of a job, with its own words alone."""
    return {**_kept(status, ("phase",)), **_without_words(status)}


def _without_words(value: Any) -> Any:  # noqa: ANN401 - any value of JSON
    if isinstance(value, dict):
        return {key: _without_words(part) for key, part in value.items() if key not in _WORDS}
    return [_without_words(part) for part in value] if isinstance(value, list) else value


def _kept(part: Mapping[str, Any], keys: tuple[str, ...]) -> Document:
    return {key: part[key] for key in keys if key in part}


def _object(value: object) -> Document:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Document]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
