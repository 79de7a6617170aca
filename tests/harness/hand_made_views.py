"""Views written by hand, for tables of cases about serving policies."""

from __future__ import annotations

from collections.abc import Sequence

from stowage.decide.serving.view import ITL_BOUNDS_SECONDS, TTFT_BOUNDS_SECONDS, ReplicaView, Scrape, View

CAPACITY_TOKENS = 1_000


def replica(
    number: int = 0,
    *,
    waiting: int = 0,
    running: int = 0,
    kv: int = 0,
    ready: bool = True,
    capacity: int = CAPACITY_TOKENS,
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
        kv_tokens_capacity=CAPACITY_TOKENS,
    )


def replicas(*loads: tuple[int, int], kv: int = 0) -> tuple[ReplicaView, ...]:
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
        kv_tokens_capacity=ready * CAPACITY_TOKENS,
        arrived=arrived,
        completed=completed,
        prompt_tokens=prompt_tokens,
        generated_tokens=generated_tokens,
        ttft_counts=(0,) * (len(TTFT_BOUNDS_SECONDS) + 1),
        itl_counts=(0,) * (len(ITL_BOUNDS_SECONDS) + 1),
    )


def view(
    now: float, those: Sequence[ReplicaView], scrapes: Sequence[Scrape] = (), *, desired: int | None = None
) -> View:
    """What is there at `now`; as many are asked for as there are unless told otherwise."""
    return View(now, len(those) if desired is None else desired, tuple(those), tuple(scrapes), 120.0)
