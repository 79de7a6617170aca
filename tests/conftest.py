"""What all tests share: property tests that give the same answer each time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# other work on the machine must not fail a test: no deadlines; the same examples in each run
settings.register_profile("stowage", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stowage")
