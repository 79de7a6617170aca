"""Replicas by the latency targets: as many as bear what comes now within TTFT and ITL, with what waits worked off.

The load that a replica bears comes from the queueing model in `latency_model` (in the manner of llm-d WVA's queueing
analyser: replicas = load / largest load within the targets, found by bisection). What comes now is uncertain by
chance; how much of that is served follows from the price of an idle replica.
"""

from __future__ import annotations

from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.decision import Recommendation, Recommender, inputs
from stowage.decide.serving.misses import missed_lately
from stowage.decide.serving.replicas_for_demand import Expected, replicas_for
from stowage.decide.serving.situation import LEVEL_SECONDS, Situation

WAITING_PER_REPLICA = 1.0
"""Requests may wait for the running step to end without being a queue."""
MANY_MISSES_OF_BUDGET = 5.0
SETTLED_SECONDS = 60.0


def recommend_slo(situation: Situation) -> Recommendation | None:
    """What the load of now asks for; None without a known load."""
    level = situation.level
    if level is None:
        return None
    settings = situation.settings
    queue = max(0.0, situation.waiting - WAITING_PER_REPLICA * situation.ready)
    seconds = situation.recent_seconds if situation.jumped else LEVEL_SECONDS
    rate = level + queue / situation.drain_seconds
    spread = situation.noise(rate, seconds)
    needed = replicas_for(Expected(rate, spread), situation.capacity, situation.price)
    reason = ScalingReason.BURST if situation.jumped else ScalingReason.SLO_HEADROOM_LOW
    missed = missed_lately(situation)
    too_many = missed is not None and missed > MANY_MISSES_OF_BUDGET * settings.may_miss
    if too_many and situation.ready >= needed and _is_settled(situation):
        needed, reason = situation.ready + 1, ScalingReason.SLO_MISSED
    known = inputs(
        {
            "arrivals_per_second": situation.arrivals.rate("arrived", LEVEL_SECONDS),
            "recent_arrivals_per_second": situation.arrivals.rate("arrived", situation.recent_seconds),
            "demand_per_second": rate,
            "demand_spread": spread,
            "capacity_per_replica_per_second": situation.capacity.within_targets_per_second,
            "waiting": situation.waiting,
            "missed_share": missed,
            "prompt_tokens_per_request": situation.shape.prompt_tokens,
            "output_tokens_per_request": situation.shape.output_tokens,
        }
    )
    return Recommendation(Recommender.SLO, needed, needed, reason, known)


def _is_settled(situation: Situation) -> bool:
    """Whether the newest ready replica has served for a while: misses since are not those of a backlog before it."""
    least = situation.view.cold_start_seconds + SETTLED_SECONDS
    return all(one.age_seconds >= least for one in situation.view.replicas if one.is_ready)
