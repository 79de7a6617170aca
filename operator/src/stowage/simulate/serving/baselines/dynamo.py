"""Dynamo's planner for aggregated workers, target `sla`: a throughput loop (180 s) as floor of a load loop (5 s).

Throughput: requests and lengths of the next interval are predicted; floor = ceil(rate / what a worker does at best
within the targets), the latter swept over batch sizes on the profile. Load: per worker the next time to first token
from queued prompt tokens and the next time between tokens from KV tokens; one more where all workers exceed a target;
one less where on all workers both stay safe after N / (N - 1) of the load (80 % of what the target leaves for the
queue, 80 % of the ITL target, KV fits). Nothing while workers start. The engine's times are the profile's own, where
Dynamo regresses them; arrivals count when they arrive; `max_gpu_budget` is the run's bound. Source:
`components/src/dynamo/planner/core/{load_scaling,throughput_scaling}.py`, `perf_model/agg.py` of ai-dynamo/dynamo.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stowage.decide.serving.performance import Performance
from stowage.decide.serving.view import Counter, ReplicaView, View
from stowage.simulate.serving.baselines.autoregression import next_value

THROUGHPUT_SECONDS = 180.0
LOAD_SECONDS = 5.0
SENSITIVITY = 0.8
"""`load_scaling_down_sensitivity` 80."""
_AVERAGE_SECONDS = 60.0
_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Load:
    """What the workers compute: mean prompt and context, and prompt tokens per second and worker."""

    prompt_tokens: float
    context_tokens: float
    prompt_tokens_per_second: float


class Dynamo:
    """The planner's state: series of the throughput loop, and the floor that it set."""

    name = "dynamo"
    interval_seconds = LOAD_SECONDS

    def __init__(self, performance: Performance, ttft_seconds: float, itl_seconds: float) -> None:
        self._performance = performance
        self._ttft_seconds = ttft_seconds
        self._itl_seconds = itl_seconds
        self._requests: list[float] = []
        self._prompt_tokens: list[float] = []
        self._output_tokens: list[float] = []
        self._floor = 1
        self._planned_at: float | None = None

    def decide(self, view: View) -> int:
        """Replicas wanted now."""
        if self._planned_at is None:
            self._planned_at = view.now
        elif view.now >= self._planned_at + THROUGHPUT_SECONDS:
            self._planned_at = view.now
            self._plan(view)
        if not view.replicas or len(view.replicas) != view.desired or not all(one.is_ready for one in view.replicas):
            return view.desired
        change = load_change(view.replicas, self._load(view), self._performance, self._ttft_seconds, self._itl_seconds)
        return max(view.desired + change, self._floor)

    def _plan(self, view: View) -> None:
        arrived = view.increase("arrived", THROUGHPUT_SECONDS)
        if arrived is None:
            return
        requests = arrived[0] / arrived[1] * THROUGHPUT_SECONDS
        if requests > 0 or self._requests:  # the idle time before the first request is no data
            self._requests.append(requests)
        for series, tokens, counter in (
            (self._prompt_tokens, "prompt_tokens", "arrived"),
            (self._output_tokens, "generated_tokens", "completed"),
        ):
            mean = _mean(view, tokens, counter, THROUGHPUT_SECONDS)  # type: ignore[arg-type]
            if mean is not None:
                series.append(mean)
        if not self._prompt_tokens or not self._output_tokens:
            return
        per_worker = best_requests_per_second(
            self._performance,
            next_value(self._prompt_tokens),
            next_value(self._output_tokens),
            self._ttft_seconds,
            self._itl_seconds,
        )
        if per_worker > 0:
            self._floor = max(1, math.ceil(next_value(self._requests) / THROUGHPUT_SECONDS / per_worker))

    def _load(self, view: View) -> Load:
        prompt = _mean(view, "prompt_tokens", "arrived", _AVERAGE_SECONDS) or 0.0
        rate = view.rate("prompt_tokens", _AVERAGE_SECONDS) or 0.0
        running = sum(one.running for one in view.replicas)
        context = sum(one.kv_tokens_in_use for one in view.replicas) / running if running else 0.0
        return Load(prompt, context, rate / len(view.replicas))


