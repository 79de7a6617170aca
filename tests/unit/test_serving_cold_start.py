"""How long starts take is learned from the pods that started."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.serving_children import NOW, pod, starting
from stowage.api.durations import Duration
from stowage.api.model_service_status import ColdStart, ColdStartPhase, VariantColdStart
from stowage.decide.serving.cold_start import (
    DEFAULT_SECONDS,
    KEPT_STARTS,
    LONGEST_SECONDS,
    cold_start_status,
    expected_seconds,
    phase_of,
    remembered,
    start_of,
    with_starts,
)
from stowage.decide.serving.role_memory import RoleMemory, Start
from stowage.decide.serving.service_facts import PodFact


def started(number: int, seconds: float, **facts: float) -> PodFact:
    return pod(
        number, created_at=NOW - 5000.0, ready_at=NOW - 5000.0 + seconds, scheduled_at=NOW - 5000.0 + 4.0, **facts
    )


def test_a_start_is_told_by_phase_as_far_as_the_pod_tells() -> None:
    one = pod(created_at=100.0, scheduled_at=105.0, initialized_at=135.0, started_at=150.0, ready_at=190.0)
    found = start_of(one)
    assert found is not None
    assert found.seconds == 90.0
    assert dict(found.phases) == {"Schedule": 5.0, "Weights": 30.0, "Image": 15.0, "Engine": 40.0}
    bare = start_of(replace(one, initialized_at=None, started_at=None))
    assert bare is not None
    assert dict(bare.phases) == {"Schedule": 5.0, "Engine": 85.0}


NO_STARTS = [
    pytest.param(starting(0), id="it is not over"),
    pytest.param(pod(0, restarts=2), id="its containers began again"),
    pytest.param(pod(0, ready_at=None), id="nobody tells since when it is ready"),
    pytest.param(pod(0, created_at=NOW, ready_at=NOW - 5.0), id="clocks that disagree"),
]


@pytest.mark.parametrize("one", NO_STARTS)
def test_what_tells_no_start(one: PodFact) -> None:
    assert start_of(one) is None


def test_a_pod_that_becomes_ready_again_has_not_started_again() -> None:
    known = with_starts((), [started(0, 60.0)])
    assert with_starts(known, [replace(started(0, 60.0), ready_at=NOW)]) == known


TOLD = ColdStart(
    p50=Duration("80s"),
    p90=Duration("100s"),
    variants=(
        VariantColdStart(role="unified", variant="default", p50=Duration("80s"), p90=Duration("100s"), samples=9),
    ),
)


@pytest.mark.parametrize(
    ("seconds", "told", "expected"),
    [
        pytest.param((90.0, 250.0), TOLD, 250.0, id="longer than the status tells"),
        pytest.param((90.0, 4000.0), TOLD, 100.0, id="it was not ready for a moment, an hour after its start"),
        pytest.param((90.0, 1800.0), None, 1800.0, id="nobody told of starts before"),
    ],
)
def test_a_process_that_begins_takes_no_pod_for_one_that_started_for_hours(
    seconds: tuple[float, ...], told: ColdStart | None, expected: float
) -> None:
    pods = [started(number, one) for number, one in enumerate(seconds)]
    memory = remembered(None, "unified", pods, told)
    assert expected_seconds("unified", ["default"], memory.starts, told) == expected
    assert remembered(memory, "unified", pods, told) == memory, "nor later"
    watched = remembered(RoleMemory(), "unified", pods, told)
    assert max(one.seconds for one in watched.starts) == max(seconds), "a start that was seen to go on is one"


def test_the_last_starts_of_each_variant_are_kept() -> None:
    old = tuple(Start(f"u{number}", "rare", 500.0) for number in range(2))
    fresh = [started(number, 50.0 + number) for number in range(KEPT_STARTS + 5)]
    found = with_starts(with_starts(old, fresh), ())  # those pods are gone by then
    assert [one.seconds for one in found if one.variant == "rare"] == [500.0, 500.0]
    assert [one.seconds for one in found if one.variant == "default"] == [55.0 + n for n in range(KEPT_STARTS)]


def told(variant: str, p90: str) -> ColdStart:
    of = VariantColdStart(role="unified", variant=variant, p50=Duration("1s"), p90=Duration(p90), samples=3)
    return ColdStart(p50=Duration("1s"), p90=Duration(p90), samples=3, variants=(of,))


EXPECTED = [
    pytest.param(("a",), (), None, DEFAULT_SECONDS, id="nothing is known"),
    pytest.param(("a",), (), told("a", "80s"), 80.0, id="a new process reads the status"),
    pytest.param(("a",), (Start("u", "a", 70.0),), told("a", "80s"), 70.0, id="what is seen counts more"),
    pytest.param(("a", "b"), (Start("u", "a", 70.0), Start("v", "b", 90.0)), None, 90.0, id="the slowest variant"),
    pytest.param(("a",), (Start("v", "b", 90.0),), None, DEFAULT_SECONDS, id="of another variant"),
    pytest.param(
        ("a",), tuple(Start(f"u{n}", "a", float(n)) for n in range(1, 11)), None, 9.0, id="nine of ten are no longer"
    ),
    pytest.param(("a",), (Start("u", "a", 90_000.0),), None, LONGEST_SECONDS, id="one that waited a day for a node"),
]


@pytest.mark.parametrize(("variants", "starts", "status", "seconds"), EXPECTED)
def test_what_a_new_replica_is_expected_to_take(
    variants: tuple[str, ...], starts: tuple[Start, ...], status: ColdStart | None, seconds: float
) -> None:
    assert expected_seconds("unified", variants, starts, status) == seconds


def test_the_status_tells_medians_phases_and_what_starts_were_good_for() -> None:
    pods = [started(0, 40.0), started(1, 60.0)]
    starts = with_starts((), pods)
    found = cold_start_status([("unified", starts)], told("gone", "80s"), pods, NOW)
    assert found is not None
    assert (found.p50.seconds, found.p90.seconds, found.samples) == (40.0, 60.0, 2)
    assert found.useful_seconds_per_cold_start_second == f"{(4960 + 4940) / 100:.1f}"
    assert [one.phase for one in found.phases] == [ColdStartPhase.SCHEDULE, ColdStartPhase.ENGINE]
    assert [one.variant for one in found.variants] == ["default", "gone"], "what was known of others stays"


def test_without_a_start_what_was_told_stays() -> None:
    before = told("a", "80s")
    assert cold_start_status([("unified", ())], before, [], NOW) == before
    assert cold_start_status([("unified", ())], None, [], NOW) is None


def test_the_phase_of_a_pod_that_starts() -> None:
    assert phase_of(starting(0, node=None)) is ColdStartPhase.SCHEDULE
    assert phase_of(starting(0, phase="Pending")) is ColdStartPhase.IMAGE
    assert phase_of(starting(0)) is ColdStartPhase.ENGINE


def test_more_pods_than_starts_are_kept_of_rest_and_one_that_is_ready_anew_has_not_just_started() -> None:
    pods = [pod(number, created_at=NOW - 7200.0, ready_at=NOW - 7200.0 + 60.0 + number) for number in range(30)]
    known = with_starts((), pods)
    assert with_starts(known, pods) == known
    again = [replace(pods[0], ready_at=NOW - 10.0), *pods[1:]]
    assert with_starts(known, again) == known
    assert len(with_starts(known, pods[:1])) <= KEPT_STARTS + 1, "of pods that are gone the last ones are enough"
