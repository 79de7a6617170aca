"""What measured latencies may teach: means over a whole window under a steady load, of requests that decode."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stowage.decide.serving.learning import KEPT_PROFILES, for_profile, learn_latencies
from stowage.decide.serving.memory import Corrections, Memory
from stowage.decide.serving.pipeline import observe
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.unknown_performance import ASSUMED
from stowage.simulate.serving.fleet import run
from stowage.simulate.serving.setup import Setup
from stowage.simulate.serving.stowage_policy import StowagePolicy, stowage_policy
from stowage.simulate.serving.synthetic import Lengths, Shape, synthetic
from unit.serving_views import PERFORMANCE, until, view

SETTINGS = Settings(PERFORMANCE)


@pytest.mark.parametrize(
    ("seconds", "learns"),
    [
        pytest.param(5.0, False, id="two samples"),
        pytest.param(30.0, False, id="half of a window"),
        pytest.param(60.0, True, id="a whole window"),
    ],
)
def test_a_window_teaches_once_it_is_covered(seconds: float, learns: bool) -> None:
    found = learn_latencies(until(view(4.0), seconds), SETTINGS, Memory())
    assert (found != Memory()) == learns


def test_what_replicas_were_off_one_profile_says_nothing_of_another() -> None:
    learned = replace(Memory(), corrections=Corrections(decode=0.3, prefill=0.4), corrected=hash(PERFORMANCE))
    assert for_profile(learned, replace(PERFORMANCE)) == learned
    other = for_profile(learned, ASSUMED)
    assert (other.corrections.decode, other.corrections.prefill, other.corrected) == (1.0, 1.0, hash(ASSUMED))
    assert other.corrections.variance[0] > Corrections().variance[0], "it is learned quickly"
    first = for_profile(replace(learned, corrected=None), ASSUMED)
    assert first.corrections == learned.corrections


def test_what_was_learned_of_a_variant_waits_until_it_is_the_slowest_one_again() -> None:
    learned = replace(Memory(), corrections=Corrections(decode=0.3, prefill=0.4), corrected=hash(PERFORMANCE))
    meanwhile = for_profile(learned, ASSUMED)
    meanwhile = replace(meanwhile, corrections=Corrections(decode=1.4))
    back = for_profile(meanwhile, PERFORMANCE)
    assert (back.corrections, back.corrected) == (learned.corrections, learned.corrected)
    assert for_profile(back, ASSUMED).corrections == Corrections(decode=1.4)


def test_of_profiles_that_are_edited_again_and_again_few_are_remembered() -> None:
    memory = Memory()
    for tokens in range(1, 40):
        memory = for_profile(memory, replace(PERFORMANCE, kv_capacity_tokens=100_000 + tokens))
    assert [one for one, _ in memory.set_aside] == [
        hash(replace(PERFORMANCE, kv_capacity_tokens=100_000 + tokens)) for tokens in range(39 - KEPT_PROFILES, 39)
    ]


def test_while_a_profile_is_gone_nothing_is_learned_for_the_time_when_it_is_back() -> None:
    quick = view(4.0, seconds=600.0)  # far from what is assumed without a profile
    memory = Memory()
    for of in (PERFORMANCE, ASSUMED, PERFORMANCE):
        for seconds in range(120, 601, 60):
            memory = observe(until(quick, seconds), Settings(of), memory)
            memory = replace(memory, corrections=replace(memory.corrections, learned_at=None))
    steady = Memory()
    for seconds in range(120, 601, 60):
        steady = observe(until(quick, seconds), SETTINGS, steady)
        steady = replace(steady, corrections=replace(steady.corrections, learned_at=None))
    assert memory.corrections.decode == pytest.approx(steady.corrections.decode, rel=0.1)


def test_replicas_that_come_or_go_teach_nothing() -> None:
    of = view(4.0)
    changed = (*of.scrapes[:-1], replace(of.scrapes[-1], ready=3))
    assert learn_latencies(replace(of, scrapes=changed), SETTINGS, Memory()) == Memory()
    leaving = (*of.scrapes[:-3], replace(of.scrapes[-3], draining=1), *of.scrapes[-2:])
    assert learn_latencies(replace(of, scrapes=leaving), SETTINGS, Memory()) == Memory()


def test_pods_that_are_like_their_profile_leave_it_uncorrected() -> None:
    """From an empty replica on, through a load that grows: the engine is the profile's own."""
    setup = Setup(PERFORMANCE, 1, 2.0, 0.1, cold_start_seconds=60.0, initial=3)
    made: list[StowagePolicy] = []

    def policy() -> StowagePolicy:
        made.append(stowage_policy(setup))
        return made[0]

    lengths = Lengths(600, 100, 0.5)
    run(
        synthetic(Shape.RAMP, seconds=1500, low_per_second=3, high_per_second=12, seed=4, lengths=lengths),
        policy,
        setup,
    )
    known = made[0].memory.corrections
    assert known.decode == pytest.approx(1.0, abs=0.06)
    assert known.prefill == pytest.approx(1.0, abs=0.12)
