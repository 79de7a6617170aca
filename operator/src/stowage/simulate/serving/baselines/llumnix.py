"""Llumnix: average freeness, how many more steps (in KV blocks) each request could be given.

freeness = (free blocks - blocks that waiting requests need) / (waiting + running requests), over all instances. Every
10 s: up while freeness is below 10, by as many empty instances as the published loop adds; down by one where freeness
without one instance stays above 60. Nothing until every instance reports. An empty instance counts as infinitely free
there, so each step adds exactly one. Source: `llumnix/global_scheduler/scaling_scheduler.py` (`avg_load`),
`load_computation.py` (`remaining_steps`), `config/default.py` of AlibabaPAI/llumnix; Sun et al., OSDI'24.
"""

from __future__ import annotations

import math

from stowage.decide.serving.view import ReplicaView, View

INTERVAL_SECONDS = 10.0
SCALE_UP_FREENESS = 10.0
SCALE_DOWN_FREENESS = 60.0
BLOCK_TOKENS = 16
WATERMARK_SHARE = 0.01
"""vLLM keeps this share of blocks free before it admits a request."""
_AVERAGE_SECONDS = 60.0


class Llumnix:
    """Freeness of all instances together; migration between instances is not part of it."""

    name = "llumnix"
    interval_seconds = INTERVAL_SECONDS

    def decide(self, view: View) -> int:
        """Replicas wanted now."""
        if not view.replicas or not all(one.is_ready for one in view.replicas):
            return view.desired
        if len(view.replicas) != view.desired:
            return view.desired
        blocks_waiting = math.ceil(_mean_prompt_tokens(view) / BLOCK_TOKENS) * sum(one.waiting for one in view.replicas)
        requests = sum(one.waiting + one.running for one in view.replicas)
        if _freeness(view.replicas, blocks_waiting, requests, without=0) < SCALE_UP_FREENESS:
            return view.desired + 1
        fewer = _freeness(view.replicas, blocks_waiting, requests, without=1)
        if len(view.replicas) > 1 and fewer > SCALE_DOWN_FREENESS:
            return view.desired - 1
        return view.desired


def _freeness(replicas: tuple[ReplicaView, ...], blocks_waiting: int, requests: int, *, without: int) -> float:
    """Blocks free per request, with the capacity of `without` instances taken off and their requests kept."""
    if not requests:
        return math.inf
    kept = len(replicas) - without
    total = sum(one.kv_tokens_capacity // BLOCK_TOKENS for one in replicas)
    used = sum(math.ceil(one.kv_tokens_in_use / BLOCK_TOKENS) for one in replicas)
    capacity = total * kept / len(replicas)
    available = max(0.0, capacity - used) - WATERMARK_SHARE * capacity
    return (available - blocks_waiting) / requests


def _mean_prompt_tokens(view: View) -> float:
    tokens, requests = view.increase("prompt_tokens", _AVERAGE_SECONDS), view.increase("arrived", _AVERAGE_SECONDS)
    return tokens[0] / requests[0] if tokens and requests and requests[0] else 0.0
