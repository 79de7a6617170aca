"""What a step writes on pods: one patch for each, so that a label and what belongs to it come together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stowage.api.names import DELETION_COST_ANNOTATION, SPARE_LABEL, TAKES_REQUESTS_LABEL
from stowage.decide.serving.service_facts import (
    DRAINING_SINCE_ANNOTATION,
    LEAVING_COST_ANNOTATION,
    PodRef,
    written,
)
from stowage.decide.serving.service_step import ServiceStep

Document = dict[str, Any]


def pod_patches(step: ServiceStep, now: float) -> Mapping[PodRef, Document]:
    """By pod, one merge patch with its drain, undrain, spare and cost, its UID in it as a precondition."""
    found: dict[PodRef, Document] = {}

    def metadata(ref: PodRef) -> Document:
        document = found.setdefault(ref, {"metadata": {"uid": ref.uid, "labels": {}, "annotations": {}}})
        part: Document = document["metadata"]
        return part

    for ref in step.drain:
        metadata(ref)["labels"][TAKES_REQUESTS_LABEL] = "false"
        metadata(ref)["annotations"][DRAINING_SINCE_ANNOTATION] = written(now)
    for ref in step.undrain:
        metadata(ref)["labels"][TAKES_REQUESTS_LABEL] = "true"
        metadata(ref)["annotations"][DRAINING_SINCE_ANNOTATION] = None
    for ref in step.unspare:
        metadata(ref)["labels"][SPARE_LABEL] = None
    for ref in step.spare:
        metadata(ref)["labels"] |= {TAKES_REQUESTS_LABEL: "false", SPARE_LABEL: "true"}
        metadata(ref)["annotations"][DRAINING_SINCE_ANNOTATION] = None
    for ref, cost in step.cost.items():
        for name in (DELETION_COST_ANNOTATION, LEAVING_COST_ANNOTATION):
            metadata(ref)["annotations"][name] = str(cost) if cost else None
    return found
