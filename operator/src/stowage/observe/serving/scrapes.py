"""From an answer of Prometheus to what each pod said at each of its scrapes.

One process of a pod is read: where several scrape jobs or a pair of Prometheus servers have the same one, its series
are there several times, and a sum of them would count every request several times.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from stowage.decide.samples import Sample
from stowage.decide.serving.signals_buckets import Row, on_bounds
from stowage.decide.serving.signals_pod import Key, PodSample
from stowage.decide.serving.view import BOUNDS_SECONDS, Histogram
from stowage.observe.serving.names import EngineNames, Place, Signal

NAMESPACE_LABEL: Final = "namespace"
POD_LABEL: Final = "pod"
TARGET_LABELS: Final = (
    *("job", "instance", "endpoint", "container", "service", "metrics_path", "cluster"),
    *("prometheus", "prometheus_replica", "replica", "__replica__", "receive_replica", "tenant_id"),
)
"""Labels that say who scraped what, and from whom an answer comes; all others are the engine's own."""
RANK_LABELS: Final = ("tp_rank", "pp_rank", "moe_ep_rank")
"""Of parts of one engine that work on the same requests: each tells of all of them."""
ENGINE_LABELS: Final = ("engine", "dp_rank")
"""Of engines in one process that have requests of their own."""
LATE_SECONDS: Final = 30.0
"""A target whose newest sample is so much older than another's is no longer scraped."""
WHOLE_SECONDS: Final = 10.0
"""After so long a scrape is as whole as it will be: Prometheus's remote write sends every 5 s at the latest."""
AHEAD_SECONDS: Final = 1.0
_HIGHEST_SHARE: Final = 1.001
_HIGHEST: Final = 1e15
"""More than this no engine can count; sums and products of such numbers stay finite."""
OF_HISTOGRAMS: Final[Mapping[Signal, Histogram]] = {
    Signal.TTFT: "ttft_counts",
    Signal.ITL: "itl_counts",
    Signal.MEAN_ITL: "mean_itl_counts",
    Signal.E2E: "e2e_counts",
}
"""Fields of `Scrape`."""
OF_COUNTERS: Final[Mapping[Signal, str]] = {
    Signal.ARRIVED: "arrived",
    Signal.COMPLETED: "completed",
    Signal.PROMPT_TOKENS: "prompt_tokens",
    Signal.GENERATED_TOKENS: "generated_tokens",
}
"""Fields of `Scrape`."""


@dataclass(frozen=True, slots=True)
class _Series:
    name: str
    place: Place
    labels: Mapping[str, str]
    points: tuple[Sample, ...]

    @property
    def own(self) -> str:
        """The engine's own labels, as text."""
        left = {NAMESPACE_LABEL, POD_LABEL, "__name__", "le", *TARGET_LABELS, *RANK_LABELS}
        return ",".join(f"{name}={value}" for name, value in sorted(self.labels.items()) if name not in left)

    @property
    def engine(self) -> str:
        return ",".join(self.labels.get(name, "") for name in ENGINE_LABELS)


@dataclass(slots=True)
class _Scraped:
    """One scrape of a pod, as it is put together."""

    gauges: dict[tuple[Signal, int, str, str], float] = field(default_factory=dict)
    counters: dict[Key, float] = field(default_factory=dict)
    buckets: dict[tuple[Histogram, str], dict[float, float]] = field(default_factory=dict)
    info: dict[str, float] = field(default_factory=dict)
    unsound: set[str] = field(default_factory=set)


