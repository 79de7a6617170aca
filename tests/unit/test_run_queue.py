"""The work queue in virtual time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import virtual_time
from stowage.run.queue import Key, WorkQueue
from stowage.transport import TooManyRequests

A: Key = ("plan", "a")
B: Key = ("plan", "b")

Note = tuple[float, str, Key]


class Bench:
    """A queue whose handler notes what it does and takes a given time for each key."""

    def __init__(
        self, *, workers: int = 4, takes_seconds: float = 1.0, bounds: Mapping[str, int] | None = None
    ) -> None:
        self.queue = WorkQueue(workers=workers, generator=random.Random(1), metrics=self, bounds=bounds)
        self.takes_seconds = takes_seconds
        self.answers: dict[Key, list[float | Exception | None]] = {}
        self.notes: list[Note] = []
        self.depths: list[int] = []
        self.outcomes: list[tuple[str, str]] = []
        self.failing: list[int] = []

    def queue_depth(self, keys: int) -> None:
        self.depths.append(keys)

    def queue_failing(self, keys: int) -> None:
        self.failing.append(keys)

    def reconciled(self, kind: str, outcome: str, seconds: float) -> None:
        self.outcomes.append((kind, outcome))
        assert seconds == pytest.approx(self.takes_seconds)

    async def handle(self, key: Key) -> float | None:
        self.notes.append((virtual_time.now(), "start", key))
        await asyncio.sleep(self.takes_seconds)
        self.notes.append((virtual_time.now(), "end", key))
        answer = self.answers[key].pop(0) if self.answers.get(key) else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def play(self, script: Callable[[], Awaitable[None]], seconds: float = 1000.0) -> list[Note]:
        async def play() -> None:
            working = asyncio.create_task(self.queue.run(self.handle))
            await script()
            await asyncio.sleep(seconds)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

        virtual_time.run(play())
        return self.notes

    def starts(self, key: Key) -> list[float]:
        return [at for at, what, noted in self.notes if what == "start" and noted == key]


@pytest.mark.parametrize(
    ("rings", "starts"),
    [
        pytest.param([(0, 0), (0, 0), (0, 0)], [0], id="three rings before work are one"),
        pytest.param([(0, 0), (0.5, 0)], [0, 1], id="a ring during work is one more run afterwards"),
        pytest.param([(0, 0), (0.5, 0), (0.6, 0)], [0, 1], id="two rings during work are one more run"),
        pytest.param([(0, 0), (0.5, 5)], [0, 5.5], id="a delayed ring during work keeps its time"),
        pytest.param([(0, 10), (1, 2)], [3], id="the earlier of two delays wins"),
        pytest.param([(0, 2), (1, 10)], [2], id="a later delay changes nothing"),
        pytest.param([(0, 5), (1, 0)], [1], id="a ring at once beats a delay"),
        pytest.param([(0, -3)], [0], id="a delay in the past is now"),
        pytest.param([(0, 0), (5, 0)], [0, 5], id="a ring after work runs again"),
    ],
)
def test_rings_of_one_key(rings: list[tuple[float, float]], starts: list[float]) -> None:
    bench = Bench()

    async def script() -> None:
        for at, delay_seconds in rings:
            if at > virtual_time.now():
                await asyncio.sleep(at - virtual_time.now())
            bench.queue.add(A, delay_seconds)

    bench.play(script)
    assert bench.starts(A) == pytest.approx(starts)
    assert len(bench.queue) == 0


def test_keys_start_in_the_order_they_rang_and_no_more_than_the_workers_at_once() -> None:
    bench = Bench(workers=2)

    async def script() -> None:
        for name in "abcde":
            bench.queue.add(("plan", name))

    bench.play(script)
    starts = [(at, key[1]) for at, what, key in bench.notes if what == "start"]
    assert starts == [(0, "a"), (0, "b"), (1, "c"), (1, "d"), (2, "e")]


def test_a_handler_says_when_it_wants_to_be_called_again() -> None:
    bench = Bench()
    bench.answers[A] = [10.0, 20.0]

    async def script() -> None:
        bench.queue.add(A)

    bench.play(script)
    assert bench.starts(A) == pytest.approx([0, 11, 32])


def test_a_failing_key_comes_back_ever_later_and_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.answers[A] = [ValueError("broken")] * 4 + [None, ValueError("broken again")]

    async def script() -> None:
        bench.queue.add(A)
        bench.queue.add(B, 5.0)

    with caplog.at_level(logging.WARNING):
        bench.play(script, 100.0)
    pauses = [later - earlier - 1.0 for earlier, later in zip(bench.starts(A), bench.starts(A)[1:], strict=False)]
    limits = [0.25, 0.5, 1.0, 2.0]
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(pauses, limits, strict=True))
    assert bench.starts(B) == [5.0]
    assert Counter(bench.outcomes) == {("plan", "error"): 4, ("plan", "ok"): 2}
    # the same words are logged once, with the key and where it happened
    (record,) = caplog.records
    assert "plan/a" in record.getMessage()
    assert record.exc_info is not None


def test_success_forgets_earlier_failures() -> None:
    bench = Bench()
    bench.answers[A] = [ValueError("x")] * 5 + [1000.0, ValueError("y"), None]

    async def script() -> None:
        bench.queue.add(A)

    bench.play(script, 3000.0)
    after_second_failure = bench.starts(A)[7] - bench.starts(A)[6] - 1.0
    assert after_second_failure <= 0.25
    assert bench.failing == [1, 1, 1, 1, 1, 0, 1, 0]


def test_a_busy_server_is_given_the_time_it_asks_for_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.answers[A] = [TooManyRequests("POST x", status=429, retry_after_seconds=30.0)]

    async def script() -> None:
        bench.queue.add(A)

    bench.play(script)
    first, second = bench.starts(A)
    assert first == 0
    assert 31 <= second <= 31 + 3  # never sooner; later by chance, a tenth at most
    assert [record.exc_info for record in caplog.records] == [None]


def test_ending_cancels_the_work_in_progress_and_waits_for_it() -> None:
    ended: list[Key] = []

    async def handle(key: Key) -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(1.0)
            ended.append(key)

    async def play() -> None:
        queue = WorkQueue(workers=2, generator=random.Random(1))
        working = asyncio.create_task(queue.run(handle))
        queue.add(A)
        await asyncio.sleep(1.0)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working

    virtual_time.run(play())
    assert ended == [A]


def test_depth_counts_waiting_keys() -> None:
    bench = Bench(workers=1)

    async def script() -> None:
        bench.queue.add(A)
        bench.queue.add(B)
        bench.queue.add(A)

    bench.play(script)
    assert bench.depths == [1, 2, 1, 0]


RINGS = st.lists(
    st.tuples(
        st.floats(0.0, 3.0).map(lambda seconds: round(seconds, 1)),  # after the ring before
        st.sampled_from("abc"),
        st.floats(0.0, 4.0).map(lambda seconds: round(seconds, 1)),
    ),
    max_size=25,
)


@given(rings=RINGS, workers=st.integers(1, 3))
def test_whatever_rings_is_worked_on_later_and_never_twice_at_once(
    rings: list[tuple[float, str, float]], workers: int
) -> None:
    bench = Bench(workers=workers)
    rung: list[tuple[float, Key]] = []

    async def script() -> None:
        for pause, name, delay_seconds in rings:
            await asyncio.sleep(pause)
            rung.append((virtual_time.now(), ("plan", name)))
            bench.queue.add(("plan", name), delay_seconds)

    bench.play(script)
    running: Counter[Key] = Counter()
    for _, what, key in bench.notes:
        running[key] += 1 if what == "start" else -1
        assert running[key] in {0, 1}
        assert running.total() <= workers
    for at, key in rung:
        assert any(start >= at for start in bench.starts(key))
    for key, times in Counter(key for _, key in rung).items():
        assert len(bench.starts(key)) <= times


def test_a_kind_at_its_bound_leaves_workers_to_others_and_comes_in_the_order_of_its_rings() -> None:
    bench = Bench(workers=3, takes_seconds=10.0, bounds={"serving": 2})
    services: list[Key] = [("serving", str(number)) for number in range(5)]

    async def script() -> None:
        for key in services:
            bench.queue.add(key)
        bench.queue.add(services[2], 0.0)
        await asyncio.sleep(1.0)
        bench.queue.add(A)

    bench.play(script)
    assert bench.starts(A) == [1.0], "a plan does not wait for services"
    assert [bench.starts(key) for key in services] == [[0.0], [0.0], [10.0], [10.0], [20.0]]
    assert bench.depths[-1] == 0


def test_a_key_put_aside_that_rings_again_starts_once() -> None:
    bench = Bench(workers=2, takes_seconds=10.0, bounds={"serving": 1})
    first, second, third = (("serving", name) for name in "abc")

    async def script() -> None:
        bench.queue.add(first)
        await asyncio.sleep(1.0)
        bench.queue.add(second)
        bench.queue.add(third)
        await asyncio.sleep(1.0)
        bench.queue.add(second)
        bench.queue.add(first, 1.0)

    bench.play(script)
    starts = [bench.starts(key) for key in (first, second, third)]
    assert starts == [[0.0, 30.0], [10.0], [20.0]]
