"""What users write of a service reaches its decisions, and what was decided reaches its status."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.api.model_service import ModelServiceSpec
from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.decision import Decision, Recommender
from stowage.decide.serving.performance import Performance, line
from stowage.decide.serving.service_settings import decision_record, settings_of
from stowage.decide.serving.settings import Role, ScheduledBounds, Settings

PERFORMANCE = Performance(line(0.02, 1e-4), line(0.01, 1e-5), 100_000)
TEMPLATE = {"spec": {"containers": [{"name": "engine"}]}}
SLO = {"timeToFirstToken": "2s", "interTokenLatency": "50ms", "attainment": "0.95"}
ALL_OF_SLO = {**SLO, "endToEnd": "20s", "quantile": "0.9", "window": "6h"}


def spec(*roles: dict[str, Any], **fields: Any) -> ModelServiceSpec:
    usual = [{"variants": [{"template": TEMPLATE}], **one} for one in roles or ({},)]
    return ModelServiceSpec.model_validate({"roles": usual, **fields})


def settings(service: ModelServiceSpec, number: int = 0) -> Settings:
    return settings_of(service, service.roles[number], PERFORMANCE)


def test_a_service_of_five_lines_decides_by_the_defaults_of_decisions() -> None:
    found = settings(spec())
    assert found == Settings(PERFORMANCE, slo_ttft_seconds=None, slo_itl_seconds=None, most=10)


def test_all_that_is_written_reaches_the_decisions() -> None:
    scaling = {
        "recommenders": ["Concurrency", "Saturation"],
        "concurrency": {"target": 24},
        "forecast": {"season": "168h"},
        "scaleUp": {"stabilization": "30s", "maxPercentPerMinute": 100},
        "scaleDown": {"stabilization": "5m", "maxPercentPerMinute": 50},
        "costRatio": "40",
    }
    service = spec({"bounds": {"min": 2, "max": 6}}, slo=ALL_OF_SLO, scaling=scaling, metrics={"staleAfter": "30s"})
    assert settings(service) == Settings(
        PERFORMANCE,
        slo_ttft_seconds=2.0,
        slo_itl_seconds=0.05,
        slo_e2e_seconds=20.0,
        attainment=0.95,
        quantile=0.9,
        attainment_window_seconds=21_600.0,
        recommenders=(Recommender.CONCURRENCY, Recommender.SATURATION),
        least=2,
        most=6,
        stale_after_seconds=30.0,
        stabilisation_seconds=300.0,
        most_percent_per_minute=50.0,
        rise_stabilisation_seconds=30.0,
        most_rise_percent_per_minute=100.0,
        concurrency_target=24.0,
        cost_ratio=40.0,
        season_seconds=604_800.0,
    )


@pytest.mark.parametrize(
    ("number", "kind", "first_token", "between_tokens"),
    [
        pytest.param(0, Role.PREFILL, 2.0, None, id="prefill makes the first token"),
        pytest.param(1, Role.DECODE, None, 0.05, id="decode makes all others"),
        pytest.param(2, Role.UNIFIED, 2.0, 0.05, id="a role of one's own does whole requests"),
    ],
)
def test_each_role_has_the_targets_that_it_has_a_hand_in(
    number: int, kind: Role, first_token: float | None, between_tokens: float | None
) -> None:
    found = settings(spec({"name": "prefill"}, {"name": "decode"}, {"name": "all-in-one"}, slo=SLO), number)
    assert (found.role, found.slo_ttft_seconds, found.slo_itl_seconds) == (kind, first_token, between_tokens)


@pytest.mark.parametrize(
    ("stock", "most"),
    [
        pytest.param((1, 2), 3, id="less than the bounds allow"),
        pytest.param((3, 9), 5, id="more than the bounds allow"),
        pytest.param((1, None), 5, id="one variant without end"),
    ],
)
def test_no_more_replicas_than_there_are_of_all_variants(stock: tuple[int | None, ...], most: int) -> None:
    variants = [{"name": f"v{number}", "template": TEMPLATE, "max": one} for number, one in enumerate(stock)]
    assert settings(spec({"bounds": {"max": 5}, "variants": variants})).most == most


def test_schedules_reach_their_own_role() -> None:
    schedules = [
        {
            "name": "a",
            "timeZone": "Europe/Berlin",
            "days": ["Monday", "Sunday"],
            "start": "08:30",
            "end": "24:00",
            "min": 2,
        },
        {"name": "b", "role": "decode", "start": "22:00", "end": "06:00", "max": 1},
    ]
    service = spec({"name": "prefill"}, {"name": "decode"}, scaling={"schedules": schedules})
    assert settings(service, 0).schedules == (ScheduledBounds(30_600, 86_400, (0, 6), "Europe/Berlin", least=2),)
    assert settings(service, 1).schedules == (ScheduledBounds(79_200, 21_600, most=1),)


def decision(**fields: Any) -> Decision:
    usual: dict[str, Any] = {
        "at": 1_767_262_500.0,
        "from_replicas": 2,
        "to_replicas": 3,
        "reason": ScalingReason.SLO_HEADROOM_LOW,
        "recommender": Recommender.SLO,
        "inputs": (("arrivals_per_second", 12.1), ("kv_tokens", 250_000.0)),
        "valid_until": 1_767_262_530.0,
    }
    return Decision(**{**usual, **fields})


def test_a_decision_reads_as_people_read_it() -> None:
    assert decision_record(decision(), "decode").model_dump(mode="json", by_alias=True, exclude_none=True) == {
        "at": "2026-01-01T10:15:00Z",
        "role": "decode",
        "from": 2,
        "to": 3,
        "reason": "SloHeadroomLow",
        "recommender": "Slo",
        "message": "",
        "inputs": {"arrivalsPerSecond": "12.1", "kvTokens": "250000"},
        "recommendations": [],
        "validUntil": "2026-01-01T10:15:30Z",
    }


def test_nobody_is_no_recommender_and_inputs_have_a_limit() -> None:
    many = tuple((f"input_{number:02}", float(number)) for number in range(40))
    found = decision_record(decision(recommender=Recommender.NONE, inputs=many), "unified")
    assert found.recommender is None
    assert len(found.inputs) == 32
    assert found.inputs["input31"] == "31"


def test_a_number_beyond_all_reason_does_not_stop_a_status() -> None:
    found = decision_record(decision(inputs=(("backlog_seconds", 1e300), ("slope", -1e300))), "unified")
    assert found.inputs == {"backlogSeconds": "1000000000000000", "slope": "-1000000000000000"}
