"""Latency targets that no number of replicas meets, and that decisions therefore leave out: which, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stowage.decide.serving import demand
from stowage.decide.serving.latency_model import LatencyModel, Shape
from stowage.decide.serving.memory import Memory
from stowage.decide.serving.role_prospect import Prospect

_NAMES: Final[Mapping[str, str]] = {
    "slo_ttft_seconds": "timeToFirstToken",
    "slo_itl_seconds": "interTokenLatency",
    "slo_e2e_seconds": "endToEnd",
}
_SHORTEST: Final = Shape(1.0, 1.0)
"""Until requests were measured: what these miss, all miss."""


def left_out(role: str, prospect: Prospect, memory: Memory) -> str:
    """The targets of a role that most requests miss on a replica that does nothing else; empty: there are none.

    Args:
        role: its name.
        prospect: of it; without a profile nothing is known.
        memory: of its decisions, for the lengths of its requests.
    """
    if not prospect.has_profile:
        return ""
    settings = prospect.settings
    model = LatencyModel(settings.performance, memory.corrections, settings.role)
    shape = demand.shape(memory) if memory.output_tokens > 0 else _SHORTEST
    missed = model.out_of_reach(settings, shape)
    found = [f"slo.{words} {getattr(settings, name):g} s" for name, words in _NAMES.items() if name in missed]
    words = f"{role}: by its profile and what was measured, an idle replica does not meet"
    return f"{words} {', '.join(found)}" if found else ""
