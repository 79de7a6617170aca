"""Fields of a ModelService that this version does not act on, by their paths."""

from __future__ import annotations

from stowage.api.model_service import ModelServiceSpec
from stowage.decide.serving.prefetch_pod import fills_node
from stowage.decide.serving.zero import what_is_unknown


def unsupported(spec: ModelServiceSpec) -> tuple[str, ...]:
    """What the spec asks for in vain, in order, each with what happens instead."""
    found: list[str] = []
    for role in spec.roles:
        path = f"roles[{role.name}]"
        if role.warm.nodes and not any(fills_node(one) for one in role.variants):
            found.append(
                f"{path}.warm.nodes (no init container fills a hostPath or a claim, so nodes keep the image alone)"
            )
    found += [
        f"scaling.schedules[{one.name}] ({why})"
        for one in spec.scaling.schedules
        if (why := what_is_unknown(spec, one))
    ]
    return tuple(found)
