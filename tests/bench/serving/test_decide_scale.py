"""A thousand services decided about in one cycle: seconds of one core, and memory of views and what is remembered.

Each service has its own load, lengths of requests and latencies, an hour of remembered demand and ten minutes of
scrapes 5 s apart. Cycles are 5 s apart: the first finds nothing known of any replica's capacity, later ones are what a
running operator sees.
"""

from __future__ import annotations

import random
import resource
import time

from harness.measurements import Record, at_most
from stowage.decide.serving.decision import Recommender
from stowage.decide.serving.memory import Bin, Memory
from stowage.decide.serving.pipeline import decide
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.view import View
from unit.serving_views import PERFORMANCE, until, view

SERVICES = 1_000
CYCLES = 4
CYCLE_SECONDS = 5.0
HISTORY_SECONDS = 600.0
MOST_SECONDS, MOST_MEGABYTES = 5.0, 500.0
EVERY = (Recommender.SLO, Recommender.SATURATION, Recommender.FORECAST, Recommender.CONCURRENCY)


def seen(rng: random.Random) -> View:
    rate = rng.uniform(0.5, 60.0)
    return view(
        lambda at: rate * (1.0 + 0.2 * ((at / 97.0) % 1.0)),
        ready=rng.randint(1, 12),
        seconds=HISTORY_SECONDS + CYCLES * CYCLE_SECONDS,
        prompt_tokens=rng.randint(100, 3000),
        output_tokens=rng.randint(20, 600),
        itl_seconds=rng.uniform(0.03, 0.12),
        has_means=True,
    )


def remembered(of: View, rng: random.Random) -> Memory:
    """An hour of demand up to the first scrape, and a day in longer stretches."""
    begin, rate = of.scrapes[0].at, rng.uniform(0.5, 60.0)
    bins = tuple(Bin(begin - 10.0 * back, rate * rng.uniform(0.7, 1.3), 500.0 * rate) for back in range(359, -1, -1))
    season = tuple(Bin(begin - 600.0 * back, rate * rng.uniform(0.7, 1.3), 500.0 * rate) for back in range(287, -1, -1))
    return Memory(bins=bins, season=season)


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def test_a_thousand_services_in_a_cycle(record: Record) -> None:
    rng, before = random.Random(1), megabytes()
    views = [seen(rng) for _ in range(SERVICES)]
    memories = [remembered(one, rng) for one in views]
    settings = Settings(PERFORMANCE, recommenders=EVERY, most=200)
    desired = [one.desired for one in views]
    seconds = []
    for cycle in range(CYCLES):
        now = [until(one, HISTORY_SECONDS + cycle * CYCLE_SECONDS, at) for one, at in zip(views, desired, strict=True)]
        began = time.process_time()
        answers = [decide(one, settings, memory) for one, memory in zip(now, memories, strict=True)]
        seconds.append(time.process_time() - began)
        memories = [memory for _, memory in answers]
        desired = [decision.to_replicas for decision, _ in answers]
    assert all(memory.bins[-1].at > one.scrapes[0].at for one, memory in zip(views, memories, strict=True))
    title = f"{SERVICES} services, all recommenders"
    record(title, "first cycle", seconds[0], "s", target=at_most(MOST_SECONDS))
    record(title, "later cycle, longest", max(seconds[1:]), "s", target=at_most(MOST_SECONDS))
    record(title, "views and memories", megabytes() - before, "MB", target=at_most(MOST_MEGABYTES))
