"""Whatever pods do and whichever scrapes are missed: totals never fall, and what was seen is counted, once."""

from __future__ import annotations

import itertools
import math

import hypothesis.strategies as st
from hypothesis import given

from stowage.decide.serving.signals_buckets import on_bounds
from stowage.decide.serving.signals_pod import LONGEST_MISSED_SECONDS, Counting, PodSample
from stowage.decide.serving.signals_role import RoleSignals, Rules, Standing, looked
from stowage.decide.serving.view import ITL_BOUNDS_SECONDS, TTFT_BOUNDS_SECONDS, View

AT = 1_790_000_000.0
RULES = Rules(Counting(), stale_after_seconds=60.0)
BOUNDS = len(TTFT_BOUNDS_SECONDS) + 1
EVENTS = st.one_of(
    st.tuples(st.just("serve"), st.integers(0, 50)),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("scrape"), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, int(LONGEST_MISSED_SECONDS) - 30)),
)


class Engine:
    """A pod that serves, begins again, and is scraped at times."""

    def __init__(self, name: str, *, tells_its_start: bool) -> None:
        self.name = name
        self.tells_its_start = tells_its_start
        self.hides_restarts = False
        """Whether a process that began again was further when it was scraped than the one before."""
        self.done, self.started = 0, 0.0
        self.last_scraped = -math.inf
        self.samples: list[PodSample] = []
        self.seen, self.has_restarted = 0, False
        self.lives: list[int] = [0]
        """Of each life of the process, how far it had got when it was scraped last."""

    def play(self, event: tuple[str, int], at: float) -> None:
        kind, number = event
        if kind == "serve":
            self.done += number
        elif kind == "restart":
            self.done, self.started, self.has_restarted = 0, at, True
            self.lives.append(0)
        elif kind == "scrape" and at > self.last_scraped:
            self.scrape(at)

    def scrape(self, at: float) -> None:
        self.last_scraped = at
        if self.has_restarted and not self.tells_its_start:
            self.hides_restarts |= self.done >= self.seen
        self.seen, self.has_restarted = self.done, False
        self.lives[-1] = self.done
        row = tuple(float(self.done) for _ in range(BOUNDS))
        counters = {("completed", "stop"): float(self.done), ("generated_tokens", ""): 7.0 * self.done}
        rows = {("ttft_counts", ""): row}
        started = AT + self.started if self.tells_its_start else None
        self.samples.append(PodSample(AT + at, 0.0, 0.0, started=started, counters=counters, rows=rows))


@given(
    st.lists(st.tuples(st.integers(0, 2), EVENTS), max_size=60),
    st.lists(st.integers(1, 200), min_size=1, max_size=8),
    st.booleans(),
)
def test_the_total_of_increases_is_what_was_seen_of_every_life_of_every_process(
    story: list[tuple[int, tuple[str, int]]], looks_every: list[int], tells_its_start: bool
) -> None:
    engines = [Engine(f"pod-{number}", tells_its_start=tells_its_start) for number in range(3)]
    now, clock = 0.0, itertools.cycle(looks_every)
    for engine in engines:
        engine.scrape(0.0)
    known = look(RoleSignals(), engines, 0.0)
    due = float(next(clock))
    for who, event in story:
        longest = min(LONGEST_MISSED_SECONDS - (now - engine.last_scraped) for engine in engines)
        now += 1.0 + (min(event[1], longest - 2) if event[0] == "wait" and longest > 2 else 0.0)
        engines[who].play(event, now)
        for engine in engines:
            if now - engine.last_scraped > LONGEST_MISSED_SECONDS - 20:
                engine.scrape(now)
        if now >= due:
            known = look(known, engines, now)
            due = now + next(clock)
    now += 1.0
    for engine in engines:
        engine.scrape(now)
    known = look(known, engines, now)
    truth = sum(sum(engine.lives) for engine in engines)
    first, last = known.scrapes[0], known.scrapes[-1]
    rises_only(known)
    assert last.completed - first.completed <= truth
    if any(engine.hides_restarts for engine in engines):
        return
    assert last.completed - first.completed == truth
    assert last.generated_tokens - first.generated_tokens == 7 * truth
    assert last.ttft_counts == (truth,) * BOUNDS


