"""Replicas by tokens in the KV caches, as llm-d's Workload Variant Autoscaler V2 does it.

A replica holds at most k1 = capacity x 0.80 tokens, and no more than k2, the tokens that replicas held while requests
queued in them, or as long as none did, N (I + O/2) with N = min(B O / (I + O), S) sequences for B tokens per step and S
sequences at most. Demand is the tokens in use and what the queue will bring. More are needed above 85 % of what the
replicas hold, starting ones included; below 70 % fewer are enough. Of the last 10 times with a queue the highest
counts, for 10 minutes, where WVA takes the mean for good: a burst of prompts queues in front of an empty cache, and
that is no sign of a small one. WVA counts the queue as if all of it had to be in caches at once; here, as many of it as
are at a time while it is worked off, for a place is free again after each request's stay.
"""

from __future__ import annotations

import math
from dataclasses import replace

from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.decision import Recommendation, Recommender, inputs
from stowage.decide.serving.memory import Memory, Saturated
from stowage.decide.serving.situation import Situation
from stowage.decide.serving.view import View

KV_THRESHOLD = 0.80
QUEUE_THRESHOLD = 5
QUEUE_SECONDS = 30.0
"""A queue is one that lasts: a long prompt makes others wait for a moment in an engine that is far from full."""
SETTLED_SECONDS = 60.0
"""After its start, a replica's cache fills for so long."""
SCALE_UP_THRESHOLD = 0.85
SCALE_DOWN_BOUNDARY = 0.70
KEPT_OBSERVATIONS = 10
REMEMBERED_SECONDS = 600.0


def recommend_saturation(situation: Situation) -> Recommendation | None:
    """What the tokens ask for; None where no replica tells of its cache."""
    scrapes = situation.view.scrapes
    if not scrapes or scrapes[-1].ready < 1 or scrapes[-1].kv_tokens_capacity < 1:
        return None
    newest = scrapes[-1]
    of_memory = newest.kv_tokens_capacity / newest.ready * KV_THRESHOLD
    capacity = max(1.0, min(of_memory, _computed(situation)))
    at_once = newest.waiting * min(1.0, situation.stay_seconds / situation.drain_seconds)
    demand = newest.kv_tokens_in_use + at_once * situation.shape.prompt_tokens
    needed = math.ceil(demand / SCALE_UP_THRESHOLD / capacity)
    enough = max(needed, math.ceil(demand / SCALE_DOWN_BOUNDARY / capacity))
    known = inputs({"token_demand": demand, "tokens_per_replica": capacity, "waiting": float(newest.waiting)})
    return Recommendation(Recommender.SATURATION, needed, enough, ScalingReason.SATURATED, known)


def remember_saturation(view: View, memory: Memory) -> Memory:
    """The memory with the tokens of replicas that have a queue, in a role that has one.

    A replica that has just come with a queue before it (all others were lost) holds few tokens, and that says nothing.
    """
    settled = view.cold_start_seconds + SETTLED_SECONDS
    queued = [one for one in view.replicas if one.is_ready and one.waiting >= QUEUE_THRESHOLD]
    held = [float(one.kv_tokens_in_use) for one in queued if one.age_seconds >= settled]
    waiting, ready = view.mean("waiting", QUEUE_SECONDS), view.mean("ready", QUEUE_SECONDS)
    if not held or waiting is None or not ready or waiting / ready < QUEUE_THRESHOLD:
        return memory
    median = sorted(held)[len(held) // 2]
    return replace(memory, saturated=(*memory.saturated, Saturated(view.now, median))[-KEPT_OBSERVATIONS:])


def _computed(situation: Situation) -> float:
    """k2: tokens that a replica holds when computing limits it."""
    seen = [one.tokens for one in situation.memory.saturated if one.at > situation.view.now - REMEMBERED_SECONDS]
    if seen:
        return max(seen)
    profile, shape = situation.settings.performance, situation.shape
    sequences = profile.max_batched_tokens * shape.output_tokens / (shape.prompt_tokens + shape.output_tokens)
    return min(sequences, profile.max_running) * (shape.prompt_tokens + shape.output_tokens / 2)
