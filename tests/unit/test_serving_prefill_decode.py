"""Prefill and decode replicas follow from one demand and keep their ratio."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stowage.api.model_service_reasons import ScalingReason
from stowage.decide.serving.memory import Memory
from stowage.decide.serving.prefill_decode import Pair, Ratio, decide_pair
from stowage.decide.serving.settings import Role, Settings
from stowage.decide.serving.view import View
from unit.serving_views import PERFORMANCE, view

SETTINGS = Pair(Settings(PERFORMANCE, role=Role.PREFILL, most=30), Settings(PERFORMANCE, role=Role.DECODE, most=30))
NEW = Pair(Memory(), Memory())


def pair(prefill_rate: float, decode_rate: float) -> Pair[View]:
    return Pair(view(prefill_rate, ready=1), view(decode_rate, ready=1, output_tokens=400))


def counts(views: Pair[View], ratio: Ratio | None = None, settings: Pair[Settings] = SETTINGS) -> tuple[int, int]:
    made, _ = decide_pair(views, settings, NEW, ratio)
    return made.prefill.to_replicas, made.decode.to_replicas


def test_decode_follows_arrivals_at_prefill_before_it_sees_them() -> None:
    assert counts(pair(25.0, 2.0))[1] > counts(pair(2.0, 2.0))[1]


@pytest.mark.parametrize(
    ("ratio", "least_decode", "least_prefill"),
    [
        pytest.param(Ratio(1, 1, 0.0), 1.0, 1.0, id="as many of each"),
        pytest.param(Ratio(1, 4, 0.25), 3.0, 0.2, id="four for one, a quarter more or less"),
        pytest.param(Ratio(2, 1, 0.0), 0.5, 2.0, id="two for one"),
    ],
)
def test_the_ratio_raises_who_is_short(ratio: Ratio, least_decode: float, least_prefill: float) -> None:
    free, kept = counts(pair(25.0, 25.0)), counts(pair(25.0, 25.0), ratio)
    assert kept[0] >= free[0]
    assert kept[1] >= free[1]
    assert kept[1] >= kept[0] * least_decode or kept[0] > free[0]
    assert kept[0] >= kept[1] * least_prefill or kept[1] > free[1]
    assert kept != free


def test_a_raise_for_the_ratio_says_so_with_the_count_without_it() -> None:
    made, memory = decide_pair(pair(25.0, 25.0), SETTINGS, NEW, Ratio(1, 10, 0.0))
    free = counts(pair(25.0, 25.0))
    assert made.decode.reason is ScalingReason.RATIO_KEPT
    assert dict(made.decode.inputs)["replicas_without_ratio"] == free[1]
    assert memory.decode.last_good == made.decode.to_replicas


def test_the_ratio_yields_to_a_limit() -> None:
    limited = Pair(SETTINGS.prefill, replace(SETTINGS.decode, most=4))
    assert counts(pair(25.0, 25.0), Ratio(1, 10, 0.0), limited)[1] == 4


def test_where_one_role_is_not_known_neither_falls() -> None:
    views = Pair(view(0.2, ready=6), replace(view(0.2, ready=6), scrapes=()))
    made, _ = decide_pair(views, SETTINGS, NEW, None)
    assert (made.prefill.to_replicas, made.decode.to_replicas) == (6, 6)
    assert {made.prefill.reason, made.decode.reason} == {ScalingReason.SIGNALS_MISSING}
