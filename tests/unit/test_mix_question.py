"""Whether a role's mix of variants is asked for, with what, and what people read of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from harness.serving_children import NOW, PERFORMANCE, Told, deployment, pod, role, service, variant
from stowage.api.model_service import ModelService
from stowage.decide.serving.performance import Performance
from stowage.decide.serving.role_mix import MixAnswer, MixOutcome, Part
from stowage.decide.serving.service_step import Seen, ServiceStep, next_step
from unit.test_serving_step import busy

PROFILES = {"p-l40s": PERFORMANCE, "p-h100": PERFORMANCE}
SLO = {"timeToFirstToken": "2s", "interTokenLatency": "100ms"}
STOCK_UNTIL = "stowage.dev/out-of-stock-until"


def two(first: Mapping[str, Any] | None = None, status: Mapping[str, Any] | None = None, **spec: Any) -> ModelService:
    l40s = {"costPerHour": "1.1", "powerWatts": 350, "profile": "p-l40s", "max": 4, **(first or {})}
    known = {name: value for name, value in l40s.items() if value is not None}
    h100 = variant("h100", costPerHour="3.5", powerWatts=700, profile="p-h100")
    return service(role(variants=[variant("l40s", **known), h100]), **{"slo": SLO, "status": status, **spec})


def stepped(
    of: ModelService,
    profiles: Mapping[str, Performance] = PROFILES,
    look: Told | None = None,
    **seen: Any,
) -> ServiceStep:
    look = look or busy(2.0, 2)
    pods = tuple(pod(number, variant="l40s") for number in range(2))
    deployments = {"llama-unified-l40s": deployment(2, variant="l40s")}
    return next_step(Seen(of, pods, deployments, {"unified": look}, profiles, look.view.now, **seen))


def told(step: ServiceStep) -> tuple[str, str, str] | None:
    found = [one for one in step.status.conditions if one.type == "MixChosen"]
    return (found[0].status.value, found[0].reason, found[0].message) if found else None


def counts_of(step: ServiceStep) -> dict[str, int]:
    return {one["metadata"]["name"]: one["spec"]["replicas"] for one in step.apply if one["kind"] == "Deployment"}


def test_a_question_has_the_load_the_targets_and_what_there_is() -> None:
    step = stepped(two(scaling={"budget": {"costPerHour": "20", "gpus": 16}}), look=busy(7.0, 2))
    asked = step.questions["unified"]
    assert [(one.name, one.cost_micro, one.present, one.most) for one in asked.options] == [
        ("l40s", 1_100_000, 2, 4),
        ("h100", 3_500_000, 0, 10),
    ]
    assert asked.reference == "l40s"
    assert asked.replicas * asked.options[0].bears == pytest.approx(1.3 * 7.0, rel=0.1), "the last one in part"
    assert asked.replicas < step.status.roles[0].desired
    assert (asked.targets.ttft_seconds, asked.targets.itl_seconds, asked.targets.quantile) == (2.0, 0.1, 0.99)
    assert dict(asked.stock) == {"cost_per_hour": 20_000_000, "gpus": 16_000_000}
    assert asked.options[1].uses == {"cost_per_hour": 3_500_000, "gpus": 2_000_000}
    assert asked.shape.prompt_tokens == pytest.approx(1000, rel=0.1)
    assert told(step) == ("Unknown", "MixNotAsked", "unified: none has been worked out yet")


def test_least_power_counts_watts() -> None:
    asked = stepped(two(scaling={"minimize": "Power"})).questions["unified"]
    assert [one.cost_micro for one in asked.options] == [350_000_000, 700_000_000]


def test_the_busiest_minute_of_half_an_hour_counts() -> None:
    steady = stepped(two()).questions["unified"]
    assert steady.peak == pytest.approx(1.0, abs=0.05)
    look = busy(lambda seconds: 4.0 if 300 <= seconds < 480 else 2.0, 2)  # type: ignore[arg-type]
    assert stepped(two(), look=look).questions["unified"].peak == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(
    ("of", "profiles", "status", "reason", "words"),
    [
        pytest.param(two({"profile": None}), PROFILES, "False", "MixUnknown", "of l40s", id="one without a profile"),
        pytest.param(two(), {"p-h100": PERFORMANCE}, "False", "MixUnknown", "of l40s", id="a profile was deleted"),
        pytest.param(
            two({"costPerHour": None}), PROFILES, "False", "MixUnknown", "without costPerHour", id="one without a price"
        ),
        pytest.param(two(scaling={"paused": True}), PROFILES, "Unknown", "MixNotAsked", "paused", id="paused"),
        pytest.param(two(replicas=2), PROFILES, "Unknown", "MixNotAsked", "spec.replicas", id="fixed by hand"),
    ],
)
def test_why_no_mix_is_asked_for(
    of: ModelService, profiles: Mapping[str, Performance], status: str, reason: str, words: str
) -> None:
    step = stepped(of, profiles)
    found = told(step)
    assert not step.questions
    assert found is not None
    assert found[:2] == (status, reason)
    assert words in found[2]


def test_one_variant_is_never_asked_about() -> None:
    step = stepped(service(role(variants=[variant("l40s", costPerHour="1.1", profile="p-l40s")]), slo=SLO))
    assert (dict(step.questions), told(step), step.status.roles[0].mix) == ({}, None, None)


def test_without_signals_nothing_is_asked() -> None:
    assert not next_step(Seen(two(), (), {}, {}, PROFILES, NOW)).questions


PARTS = (Part("h100", 1, 6.0), Part("l40s", 0, 1.5))


def test_an_answer_is_kept_in_the_status_and_acted_on() -> None:
    step = stepped(two(), mixes={"unified": MixAnswer(MixOutcome.CHOSEN, PARTS, 3_500_000, 900_000)})
    mix = step.status.roles[0].mix
    assert mix is not None
    assert (mix.reason, mix.saves_per_hour) == ("MixSwitching", "0.9")
    assert [(one.name, one.replicas, one.requests_per_second) for one in mix.variants] == [
        ("h100", 1, "6.0000"),
        ("l40s", 0, "1.5000"),
    ]
    deployments = {
        one["metadata"]["name"]: one["spec"]["replicas"] for one in step.apply if one["kind"] == "Deployment"
    }
    assert deployments["llama-unified-l40s"] == 2
    assert deployments["llama-unified-h100"] > 0
    assert told(step) == ("True", "MixSwitching", "unified: to 1 h100; what is there goes once they are ready")
    assert not step.questions, "nothing is asked while replicas change"


def test_a_new_operator_goes_on_from_the_status() -> None:
    first = stepped(two(), mixes={"unified": MixAnswer(MixOutcome.CHOSEN, PARTS)})
    again = stepped(two().model_copy(update={"status": first.status}))
    assert again.status.roles[0].mix == first.status.roles[0].mix
    assert counts_of(again) == counts_of(first)


def test_the_same_answer_again_writes_nothing_new() -> None:
    stays = (Part("l40s", 2, 1.5), Part("h100", 0, 6.0))
    first = stepped(two(), mixes={"unified": MixAnswer(MixOutcome.KEPT, stays)})
    other = (Part("l40s", 3, 1.4), Part("h100", 0, 6.1))
    later = stepped(
        two().model_copy(update={"status": first.status}), mixes={"unified": MixAnswer(MixOutcome.KEPT, other)}
    )
    assert later.status.roles[0].mix == first.status.roles[0].mix
    assert told(first) == ("True", "MixInForce", "unified: 2 l40s")


def test_a_mix_of_other_variants_than_there_are_is_none() -> None:
    first = stepped(two(), mixes={"unified": MixAnswer(MixOutcome.KEPT, (Part("a100", 2, 1.5), Part("h100", 0, 6.0)))})
    assert first.status.roles[0].mix is None


def test_a_budget_that_does_not_pay_for_both_at_once_keeps_a_switch_waiting() -> None:
    of = two(scaling={"budget": {"costPerHour": "5"}})
    step = stepped(of, mixes={"unified": MixAnswer(MixOutcome.CHOSEN, PARTS)})
    assert counts_of(step) == {"llama-unified-l40s": 2, "llama-unified-h100": 0}
    assert told(step) == (
        "True", "MixSwitching", "unified: to 1 h100, once scaling.budget pays for old and new replicas at once"
    )  # fmt: skip
