"""What all pods of a role together have shown: scrapes whose counters only rise, as `view` has them.

Pods are scraped at different times; a scrape of the role is made every few seconds from each pod's newest sample, and
has the time of the newest of all. What a pod has counted stays when it is gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from stowage.decide.serving.signals_buckets import Row, plus
from stowage.decide.serving.signals_pod import COUNTERS, Counting, PodCount, PodSample, advanced, begun
from stowage.decide.serving.view import BOUNDS_SECONDS, Histogram, Scrape

SPACING_SECONDS: Final = 5.0
"""Between two scrapes of a role that are made from the samples of one look."""
LEAST_SPACING_SECONDS: Final = 0.5
WATCHED_SECONDS: Final = 60.0
"""A pod that shows up so soon after a look that did not see it ready has counted from zero since."""
YOUNG_SECONDS: Final = 1800.0
"""A process that is older did not begin just before its first sample."""
KEPT_SECONDS: Final = 3600.0
KEPT_WHOLE_SECONDS: Final = 600.0
"""Older scrapes are kept further apart, most of them without histograms: only demand is looked up there, …"""
KEPT_HISTOGRAMS_SECONDS: Final = 120.0
"""… and the share of requests that met the targets, for which one in so many seconds is enough."""
KEPT_SPACING_SECONDS: Final = 10.0
MAX_SCRAPES: Final = 1000
LEAST_CURRENT_SECONDS: Final = 10.0
MISSED_SCRAPES: Final = 2.5
"""Times what lies between two samples, after which another one should have come."""
FORGOTTEN_SECONDS: Final = 900.0
"""After so long without a sample, what a pod counted is kept and the pod is not."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The pods of a role at one instant, as the API server has them.

    Attributes:
        ready: names of those that take requests.
        draining: names of those that finish theirs.
        starting: names of those that do neither.
        desired: replicas that are asked for.
    """

    ready: frozenset[str] = frozenset()
    draining: frozenset[str] = frozenset()
    starting: frozenset[str] = frozenset()
    desired: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there are none, and shall be none."""
        return not self.ready and not self.draining and not self.starting and not self.desired


@dataclass(frozen=True, slots=True)
class RoleSignals:
    """What is known of a role.

    Attributes:
        pods: by name, also those that went lately.
        gone: what pods counted that are forgotten, by field of `Scrape`.
        gone_histograms: the same of histograms.
        scrapes: of the role, in order of time.
        looked_at: when there was an answer last, seconds since 1970.
        ready_then: who was ready at that time.
    """

    pods: Mapping[str, PodCount] = field(default_factory=dict)
    gone: Mapping[str, float] = field(default_factory=dict)
    gone_histograms: Mapping[str, Row] = field(default_factory=dict)
    scrapes: tuple[Scrape, ...] = ()
    looked_at: float | None = None
    ready_then: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rules:
    """How samples are taken.

    Attributes:
        counting: how the engine counts.
        stale_after_seconds: how old a pod's newest sample may be.
        kv_tokens: that a replica's cache holds where the engine does not tell; 0: not known.
    """

    counting: Counting
    stale_after_seconds: float
    kv_tokens: float = 0.0

    def is_whole(self, count: PodCount, at: float) -> bool:
        """Whether a pod's newest sample says at `at` how it is."""
        newest = count.newest
        return (
            at - newest.at <= self.stale_after_seconds
            and newest.requests is not None
            and not count.lacking(self.counting)
        )

    def is_current(self, count: PodCount, at: float) -> bool:
        """Whether the newest sample is one of a target that is still scraped as often as it was."""
        every = self.stale_after_seconds if count.every_seconds is None else count.every_seconds
        longest = min(self.stale_after_seconds, max(LEAST_CURRENT_SECONDS, MISSED_SCRAPES * every))
        return count.newest.requests is not None and at - count.newest.at <= longest

    def kv_of(self, sample: PodSample) -> tuple[float, float]:
        """Tokens in the KV cache, and that it holds; 0 where that is not known."""
        capacity = self.kv_tokens if sample.kv_tokens is None else sample.kv_tokens
        if sample.kv_used is not None and capacity:
            return sample.kv_used, capacity
        return (0.0, 0.0) if sample.kv_share is None else (sample.kv_share * capacity, capacity)


