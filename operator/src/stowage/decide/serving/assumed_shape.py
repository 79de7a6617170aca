"""Before lengths of requests are known, what is asked for is held to what runs.

`Slo` and `Forecast` work with assumed lengths then. In a service of small requests those take one replica's load for
that of three, which would be asked for before the first requests have even ended.
"""

from __future__ import annotations

import math
from dataclasses import replace

from stowage.decide.serving.decision import Recommendation, Recommender
from stowage.decide.serving.demand import is_known_for
from stowage.decide.serving.settings import Role
from stowage.decide.serving.situation import Situation

_COUNT_ON_LENGTHS = frozenset({Recommender.SLO, Recommender.FORECAST})


def held_to_what_runs(found: Recommendation, seen: Situation) -> Recommendation:
    """The recommendation; with assumed lengths, no rise beyond the replicas that requests in the engines fill.

    A queue is proof enough that more are needed. Engines that never tell lengths are held for three minutes alone.
    """
    if found.recommender not in _COUNT_ON_LENGTHS or not _is_assumed(seen) or seen.waiting > 0:
        return found
    running = float(seen.view.scrapes[-1].running) if seen.view.scrapes else 0.0
    filled = math.ceil(running / seen.running_within_targets)
    return replace(found, needed=min(found.needed, max(filled, seen.view.desired)))


def _is_assumed(seen: Situation) -> bool:
    is_young = not is_known_for(seen.memory, 0.0)
    return is_young and seen.settings.role is not Role.PREFILL and seen.memory.output_tokens <= 0
