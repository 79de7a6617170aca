"""HorizontalPodAutoscaler and KEDA: numbers worked out by hand from the controller's formulas."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.serving_views import loaded, scrape, starting, view_of
from stowage.decide.serving.view import ReplicaView
from stowage.simulate.serving.baselines.hpa import Hpa, pods_metric_replicas
from stowage.simulate.serving.baselines.hpa_behaviour import HpaBehaviour, external_metric_replicas
from stowage.simulate.serving.baselines.keda import Keda, KedaInFlight


@pytest.mark.parametrize(
    ("values", "silent", "current", "expected"),
    [
        pytest.param([10, 10], 0, 2, 2, id="on the target: stay"),
        pytest.param([11, 11], 0, 2, 2, id="10 percent above is within tolerance"),
        pytest.param([9, 9], 0, 2, 2, id="10 percent below is within tolerance"),
        pytest.param([12, 12], 0, 2, 3, id="ceil(2 * 1.2) is 3"),
        pytest.param([20, 0], 0, 2, 2, id="the mean counts, not the busiest pod"),
        pytest.param([40, 40], 0, 2, 8, id="ceil(2 * 4) is 8"),
        pytest.param([1, 1, 1], 0, 3, 1, id="ceil(3 * 0.1) is 1"),
        pytest.param([0, 0], 0, 2, 0, id="no load: none, which bounds make one"),
        pytest.param([40], 1, 2, 4, id="a starting pod counts as idle: ceil(2 * 20/10) is 4, not 8"),
        pytest.param([15], 1, 2, 2, id="counting the starting pod turns the advice round: stay"),
        pytest.param([5], 3, 4, 4, id="on the way down a silent pod is at the target: 35/40 is 0.875, ceil is 4"),
        pytest.param([2, 2], 1, 3, 2, id="14/30 is 0.47 of three pods: 2"),
        pytest.param([60], 1, 9, 9, id="more by the ratio, but fewer than asked for: stay"),
    ],
)
def test_replicas_for_a_metric_of_pods_with_a_target_of_ten(
    values: Sequence[float], silent: int, current: int, expected: int
) -> None:
    assert pods_metric_replicas(values, silent, 10.0, current) == expected


@pytest.mark.parametrize(
    ("total", "pods", "expected"),
    [
        pytest.param(30, 3, 3, id="on the target"),
        pytest.param(32, 3, 3, id="within tolerance"),
        pytest.param(34, 3, 4, id="ceil(34 / 10)"),
        pytest.param(0, 3, 0, id="nothing"),
        pytest.param(5, 0, 1, id="from zero"),
    ],
)
def test_replicas_for_an_external_metric_with_a_target_of_ten(total: float, pods: int, expected: int) -> None:
    assert external_metric_replicas(total, 10.0, pods) == expected


def test_scale_up_is_limited_to_the_double_or_four_pods_within_15_seconds() -> None:
    behaviour = HpaBehaviour()
    assert behaviour.limited(0, 2, 50) == 6
    assert behaviour.limited(10, 6, 50) == 6, "the period began with two"
    assert behaviour.limited(15, 6, 50) == 12
    assert behaviour.limited(30, 12, 50) == 24


def test_scale_down_waits_for_the_highest_recommendation_of_300_seconds() -> None:
    behaviour = HpaBehaviour()
    assert behaviour.limited(0, 10, 10) == 10
    for at in range(15, 300, 15):
        assert behaviour.limited(at, 10, 4 if at != 150 else 6) == 10
    assert behaviour.limited(300, 10, 4) == 6, "what was said at second 0 is too old now; six is not"
    assert behaviour.limited(435, 6, 4) == 6
    assert behaviour.limited(450, 6, 4) == 4


def test_a_new_controller_keeps_what_it_finds_for_300_seconds() -> None:
    behaviour = HpaBehaviour()
    assert [behaviour.limited(at, 8, 1) for at in (0, 150, 299)] == [8, 8, 8]
    assert behaviour.limited(301, 8, 1) == 1


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 5)), min_size=1, max_size=60))
def test_replicas_never_leave_what_was_recommended_lately_and_never_rise_faster_than_allowed(
    steps: list[tuple[int, int]],
) -> None:
    behaviour, current, now = HpaBehaviour(), 3, 0.0
    history = [(now, current)]
    held = [(now, current)]
    for wanted, gap in steps:
        now += 15.0 * gap
        before, current = current, behaviour.limited(now, current, wanted)
        recent = [replicas for at, replicas in history if at > now - 300] + [wanted]
        assert current <= max(before, wanted)
        assert current >= min(before, wanted)
        if current < before:
            assert current == max(recent), "down to the highest recommendation of the window at once"
        if current > before:
            at_start = [replicas for at, replicas in held if at <= now - 15.0][-1]
            assert current <= max(2 * at_start, at_start + 4)
        history.append((now, wanted))
        held.append((now, current))


def hpa_after(those: Sequence[ReplicaView], desired: int | None = None) -> int:
    return Hpa(10.0).decide(view_of(0, those, desired=desired))


def test_hpa_reads_waiting_and_running_of_ready_replicas() -> None:
    assert hpa_after(loaded((5, 10), (3, 12))) == 3
    assert hpa_after((*loaded((20, 20)), starting(1))) == 4
    assert hpa_after((starting(0), starting(1))) == 2, "no metric at all: those asked for stay"


def test_keda_asks_for_a_replica_per_threshold_of_waiting_requests() -> None:
    policy = Keda(5.0)
    those = loaded((6, 9), (6, 9))
    assert policy.decide(view_of(0, those, [scrape(0, waiting=12, running=18)])) == 3
    assert Keda(5.0).decide(view_of(0, those)) == 2, "no sample yet"


def test_keda_asks_for_a_hundred_replicas_at_most() -> None:
    policy = Keda(1.0)
    asked = [policy.decide(view_of(0, loaded(*[(9, 9)] * 60), [scrape(0, waiting=540)], desired=60))]
    asked.append(policy.decide(view_of(15, loaded(*[(9, 9)] * 100), [scrape(15, waiting=900)], desired=100)))
    assert asked == [100, 100]


def test_keda_in_flight_counts_running_requests_too() -> None:
    assert KedaInFlight(10.0).decide(view_of(0, loaded((6, 9)), [scrape(0, waiting=12, running=18)])) == 3


def test_keda_goes_down_with_an_empty_queue_after_the_window_and_asks_for_zero_after_the_cool_down() -> None:
    policy = Keda(5.0)
    for at in range(0, 301, 15):
        assert policy.decide(view_of(at, loaded(*[(0, 5)] * 4), [scrape(at, running=20)])) == (4 if at < 300 else 1)
    assert policy.decide(view_of(315, loaded((0, 5)), [scrape(315)])) == 0


def test_keda_wakes_from_zero_only_where_it_polls_and_something_waits() -> None:
    policy = Keda(5.0)
    assert policy.decide(view_of(0, (), [scrape(0)])) == 0
    assert policy.decide(view_of(15, (), [scrape(15, waiting=3)])) == 0, "it polls every 30 seconds"
    assert policy.decide(view_of(30, (), [scrape(30, waiting=3)])) == 1
