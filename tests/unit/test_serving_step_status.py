"""One look at a service: what people read of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.serving_children import (
    NOW,
    PERFORMANCE,
    Told,
    deployment,
    pod,
    role,
    service,
    starting,
    variant,
)
from stowage.api.durations import instant
from stowage.api.model_service_reasons import ServiceReason
from stowage.api.model_service_status import GroupStatus
from stowage.decide.serving.service_conditions import MOST_NAMED
from stowage.decide.serving.service_status import MOST_WORDS, with_few_words
from stowage.decide.serving.spend import uses
from unit.serving_steps import PODS, condition, replicas, stepped, told
from unit.serving_views import view


def test_fields_that_are_not_acted_on_are_named() -> None:
    of = service(role() | {"warm": {"nodes": 1}}, model={"uri": "pvc://models/llama"})
    step = stepped(of)
    accepted = condition(step, "Accepted")
    assert (accepted.status, accepted.reason) == ("True", ServiceReason.NOT_SUPPORTED)
    assert "roles[unified].warm.nodes" in accepted.message
    assert set(replicas(step)) == {"unified-default"}


@pytest.mark.parametrize(
    ("slo", "profiles", "reason", "words"),
    [
        pytest.param({"timeToFirstToken": "2s"}, ("p",), "Accepted", "", id="all can be met"),
        pytest.param(
            {"timeToFirstToken": "2s", "interTokenLatency": "10ms"},
            ("p",),
            "TargetOutOfReach",
            "unified: by its profile and what was measured, an idle replica does not meet "
            "slo.interTokenLatency 0.01 s; "
            "no number of replicas helps, so decisions leave that out",
            id="a step alone takes longer",
        ),
        pytest.param({"interTokenLatency": "10ms"}, (), "Accepted", "", id="nobody knows without a profile"),
    ],
)
def test_a_target_that_no_number_of_replicas_meets_is_named(
    slo: dict[str, str], profiles: tuple[str, ...], reason: str, words: str
) -> None:
    named = variant(profile="p") if profiles else variant()
    step = stepped(service(role(variants=[named]), slo=slo), profiles=dict.fromkeys(profiles, PERFORMANCE))
    accepted = condition(step, "Accepted")
    assert (accepted.status, accepted.reason, accepted.message) == ("True", reason, words)


def test_a_profile_that_is_missing_is_named() -> None:
    step = stepped(service(role(variants=[variant(profile="fast")])))
    assert condition(step, "Accepted").reason == ServiceReason.PROFILE_MISSING
    assert "fast" in condition(step, "Accepted").message


def test_a_refused_child_is_told_in_the_words_of_the_server() -> None:
    step = stepped(service(), refused="Deployment.apps is invalid: spec.x")
    assert condition(step, "Accepted").message == "Deployment.apps is invalid: spec.x"
    assert step.status.reason == ServiceReason.CHILD_REFUSED


def test_of_many_replicas_that_fail_some_are_named_and_the_others_counted() -> None:
    pods = [starting(number, trouble="ImagePullBackOff") for number in range(40)]
    step = stepped(service(role(most=40), status=told(40)), pods, [deployment(40)])
    message = condition(step, "Available").message
    assert message.count("ImagePullBackOff") == MOST_NAMED
    assert message.endswith(" and 35 more")


def test_a_status_with_thousands_of_replicas_that_fail_can_be_stored() -> None:
    def group(number: int) -> GroupStatus:
        words = f"a container of pod {'x' * 90}-{number} began again"
        return GroupStatus(ordinal=number, size=8, attempt=3, since=instant(NOW + number), message=words)

    many = {("unified", "wide"): tuple(map(group, range(1000))), ("other", "wide"): tuple(map(group, range(50)))}
    found = with_few_words(many)
    assert {key: len(groups) for key, groups in found.items()} == {("unified", "wide"): 1000, ("other", "wide"): 50}
    with_words = [one.ordinal for one in found["unified", "wide"] if one.message]
    assert with_words == list(range(1000 - MOST_WORDS, 1000)), "the last ones"
    assert [one.attempt for groups in found.values() for one in groups] == [3] * 1050, "all else is what decides"
    few = {("unified", "wide"): tuple(map(group, range(MOST_WORDS)))}
    assert with_few_words(few) == few


def test_targets_are_counted_from_histograms() -> None:
    of = service(slo={"timeToFirstToken": "2s", "attainment": "0.9"}, status=told(2))
    for ttft, reason in ((0.4, ServiceReason.WITHIN_TARGETS), (8.0, ServiceReason.BELOW_ATTAINMENT)):
        seen = Told(replace(view(5.0, ready=2, begin=NOW - 900.0, ttft_seconds=ttft), desired=2))
        step = stepped(of, PODS[:2], [deployment(2)], {"unified": seen})
        assert condition(step, "TargetsMet").reason == reason
        assert step.status.slo is not None
        assert step.status.slo.requests > 1000
        assert step.status.last_signal_at is not None


def test_ten_decisions_are_kept_and_repeated_ones_are_one() -> None:
    of = service(status=told(3))
    for number in range(60):
        wanted = 3 + (number // 5) % 2
        step = stepped(
            of.model_copy(update={"spec": of.spec.model_copy(update={"replicas": wanted})}), now=NOW + number
        )
        of = of.model_copy(update={"status": step.status})
    decisions = of.status.decisions
    assert len(decisions) == 10
    assert [one.at for one in decisions] == sorted(one.at for one in decisions)
    assert sum(one.from_ == one.to for one in decisions) <= 5


def test_what_replicas_use_is_added_up_with_those_that_start_and_drain() -> None:
    of = service(role(variants=[variant(costPerHour="3.5", powerWatts=700)]), status=told(2))
    step = stepped(of, [pod(0), starting(1), pod(2, takes_requests=False)], [deployment(3)])
    assert step.status.spend is not None
    assert (step.status.spend.gpus, step.status.spend.cost_per_hour, step.status.spend.power_watts) == (6, "10.5", 2100)
    assert uses(of.spec.roles[0].variants[0]) == {"gpus": 2.0, "cost_per_hour": 3.5, "power_watts": 700.0}


def test_the_status_for_scale() -> None:
    step = stepped(service(status=told(2)), [*PODS, pod(7, is_terminating=True)], [deployment(3)])
    assert step.status.replicas == 3
    assert step.status.selector == "stowage.dev/service=llama,stowage.dev/role=unified"
    assert step.status.observed_generation == 3
