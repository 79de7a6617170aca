"""What containers of a pod template mount, and whether there is such a volume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stowage.admission.verdict import Problem
from stowage.api.model_service_role import ServingPodSpec
from stowage.api.training_job_template import PodSpec


def mounts(extra: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The mounts among the fields of a container that are handed on."""
    found = (extra or {}).get("volumeMounts")
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def mounts_of_nothing(pod: PodSpec | ServingPodSpec, path: str) -> Iterator[Problem]:
    """Mounts without a volume: a pod with such a mount is refused, so no pod would ever be made.

    Args:
        pod: spec of a template.
        path: of that spec in its resource.
    """
    there = {one.name for one in pod.volumes or ()}
    for part, containers in (("initContainers", pod.init_containers or ()), ("containers", pod.containers)):
        for number, container in enumerate(containers):
            for place, mount in enumerate(mounts(container.model_extra)):
                name = mount.get("name")
                if isinstance(name, str) and name not in there:
                    field = f"{path}.{part}[{number}].volumeMounts[{place}].name"
                    yield Problem(field, name, f"is not one of {path}.volumes")
