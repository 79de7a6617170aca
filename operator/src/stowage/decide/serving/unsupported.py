"""Fields of a ModelService that this version does not act on, by their paths."""

from __future__ import annotations

from stowage.api.model_service import ModelServiceSpec
from stowage.decide.serving.zero import is_woken_by_schedule, what_is_unknown


def unsupported(spec: ModelServiceSpec) -> tuple[str, ...]:
    """What the spec asks for in vain, in order, each with what happens instead."""
    found: list[str] = []
    for role in spec.roles:
        path = f"roles[{role.name}]"
        if role.warm.pods:
            found.append(f"{path}.warm.pods (none is kept)")
        if role.warm.nodes:
            found.append(f"{path}.warm.nodes (none is kept)")
    found += [
        f"scaling.schedules[{one.name}] ({why})"
        for one in spec.scaling.schedules
        if (why := what_is_unknown(spec, one))
    ]
    if spec.scaling.scale_to_zero is not None:
        if is_woken_by_schedule(spec):
            found.append("scaling.scaleToZero.hold (requests at zero are refused; a schedule wakes the service)")
        else:
            found.append("scaling.scaleToZero (no schedule would wake the service, so bounds.min replicas stay)")
    return tuple(found)
