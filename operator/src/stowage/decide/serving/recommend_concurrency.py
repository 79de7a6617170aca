"""Replicas by requests in flight, as the Knative Pod Autoscaler (KPA) does it.

The stable window is 60 s, the panic window a tenth of it; desired = ceil(requests / target), at most 1000 times and at
least half of the ready replicas. Where the panic window asks for twice the ready replicas or more, it is panic: until
that was not so for a stable window nothing falls. Source: knative/serving, pkg/autoscaler/scaling/autoscaler.go.
"""

from __future__ import annotations

import math
from dataclasses import replace

from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.decision import Recommendation, Recommender, inputs
from stowage.decide.serving.memory import Memory
from stowage.decide.serving.situation import Situation

STABLE_SECONDS = 60.0
PANIC_SECONDS = 6.0
PANIC_THRESHOLD = 2.0
MOST_UP, MOST_DOWN = 1000.0, 2.0


def recommend_concurrency(situation: Situation) -> tuple[Recommendation | None, Memory]:
    """What the requests in flight ask for, and the memory of a panic; None without samples."""
    view, memory = situation.view, situation.memory
    stable, panic = _in_flight(situation, STABLE_SECONDS), _in_flight(situation, PANIC_SECONDS)
    if stable is None:
        return None, memory
    panic = stable if panic is None else panic
    target = situation.settings.concurrency_target or situation.running_within_targets
    ready = max(1, situation.ready)
    least, most = math.floor(ready / MOST_DOWN), math.ceil(MOST_UP * ready)
    of_stable = min(most, max(least, math.ceil(stable / target)))
    of_panic = min(most, max(least, math.ceil(panic / target)))
    until = memory.panic_until
    if math.ceil(panic / target) / ready >= PANIC_THRESHOLD:
        until = view.now + STABLE_SECONDS
    panics = until is not None and view.now < until
    highest = max(memory.panic_replicas, of_panic) if panics else 0
    replicas = max(of_stable, highest)
    known = inputs({"in_flight": stable, "in_flight_panic": panic, "target_per_replica": target})
    reason = ScalingReason.BURST if panics else ScalingReason.CONCURRENCY_HIGH
    answer = Recommendation(Recommender.CONCURRENCY, replicas, replicas, reason, known)
    return answer, replace(memory, panic_until=until if panics else None, panic_replicas=highest)


def _in_flight(situation: Situation, window_seconds: float) -> float | None:
    running, waiting = (situation.view.mean(gauge, window_seconds) for gauge in ("running", "waiting"))
    return None if running is None or waiting is None else running + waiting
