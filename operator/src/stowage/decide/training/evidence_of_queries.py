"""Evidence in Prometheus: rules that admins wrote, which fire for a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stowage.api.training_words import Event
from stowage.decide.training.facts import Evidence

PROMETHEUS: Final = "prometheus"


def evidence_of_queries(firing: Mapping[str, float]) -> tuple[Evidence, ...]:
    """One for each rule that fires; `firing` is since when, by the rule's name, in seconds since 1970.

    A rule that has fired since before the current epoch was answered by it: it has to stop and fire again.
    """
    return tuple(Evidence(Event.PROMQL, since, PROMETHEUS, name=name) for name, since in sorted(firing.items()))
