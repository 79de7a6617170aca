"""When a status is written: at once where something is new, late where it only shows, and never for nothing."""

from __future__ import annotations

import pytest

from stowage.api.durations import Duration, instant
from stowage.api.model_service_status import ColdStart, ModelServiceStatus, ServiceLevelStatus
from stowage.decide.serving.service_shown import NUMBERS_SECONDS, TIMES_SECONDS, told_after_seconds
from unit.serving_services import NOW, condition, decision, role

Status = ModelServiceStatus
LATER = instant(NOW + 5)


@pytest.mark.parametrize(
    ("before", "after", "seconds"),
    [
        pytest.param(Status(), Status(last_signal_at=LATER), TIMES_SECONDS, id="a newer sample"),
        pytest.param(
            Status(decisions=(decision(2, 2, "Steady"),)),
            Status(decisions=(decision(2, 2, "Steady", NOW + 5, valid_until=instant(NOW + 20)),)),
            TIMES_SECONDS,
            id="the same decision again",
        ),
        pytest.param(
            Status(decisions=(decision(2, 2, "Steady", inputs={"waiting": "1"}),)),
            Status(decisions=(decision(2, 2, "Steady", NOW + 5, inputs={"waiting": "2"}),)),
            NUMBERS_SECONDS,
            id="the same decision from other numbers",
        ),
        pytest.param(
            Status(roles=(role(message="1.2 requests a second"),)),
            Status(roles=(role(message="1.3 requests a second"),)),
            NUMBERS_SECONDS,
            id="words with other numbers",
        ),
        pytest.param(
            Status(),
            Status(slo=ServiceLevelStatus(attainment="0.99", requests=10, at=LATER)),
            NUMBERS_SECONDS,
            id="attainment",
        ),
        pytest.param(
            Status(cold_start=ColdStart(p50=Duration("1s"), p90=Duration("2s"))),
            Status(
                cold_start=ColdStart(p50=Duration("1s"), p90=Duration("2s"), useful_seconds_per_cold_start_second="1")
            ),
            TIMES_SECONDS,
            id="replicas have been ready for longer",
        ),
        pytest.param(
            Status(decisions=(decision(2, 2, "Steady"),)),
            Status(decisions=(decision(2, 2, "Stabilizing"),)),
            0.0,
            id="another reason",
        ),
        pytest.param(Status(roles=(role(1),)), Status(roles=(role(2),)), 0.0, id="another number of replicas"),
        pytest.param(Status(roles=(role(2, 1),)), Status(roles=(role(2, 2),)), 0.0, id="another replica is ready"),
        pytest.param(
            Status(conditions=(condition("Observed", "True", "SignalsFresh"),)),
            Status(conditions=(condition("Observed", "False", "SignalsStale"),)),
            0.0,
            id="a condition",
        ),
        pytest.param(
            Status(conditions=(condition("Available", "False", "ReplicasStarting", "2 of 3 ready"),)),
            Status(conditions=(condition("Available", "False", "ReplicasStarting", "1 of 3 ready"),)),
            NUMBERS_SECONDS,
            id="a condition's words with other numbers",
        ),
        pytest.param(
            Status(conditions=(condition("Accepted", "False", "ChildRefused", "volumeMonts: field not declared"),)),
            Status(conditions=(condition("Accepted", "False", "ChildRefused", "cpu: quantities must match"),)),
            0.0,
            id="the next mistake in a spec of which the first one is mended",
        ),
        pytest.param(Status(observed_generation=1), Status(observed_generation=2), 0.0, id="another spec was read"),
    ],
)
def test_how_soon_a_status_is_written(before: Status, after: Status, seconds: float) -> None:
    assert told_after_seconds(before, after) == seconds
