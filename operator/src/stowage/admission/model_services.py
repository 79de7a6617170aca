"""Checks of a ModelService, beyond what its schema and its CEL rules hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from stowage.admission.containers import unusable_containers
from stowage.admission.mounts import mounts_of_nothing
from stowage.admission.serving_bounds import (
    budget_too_small,
    number_beyond_budget,
    ratio_cannot_hold,
    stock_too_small,
)
from stowage.admission.serving_schedules import impossible_schedules
from stowage.admission.verdict import Problem
from stowage.api.model_service import ModelService
from stowage.api.model_service_role import ServingContainer, ServingPodSpec, Variant
from stowage.api.model_service_scaling import Minimize, Recommender, Scaling
from stowage_scheduler.counted import counted
from stowage_scheduler.kube.gpu_facts import WHOLE

MOST_DIGITS: Final = 9
"""Of a count of GPUs; what is longer is none."""


def problems(service: ModelService) -> tuple[Problem, ...]:
    """What makes a service impossible to run as it is written, whatever the cluster looks like."""
    return (
        *_templates(service),
        *stock_too_small(service),
        *ratio_cannot_hold(service),
        *budget_too_small(service),
        *impossible_schedules(service),
    )


def warnings(service: ModelService) -> tuple[str, ...]:
    """What is most likely not meant, or has effects that are easily missed."""
    return (*_by_its_targets(service), *_by_its_bounds(service), *_by_its_templates(service))


def _templates(service: ModelService) -> Iterator[Problem]:
    for path, variant in _variants(service):
        templates = {"template": variant.template, "group.workers": variant.group.workers if variant.group else None}
        for name, one in templates.items():
            if one is not None:
                yield from unusable_containers(one.spec, f"{path}.{name}.spec")
                yield from mounts_of_nothing(one.spec, f"{path}.{name}.spec")
        asked = _gpus_asked_for(variant)
        if variant.gpus is not None and asked and asked != variant.gpus:
            of = f"the {variant.group.size} pods" if variant.group is not None else "the containers"
            rule = f"{of} of one replica ask for {counted(asked, 'GPU')}; leave it out, or change the template"
            yield Problem(f"{path}.gpus", str(variant.gpus), rule)


def _variants(service: ModelService) -> Iterator[tuple[str, Variant]]:
    for number, role in enumerate(service.spec.roles):
        for place, variant in enumerate(role.variants):
            yield f"spec.roles[{number}].variants[{place}]", variant


def _gpus_asked_for(variant: Variant) -> int:
    """GPUs of all pods of one replica, by the resources of their containers; 0: they do not tell."""
    first = _gpus_of(variant.template.spec)
    if variant.group is None:
        return first
    others = _gpus_of(variant.group.workers.spec) if variant.group.workers is not None else first
    return first + others * (variant.group.size - 1)


def _gpus_of(pod: ServingPodSpec) -> int:
    return sum(_amount(container, name) for container in pod.containers for name in WHOLE)


def _amount(container: ServingContainer, name: str) -> int:
    resources = (container.model_extra or {}).get("resources")
    if not isinstance(resources, Mapping):
        return 0
    for part in ("limits", "requests"):
        text = str((resources.get(part) or {}).get(name, ""))
        if text.isdecimal() and len(text) <= MOST_DIGITS:
            return int(text)
    return 0


def _by_its_targets(service: ModelService) -> Iterator[str]:
    spec, scaling = service.spec, service.spec.scaling
    by_default = Scaling().recommenders  # API servers fill them in before they ask
    if spec.slo is None and Recommender.SLO in scaling.recommenders and scaling.recommenders != by_default:
        yield "spec.scaling.recommenders: Slo has nothing to say without spec.slo"
    if scaling.concurrency is not None and Recommender.CONCURRENCY not in scaling.recommenders:
        yield "spec.scaling.concurrency has no effect: spec.scaling.recommenders does not name Concurrency"
    slo = spec.slo
    if slo is not None and slo.quantile is not None and float(slo.quantile) < float(slo.attainment):
        yield (
            f"spec.slo.quantile = {slo.quantile} is less than attainment = {slo.attainment}: latencies can look good "
            "while too many requests miss their targets"
        )


def _by_its_bounds(service: ModelService) -> Iterator[str]:
    spec = service.spec
    if spec.replicas is not None:
        first = spec.roles[0]
        yield f"spec.replicas = {spec.replicas}: role {first.name} does not follow its load until it is taken away"
        if 0 < spec.replicas < first.bounds.min:
            yield f"spec.replicas = {spec.replicas} is less than bounds.min = {first.bounds.min} of role {first.name}"
        yield from number_beyond_budget(service)
    for number, role in enumerate(spec.roles):
        if role.bounds.min == role.bounds.max:
            yield f"spec.roles[{number}].bounds: role {role.name} always has {counted(role.bounds.min, 'replica')}"
        room = role.bounds.max - role.bounds.min
        if role.warm.pods > room:
            words = f"bounds leave room for {room} beside bounds.min = {role.bounds.min}; raise bounds.max"
            yield f"spec.roles[{number}].warm.pods = {role.warm.pods}: {words}"
    for number, role in enumerate(spec.roles):
        unpriced = [one.name for one in role.variants if one.cost_per_hour is None]
        if len(role.variants) > 1 and unpriced and spec.scaling.minimize is Minimize.COST:
            yield (
                f"spec.roles[{number}].variants: {', '.join(unpriced)} without costPerHour: nothing tells which "
                "variant is the cheapest"
            )


def _by_its_templates(service: ModelService) -> Iterator[str]:
    port = service.spec.engine.answers_at
    for path, variant in _variants(service):
        engine = variant.template.spec.engine
        extra = engine.model_extra or {}
        place = f"{path}.template: container {engine.name}"
        if not extra.get("readinessProbe"):
            yield f"{place} has no readinessProbe: replicas count as ready before the model is loaded"
        told = extra.get("ports")
        ports = [one.get("containerPort") for one in told if isinstance(one, Mapping)] if isinstance(told, list) else []
        if ports and port not in ports:
            yield f"{place} names ports, and not {port}, where spec.engine answers"
        if not _gpus_asked_for(variant) and variant.gpus is None:
            yield f"{path}: neither gpus nor the containers tell how many GPUs a replica has"
