"""Knative, both WVA analysers and Llumnix: numbers worked out by hand from the published formulas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.serving_views import replica, loaded, scrape, starting, view_of
from stowage.decide.serving.view import ReplicaView
from stowage.simulate.serving.baselines.kpa import Kpa
from stowage.simulate.serving.baselines.llumnix import Llumnix
from stowage.simulate.serving.baselines.wva_peaks import Peak, Peaks
from stowage.simulate.serving.baselines.wva_v1 import SaturationV1, wva_v1
from stowage.simulate.serving.baselines.wva_v2 import SaturationV2, wva_v2


def kpa_at(policy: Kpa, now: float, in_flight: list[tuple[float, int]], ready: int) -> int:
    scrapes = [scrape(at, waiting=number // 3, running=number - number // 3) for at, number in in_flight]
    return policy.decide(view_of(now, loaded(*[(0, 0)] * ready), scrapes))


def test_knative_aims_at_70_percent_of_what_a_replica_can_take() -> None:
    # a mean of 20 over 60 s, 70 % of 10 per pod: ceil(20 / 7) = 3
    assert kpa_at(Kpa(10.0), 60, [(5 * i, 20) for i in range(13)], 1) == 3


def test_knative_averages_over_the_window() -> None:
    # 60 s window (0, 60]: six samples of 0 and six of 42: mean 21 = 3 * 7; not a panic: ceil(42 / 7) = 6 of 4 ready
    policy = Kpa(10.0)
    policy._began = True
    assert kpa_at(policy, 60, [(5 * i, 42 if i > 6 else 0) for i in range(13)], 4) == 3


def test_knative_panics_at_twice_the_ready_pods_and_holds_the_most_for_a_minute() -> None:
    policy = Kpa(10.0)
    quiet = [(5.0 * i, 7) for i in range(13)]
    assert kpa_at(policy, 60, quiet, 1) == 1
    # the panic window (59, 65] holds samples of 7 and 91: ceil(49 / 7) = 7 >= 2 * 1
    assert kpa_at(policy, 65, [*quiet, (65.0, 91)], 1) == 7
    calm = [*quiet, (65.0, 91), *[(70.0 + 5 * i, 7) for i in range(12)]]
    assert kpa_at(policy, 125, calm, 7) == 7, "a minute has not passed since the panic"
    assert kpa_at(policy, 126, [*calm, (126.0, 7)], 7) == 3, "no less than half of seven, rounded down"


def test_knative_panics_at_exactly_twice_the_ready_pods() -> None:
    quiet = [(5.0 * i, 7) for i in range(13)]
    # the panic window holds 7 and 21: ceil(14 / 7) = 2 = 2 * 1, while the stable mean asks for ceil(8.2 / 7) = 2, of
    # a target of 9 for ceil(8.2 / 9) = 1 and in panic ceil(14 / 9) = 2
    assert kpa_at(Kpa(9.0 / 0.7), 65, [*quiet, (65.0, 21)], 1) == 2
    # of two pods that is no panic
    policy = Kpa(9.0 / 0.7)
    policy._began = True
    assert kpa_at(policy, 65, [*quiet, (65.0, 21)], 2) == 1


def test_knative_over_several_pods_begins_in_panic_and_does_not_go_down_at_once() -> None:
    policy = Kpa(10.0)
    assert kpa_at(policy, 0, [(0, 7)], 4) == 4
    assert kpa_at(policy, 60, [(5 * i, 7) for i in range(13)], 4) == 4
    assert kpa_at(policy, 62, [(5 * i, 7) for i in range(13)], 4) == 2


def test_knative_without_samples_keeps_what_is_asked_for() -> None:
    assert Kpa(10.0).decide(view_of(100, loaded((5, 5), (5, 5)), [scrape(0, running=90)])) == 2


def peaks(*shares: tuple[float, int]) -> list[Peak]:
    return [Peak(int(kv * 1000), 1000, waiting) for kv, waiting in shares]


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        pytest.param([(0.75, 0), (0.75, 0)], 3, id="spare KV 0.05 is below 0.10: one more"),
        pytest.param([(0.2, 3), (0.2, 3)], 3, id="spare queue 2 is below 3: one more"),
        pytest.param([(0.9, 0), (0.3, 0)], 2, id="a saturated replica is left out; the calm one has 0.5 to spare"),
        pytest.param([(0.9, 9), (0.85, 6)], 3, id="all saturated: one more"),
        pytest.param([(0.2, 0)] * 3, 2, id="0.2 * 3/2 leaves 0.5: one less"),
        pytest.param([(0.5, 0)] * 3, 3, id="0.5 * 3/2 leaves 0.05: stay"),
        pytest.param([(0.46, 0)] * 3, 2, id="0.46 * 3/2 leaves 0.11: one less"),
        pytest.param([(0.1, 2), (0.1, 2)], 2, id="two waiting become four: one to spare, fewer than three"),
        pytest.param([(0.1, 1), (0.1, 1)], 1, id="one waiting becomes two: three to spare"),
        pytest.param([(0.0, 0)], 1, id="the last one stays"),
    ],
)
def test_first_saturation_analyser(shares: list[tuple[float, int]], expected: int) -> None:
    those = loaded(*[(0, 0)] * len(shares))
    assert SaturationV1().wanted(view_of(0, those), peaks(*shares)) == expected


def test_first_saturation_analyser_waits_for_replicas_that_start() -> None:
    those = (*loaded(*[(0, 0)] * 3), starting(3))
    assert SaturationV1().wanted(view_of(0, those), peaks(*[(0.1, 0)] * 3)) == 4
    assert SaturationV1().wanted(view_of(0, those[:3], desired=4), peaks(*[(0.1, 0)] * 3)) == 4, "not there yet"


# mean input 100 and output 200 tokens: N = min(8192 * 200 / 300, 256) = 256, k2 = 256 * 200 = 51,200
TOKENS = [
    scrape(0),
    scrape(100, arrived=10, completed=10, prompt_tokens=1_000, generated_tokens=2_000),
]


def big(kv: int, waiting: int = 0, capacity: int = 10_000) -> Peak:
    return Peak(kv, capacity, waiting)


@pytest.mark.parametrize(
    ("those", "desired", "expected"),
    [
        # k1 = 8,000 < k2; demand / 0.85 against 8,000 per replica
        pytest.param([big(6_800), big(6_800)], 2, 2, id="13,600 / 0.85 = 16,000: exactly two replicas"),
        pytest.param([big(6_900), big(6_900)], 2, 3, id="13,800 / 0.85 = 16,235: one more"),
        pytest.param([big(6_700), big(6_700)], 2, 2, id="13,400 / 0.85 = 15,765: enough"),
        pytest.param([big(6_700, waiting=4), big(6_700, waiting=4)], 2, 3, id="with eight waiting 14,200: 16,706"),
        pytest.param([big(8_000, waiting=4), big(8_000, waiting=4)], 3, 3, id="the one that starts is supply"),
        pytest.param([big(1_000)] * 4, 4, 1, id="4,000 / 0.70 = 5,714 leaves 26,286: three less"),
        pytest.param([big(2_790)] * 4, 4, 2, id="11,160 / 0.70 = 15,943 leaves 16,057: two less"),
        pytest.param([big(3_000)] * 4, 4, 3, id="12,000 / 0.70 = 17,143 leaves 14,857: one less"),
        pytest.param([big(0)] * 2, 2, 1, id="no demand: the last one stays"),
        pytest.param([big(5_000)] * 2, 2, 2, id="between both thresholds"),
    ],
)
def test_second_saturation_analyser(those: list[Peak], desired: int, expected: int) -> None:
    ready = tuple(replica(number) for number in range(len(those)))
    coming = tuple(starting(number) for number in range(len(those), desired))
    assert SaturationV2().wanted(view_of(100, (*ready, *coming), TOKENS), those) == expected


def test_second_saturation_analyser_learns_capacity_from_full_queues() -> None:
    analyser = SaturationV2()
    now = view_of(100, loaded((5, 20)), TOKENS)
    # k2 = 2,000 seen with five waiting: (2,000 + 5 * 100) / 0.85 - 2,000 = 941: one more
    assert analyser.wanted(now, [big(2_000, waiting=5)]) == 2
    # remembered: capacity 2,000, 1,000 / 0.85 < 2,000 and 2,000 - 1,000 / 0.7 < 2,000: stay
    assert analyser.wanted(now, [big(1_000)]) == 1
    assert analyser.wanted(now, [big(3_500)]) == 1 + 2, "(3,500 / 0.85 - 2,000) / 2,000 is 1.06: two more"


def test_both_analysers_read_the_worst_of_the_last_minute() -> None:
    seen = Peaks()
    seen.observe(view_of(0, (replica(kv=900, waiting=7),)))
    seen.observe(view_of(30, (replica(kv=100, waiting=1),)))
    assert seen.of(view_of(30, (replica(),))) == [Peak(900, 1000, 7)]
    seen.observe(view_of(60, (replica(kv=200),)))
    assert seen.of(view_of(60, (replica(),))) == [Peak(200, 1000, 1)]


def test_what_wva_wants_passes_a_horizontal_pod_autoscaler_with_its_tolerance_and_window() -> None:
    policy = wva_v1()
    full = tuple(replica(number, waiting=9, kv=950) for number in range(12))
    assert policy.decide(view_of(0, full)) == 12, "13 of 12 is within 10 percent"
    policy = wva_v1()
    assert policy.decide(view_of(0, full[:2])) == 3
    idle = tuple(replica(number) for number in range(3))
    answers = {at: policy.decide(view_of(at, idle)) for at in range(5, 481, 5)}
    assert answers[60] == 3, "what was read a minute ago no longer counts, but the window holds"
    assert answers[375] == 2


def test_wva_asks_for_nothing_new_between_its_rounds() -> None:
    policy = wva_v2()
    assert policy.decide(view_of(0, (replica(kv=100, capacity=10_000),), TOKENS)) == 1
    burst = (replica(kv=9_900, waiting=4, capacity=10_000),)
    assert [policy.decide(view_of(at, burst, TOKENS)) for at in (15, 30, 45)] == [1, 1, 1]
    assert policy.decide(view_of(60, burst, TOKENS)) == 2


def llumnix(those: tuple[ReplicaView, ...], desired: int | None = None) -> int:
    scrapes = [scrape(0), scrape(10, arrived=10, prompt_tokens=320)]  # 32 tokens or two blocks each
    return Llumnix().decide(view_of(10, those, scrapes, desired=desired))


@pytest.mark.parametrize(
    ("those", "expected"),
    [
        # 100 blocks each, one kept free: (2 * 100 - 2 * 50 - 2) / requests
        pytest.param([(0, 5), (0, 5)], 3, id="98 / 10 = 9.8 is below ten"),
        pytest.param([(0, 4), (0, 5)], 2, id="98 / 9 = 10.9 is not; without one: -1 / 9"),
        pytest.param([(0, 0), (0, 0)], 1, id="no request: infinitely free"),
    ],
)
def test_llumnix_by_average_freeness(those: list[tuple[int, int]], expected: int) -> None:
    loads = tuple(replica(number, waiting=w, running=r, kv=800, capacity=1_600) for number, (w, r) in enumerate(those))
    assert llumnix(loads) == expected


def test_llumnix_counts_what_waiting_requests_need() -> None:
    # (200 - 100 - 2 - 2 * 4) / 8 = 11.25 and with one more waiting (98 - 10) / 9 = 9.8
    def with_waiting(number: int) -> int:
        return llumnix(
            (
                replica(0, waiting=number, running=2, kv=800, capacity=1_600),
                replica(1, running=2, kv=800, capacity=1_600),
            )
        )

    assert with_waiting(4) == 2
    assert with_waiting(5) == 3


def test_llumnix_takes_one_away_where_the_rest_stays_free_enough() -> None:
    # without one: (100 - 20 - 1) / 1 = 79 > 60
    calm = (replica(0, running=1, kv=160, capacity=1_600), replica(1, kv=160, capacity=1_600))
    assert llumnix(calm) == 1
    # (100 - 20 - 1) / 2 = 39.5
    assert llumnix((calm[0], replica(1, running=1, kv=160, capacity=1_600))) == 2


def test_llumnix_waits_until_every_instance_reports() -> None:
    assert llumnix((replica(0, waiting=50, running=50, kv=1_000), starting(1))) == 2


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 64), st.integers(0, 1000)), min_size=1, max_size=8))
def test_every_policy_answers_a_number_that_follows_the_load(loads: list[tuple[int, int, int]]) -> None:
    """More load never makes a policy ask for fewer."""
    light = tuple(replica(n, waiting=w, running=r, kv=kv) for n, (w, r, kv) in enumerate(loads))
    heavy = tuple(
        replica(n, waiting=w + 7, running=r + 9, kv=min(1000, kv + 300)) for n, (w, r, kv) in enumerate(loads)
    )
    now = view_of(100, light, TOKENS)
    low = [Peak(one.kv_tokens_in_use, 1000, one.waiting) for one in light]
    high = [Peak(one.kv_tokens_in_use, 1000, one.waiting) for one in heavy]
    assert SaturationV1().wanted(now, low) <= SaturationV1().wanted(now, high)
    assert llumnix(light) <= llumnix(heavy)