def pod_samples(
    samples: Iterable[Sample],
    names: EngineNames,
    namespace: str,
    *,
    pods: Collection[str] | None,
    port: int,
    since: Mapping[str, float],
    until: float,
    is_partial: bool = False,
) -> dict[str, list[PodSample]]:
    """What each pod said, in order of time.

    Args:
        samples: of one answer, series by series.
        names: of the engine's series.
        namespace: whose series count.
        pods: whose series count; None: whoever has a name.
        port: where the engine answers; a process there is the one that is read.
        since: of each pod, the time up to which its samples are known.
        until: what is later comes from a clock that is wrong, seconds since 1970.
        is_partial: histograms were not asked for.
    """
    found: dict[str, dict[tuple[str, ...], list[_Series]]] = {}
    for series in _series(samples, names):
        pod = series.labels.get(POD_LABEL, "")
        if not pod or series.labels.get(NAMESPACE_LABEL) != namespace or (pods is not None and pod not in pods):
            continue
        target = tuple(series.labels.get(label, "") for label in TARGET_LABELS)
        found.setdefault(pod, {}).setdefault(target, []).append(series)
    return {
        pod: _read(
            _target(targets, port), names, (since.get(pod, -math.inf), until + AHEAD_SECONDS), is_partial=is_partial
        )
        for pod, targets in found.items()
    }


def _series(samples: Iterable[Sample], names: EngineNames) -> Iterator[_Series]:
    for _, group in itertools.groupby(samples, key=lambda one: id(one.labels)):
        points = tuple(group)
        labels = points[0].labels
        name = labels.get("__name__", "")
        place = names.places.get(name)
        if place is not None and not _is_share(place.signal, labels, names):
            yield _Series(name, place, labels, points)


def _is_share(signal: Signal, labels: Mapping[str, str], names: EngineNames) -> bool:
    return signal not in OF_COUNTERS and signal not in OF_HISTOGRAMS and any(labels.get(one) for one in names.shares)


def _target(targets: Mapping[tuple[str, ...], list[_Series]], port: int) -> list[_Series]:
    """The series of one process: that at the engine's port, still scraped, with the most signals."""
    newest = {key: max(one.points[-1].at for one in series) for key, series in targets.items()}
    latest = max(newest.values())

    def order(key: tuple[str, ...]) -> tuple[bool, bool, int, tuple[str, ...]]:
        instance = key[TARGET_LABELS.index("instance")]
        signals = len({one.place.signal for one in targets[key]})
        return newest[key] < latest - LATE_SECONDS, not instance.endswith(f":{port}"), -signals, key

    return targets[min(targets, key=order)]


def _read(
    series: list[_Series], names: EngineNames, between: tuple[float, float], *, is_partial: bool
) -> list[PodSample]:
    best: dict[tuple[Signal, int], int] = {}
    for one in series:
        part = (one.place.signal, one.place.part)
        best[part] = min(best.get(part, one.place.rank), one.place.rank)
    scrapes: dict[float, _Scraped] = {}
    torn_at = _torn_at(series, between[1])
    for one in series:
        if one.place.rank == best[one.place.signal, one.place.part]:
            put = _putter(one, names)
            for point in one.points:
                if between[0] < point.at <= between[1] and point.at < torn_at:
                    scraped = scrapes.setdefault(point.at, _Scraped())
                    if _is_sound(one.place.signal, point.value):
                        put(scraped, point.value)
                    else:
                        scraped.unsound.add(one.name)
    return [_sample(at, scrapes[at], is_partial=is_partial) for at in sorted(scrapes)]


def _torn_at(series: list[_Series], until: float) -> float:
    """The time of the first scrape that is not whole yet, infinite where all are.

    By remote write, to Mimir or to Thanos Receive, the series of one scrape come seconds apart. A scrape is whole when
    it has all series of the one before, or when none has to be expected any more.
    """
    times = [{point.at for point in one.points} for one in series]
    for before, at in itertools.pairwise(sorted(set().union(*times))):
        if at > until - WHOLE_SECONDS and any(before in one and at not in one for one in times):
            return at
    return math.inf


def _is_sound(signal: Signal, value: float) -> bool:
    return math.isfinite(value) and 0 <= value <= (_HIGHEST_SHARE if signal is Signal.KV_SHARE else _HIGHEST)


