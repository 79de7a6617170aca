"""Warm spares: how many there are, who is one, and that one patch makes one a replica."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.serving_children import NOW, PERFORMANCE, deployment, pod, role, service, starting, variant
from harness.serving_groups import GroupWorld, wide
from stowage.api.model_service import ModelService
from stowage.api.model_service_status import ModelServiceStatus
from stowage.api.names import SERVICE_LABEL
from stowage.decide.serving.drain import SPARE_COST
from stowage.decide.serving.memory import Memory
from stowage.decide.serving.pipeline import observe, situation
from stowage.decide.serving.pod_patches import pod_patches
from stowage.decide.serving.recommend_forecast import recommend_forecast
from stowage.decide.serving.service_facts import DeploymentFact, PodFact, pod_fact
from stowage.decide.serving.service_step import Seen, ServiceStep, next_step
from stowage.decide.serving.settings import Settings
from stowage_scheduler.cluster import Pod
from unit.serving_views import view

LABELS = {"stowage.dev/takes-requests": "false", "stowage.dev/spare": "true"}


def spare(number: int, **facts: Any) -> PodFact:
    return pod(number, **{"takes_requests": False, "is_spare": True, "deletion_cost": SPARE_COST, **facts})


def warm(
    pods: int = 1, *, count: int | None = 2, told: tuple[int, int] | None = None, most: int = 10, **spec: Any
) -> ModelService:
    """A service with warm pods; `told` are replicas and spares by its last status."""
    known = [{"name": "default", "desired": told[0], "spare": told[1]}] if told is not None else []
    status = {"roles": [{"name": "unified", "desired": told[0], "variants": known}]} if told is not None else {}
    return service(
        role(most=most) | {"warm": {"pods": pods}},
        status=status,
        **({"replicas": count} if count is not None else {}),
        **spec,
    )


def stepped(of: ModelService, pods: list[PodFact], *deployments: DeploymentFact, **seen: Any) -> ServiceStep:
    return next_step(
        Seen(of, tuple(pods), {one.name: one for one in deployments}, {}, **{"profiles": {}, "now": NOW, **seen})
    )


def asked(step: ServiceStep) -> int:
    name = "llama-unified-default"
    return next(int(one["spec"]["replicas"]) for one in step.apply if one["metadata"]["name"] == name)


def kept(status: ModelServiceStatus) -> tuple[int, int]:
    """Spares that there shall be, and those that are ready."""
    (found,) = status.roles
    return sum(one.spare for one in found.variants), found.spare


HOW_MANY = [
    pytest.param(warm(2), 4, 2, id="beside the replicas"),
    pytest.param(warm(2, count=9), 10, 1, id="none beyond bounds.max"),
    pytest.param(warm(2, count=0), 0, 0, id="a role at zero by hand is off"),
    pytest.param(warm(2, told=(2, 1), scaling={"paused": True}), 3, 1, id="paused, as many as there were"),
    pytest.param(warm(2, scaling={"budget": {"gpus": 6}}), 3, 1, id="what the budget leaves"),
    pytest.param(warm(2, count=3, scaling={"budget": {"gpus": 6}}), 3, 0, id="the budget cuts spares before replicas"),
    pytest.param(warm(2, count=None), 3, 2, id="beside the least of a role without signals"),
]


@pytest.mark.parametrize(("of", "replicas", "spares"), HOW_MANY)
def test_how_many_there_are(of: ModelService, replicas: int, spares: int) -> None:
    step = stepped(of, [])
    assert (asked(step), kept(step.status)[0]) == (replicas, spares)


def test_one_that_starts_is_a_spare_before_it_could_take_a_request() -> None:
    step = stepped(warm(told=(2, 1)), [pod(0), pod(1), starting(2)], deployment(3))
    (ref,) = step.spare
    assert ref.name == "unified-default-2"
    patch = pod_patches(step, NOW)[ref]["metadata"]
    assert patch["labels"] == LABELS
    assert patch["annotations"]["controller.kubernetes.io/pod-deletion-cost"] == str(SPARE_COST)
    assert (step.status.replicas, step.status.ready_replicas, kept(step.status)) == (3, 2, (1, 0))


def test_spares_are_shown_apart_and_paid_for() -> None:
    step = stepped(warm(told=(2, 1)), [pod(0), pod(1), spare(2)], deployment(3))
    status = step.status
    assert (status.replicas, status.ready_replicas, status.desired_replicas) == (2, 2, 2)
    assert (status.roles[0].draining, status.roles[0].starting, kept(status)) == (0, 0, (1, 1))
    assert status.spend is not None
    assert status.spend.gpus == 6
    assert pod_patches(step, NOW) == {}, "a role at rest is left alone"


def test_a_rise_is_one_patch_and_another_spare_is_started() -> None:
    step = stepped(warm(count=3, told=(2, 1)), [pod(0), pod(1), spare(2)], deployment(3))
    assert asked(step) == 4
    (ref,) = step.undrain
    assert list(pod_patches(step, NOW)) == [ref]
    patch = pod_patches(step, NOW)[ref]["metadata"]
    assert patch["labels"] == {"stowage.dev/takes-requests": "true", "stowage.dev/spare": None}
    assert patch["annotations"]["controller.kubernetes.io/pod-deletion-cost"] is None


def test_a_fall_keeps_a_replica_as_the_spare_and_lets_the_idle_spare_go() -> None:
    step = stepped(warm(count=1, told=(2, 1)), [pod(0), pod(1), spare(2)], deployment(3))
    (gone,) = step.drain
    assert gone.name == "unified-default-2"
    assert gone in step.unspare
    assert len(step.spare) == 1
    assert asked(step) == 3, "who leaves is still there"


def test_a_spare_stands_in_for_a_replica_that_does_not_answer() -> None:
    lame = pod(1, is_ready=False, ready_at=None)
    step = stepped(warm(told=(2, 1)), [pod(0), lame, spare(2)], deployment(3))
    assert [one.name for one in step.undrain] == ["unified-default-2"]
    assert [one.name for one in step.spare] == ["unified-default-1"]
    assert asked(step) == 3


def test_spares_that_are_no_longer_asked_for_leave() -> None:
    step = stepped(warm(0, told=(2, 1)), [pod(0), pod(1), spare(2)], deployment(3))
    assert [one.name for one in step.drain] == ["unified-default-2"]
    gone = replace(spare(2), is_spare=False, draining_since=NOW - 400.0, deletion_cost=-2000)
    assert asked(stepped(warm(0, told=(2, 0)), [pod(0), pod(1), gone], deployment(3))) == 2


def test_who_drains_becomes_a_spare_where_one_is_wanted() -> None:
    drains = pod(2, takes_requests=False, draining_since=NOW - 5.0, deletion_cost=-1000)
    step = stepped(warm(told=(2, 0)), [pod(0), pod(1), drains], deployment(3))
    (ref,) = step.spare
    assert pod_patches(step, NOW)[ref]["metadata"]["annotations"]["stowage.dev/draining-since"] is None
    assert asked(step) == 3


def test_a_number_of_somebody_else_has_no_spares() -> None:
    theirs = deployment(3, replicas_manager="keda")
    step = stepped(warm(told=(2, 1)), [pod(0), pod(1), spare(2)], theirs)
    assert kept(step.status)[0] == 0
    assert [one.name for one in step.undrain] == ["unified-default-2"]


def test_a_service_at_zero_keeps_its_spares() -> None:
    status = {
        "roles": [
            {
                "name": "unified",
                "desired": 0,
                "reason": "Idle",
                "variants": [{"name": "default", "desired": 0, "spare": 1}],
            }
        ]
    }
    schedule = {"name": "day", "start": "08:00", "end": "08:01", "min": 1}
    scaling = {"scaleToZero": {"after": "60s"}, "schedules": [schedule]}
    of = service(role() | {"warm": {"pods": 1}}, status=status, scaling=scaling)
    step = stepped(of, [spare(0)], deployment(1))
    assert step.status.roles[0].reason == "Idle"
    assert (asked(step), kept(step.status)) == (1, (1, 1))
    assert (step.status.replicas, step.undrain) == (0, ())
    reasons = {one.type: one.reason for one in step.status.conditions}
    assert reasons["Available"] == "AtZero"


def test_of_two_variants_the_dearest_of_the_fleet_is_the_spare() -> None:
    variants = [variant("cheap", costPerHour="1", max=2), variant("dear", costPerHour="4")]
    of = service(role(variants=variants) | {"warm": {"pods": 1}}, replicas=2)
    step = stepped(of, [])
    told = {one.name: (one.desired, one.spare) for one in step.status.roles[0].variants}
    assert told == {"cheap": (2, 0), "dear": (0, 1)}


def test_a_pod_tells_that_it_is_one() -> None:
    labels = {SERVICE_LABEL: "llama", "stowage.dev/role": "unified", "stowage.dev/variant": "default", **LABELS}
    fact = pod_fact(Pod("team", "a", "u", {}, labels=labels, template_hash="7d"))
    assert fact is not None
    assert (fact.is_spare, fact.is_draining, fact.takes_requests, fact.template) == (True, False, False, "7d")
    labels["stowage.dev/takes-requests"] = "true"
    fact = pod_fact(Pod("team", "a", "u", {}, labels=labels))
    assert fact is not None
    assert not fact.is_spare


def test_no_start_has_to_be_ahead_of_what_spares_stand_in_for() -> None:
    settings = Settings(performance=PERFORMANCE)
    seen = view(lambda at: 60.0 if at // 600 % 2 else 140.0, ready=8, seconds=3300.0, cold_start_seconds=600.0)

    def asked_for(spares: int) -> tuple[int, int]:
        known = replace(seen, spares=spares)
        found = recommend_forecast(situation(known, settings, observe(known, settings, Memory())))
        assert found is not None
        return found.needed, found.enough

    needed, enough = asked_for(0)
    assert asked_for(1) == (needed - 1, enough - 1)
    now_needed, _ = asked_for(50)
    assert 8 < now_needed < needed, "what the next half minute needs is needed whatever is warm"


def test_replicas_of_several_pods_are_spares_too_and_a_roll_out_is_served_through() -> None:
    def of_image(image: str, replicas: int) -> ModelService:
        group = role(most=8, variants=[wide(image=image)]) | {"warm": {"pods": 1}}
        return service(group, replicas=replicas, scaling={"scaleDown": {"drainDeadline": "20s"}})

    def heads(world: GroupWorld) -> list[PodFact]:
        return [one.pod for one in world.live.values() if one.index == 0 and one.pod.is_ready]

    world, of = GroupWorld(), of_image("vllm:1", 1)
    for _ in range(10):
        of, _ = world.look(of)
    warm_one = [one.ref for one in heads(world) if one.is_spare]
    assert (len(world.live), len(warm_one)) == (4, 1)
    of = of_image("vllm:1", 2).model_copy(update={"status": of.status})
    of, step = world.look(of)
    assert list(step.undrain) == warm_one
    assert len(step.groups.create) == 2
    for _ in range(10):
        of, _ = world.look(of)
    of = of_image("vllm:2", 2).model_copy(update={"status": of.status})
    for _ in range(40):
        of, _ = world.look(of)
        assert sum(one.takes_requests for one in heads(world)) >= 2
    assert len(world.live) == 6
    assert len({one.template_hash for one in world.live.values()}) == 1
    assert (of.status.roles[0].ready, of.status.roles[0].spare) == (2, 1)