def look(known: RoleSignals, engines: list[Engine], now: float) -> RoleSignals:
    """All samples so far, as answers overlap."""
    standing = Standing(frozenset(engine.name for engine in engines), desired=len(engines))
    return looked(known, {engine.name: engine.samples for engine in engines}, standing, RULES, AT + now)


def rises_only(known: RoleSignals) -> None:
    for before, after in itertools.pairwise(known.scrapes):
        assert after.at > before.at
        for name in ("arrived", "completed", "prompt_tokens", "generated_tokens"):
            assert getattr(after, name) >= getattr(before, name), name
    for name in ("ttft_counts", "itl_counts"):
        rows = [row for one in known.scrapes if (row := getattr(one, name))]  # few of the older scrapes have some
        assert all(list(row) == sorted(row) for row in rows)
        for early, late in itertools.pairwise(rows):
            assert all(high >= low for high, low in zip(late, early, strict=True))


NUMBERS = st.one_of(st.none(), st.floats(0, 1e9), st.integers(0, 10**9).map(float))
KEYS = st.tuples(
    st.sampled_from(["arrived", "completed", "prompt_tokens", "generated_tokens"]), st.sampled_from(["", "a", "b"])
)
ROWS = st.lists(st.floats(0, 1e6), min_size=BOUNDS, max_size=BOUNDS).map(lambda row: tuple(sorted(row)))


@st.composite
def anything(draw: st.DrawFn) -> PodSample:
    return PodSample(
        AT + draw(st.integers(-10, 1000)),
        draw(NUMBERS),
        draw(NUMBERS),
        kv_share=draw(st.one_of(st.none(), st.floats(0, 1))),
        kv_tokens=draw(NUMBERS),
        started=draw(st.one_of(st.none(), st.sampled_from([AT - 100, AT, AT + 500]))),
        counters=draw(st.dictionaries(KEYS, st.floats(0, 1e9), max_size=6)),
        rows={("ttft_counts", ""): draw(ROWS)} if draw(st.booleans()) else {},
        is_partial=draw(st.booleans()),
    )


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abc"), st.lists(anything(), max_size=3), max_size=3),
            st.sets(st.sampled_from("abc")),
            st.sets(st.sampled_from("abc")),
            st.booleans(),
        ),
        max_size=8,
    ),
    st.integers(1, 400),
)
def test_no_samples_however_odd_make_totals_fall(
    answers: list[tuple[dict[str, list[PodSample]], set[str], set[str], bool]], every: int
) -> None:
    known, now = RoleSignals(), AT
    for samples, ready, draining, is_wanted in answers:
        now += every
        in_time = {pod: sorted((one for one in some if one.at <= now), key=at_of) for pod, some in samples.items()}
        standing = Standing(frozenset(ready - draining), frozenset(draining), desired=int(is_wanted))
        known = looked(known, in_time, standing, RULES, now)
        rises_only(known)
        assert all(one.at <= now for one in known.scrapes)
        seen = View(now, 1, (), known.scrapes, 60.0)
        assert all((seen.rate(name, 300) or 0.0) >= 0.0 for name in ("arrived", "completed"))


def at_of(sample: PodSample) -> float:
    return sample.at


@given(
    st.lists(st.floats(0.001, 100.0), min_size=1, max_size=12, unique=True).map(sorted),
    st.data(),
    st.sampled_from([TTFT_BOUNDS_SECONDS, ITL_BOUNDS_SECONDS]),
)
def test_buckets_on_other_bounds_rise_and_keep_their_total(
    bounds: list[float], data: st.DataObject, wanted: tuple[float, ...]
) -> None:
    counts = sorted(data.draw(st.lists(st.integers(0, 10**6), min_size=len(bounds) + 1, max_size=len(bounds) + 1)))
    row = on_bounds([*bounds, math.inf], counts, wanted)
    assert row is not None
    assert row[-1] == counts[-1]
    assert all(late >= early - 1e-6 for early, late in itertools.pairwise(row))
    exact = {bound: count for bound, count in zip(bounds, counts, strict=False) if bound in wanted}
    assert all(row[wanted.index(bound)] == count for bound, count in exact.items())
    again = on_bounds([*wanted, math.inf], row, wanted)
    assert again is not None
    assert all(math.isclose(one, other, abs_tol=1e-6) for one, other in zip(again, row, strict=True))
