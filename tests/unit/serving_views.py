"""Views of a role: whole histories under a load that is known, and single samples written by hand.

`view`, `replicas`, `later` and `until` make what Prometheus would have scraped under a load; `view_of`, `loaded`,
`replica`, `starting` and `scrape` take each number from the case at hand.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace

from stowage.decide.serving.performance import Performance, line
from stowage.decide.serving.view import ITL_BOUNDS_SECONDS, TTFT_BOUNDS_SECONDS, ReplicaView, Scrape, View

PERFORMANCE = Performance(line(0.02, 0.0001), line(0.03, 0.0003), kv_capacity_tokens=400_000, max_running=128)
"""Prefill 20 ms and 0.1 ms per token, decode 30 ms and 0.3 ms per sequence."""
KV_TOKENS = PERFORMANCE.kv_capacity_tokens
SMALL_KV_TOKENS = 1_000
"""What a replica written by hand holds."""


def replicas(
    ready: int, starting: int = 0, waiting: int = 0, running: int = 0, kv_tokens: int = 0
) -> tuple[ReplicaView, ...]:
    """Old ready replicas that share the load evenly, and starting ones."""
    served = [
        ReplicaView(f"r{i}", True, 3600.0, waiting // ready, running // ready, kv_tokens // ready, KV_TOKENS)
        for i in range(ready)
    ]
    return (*served, *(ReplicaView(f"s{i}", False, 30.0, 0, 0, 0, KV_TOKENS) for i in range(starting)))


def view(
    rate: float | Callable[[float], float],
    *,
    ready: int = 2,
    starting: int = 0,
    seconds: float = 900.0,
    every: float = 5.0,
    prompt_tokens: int = 1000,
    output_tokens: int = 200,
    itl_seconds: float = 0.05,
    ttft_seconds: float = 0.3,
    waiting: int = 0,
    cold_start_seconds: float = 120.0,
    begin: float = 100_000.0,
    has_means: bool = False,
) -> View:
    """A role that got `rate` requests per second (of the seconds since `begin`), scraped until now."""
    arrived = 0.0
    scrapes: list[Scrape] = []
    for index in range(round(seconds / every) + 1):
        at = index * every
        now_rate = rate(at) if callable(rate) else rate
        arrived += now_rate * every if index else 0.0
        running = round(now_rate * output_tokens * itl_seconds)
        count = int(arrived)
        scrapes.append(
            Scrape(
                at=begin + at,
                ready=ready,
                starting=starting,
                waiting=waiting,
                running=running,
                kv_tokens_in_use=min(KV_TOKENS * ready, running * (prompt_tokens + output_tokens // 2)),
                kv_tokens_capacity=KV_TOKENS * ready,
                arrived=count,
                completed=count,
                prompt_tokens=count * prompt_tokens,
                generated_tokens=count * output_tokens,
                ttft_counts=_counts(TTFT_BOUNDS_SECONDS, ttft_seconds, count),
                itl_counts=_counts(ITL_BOUNDS_SECONDS, itl_seconds, count * output_tokens),
                mean_itl_counts=_counts(ITL_BOUNDS_SECONDS, itl_seconds, count) if has_means else (),
            )
        )
    last = scrapes[-1]
    return View(
        now=last.at,
        desired=ready + starting,
        replicas=replicas(ready, starting, waiting, last.running, last.kv_tokens_in_use),
        scrapes=tuple(scrapes),
        cold_start_seconds=cold_start_seconds,
    )


def later(seen: View, seconds: float, desired: int | None = None) -> View:
    """The same scrapes, looked at `seconds` later."""
    return replace(seen, now=seen.now + seconds, desired=seen.desired if desired is None else desired)


def until(seen: View, at: float, desired: int | None = None) -> View:
    """What was known at `at` seconds after the first scrape."""
    now = seen.scrapes[0].at + at
    known = tuple(one for one in seen.scrapes if one.at <= now)
    return replace(seen, now=now, scrapes=known, desired=seen.desired if desired is None else desired)


def replica(
    number: int = 0,
    *,
    waiting: int = 0,
    running: int = 0,
    kv: int = 0,
    ready: bool = True,
    capacity: int = SMALL_KV_TOKENS,
) -> ReplicaView:
    """A replica that holds `kv` of `capacity` tokens."""
    return ReplicaView(f"replica-{number}", ready, 600.0, waiting, running, kv, capacity)


def starting(number: int) -> ReplicaView:
    """A replica that was asked for a moment ago."""
    return ReplicaView(
        f"replica-{number}",
        is_ready=False,
        age_seconds=1.0,
        waiting=0,
        running=0,
        kv_tokens_in_use=0,
        kv_tokens_capacity=SMALL_KV_TOKENS,
    )


def loaded(*loads: tuple[int, int], kv: int = 0) -> tuple[ReplicaView, ...]:
    """Ready replicas by (waiting, running)."""
    return tuple(replica(number, waiting=w, running=r, kv=kv) for number, (w, r) in enumerate(loads))


def scrape(
    at: float,
    *,
    ready: int = 1,
    waiting: int = 0,
    running: int = 0,
    arrived: int = 0,
    completed: int = 0,
    prompt_tokens: int = 0,
    generated_tokens: int = 0,
) -> Scrape:
    """A sample with empty histograms."""
    return Scrape(
        at=at,
        ready=ready,
        starting=0,
        waiting=waiting,
        running=running,
        kv_tokens_in_use=0,
        kv_tokens_capacity=ready * SMALL_KV_TOKENS,
        arrived=arrived,
        completed=completed,
        prompt_tokens=prompt_tokens,
        generated_tokens=generated_tokens,
        ttft_counts=(0,) * (len(TTFT_BOUNDS_SECONDS) + 1),
        itl_counts=(0,) * (len(ITL_BOUNDS_SECONDS) + 1),
    )


def view_of(
    now: float, those: Sequence[ReplicaView], scrapes: Sequence[Scrape] = (), *, desired: int | None = None
) -> View:
    """What is there at `now`; as many are asked for as there are unless told otherwise."""
    return View(now, len(those) if desired is None else desired, tuple(those), tuple(scrapes), 120.0)


def _counts(bounds: tuple[float, ...], value: float, count: int) -> tuple[int, ...]:
    first = bisect_left(bounds, value)
    return tuple(count if index >= first else 0 for index in range(len(bounds) + 1))
