"""One answer for each question: what the schema let through is read as the operator reads it, and checked further.

Nobody is locked out: an object that is being deleted is let through, so is a change that leaves `spec` as it was, and
what an object said already before the change is a warning, not a refusal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from stowage.admission import model_services, performance_profiles, plans, policies, training_jobs
from stowage.admission.known import Known
from stowage.admission.review import Operation, Request
from stowage.admission.verdict import ALLOWED, Problem, Verdict
from stowage.api.model_service import ModelService
from stowage.api.names import GROUP
from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_policy import PackingPolicy
from stowage.api.performance_profile import PerformanceProfile
from stowage.api.resource import InvalidObjectError, Resource
from stowage.api.training_job import TrainingJob

MODELS: Final[Mapping[str, type[Resource]]] = {
    PackingPolicy.kind_name(): PackingPolicy,
    PackingPlan.kind_name(): PackingPlan,
    TrainingJob.kind_name(): TrainingJob,
    ModelService.kind_name(): ModelService,
    PerformanceProfile.kind_name(): PerformanceProfile,
}

_GROUP: Final = "{"
_JUDGED: Final = frozenset({Operation.CREATE, Operation.UPDATE})


def concerns(request: Request) -> bool:
    """Whether there is anything to check: else the answer is yes without looking further."""
    ours = request.kind.group == GROUP and request.kind.kind in MODELS and not request.sub_resource
    if not ours or request.operation not in _JUDGED or request.object is None:
        return False
    if _metadata(request.object).get("deletionTimestamp"):
        return False  # finalizers go away by an update
    return request.old_object is None or request.object.get("spec") != request.old_object.get("spec")


def judge(request: Request, known: Known) -> Verdict:
    """Whether an object may be stored, and what to say about it.

    Args:
        request: the question.
        known: the objects around it.
    """
    if not concerns(request) or request.object is None:
        return ALLOWED
    model = MODELS[request.kind.kind]
    resource, found = _read(model, request.object)
    before, known_before = _read(model, request.old_object) if request.old_object is not None else (None, ())
    new = [problem for problem in found if not _said_before(problem, known_before)]
    warned = [f"{problem} (it said so before)" for problem in found if _said_before(problem, known_before)]
    if isinstance(resource, PackingPlan):
        earlier = before if isinstance(before, PackingPlan) else None
        if request.old_object is None or earlier is not None:
            new += plans.problems_of_change(resource, earlier, known)
        warned += plans.warnings(resource, earlier, known)
    elif isinstance(resource, PackingPolicy):
        warned += policies.warnings(resource, before if isinstance(before, PackingPolicy) else None, known)
    elif isinstance(resource, TrainingJob):
        warned += training_jobs.warnings(resource, before if isinstance(before, TrainingJob) else None, known)
    elif isinstance(resource, ModelService):
        warned += model_services.warnings(resource)
    elif isinstance(resource, PerformanceProfile) and not found:
        warned += performance_profiles.warnings(resource)
    return Verdict(tuple(new), tuple(warned))


def _read(model: type[Resource], document: Mapping[str, Any]) -> tuple[Resource | None, tuple[Problem, ...]]:
    """The resource, None where it cannot be read, and what is wrong with it by itself."""
    try:
        resource = model.parse(document)
    except InvalidObjectError as error:
        return None, tuple(Problem(*problem) for problem in error.problems)
    if isinstance(resource, PackingPlan):
        return resource, plans.problems(resource)
    if isinstance(resource, PackingPolicy):
        return resource, policies.problems(resource)
    if isinstance(resource, TrainingJob):
        return resource, training_jobs.problems(resource)
    if isinstance(resource, ModelService):
        return resource, model_services.problems(resource)
    if isinstance(resource, PerformanceProfile):
        return resource, performance_profiles.problems(resource)
    return resource, ()


def _said_before(problem: Problem, known: Iterable[Problem]) -> bool:
    """Whether an object had a problem before; a group of fields may have changed in what the rule is not about."""
    return any(
        (one.field, one.rule) == (problem.field, problem.rule)
        and (one.value == problem.value or (one.value.startswith(_GROUP) and problem.value.startswith(_GROUP)))
        for one in known
    )


def _metadata(document: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = document.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}
