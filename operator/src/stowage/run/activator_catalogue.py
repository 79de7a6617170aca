"""The metrics of the activator of a model service."""

from __future__ import annotations

from typing import Final

from stowage.run.activator_forward import Outcome
from stowage.run.metric import Label, Metric, Process, Unit, counter, gauge, histogram

ACTIVATOR: Final = frozenset({Process.ACTIVATOR})
WAIT_SECONDS: Final = (0.01, 0.1, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)

REQUESTS: Final = counter(
    "activator_requests",
    Unit.REQUESTS,
    "Requests by what became of them; `broken`: sent, and not answered in full",
    Label("outcome", tuple(one.value for one in Outcome)),
    processes=ACTIVATOR,
)
WAITING: Final = gauge(
    "activator_waiting_requests", Unit.REQUESTS, "Requests that wait for a replica", processes=ACTIVATOR
)
RUNNING: Final = gauge(
    "activator_running_requests", Unit.REQUESTS, "Requests that a replica works on, through it", processes=ACTIVATOR
)
WAIT: Final = histogram(
    "activator_wait",
    "From a request's arrival until a replica takes it, or it is refused",
    processes=ACTIVATOR,
    buckets=WAIT_SECONDS,
)

OF_ACTIVATORS: Final[tuple[Metric, ...]] = (REQUESTS, WAITING, RUNNING, WAIT)
"""All of them, in the order of the reference."""