def _putter(one: _Series, names: EngineNames) -> Callable[[_Scraped, float], None]:
    """How a point of this series is put into a scrape."""
    signal, engine = one.place.signal, one.engine
    if signal in OF_COUNTERS:
        key = (OF_COUNTERS[signal], one.own)
        return lambda scraped, value: scraped.counters.__setitem__(key, max(value, scraped.counters.get(key, 0.0)))
    if signal in OF_HISTOGRAMS:
        return _bucket_putter(one)
    if signal is Signal.KV_INFO:
        tokens = _product(one.labels, names.info_labels)
        return lambda scraped, _: scraped.info.__setitem__(engine, tokens) if tokens else None
    place = (signal, one.place.part, engine, one.own)
    return lambda scraped, value: scraped.gauges.__setitem__(place, max(value, scraped.gauges.get(place, 0.0)))


def _bucket_putter(one: _Series) -> Callable[[_Scraped, float], None]:
    try:
        bound = float(one.labels.get("le", ""))
    except ValueError:
        bound = math.nan
    if math.isnan(bound):
        return lambda _scraped, _value: None
    key = (OF_HISTOGRAMS[one.place.signal], one.own)

    def put(scraped: _Scraped, value: float) -> None:
        buckets = scraped.buckets.setdefault(key, {})
        buckets[bound] = max(value, buckets.get(bound, 0.0))

    return put


def _product(labels: Mapping[str, str], wanted: tuple[str, str]) -> float:
    """Blocks times their size; 0 where the labels do not say."""
    try:
        blocks, size = (int(labels.get(name, "")) for name in wanted)
    except ValueError:
        return 0.0
    return float(blocks * size) if blocks > 0 and size > 0 and blocks * size <= _HIGHEST else 0.0


def _sample(at: float, scraped: _Scraped, *, is_partial: bool) -> PodSample:
    rows: dict[Key, Row] = {}
    for key, buckets in scraped.buckets.items():
        bounds = sorted(buckets)
        row = on_bounds(bounds, [buckets[one] for one in bounds], BOUNDS_SECONDS[key[0]])
        if row is not None:
            rows[key] = row
    share, used, tokens = _cache(scraped)
    return PodSample(
        at=at,
        waiting=_total(scraped, Signal.WAITING),
        running=_total(scraped, Signal.RUNNING),
        kv_share=share,
        kv_used=used,
        kv_tokens=tokens,
        started=max(_by_engine(scraped, Signal.STARTED).values(), default=None),
        counters=scraped.counters,
        rows=rows,
        is_partial=is_partial,
        unsound=tuple(sorted(scraped.unsound)),
    )


def _total(scraped: _Scraped, signal: Signal) -> float | None:
    """The sum over all parts and engines; None where the first part is not there."""
    values = {place: value for place, value in scraped.gauges.items() if place[0] is signal}
    return sum(values.values()) if any(place[1] == 0 for place in values) else None


def _by_engine(scraped: _Scraped, signal: Signal) -> dict[str, float]:
    found: dict[str, float] = {}
    for place, value in scraped.gauges.items():
        if place[0] is signal:
            found[place[2]] = max(value, found.get(place[2], 0.0))
    return found


def _cache(scraped: _Scraped) -> tuple[float | None, float | None, float | None]:
    """Of the KV caches of all engines of a pod: the share in use, tokens in use, tokens."""
    capacity = _by_engine(scraped, Signal.KV_TOKENS) or dict(scraped.info)
    if not capacity:
        sizes = _by_engine(scraped, Signal.KV_BLOCK_SIZE)
        blocks = _by_engine(scraped, Signal.KV_BLOCKS)
        capacity = {engine: blocks[engine] * sizes[engine] for engine in blocks if sizes.get(engine)}
    capacity = {engine: tokens for engine, tokens in capacity.items() if tokens > 0}
    shares, used = _by_engine(scraped, Signal.KV_SHARE), _by_engine(scraped, Signal.KV_USED)
    tokens = sum(capacity.values()) or None
    if not shares:
        return None, sum(used.values()) if used else None, tokens
    if capacity.keys() == shares.keys() and tokens:
        share = sum(shares[engine] * capacity[engine] for engine in shares) / tokens
    else:
        share = sum(shares.values()) / len(shares)
    return min(1.0, share), sum(used.values()) if used else None, tokens
