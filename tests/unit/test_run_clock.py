"""The steady clock, with a stopwatch and a wall clock in hand."""

from __future__ import annotations

import pytest

from stowage.run.clock import SteadyClock, since_boot
from stowage.run.reconcile_plan import PlanReconciler
from stowage.transport import TooManyRequests
from unit.builders import NOW
from unit.test_run_reconcile import NAME, Cluster, enforcing, running

NOON = 1_800_000_000.0
HOUR = 3600.0


class Hands:
    """Two clocks that the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.set_by = 0.0
        self.clock = SteadyClock(lambda: NOON + self.seconds + self.set_by, lambda: self.seconds)

    def after(self, seconds: float) -> float:
        self.seconds += seconds
        return self.clock() - NOON


def test_it_shows_the_time_of_day() -> None:
    hands = Hands()
    assert [hands.after(10.0) for _ in range(3)] == [10.0, 20.0, 30.0]


@pytest.mark.parametrize("jump", [pytest.param(HOUR, id="forward"), pytest.param(-HOUR, id="back")])
def test_an_hour_of_jump_does_not_tear_intervals(jump: float) -> None:
    hands = Hands()
    before = hands.after(10.0)
    hands.set_by = jump
    assert hands.clock() - NOON == pytest.approx(before)
    for passed in (1.0, 60.0, 900.0):  # a wait for a budget, a pod's least age, a plan's longest time
        start = hands.clock() - NOON
        assert hands.after(passed) - start == pytest.approx(passed, rel=0.021)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_it_comes_to_the_new_time_of_day_within_days(jump: float) -> None:
    hands = Hands()
    hands.set_by = jump
    for _ in range(3 * 24 * 60):
        hands.after(60.0)
    assert hands.clock.offset_seconds() == pytest.approx(0.0, abs=1.0)


@pytest.mark.parametrize("jump", [HOUR, -HOUR, -0.2, 0.2])
def test_it_never_goes_back(jump: float) -> None:
    hands = Hands()
    last = hands.after(5.0)
    hands.set_by = jump
    for passed in (0.0, 0.0, 0.001, 0.5, 100.0):
        now = hands.after(passed)
        assert now >= last
        last = now


def test_small_corrections_are_followed_at_once() -> None:
    hands = Hands()
    hands.after(1.0)
    hands.set_by = 0.3
    assert hands.after(1.0) == pytest.approx(2.3)


def test_the_stopwatch_of_leases_runs() -> None:
    first = since_boot()
    assert since_boot() >= first > 0


@pytest.mark.parametrize(
    ("steady", "phase"),
    [pytest.param(True, "Running", id="steady"), pytest.param(False, "Aborted", id="the wall clock as it is")],
)
async def test_a_plan_does_not_time_out_because_somebody_set_the_clock(steady: bool, phase: str) -> None:
    cluster = Cluster(enforcing(), running())
    hands = Hands()
    hands.seconds = 60.0
    clock = SteadyClock(lambda: NOW + hands.seconds + hands.set_by, lambda: hands.seconds)
    hands.set_by = HOUR
    parts = {**cluster.parts(), "clock": clock if steady else lambda: NOW + hands.seconds + hands.set_by}
    await PlanReconciler(**parts).reconcile(NAME)
    assert cluster.statuses[-1]["phase"] == phase


async def test_what_waits_for_a_moment_does_not_wait_an_hour_when_the_clock_is_set_back() -> None:
    cluster = Cluster(enforcing(), running())
    cluster.refusal = TooManyRequests("POST eviction", status=429, retry_after_seconds=5.0)
    hands = Hands()
    reconciler = PlanReconciler(
        **{**cluster.parts(), "clock": SteadyClock(lambda: NOW + hands.seconds + hands.set_by, lambda: hands.seconds)}
    )
    for seconds in (0.0, 0.5):
        hands.seconds = seconds
        await reconciler.reconcile(NAME)
    assert cluster.writes.count(("POST", "eviction")) == 1
    hands.set_by = -HOUR
    hands.seconds = 7.0
    await reconciler.reconcile(NAME)
    assert cluster.writes.count(("POST", "eviction")) == 2