def looked(
    known: RoleSignals, samples: Mapping[str, Sequence[PodSample]], standing: Standing, rules: Rules, now: float
) -> RoleSignals:
    """What is known after an answer.

    Args:
        known: before it.
        samples: by pod, in order of time; those that are known already change nothing.
        standing: the role's pods now.
        rules: how samples are taken.
        now: seconds since 1970.
    """
    watched = known.looked_at is not None and now - known.looked_at <= WATCHED_SECONDS

    def is_new(pod: str, sample: PodSample) -> bool:
        return watched and pod not in known.ready_then and _is_young(sample)

    pods = dict(known.pods)
    scrapes = list(known.scrapes)
    is_first = not scrapes
    for at in _played(pods, samples, rules.counting, SPACING_SECONDS, is_new):
        if not is_first:
            _append(scrapes, _scrape(at, pods, known, standing, rules))
    newest = max((pods[pod].newest.at for pod in samples if pod in pods), default=None)
    if is_first and newest is not None:
        _append(scrapes, _scrape(newest, pods, known, standing, rules))
    if standing.is_empty:
        _append(scrapes, _made(now, (0, 0, 0), (0.0, 0.0, 0.0, 0.0), pods, known))  # that it has nothing is known
    there = standing.ready | standing.draining | standing.starting
    left = [pod for pod, one in pods.items() if pod not in there and now - one.newest.at > FORGOTTEN_SECONDS]
    gone, gone_histograms = _totals([pods.pop(pod) for pod in left], known)
    return RoleSignals(pods, gone, gone_histograms, _kept(scrapes, now), now, standing.ready)


def recalled(
    samples: Mapping[str, Sequence[PodSample]], step_seconds: float, rules: Rules, known: RoleSignals | None = None
) -> RoleSignals:
    """What the past tells, from samples of all pods at even steps: whoever has one counts as ready.

    Args:
        samples: by pod, in order of time.
        step_seconds: between them.
        rules: how samples are taken.
        known: from before.
    """
    known = RoleSignals() if known is None else known
    first = min((one[0].at for one in samples.values() if one), default=0.0)
    since = max(first, known.scrapes[-1].at if known.scrapes else first)

    def is_new(_: str, sample: PodSample) -> bool:
        return sample.at > since and _is_young(sample)

    pods, scrapes = dict(known.pods), list(known.scrapes)
    fresh = replace(rules, stale_after_seconds=1.5 * step_seconds)
    for at in _played(pods, samples, rules.counting, 0.0, is_new):
        there = frozenset(pod for pod, one in pods.items() if at - one.newest.at <= fresh.stale_after_seconds)
        _append(scrapes, _scrape(at, pods, known, Standing(ready=there), fresh))
    return replace(known, pods=pods, scrapes=_kept(scrapes, scrapes[-1].at) if scrapes else ())


def _is_young(sample: PodSample) -> bool:
    return sample.started is None or sample.at - sample.started <= YOUNG_SECONDS


def _played(
    pods: dict[str, PodCount],
    samples: Mapping[str, Sequence[PodSample]],
    counting: Counting,
    spacing_seconds: float,
    is_new: Callable[[str, PodSample], bool],
) -> Iterator[float]:
    """Count samples in order of time, and yield the time after each stretch of so many seconds."""
    events = sorted(
        ((one.at, pod, one) for pod, series in samples.items() for one in series), key=lambda event: event[:2]
    )
    begin: float | None = None
    last = 0.0
    for at, pod, sample in events:
        count = pods.get(pod)
        if count is not None and at <= count.newest.at:
            continue
        if begin is not None and at > last and at - begin >= spacing_seconds:
            yield last
            begin = None
        begin, last = at if begin is None else begin, at
        pods[pod] = (
            begun(sample, counting, in_full=is_new(pod, sample)) if count is None else advanced(count, sample, counting)
        )
    if begin is not None:
        yield last


