"""A role without a profile: fullness and misses are measured, so a replica may be three times faster or slower."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.serving_children import service
from stowage.decide.serving.performance import Curve, Performance
from stowage.decide.serving.role_decision import RoleSeen, decide_roles
from stowage.decide.serving.role_memory import RoleMemory
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.unknown_performance import ASSUMED, RECOMMENDERS
from stowage.decide.serving.view import View
from stowage.simulate.serving.fleet import run
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.setup import Setup
from stowage.simulate.serving.stowage_policy import stowage_policy
from stowage.simulate.serving.synthetic import Lengths, Shape, synthetic
from unit.serving_views import PERFORMANCE


class WithoutProfile:
    """The decisions of a service whose variants name no profile, as a policy of the simulator."""

    name = "without a profile"

    def __init__(self, settings: Settings) -> None:
        self.interval_seconds = settings.interval_seconds
        self._settings = settings
        self._memory = RoleMemory()
        self._spec = service().spec

    def decide(self, view: View) -> int:
        """The count of the only role."""
        seen = RoleSeen("unified", self._settings, view, self._memory, has_profile=False)
        decision, self._memory = decide_roles(self._spec, [seen])["unified"]
        return decision.to_replicas


def times(performance: Performance, factor: float) -> Performance:
    """The same replica, so many times slower."""

    def slower(curve: Curve) -> Curve:
        return Curve(curve.at, tuple(value * factor for value in curve.values))

    return replace(
        performance,
        prefill_seconds=slower(performance.prefill_seconds),
        decode_seconds=slower(performance.decode_seconds),
    )


def day(high_per_second: float) -> Requests:
    lengths = Lengths(600, 100, 0.5)
    return synthetic(
        Shape.DIURNAL, seconds=1800.0, low_per_second=high_per_second / 6, high_per_second=high_per_second, seed=2,
        lengths=lengths,
    )  # fmt: skip


REPLICAS = [
    pytest.param(1.0, 40.0, id="a replica about as assumed"),
    pytest.param(0.4, 60.0, id="more than twice as fast"),
    pytest.param(2.0, 16.0, id="twice as slow"),
    pytest.param(3.0, 6.0, id="three times as slow"),
]


@pytest.mark.parametrize(("factor", "high_per_second"), REPLICAS)
def test_a_day_is_served_whatever_a_replica_bears(factor: float, high_per_second: float) -> None:
    setup = Setup(times(PERFORMANCE, factor), 1, 2.0, 0.15, cold_start_seconds=60.0, initial=2, bounds=(1, 30))
    settings = Settings(ASSUMED, 2.0, 0.15, recommenders=RECOMMENDERS, most=30)
    arriving = day(high_per_second)
    found = run(arriving, lambda: WithoutProfile(settings), setup)
    known = run(arriving, lambda: stowage_policy(setup), setup)
    assert found.attainment >= 0.95
    assert found.gpu_hours <= 1.9 * known.gpu_hours
