"""From the variants that a role has to those of its mix: new ones first, and never less than the load takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from harness.serving_children import NOW, PERFORMANCE, deployment, pod, role, service, starting, unplaced, variant
from stowage.api.durations import instant
from stowage.api.model_service import ModelService
from stowage.api.model_service_status import MixVariant, RoleMix
from stowage.decide.serving.mix_switch import Course, course
from stowage.decide.serving.role_prospect import Prospect, states_of
from stowage.decide.serving.service_facts import DeploymentFact, PodFact
from stowage.decide.serving.service_settings import settings_of

BEARS = {"l40s": 1.0, "h100": 4.0}


def two(**l40s: Any) -> ModelService:
    return service(role(most=20, variants=[variant("l40s", costPerHour="1.1", **l40s), variant("h100")]))


def mix(*parts: tuple[str, int], reason: str = "MixSwitching", rates: dict[str, float] = BEARS) -> RoleMix:
    """Parts in order; their number of replicas only says who is used."""
    return RoleMix(
        since=instant(NOW - 60.0),
        reason=reason,
        variants=tuple(
            MixVariant(name=name, replicas=count, requests_per_second=str(rates[name])) for name, count in parts
        ),
    )


def steered(
    count: int,
    pods: Sequence[PodFact],
    deployments: Sequence[DeploymentFact],
    towards: RoleMix,
    of: ModelService | None = None,
) -> Course:
    of = of or two()
    (spec,) = of.spec.roles
    states = states_of(of, spec, pods, {one.name: one for one in deployments})
    prospect = Prospect(settings_of(of.spec, spec, PERFORMANCE), True, BEARS, {"l40s": 1.1, "h100": 3.5}, ())
    return course(count, spec, states, prospect, towards, NOW)


def of_l40s(count: int) -> list[PodFact]:
    return [pod(number, variant="l40s") for number in range(count)]


def of_h100(ready: int, coming: int = 0) -> list[PodFact]:
    return [pod(number, variant="h100") for number in range(ready)] + [
        starting(ready + number, variant="h100") for number in range(coming)
    ]


TO_H100 = mix(("h100", 1), ("l40s", 0))
TO_L40S = mix(("l40s", 2), ("h100", 0))


@pytest.mark.parametrize(
    ("count", "pods", "asked", "counts", "switched"),
    [
        pytest.param(4, of_l40s(4), (4, 0), (4, 1), None, id="first the new one is asked for, beside all old ones"),
        pytest.param(4, [*of_l40s(4), *of_h100(0, 1)], (4, 1), (4, 1), None, id="while it starts nothing goes"),
        pytest.param(4, [*of_l40s(4), *of_h100(1)], (4, 1), (0, 1), 1, id="once it is ready it bears all"),
        pytest.param(8, of_l40s(8), (8, 0), (8, 2), None, id="as many as the load takes"),
        pytest.param(8, [*of_l40s(8), *of_h100(1, 1)], (8, 2), (7, 2), None, id="one old for each new that is ready"),
        pytest.param(8, [*of_l40s(8), *of_h100(2)], (8, 2), (0, 2), 2, id="and the rest with the last of them"),
        pytest.param(9, of_l40s(4), (4, 0), (4, 3), None, id="a load that has risen is borne by new ones"),
        pytest.param(2, of_l40s(4), (4, 0), (2, 1), None, id="a load that has fallen needs fewer old ones"),
    ],
)
def test_the_way_to_faster_ones(
    count: int, pods: list[PodFact], asked: tuple[int, int], counts: tuple[int, int], switched: int | None
) -> None:
    found = steered(count, pods, [deployment(asked[0], variant="l40s"), deployment(asked[1], variant="h100")], TO_H100)
    assert (found.placing.counts["l40s"], found.placing.counts["h100"]) == counts
    assert found.switched == switched
    assert found.mix is not None
    assert found.mix.reason == ("MixInForce" if switched is not None else "MixSwitching")


def test_slower_ones_take_over_when_all_of_them_are_ready() -> None:
    asked = [deployment(2, variant="l40s"), deployment(1, variant="h100")]
    under_way = steered(2, [*of_h100(1), pod(5, variant="l40s"), starting(6, variant="l40s")], asked, TO_L40S)
    assert dict(under_way.placing.counts) == {"l40s": 2, "h100": 1}
    there = steered(2, [*of_h100(1), *of_l40s(2)], asked, TO_L40S)
    assert (dict(there.placing.counts), there.switched) == ({"l40s": 2, "h100": 0}, 2)


def test_the_slower_of_both_models_says_how_many_are_enough() -> None:
    doubtful = mix(("h100", 1), ("l40s", 0), rates={"l40s": 1.0, "h100": 2.0})
    found = steered(4, of_l40s(4), [deployment(4, variant="l40s")], doubtful)
    assert found.placing.counts["h100"] == 2


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param([unplaced(7, variant="h100", seconds=300.0)], id="no node has room"),
        pytest.param([starting(7, variant="h100", trouble="ImagePullBackOff")], id="the image is missing"),
    ],
)
def test_what_does_not_start_is_given_up_and_nothing_that_answers_goes(trouble: list[PodFact]) -> None:
    asked = [deployment(4, variant="l40s"), deployment(1, variant="h100")]
    found = steered(4, [*of_l40s(4), *trouble], asked, TO_H100)
    assert dict(found.placing.counts) == {"l40s": 4, "h100": 0}
    assert found.mix is not None
    assert (found.mix.reason, found.mix.since) == ("MixSwitchFailed", instant(NOW))


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(service(role(variants=[variant("l40s", max=4)])), id="a variant is gone from the spec"),
        pytest.param(
            service(role(most=20, variants=[variant("l40s"), variant("h100", max=1)])),
            id="fewer are in stock than asked",
        ),
    ],
)
def test_a_mix_that_can_not_be_had_is_none(of: ModelService) -> None:
    found = steered(8, of_l40s(8), [deployment(8, variant="l40s")], TO_H100, of)
    assert found.mix is not None
    assert found.mix.reason == "MixSwitchFailed"


@pytest.mark.parametrize(
    ("count", "counts"),
    [
        pytest.param(5, (4, 1), id="more goes to the first that may have more"),
        pytest.param(3, (3, 0), id="less is the last one's"),
        pytest.param(12, (4, 8), id="what the first has not, the next has"),
    ],
)
def test_in_force_a_mix_is_an_order_and_moves_nothing(count: int, counts: tuple[int, int]) -> None:
    of = two(max=4)
    known = mix(("l40s", 4), ("h100", 0), reason="MixInForce")
    found = steered(count, of_l40s(4), [deployment(4, variant="l40s")], known, of)
    assert (found.placing.counts["l40s"], found.placing.counts["h100"]) == counts
    assert found.switched is None
