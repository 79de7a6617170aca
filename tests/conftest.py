"""What all tests share: property tests that give the same answer each time, and processes that start as fast as
installed ones.
"""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings

# other work on the machine must not fail a test: no deadlines; the same examples in each run
settings.register_profile("stowage", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stowage")

ABSENT = str(Path(__file__).parent / "harness" / "absent")  # see the module in it
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ABSENT, os.environ.get("PYTHONPATH")]))
