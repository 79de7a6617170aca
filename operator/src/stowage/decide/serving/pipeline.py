"""From what is seen of a role to a decision about its replicas: pure, so that every decision can be replayed.

Signals -> trust -> demand and latency model -> recommenders -> combine -> limits -> stabilisation -> decision. Without
signals that can be trusted nothing falls, and nothing goes below the last decision that was made on sound ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving import demand
from stowage.decide.serving.assumed_shape import held_to_what_runs
from stowage.decide.serving.combine import combine
from stowage.decide.serving.decision import Choice, Decision, Inputs, Recommendation, Recommender, inputs
from stowage.decide.serving.latency_model import LatencyModel
from stowage.decide.serving.learning import for_profile, learn_latencies
from stowage.decide.serving.limits import limited
from stowage.decide.serving.memory import KEPT_DECISIONS, Memory
from stowage.decide.serving.misses import quickness, remember_misses
from stowage.decide.serving.recommend_concurrency import recommend_concurrency
from stowage.decide.serving.recommend_forecast import recommend_forecast
from stowage.decide.serving.recommend_saturation import recommend_saturation, remember_saturation
from stowage.decide.serving.recommend_schedule import recommend_schedule, scheduled_most
from stowage.decide.serving.recommend_slo import recommend_slo
from stowage.decide.serving.replicas_for_demand import price
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.situation import Situation
from stowage.decide.serving.stabilisation import (
    as_it_went,
    fall,
    remember_change,
    remember_needed,
    remember_wanted,
    rise,
    window_seconds,
)
from stowage.decide.serving.trust import distrust
from stowage.decide.serving.view import View

VALID_INTERVALS = 3.0
"""A decision is good for so many intervals, unless another is made."""
LEAST_KNOWN_STARTS = 1.5
"""Nothing falls before demand is known for so many cold starts: a shorter past says too little about the future."""

_RECOMMEND: dict[Recommender, Callable[[Situation], Recommendation | None]] = {
    Recommender.SLO: recommend_slo,
    Recommender.FORECAST: recommend_forecast,
    Recommender.SATURATION: recommend_saturation,
}


def decide(view: View, settings: Settings, memory: Memory) -> tuple[Decision, Memory]:
    """How many replicas there shall be from now on, and what to remember; the same arguments give the same answer."""
    doubt = distrust(view, settings.stale_after_seconds)
    if doubt is not None:
        return settle(view, settings, *held(view, settings, memory, doubt))
    memory = observe(view, settings, memory)
    found, memory = recommendations(situation(view, settings, memory))
    return settle(view, settings, *choose(view, settings, memory, found))


def observe(view: View, settings: Settings, memory: Memory) -> Memory:
    """The memory with what sound signals tell: demand, latencies, misses, saturation."""
    memory = demand.remember_demand(view, as_it_went(memory, view.desired))
    memory = remember_saturation(view, memory)
    memory = learn_latencies(view, settings, for_profile(memory, settings.performance))
    return remember_misses(view, settings, memory)


def situation(view: View, settings: Settings, memory: Memory, arrivals: View | None = None) -> Situation:
    """What recommenders look at; `arrivals` is the view that counts requests when they come, if that is another."""
    shape = demand.shape(memory)
    model = LatencyModel(settings.performance, memory.corrections, settings.role)
    capacity = model.capacity(settings, shape)
    # a replica that is missing is missed for a whole start, so the longer that takes the less an idle one costs
    factor = memory.misses.price_factor * quickness(view.cold_start_seconds)
    return Situation(
        view=view,
        arrivals=view if arrivals is None else arrivals,
        settings=settings,
        memory=memory,
        shape=shape,
        model=model,
        capacity=capacity,
        prompt_share=model.prompt_share(capacity.within_targets_per_second, shape),
        price=price(settings.attainment, settings.cost_ratio, factor),
    )


def recommendations(seen: Situation) -> tuple[tuple[Recommendation, ...], Memory]:
    """What the recommenders of the settings and the schedules say, those that know nothing left out."""
    memory, settings = seen.memory, seen.settings
    found = [recommend_schedule(settings.schedules, seen.view.now, seen.view.cold_start_seconds)]
    for name in settings.recommenders:
        if name is Recommender.CONCURRENCY:
            one, memory = recommend_concurrency(seen)
            found.append(one)
        elif name in _RECOMMEND:
            found.append(_RECOMMEND[name](seen))
    return tuple(held_to_what_runs(one, seen) for one in found if one is not None), memory


def choose(view: View, settings: Settings, memory: Memory, found: tuple[Recommendation, ...]) -> tuple[Memory, Choice]:
    """The count from recommendations made on sound signals: combined, stabilised, within limits."""
    both = combine(found)
    if both is None:
        return held(view, settings, memory, inputs({"signals_missing": 1.0}))
    needs, holds = both
    window = window_seconds(settings, view.cold_start_seconds)
    memory = remember_wanted(memory, view.now, holds.enough, window)
    memory = remember_needed(memory, settings, view.now, needs.needed)
    current = view.desired
    if needs.needed > current:
        count, why, by = needs.needed, needs.reason, needs
        if needs.recommender is not Recommender.SCHEDULE:
            rises = rise(memory, settings, view.now, current, needs.needed)
            count, why = rises.replicas, rises.reason or why
    elif holds.enough < current <= settings.least:
        count, why, by = current, ScalingReason.AT_MINIMUM, holds
    elif holds.enough < current and not demand.is_known_for(memory, LEAST_KNOWN_STARTS * view.cold_start_seconds):
        count, why, by = current, ScalingReason.STABILIZING, holds
    elif holds.enough < current:
        falls = fall(memory, settings, view.now, current, holds.enough, window)
        count, why, by = falls.replicas, falls.reason or ScalingReason.CAPACITY_UNUSED, holds
    elif sum(one.is_ready for one in view.replicas) < needs.needed:
        count, why, by = current, ScalingReason.REPLICAS_PENDING, needs
    else:
        count, why, by = current, ScalingReason.STEADY, holds
    count, limit = limited(count, settings, scheduled_most(settings.schedules, view.now))
    asked = tuple((one.recommender.value, one.needed) for one in found)
    return memory, Choice(count, limit or why, by.recommender, by.inputs, asked=asked)


def held(view: View, settings: Settings, memory: Memory, doubt: Inputs) -> tuple[Memory, Choice]:
    """Without knowledge the count stays, or rises to the last good one or to what a schedule asks for."""
    count, reason, by = max(view.desired, memory.last_good or 0), ScalingReason.SIGNALS_MISSING, Recommender.NONE
    scheduled = recommend_schedule(settings.schedules, view.now, view.cold_start_seconds)
    if scheduled is not None and scheduled.needed > count:
        count, reason, by = scheduled.needed, scheduled.reason, scheduled.recommender
    count = max(settings.least, min(count, settings.most))
    return replace(memory, wanted=(), needed=()), Choice(count, reason, by, doubt, is_informed=False)


def settle(view: View, settings: Settings, memory: Memory, choice: Choice) -> tuple[Decision, Memory]:
    """The choice as a decision, remembered."""
    until = view.now + VALID_INTERVALS * settings.interval_seconds
    decision = Decision(
        at=view.now,
        from_replicas=view.desired,
        to_replicas=choice.replicas,
        reason=choice.reason,
        recommender=choice.recommender,
        inputs=choice.inputs,
        valid_until=until,
        asked=choice.asked,
    )
    memory = remember_change(memory, settings, view.now, view.desired, choice.replicas)
    if choice.is_informed:
        memory = replace(memory, last_good=choice.replicas)
    return decision, _remembered(memory, decision)


def _remembered(memory: Memory, decision: Decision) -> Memory:
    """The memory with the decision, in the place of the last one where that changed nothing for the same reason."""
    kept = memory.decisions
    if kept and kept[-1].reason == decision.reason and kept[-1].from_replicas == kept[-1].to_replicas:
        kept = kept[:-1] if decision.from_replicas == decision.to_replicas else kept
    return replace(memory, decisions=(*kept, decision)[-KEPT_DECISIONS:])
