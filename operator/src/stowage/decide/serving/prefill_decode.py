"""Prefill and decode replicas decided together: one demand, two counts, a ratio that is kept.

Requests come to the prefill role; what comes there is what the decode role will have to bear a moment later, so both
counts follow from the same arrivals and change in the same decision. Scaled apart, the role behind looks idle while the
one in front is short (HeteroScale; llm-d WVA, issue 1531).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.decision import Choice, Decision, inputs
from stowage.decide.serving.limits import limited
from stowage.decide.serving.memory import Memory
from stowage.decide.serving.pipeline import choose, held, observe, recommendations, settle, situation
from stowage.decide.serving.recommend_schedule import scheduled_most
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.trust import distrust
from stowage.decide.serving.view import View

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ratio:
    """`decode` replicas for each `prefill` ones, give or take the share `tolerance`."""

    prefill: float
    decode: float
    tolerance: float = 0.5


@dataclass(frozen=True, slots=True)
class Pair(Generic[T]):
    """One thing for each of the two roles."""

    prefill: T
    decode: T


def decide_pair(
    views: Pair[View], settings: Pair[Settings], memories: Pair[Memory], ratio: Ratio | None
) -> tuple[Pair[Decision], Pair[Memory]]:
    """The counts of both roles from the arrivals at the prefill role.

    Where the signals of one role can not be trusted, neither falls. The ratio raises the role that is short and never
    lowers the other, rounding towards more replicas; where a limit forbids that, the ratio yields.
    """
    doubt = distrust(views.prefill, settings.prefill.stale_after_seconds)
    doubt = doubt or distrust(views.decode, settings.decode.stale_after_seconds)
    if doubt is not None:
        chosen = Pair(
            held(views.prefill, settings.prefill, memories.prefill, doubt),
            held(views.decode, settings.decode, memories.decode, doubt),
        )
    else:
        chosen = _chosen(views, settings, memories)
    (prefill_memory, prefill), (decode_memory, decode) = chosen.prefill, chosen.decode
    if ratio is not None:
        least = _least(ratio, prefill.replicas, decode.replicas)
        prefill = _raised(prefill, least.prefill, settings.prefill, views.prefill.now)
        decode = _raised(decode, least.decode, settings.decode, views.decode.now)
    first = settle(views.prefill, settings.prefill, prefill_memory, prefill)
    second = settle(views.decode, settings.decode, decode_memory, decode)
    return Pair(first[0], second[0]), Pair(first[1], second[1])


def _chosen(views: Pair[View], settings: Pair[Settings], memories: Pair[Memory]) -> Pair[tuple[Memory, Choice]]:
    first = observe(views.prefill, settings.prefill, memories.prefill)
    second = observe(views.decode, settings.decode, memories.decode)
    first = replace(first, output_tokens=second.output_tokens)
    second = replace(second, bins=first.bins, season=first.season)
    found, first = recommendations(situation(views.prefill, settings.prefill, first))
    others, second = recommendations(situation(views.decode, settings.decode, second, arrivals=views.prefill))
    return Pair(
        choose(views.prefill, settings.prefill, first, found), choose(views.decode, settings.decode, second, others)
    )


def _least(ratio: Ratio, prefill: int, decode: int) -> Pair[int]:
    """The fewest of each that keep the ratio beside the other."""
    per_prefill = ratio.decode / ratio.prefill
    fewest, most = per_prefill * (1 - ratio.tolerance), per_prefill * (1 + ratio.tolerance)
    return Pair(_up(decode / most), _up(prefill * fewest))


def _up(value: float) -> int:
    return math.ceil(value - 1e-9)


def _raised(choice: Choice, least: int, settings: Settings, now: float) -> Choice:
    count, _ = limited(max(choice.replicas, least), settings, scheduled_most(settings.schedules, now))
    if count <= choice.replicas:
        return choice
    known = inputs({**dict(choice.inputs), "replicas_without_ratio": float(choice.replicas)})
    return replace(choice, replicas=count, reason=ScalingReason.RATIO_KEPT, inputs=known)
