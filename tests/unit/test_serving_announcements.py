"""What is told on a ModelService: each change once, on one line, and nothing where nothing happened."""

from __future__ import annotations

import pytest

from stowage.api.durations import instant
from stowage.api.model_service_status import GroupStatus, ModelServiceStatus, RoleStatus, VariantStatus
from stowage.decide.serving.service_announcements import (
    ServiceAnnouncement,
    ServiceEventReason,
    service_announcements,
)
from stowage.run.event_allowance import BURST, EventAllowance
from unit.serving_services import NOW, condition, decision, service

Status = ModelServiceStatus
LATER = NOW + 5.0


def grouped(restarts: int, words: str = "pod x was deleted") -> Status:
    """A service with one replica of several pods."""
    group = GroupStatus(ordinal=2, size=2, attempt=restarts, restarts=restarts, since=instant(NOW), reason="PodDeleted")
    group = group.model_copy(update={"message": words})
    return Status(roles=(RoleStatus(name="unified", variants=(VariantStatus(name="default", groups=(group,)),)),))


def told(before: Status, after: Status) -> list[tuple[str, str]]:
    return [(one.reason.value, one.note) for one in service_announcements(service(before), service(after))]


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        pytest.param(Status(), Status(replicas=1), [], id="numbers alone"),
        pytest.param(
            Status(decisions=(decision(1, 2),)),
            Status(
                decisions=(
                    decision(1, 2),
                    decision(2, 3, at=LATER, recommender="Saturation", inputs={"tokenDemand": "9", "waiting": "0"}),
                )
            ),
            [("ScaledUp", "unified: from 2 to 3 replicas, Saturated by Saturation (tokenDemand 9, waiting 0)")],
            id="one decision more",
        ),
        pytest.param(
            Status(),
            Status(decisions=(decision(3, 2, "CapacityUnused", message="two do"), decision(2, 2, "Steady", LATER))),
            [("ScaledDown", "unified: from 3 to 2 replicas, CapacityUnused: two do")],
            id="a fall, and a decision that changes nothing",
        ),
        pytest.param(
            grouped(0),
            grouped(1),
            [
                (
                    "GroupRestarted",
                    "unified: all pods of replica 2 of default are made anew, PodDeleted: pod x was deleted",
                )
            ],
            id="all pods of a replica are made anew",
        ),
        pytest.param(
            grouped(0),
            grouped(1, words=""),
            [("GroupRestarted", "unified: all pods of replica 2 of default are made anew, PodDeleted")],
            id="one of so many that there was no room for words",
        ),
        pytest.param(grouped(2), grouped(0), [], id="a replica has served for long"),
        pytest.param(
            Status(conditions=(condition("Observed", "True", "SignalsFresh"),)),
            Status(conditions=(condition("Observed", "False", "SignalsStale", "no sample for 61 s", LATER),)),
            [("SignalsLost", "SignalsStale: no sample for 61 s")],
            id="signals are lost",
        ),
        pytest.param(
            Status(),
            Status(conditions=(condition("Observed", "False", "SignalsMissing", "nobody is ready"),)),
            [],
            id="a service that has just begun has no signals to lose",
        ),
        pytest.param(
            Status(conditions=(condition("Observed", "False", "SignalsMissing"),)),
            Status(conditions=(condition("Observed", "True", "SignalsFresh", at=LATER),)),
            [("SignalsBack", "SignalsFresh")],
            id="signals are back",
        ),
        pytest.param(
            Status(conditions=(condition("TargetsMet", "Unknown", "TooFewRequests"),)),
            Status(conditions=(condition("TargetsMet", "True", "WithinTargets", at=LATER),)),
            [],
            id="enough requests to say that all is well",
        ),
        pytest.param(
            Status(conditions=(condition("TargetsMet", "True", "WithinTargets"),)),
            Status(conditions=(condition("TargetsMet", "False", "BelowAttainment", "98 % of 500", LATER),)),
            [("TargetsMissed", "BelowAttainment: 98 % of 500")],
            id="targets are missed",
        ),
        pytest.param(
            Status(conditions=(condition("Accepted", "False", "ForeignEdit", "chat-a (hpa)"),)),
            Status(conditions=(condition("Accepted", "False", "ChildRefused", "a quota\nof GPUs"),)),
            [("NotAccepted", "ChildRefused: a quota of GPUs")],
            id="another obstacle, on one line",
        ),
        pytest.param(
            Status(conditions=(condition("Accepted", "False", "ForeignEdit", "chat-a (hpa)"),), replicas=1),
            Status(conditions=(condition("Accepted", "False", "ForeignEdit", "chat-a (hpa)"),), replicas=2),
            [],
            id="the same obstacle",
        ),
        pytest.param(
            Status(conditions=(condition("Available", "False", "ReplicasStarting"),)),
            Status(conditions=(condition("Available", "False", "ReplicasFailing", "chat-1 (ImagePullBackOff)"),)),
            [("Unavailable", "ReplicasFailing: chat-1 (ImagePullBackOff)")],
            id="who starts begins to fail",
        ),
        pytest.param(
            Status(),
            Status(conditions=(condition("Available", "False", "ReplicasStarting", "1 in phase Image"),)),
            [],
            id="a start is no news",
        ),
    ],
)
def test_what_is_told_of_a_write(before: Status, after: Status, lines: list[tuple[str, str]]) -> None:
    assert told(before, after) == lines


def test_the_same_condition_at_another_time_is_another_event() -> None:
    """The name of an event follows from its key: with the same key it would be taken for one that was told."""
    fresh = Status(conditions=(condition("Observed", "True", "SignalsFresh"),))
    (first,) = service_announcements(
        service(fresh), service(Status(conditions=(condition("Observed", "False", "SignalsStale"),)))
    )
    (second,) = service_announcements(
        service(fresh), service(Status(conditions=(condition("Observed", "False", "SignalsStale", at=LATER),)))
    )
    assert first.key != second.key


def test_events_of_a_service_are_bounded() -> None:
    allowance = EventAllowance(lambda: NOW)
    many = [ServiceAnnouncement(ServiceEventReason.SCALED_UP, f"change {number}") for number in range(BURST + 3)]
    assert len(allowance.allowed("team/chat", many)) == BURST