def _scrape(
    at: float, pods: Mapping[str, PodCount], known: RoleSignals, standing: Standing, rules: Rules
) -> Scrape | None:
    """All pods at one time; None where none that is ready says how it is, for then nothing is known."""
    serving = standing.ready | standing.starting
    whole = {pod: one.newest for pod, one in pods.items() if pod in serving and rules.is_whole(one, at)}
    ready = [sample for pod, sample in whole.items() if pod in standing.ready]
    if not ready:
        return None
    caches = [rules.kv_of(one) for one in ready]
    gauges = (
        sum(one.waiting or 0.0 for one in whole.values()),
        sum(one.running or 0.0 for one in whole.values()),
        sum(one[0] for one in caches),
        sum(one[1] for one in caches),
    )
    busy = sum(bool(pods[pod].newest.running) for pod in standing.draining if pod in pods)
    return _made(at, (len(ready), len(standing.starting), busy), gauges, pods, known)


def _made(
    at: float,
    replicas: tuple[int, int, int],
    gauges: tuple[float, float, float, float],
    pods: Mapping[str, PodCount],
    known: RoleSignals,
) -> Scrape:
    """A scrape: ready, starting and draining replicas, requests that wait and run, tokens in caches and their size."""
    totals, histograms = _totals(pods.values(), known)
    waiting, running, in_use, capacity = map(round, gauges)

    def row(name: Histogram) -> tuple[int, ...]:
        return tuple(map(round, histograms.get(name, ())))

    return Scrape(
        at=at,
        ready=replicas[0],
        starting=replicas[1],
        waiting=waiting,
        running=running,
        kv_tokens_in_use=in_use,
        kv_tokens_capacity=capacity,
        arrived=round(totals["arrived"]),
        completed=round(totals["completed"]),
        prompt_tokens=round(totals["prompt_tokens"]),
        generated_tokens=round(totals["generated_tokens"]),
        ttft_counts=row("ttft_counts"),
        itl_counts=row("itl_counts"),
        mean_itl_counts=row("mean_itl_counts"),
        e2e_counts=row("e2e_counts"),
        draining=replicas[2],
    )


def _totals(counts: Iterable[PodCount], known: RoleSignals) -> tuple[dict[str, float], dict[str, Row]]:
    """What these pods and those that are forgotten have counted."""
    totals = {name: known.gone.get(name, 0.0) for name in COUNTERS}
    histograms = dict(known.gone_histograms)
    for one in counts:
        for name in COUNTERS:
            totals[name] += one.totals[name]
        for name, row in one.histograms.items():
            histograms[name] = plus(histograms.get(name, ()), row)
    return totals, histograms


def _append(scrapes: list[Scrape], found: Scrape | None) -> None:
    if found is not None and (not scrapes or found.at >= scrapes[-1].at + LEAST_SPACING_SECONDS):
        scrapes.append(found)


def _kept(scrapes: Sequence[Scrape], now: float) -> tuple[Scrape, ...]:
    kept: list[Scrape] = []
    told = -math.inf
    for one in scrapes:
        if one.at > now - KEPT_WHOLE_SECONDS:
            kept.append(one)
        elif one.at > now - KEPT_SECONDS and (not kept or one.at - kept[-1].at >= KEPT_SPACING_SECONDS):
            is_told = one.at - told >= KEPT_HISTOGRAMS_SECONDS and _has_histograms(one)
            told = one.at if is_told else told
            kept.append(one if is_told else _without_histograms(one))
    return tuple(kept[-MAX_SCRAPES:])


def _has_histograms(one: Scrape) -> bool:
    return any(getattr(one, name) for name in BOUNDS_SECONDS)


def _without_histograms(one: Scrape) -> Scrape:
    if not _has_histograms(one):
        return one
    return replace(one, ttft_counts=(), itl_counts=(), mean_itl_counts=(), e2e_counts=())
