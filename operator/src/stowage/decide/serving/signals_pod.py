"""What one pod of a role has counted since it is known: monotone, through restarts and missed scrapes.

A counter begins at zero with its process. That it began again is seen by the time at which the process started, where
the engine tells, and else by any counter that fell: then all of them began again. A counter's first sample is only
where counting begins, unless the pod was seen without it just before. Where labels of pods are copied to series, each
change of one (a drain is one) gives all series of a process other labels: they go on where those before them ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Final

from stowage.decide.serving.signals_buckets import Row, more, plus

LONGEST_MISSED_SECONDS: Final = 300.0
"""Between two samples whose difference still counts: beyond, much would seem to have come at once."""
SAME_START_SECONDS: Final = 1.0
MAX_SERIES: Final = 1_000
"""Of one pod: beyond, series that are no longer there are forgotten."""
LEAST_RELABELLED: Final = 2
"""Signals whose series all have other labels than before: then a label of the pod has changed."""
COUNTERS: Final = ("arrived", "completed", "prompt_tokens", "generated_tokens")

Key = tuple[str, str]
"""A series of a pod: the field of `Scrape` that it adds to, and its own labels."""


@dataclass(frozen=True, slots=True)
class PodSample:
    """One scrape of one pod. None, or a key that is not there: not exposed, or no sound number.

    Attributes:
        at: its own time, seconds since 1970.
        waiting: requests that wait.
        running: requests that are being answered.
        kv_share: of the KV cache that is in use, 0 to 1.
        kv_used: tokens in the KV cache.
        kv_tokens: that the KV cache holds.
        started: when the process began, seconds since 1970.
        counters: of each series, as exposed.
        rows: of each histogram's series, on the bounds of `view`.
        is_partial: histograms were not asked for.
        unsound: names of series that were negative, not finite or otherwise impossible.
    """

    at: float
    waiting: float | None = None
    running: float | None = None
    kv_share: float | None = None
    kv_used: float | None = None
    kv_tokens: float | None = None
    started: float | None = None
    counters: Mapping[Key, float] = field(default_factory=dict)
    rows: Mapping[Key, Row] = field(default_factory=dict)
    is_partial: bool = False
    unsound: tuple[str, ...] = ()

    @property
    def requests(self) -> float | None:
        """That the engine has, waiting and running; None where either is not known."""
        return None if self.waiting is None or self.running is None else self.waiting + self.running


@dataclass(frozen=True, slots=True)
class Counting:
    """How an engine counts.

    Attributes:
        prompts_at_end: tokens of a prompt are counted when the request ends, not at its first token.
        expected: counters that an engine which does something must have.
        grace_seconds: for so long a request may be the first and not have been counted yet.
    """

    prompts_at_end: bool = False
    expected: frozenset[str] = frozenset()
    grace_seconds: float = 180.0


@dataclass(frozen=True, slots=True)
class PodCount:
    """One pod.

    Attributes:
        newest: its newest sample.
        totals: of each counter of `Scrape`, since the pod is known.
        histograms: of each histogram of `Scrape`, since the pod is known.
        values: highest of each series in this life of the process.
        rows: newest of each histogram's series in this life of the process.
        started: when the process began, where that was told.
        levels: requests and prompt tokens that had come in this life of the process, at the most.
        active_since: time of the sample since which it has had something to do in this life; None: nothing yet.
        every_seconds: between its newest sample and the one before; None: it has only one.
    """

    newest: PodSample
    totals: Mapping[str, float]
    histograms: Mapping[str, Row]
    values: Mapping[Key, float]
    rows: Mapping[Key, Row]
    started: float | None
    levels: tuple[float, float]
    active_since: float | None
    every_seconds: float | None = None

    def lacking(self, counting: Counting) -> tuple[str, ...]:
        """Counters that should be there by now and are not."""
        if self.active_since is None or self.newest.at - self.active_since < counting.grace_seconds:
            return ()
        known = {name for name, _ in self.values}
        return tuple(sorted(counting.expected - known))


def begun(sample: PodSample, counting: Counting, *, in_full: bool) -> PodCount:
    """A pod by its first sample.

    Args:
        sample: the first one.
        counting: how its engine counts.
        in_full: whether all that it has counted so far came just now; else counting begins with this sample.
    """
    nothing = PodCount(
        newest=replace(sample, counters={}, rows={}),
        totals=dict.fromkeys(COUNTERS, 0.0),
        histograms={},
        values={},
        rows={},
        started=sample.started,
        levels=(0.0, 0.0),
        active_since=None,
    )
    counted = _added(nothing, sample, counting, begins=frozenset())
    if in_full:
        return counted
    empty = {name: (0.0,) * len(row) for name, row in counted.histograms.items()}
    return replace(counted, totals=nothing.totals, histograms=empty)


def advanced(count: PodCount, sample: PodSample, counting: Counting) -> PodCount:
    """The pod after another sample; one that is not newer than the newest changes nothing."""
    if sample.at <= count.newest.at:
        return count
    if sample.at - count.newest.at > LONGEST_MISSED_SECONDS:
        anew = begun(sample, counting, in_full=False)
        histograms = {name: count.histograms.get(name, row) for name, row in anew.histograms.items()}
        return replace(anew, totals=count.totals, histograms={**count.histograms, **histograms})
    if _restarted(count, sample):
        count = replace(count, values={}, rows={}, started=sample.started, levels=(0.0, 0.0), active_since=None)
        return _added(count, sample, counting, begins=frozenset())
    count = _under_other_labels(count, sample)
    begins = frozenset(sample.rows.keys() - count.rows.keys()) if count.newest.is_partial else frozenset()
    return _added(count, sample, counting, begins)


def _restarted(count: PodCount, sample: PodSample) -> bool:
    if count.started is not None and sample.started is not None:
        return abs(sample.started - count.started) > SAME_START_SECONDS
    return any(value < count.values.get(key, 0.0) for key, value in sample.counters.items())


def _under_other_labels(count: PodCount, sample: PodSample) -> PodCount:
    """The pod with what its series have counted under the labels that they have now; as it is where those are the same.

    They are others where none of several signals has a series that goes on, and each has counted no less than before:
    series that come and go are of one signal.
    """
    before = {**{key: (value,) for key, value in count.values.items()}, **count.rows}
    after = {**{key: (value,) for key, value in sample.counters.items()}, **sample.rows}
    names = {name for name, _ in before} & {name for name, _ in after}
    if len(names) < LEAST_RELABELLED or any(key in after for key in before if key[0] in names):
        return count
    found: dict[Key, Row] = {}
    for name in names:
        known = reduce(plus, (row for key, row in before.items() if key[0] == name))
        for key in sorted(key for key in after if key[0] == name):
            found[key] = tuple(map(min, after[key], known))
            known = tuple(left - taken for left, taken in zip(known, found[key], strict=True))
        if any(known):
            return count
    values = {key: value for key, value in count.values.items() if key[0] not in names}
    rows = {key: row for key, row in count.rows.items() if key[0] not in names}
    return replace(
        count,
        values={**values, **{key: row[0] for key, row in found.items() if key[0] in COUNTERS}},
        rows={**rows, **{key: row for key, row in found.items() if key[0] not in COUNTERS}},
    )


def _added(count: PodCount, sample: PodSample, counting: Counting, begins: frozenset[Key]) -> PodCount:
    """The sample counted on top; of the histograms `begins` this is where counting begins."""
    values, totals = dict(count.values), dict(count.totals)
    for key, value in sample.counters.items():
        before = values.get(key, 0.0)
        values[key] = max(before, value)
        totals[key[0]] += values[key] - before
    if len(values) > MAX_SERIES:
        values = {key: values[key] for key in sample.counters}
    rows, histograms = dict(count.rows), dict(count.histograms)
    for key, row in sample.rows.items():
        known = row if key in begins else rows.get(key, (0.0,) * len(row))
        rows[key] = row
        histograms[key[0]] = plus(histograms.get(key[0], ()), more(known, row))
    if len(rows) > MAX_SERIES:
        rows = dict(sample.rows)
    levels = _levels(values, sample, counting, count.levels)
    if not any(name == "arrived" for name, _ in values):
        totals["arrived"] += levels[0] - count.levels[0]
    totals["prompt_tokens"] = count.totals["prompt_tokens"] + levels[1] - count.levels[1]
    is_active = bool(sample.running) or any(value > 0 for value in values.values())
    return PodCount(
        newest=replace(sample, counters={}, rows={}),
        totals=totals,
        histograms=histograms,
        values=values,
        rows=rows,
        started=count.started if sample.started is None else sample.started,
        levels=levels,
        active_since=sample.at if count.active_since is None and is_active else count.active_since,
        every_seconds=sample.at - count.newest.at if sample.at > count.newest.at else None,
    )


def _levels(
    values: Mapping[Key, float], sample: PodSample, counting: Counting, before: tuple[float, float]
) -> tuple[float, float]:
    """Requests, and tokens of their prompts, that have come in this life of the process.

    Requests: those that ended, and those that wait or run at the same instant. Tokens: those that were counted, and for
    each request that came and was not, the mean of those that were. Neither ever falls.
    """
    done, tokens = _sum(values, "completed"), _sum(values, "prompt_tokens")
    if sample.waiting is None or sample.running is None:
        return max(before[0], done), max(before[1], tokens)
    came = done + sample.waiting + sample.running
    uncounted = sample.waiting + (sample.running if counting.prompts_at_end else 0.0)
    counted = came - uncounted
    mean = tokens / counted if counted >= 1 and done > 0 else 0.0
    return max(before[0], came), max(before[1], tokens + uncounted * mean)


def _sum(values: Mapping[Key, float], name: str) -> float:
    return sum(value for (one, _), value in values.items() if one == name)
