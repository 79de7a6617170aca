"""Containers of a pod template of which no pod could ever be made: the API server would refuse it later on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from stowage.admission.verdict import Problem
from stowage.api.model_service_role import ServingPodSpec
from stowage.api.resource import MAX_VALUE_SHOWN
from stowage.api.training_job_template import PodSpec
from stowage_scheduler.kube.quantity import QuantityError, parse_quantity

_NANOS: Final = 10**9
_TEXT_RULE: Final = "must be text; give it in quotes"


def unusable_containers(pod: PodSpec | ServingPodSpec, path: str) -> Iterator[Problem]:
    """Containers without an image, words that YAML takes for numbers, and amounts of resources that are no quantities.

    Args:
        pod: spec of a template.
        path: of that spec in its resource.
    """
    for name, containers in (("initContainers", pod.init_containers or ()), ("containers", pod.containers)):
        for number, one in enumerate(containers):
            field, extra = f"{path}.{name}[{number}]", one.model_extra or {}
            image = extra.get("image")
            if not image:
                yield Problem(f"{field}.image", "(absent)", "must be given")
            elif not isinstance(image, str):
                yield Problem(f"{field}.image", str(image)[:MAX_VALUE_SHOWN], _TEXT_RULE)
            yield from _no_texts(extra, field)
            yield from _no_amounts(extra.get("resources"), f"{field}.resources")


def _no_texts(container: Mapping[str, Any], path: str) -> Iterator[Problem]:
    for part in ("command", "args"):
        for number, one in enumerate(_items(container.get(part))):
            if one is not None and not isinstance(one, str):
                yield Problem(f"{path}.{part}[{number}]", str(one)[:MAX_VALUE_SHOWN], _TEXT_RULE)
    for number, one in enumerate(_items(container.get("env"))):
        value = one.get("value") if isinstance(one, Mapping) else None
        if value is not None and not isinstance(value, str):
            yield Problem(f"{path}.env[{number}].value", "(not shown)", _TEXT_RULE)


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _no_amounts(resources: object, path: str) -> Iterator[Problem]:
    for part in ("requests", "limits"):
        amounts: Any = resources.get(part) if isinstance(resources, Mapping) else None
        for name, value in amounts.items() if isinstance(amounts, Mapping) else ():
            rule = _broken_rule(name, value)
            if rule:
                yield Problem(f"{path}.{part}[{name}]", str(value)[:MAX_VALUE_SHOWN], rule)


def _broken_rule(name: str, value: object) -> str:
    if value is None:
        return ""  # charts write it for an amount that they take back; Kubernetes reads it as 0
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return "must be a Kubernetes quantity such as 500m, 2 or 1.5Gi"
    try:
        nanos = parse_quantity(value)
    except QuantityError as error:
        return str(error).removeprefix("it ")
    return "must be a whole number: such a resource has no parts" if "/" in name and nanos % _NANOS else ""
