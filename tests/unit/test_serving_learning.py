"""What measured latencies may teach: means over a whole window under a steady load, of requests that decode."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stowage.decide.serving.learning import learn_latencies
from stowage.decide.serving.memory import Memory
from stowage.decide.serving.settings import Settings
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


def test_replicas_that_come_or_go_teach_nothing() -> None:
    of = view(4.0)
    changed = (*of.scrapes[:-1], replace(of.scrapes[-1], ready=3))
    assert learn_latencies(replace(of, scrapes=changed), SETTINGS, Memory()) == Memory()


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