def load_change(
    replicas: tuple[ReplicaView, ...], load: Load, performance: Performance, ttft_seconds: float, itl_seconds: float
) -> int:
    """+1, 0 or -1 by what the load loop expects of each worker."""
    workers = len(replicas)
    first = [_next_ttft(performance, one, load, one.waiting * load.prompt_tokens, 1.0) for one in replicas]
    if all(seconds > ttft_seconds for seconds in first):
        return 1
    between = [_next_itl(performance, one, load, one.kv_tokens_in_use + load.context_tokens, 1.0) for one in replicas]
    if all(seconds > itl_seconds for seconds in between):
        return 1
    if workers == 1:
        return 0
    scale = workers / (workers - 1)
    is_safe = all(
        _prefill_stays_safe(performance, one, load, scale, ttft_seconds)
        and _decode_stays_safe(performance, one, load, scale, itl_seconds)
        for one in replicas
    )
    return -1 if is_safe else 0


def _prefill_stays_safe(
    performance: Performance, one: ReplicaView, load: Load, scale: float, ttft_seconds: float
) -> bool:
    own = _next_ttft(performance, one, load, 0.0, scale)
    budget = (ttft_seconds - own) * SENSITIVITY
    queued = _next_ttft(performance, one, load, one.waiting * load.prompt_tokens * scale, scale)
    return budget > 0 and queued - own < budget


def _decode_stays_safe(
    performance: Performance, one: ReplicaView, load: Load, scale: float, itl_seconds: float
) -> bool:
    tokens = (one.kv_tokens_in_use + one.waiting * load.prompt_tokens) * scale
    if tokens >= one.kv_tokens_capacity:
        return False
    expected = _next_itl(performance, one, load, tokens + load.context_tokens, scale)
    return expected < itl_seconds * SENSITIVITY


def _next_ttft(performance: Performance, one: ReplicaView, load: Load, queued_tokens: float, scale: float) -> float:
    """Seconds until a request that comes now has its first token: the queue and its prompt in steps of full batches."""
    left, total = queued_tokens + load.prompt_tokens, 0.0
    running, kv_tokens = one.running * scale, one.kv_tokens_in_use * scale
    room = max(1.0, performance.max_batched_tokens - running)
    while left > 0:
        chunk = min(left, room)
        total += performance.mixed_step_seconds(chunk, running, kv_tokens)
        left -= chunk
    return total


def _next_itl(performance: Performance, one: ReplicaView, load: Load, kv_tokens: float, scale: float) -> float:
    """Seconds of a step with the prompt tokens that arrive while it lasts."""
    running = one.running * scale + (one.waiting * scale if scale > 1 else 0)
    seconds = performance.decode_step_seconds(running, kv_tokens)
    for _ in range(_ROUNDS):
        arriving = min(load.prompt_tokens_per_second * scale * seconds, performance.max_batched_tokens - running)
        if arriving <= 0:
            break
        # what a step with few prompt tokens adds is its share of a full one's: steps without any come between
        full = performance.mixed_step_seconds(float(performance.max_batched_tokens - running), running, kv_tokens)
        plain = performance.decode_step_seconds(running, kv_tokens)
        seconds = plain + (full - plain) * arriving / (performance.max_batched_tokens - running)
    return seconds


def best_requests_per_second(
    performance: Performance, prompt_tokens: float, output_tokens: float, ttft_seconds: float, itl_seconds: float
) -> float:
    """The highest rate of one worker within both targets, by the largest batch whose steps keep them (Little's law).

    Where even a batch of one does not keep them, the rate of that batch; 0 without tokens.
    """
    if prompt_tokens <= 0 or output_tokens <= 0:
        return 0.0
    context = prompt_tokens + output_tokens / 2
    balanced = output_tokens * performance.max_batched_tokens / (prompt_tokens + output_tokens)
    most = min(performance.kv_capacity_tokens / context, float(performance.max_running), balanced)
    best = 0.0
    for batch in range(1, max(1, int(most)) + 1):
        arriving = min(batch * prompt_tokens / max(1.0, output_tokens), float(performance.max_batched_tokens))
        step = performance.mixed_step_seconds(arriving, batch, batch * context)
        rate = batch / (output_tokens * step)
        first = _ttft_at(performance, arriving + prompt_tokens, batch, batch * context)
        if step > itl_seconds or first > ttft_seconds:
            return best or rate
        best = rate
    return best


def _ttft_at(performance: Performance, tokens: float, running: int, kv_tokens: float) -> float:
    room = performance.max_batched_tokens
    full, rest = divmod(tokens, room)
    last = performance.mixed_step_seconds(rest, running, kv_tokens) if rest else 0.0
    return full * performance.mixed_step_seconds(float(room), running, kv_tokens) + last


def _mean(view: View, tokens: Counter, requests: Counter, window_seconds: float) -> float | None:
    told, number = view.increase(tokens, window_seconds), view.increase(requests, window_seconds)
    return told[0] / number[0] if told and number and number[0] else None
