"""Metrics of model services: gauges over all of them, and what each write adds."""

from __future__ import annotations

from stowage.api.durations import Duration, instant
from stowage.api.model_service_status import ColdStart, ModelServiceStatus, ServiceLevelStatus
from stowage.decide.serving.service_facts import PodFact, PodRef
from stowage.run.metrics import Metrics
from stowage.run.serving_metrics import ServingMetrics
from unit.serving_services import NOW, condition, decision, role

Status = ModelServiceStatus
SLOW = Status(
    roles=(role(3, 1, starting=2, reason="AtMaximum"),),
    conditions=(condition("Observed", "True", "SignalsFresh"), condition("TargetsMet", "False", "BelowAttainment")),
    slo=ServiceLevelStatus(attainment="0.9"),
    cold_start=ColdStart(p50=Duration("90s"), p90=Duration("130s")),
    last_signal_at=instant(NOW - 7),
)
FAST = Status(
    roles=(role(2, 2, draining=1, reason="Steady"),),
    conditions=(condition("Observed", "True", "SignalsFresh"),),
    slo=ServiceLevelStatus(attainment="0.999"),
    last_signal_at=instant(NOW - 2),
)


class Shown:
    def __init__(self) -> None:
        self.term = 1
        self.metrics = Metrics()
        self.serving = ServingMetrics(self.metrics, lambda: self.term, lambda: NOW)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"stowage_serving_{name}", labels)

    def look(self, key: str, status: Status, *pods: PodFact, at: float = NOW) -> None:
        self.serving.looked(key, status, pods, at)


def pod(name: str, *, drains_since: float | None = None, is_terminating: bool = False) -> PodFact:
    return PodFact(
        PodRef("team", name, f"uid-{name}"),
        "unified",
        "default",
        NOW - 600,
        takes_requests=drains_since is None,
        draining_since=drains_since,
        is_terminating=is_terminating,
    )


def test_gauges_are_of_all_services_together() -> None:
    shown = Shown()
    shown.look("team/slow", SLOW)
    shown.look("team/fast", FAST)
    states = {state: shown.value("replicas", state=state) for state in ("desired", "ready", "starting", "draining")}
    assert states == {"desired": 5, "ready": 3, "starting": 2, "draining": 1}
    assert shown.value("services", reason="SignalsFresh") == 2
    assert shown.value("services", reason="BelowAttainment") == 1
    assert shown.value("services", reason="SignalsMissing") == 0
    assert (shown.value("roles", reason="AtMaximum"), shown.value("roles", reason="Steady")) == (1, 1)
    assert shown.value("signal_age_seconds") == 7
    assert shown.value("attainment_ratio") == 0.9
    assert [shown.value("cold_start_seconds", quantile=one) for one in ("0.5", "0.9")] == [90, 130]
    shown.serving.gone("team/slow")
    assert (shown.value("replicas", state="desired"), shown.value("attainment_ratio")) == (2, 0.999)


def test_a_service_with_one_reason_in_two_conditions_counts_once() -> None:
    shown = Shown()
    conditions = (condition("Available", "True", "AtZero"), condition("Observed", "Unknown", "AtZero"))
    shown.look("team/idle", Status(conditions=conditions))
    assert shown.value("services", reason="AtZero") == 1
    assert shown.value("services", reason="SignalsMissing") == 0


def test_a_standby_shows_nought_and_a_new_term_begins_anew() -> None:
    shown = Shown()
    shown.look("team/slow", SLOW)
    shown.term = 0
    assert (shown.value("replicas", state="desired"), shown.value("attainment_ratio")) == (0, 1)
    shown.term = 2
    assert shown.value("replicas", state="desired") == 0, "it may be gone by now"


def test_each_change_of_a_number_is_counted_once() -> None:
    shown = Shown()
    first = Status(decisions=(decision(1, 3, "Burst"), decision(3, 3, "Steady", NOW + 5)))
    shown.serving.wrote(Status(), first)
    second = Status(decisions=(*first.decisions, decision(3, 2, "CapacityUnused", NOW + 9)))
    shown.serving.wrote(first, second)
    assert shown.value("decisions_total", reason="Burst", direction="up") == 1
    assert shown.value("decisions_total", reason="CapacityUnused", direction="down") == 1
    assert shown.value("decisions_total", reason="Steady", direction="up") == 0


def test_a_drain_lasts_until_its_pod_is_deleted() -> None:
    shown = Shown()
    shown.look("team/a", FAST, pod("x", drains_since=NOW - 4), pod("y", drains_since=NOW), pod("z"))
    shown.look("team/a", FAST, pod("y", drains_since=NOW), pod("z"), at=NOW + 6)
    assert (shown.value("drain_seconds_count"), shown.value("drain_seconds_sum")) == (1, 10)
    shown.look("team/a", FAST, pod("y"), pod("z"), at=NOW + 8)
    assert shown.value("drain_seconds_count") == 1, "who takes requests again has not left"
    shown.look("team/a", FAST, pod("y"), pod("z", drains_since=NOW + 9), at=NOW + 9)
    shown.look("team/a", FAST, pod("y"), pod("z", drains_since=NOW + 9, is_terminating=True), at=NOW + 10)
    assert (shown.value("drain_seconds_count"), shown.value("drain_seconds_sum")) == (2, 11)


def test_a_service_that_can_not_be_used_counts_by_that_alone() -> None:
    shown = Shown()
    shown.look("team/slow", SLOW)
    shown.serving.unreadable("team/slow")
    assert shown.value("replicas", state="desired") == 0
    assert shown.value("services", reason="BelowAttainment") == 0
    assert shown.value("services", reason="InvalidSpec") == 1
    assert shown.value("attainment_ratio") == 1.0
    assert shown.value("cold_start_seconds", quantile="0.9") == 0.0
    shown.look("team/slow", SLOW)
    assert shown.value("services", reason="InvalidSpec") == 0
