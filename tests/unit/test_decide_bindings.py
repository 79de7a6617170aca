"""Steering Bind: a pod is bound where the plan says as long as no rule between pods has come in the way."""

from __future__ import annotations

import pytest

from stowage.api.names import RESERVED_TAINT
from stowage.api.packing_plan import PlanSteering
from stowage.api.packing_plan_status import PlanPhase
from stowage.decide.execution import Advance, advance
from stowage.decide.situation import Situation
from stowage_scheduler.cluster import (
    Effect,
    HostPort,
    LabelSelector,
    Pod,
    PodAffinityTerm,
    SpreadConstraint,
    Taint,
    Unmodelled,
)
from unit.builders import NOW, POLICY, node, place, plan, pod, slot, snapshot

WEB = LabelSelector((("app", "web"),))
ALONE = {"anti_affinity_terms": (PodAffinityTerm("zone", WEB, ("team",)),)}
LEVEL = {"spread": (SpreadConstraint("zone", 1, WEB),)}
RESERVED = (Taint(RESERVED_TAINT, Effect.NO_SCHEDULE, "plan-uid"),)
HERE = node("a1", labels={"zone": "a"}, taints=RESERVED)
BESIDE, ELSEWHERE = node("a2", labels={"zone": "a"}), node("b1", labels={"zone": "b"})


def goes_on(waits: Pod, *others: Pod) -> Advance:
    """The running plan that binds `waits` to node a1, all nodes reserved."""
    target = slot(1, waits, "a1")
    running = plan(
        place(1, waits, target), target, steering=PlanSteering.BIND, phase=PlanPhase.RUNNING, started_at=NOW, epoch=1
    )
    cluster = snapshot(HERE, BESIDE, ELSEWHERE, waits, *others)
    return advance(running, Situation(cluster, POLICY, NOW, epoch=1, reserved=True))


@pytest.mark.parametrize(
    ("rule", "came_to", "binds"),
    [
        pytest.param({}, "a2", True, id="no rule"),
        pytest.param(ALONE, "b1", True, id="another one came to another zone"),
        pytest.param(ALONE, "a2", False, id="another one came to the zone that it wants for itself"),
        pytest.param(LEVEL, "b1", True, id="the other zone is ahead"),
        pytest.param(LEVEL, "a2", False, id="its own zone is ahead"),
    ],
)
def test_a_pod_that_came_meanwhile_may_be_in_the_way(rule: dict[str, object], came_to: str, binds: bool) -> None:
    waits, other = pod("web-new", **rule), pod("web-other", came_to)
    assert [binding.pod.name for binding in goes_on(waits, other).bind] == (["web-new"] if binds else [])


@pytest.mark.parametrize(
    ("fields", "binds"),
    [
        pytest.param({}, True, id="volumes that are bound"),
        pytest.param({"unbound_volume": True}, False, id="a volume that kube-scheduler has to choose"),
        pytest.param({"volume_obstacle": "claim c is being deleted"}, False, id="a claim that is going"),
    ],
)
def test_a_pod_is_bound_once_its_volumes_are(fields: dict[str, object], binds: bool) -> None:
    assert [binding.pod.name for binding in goes_on(pod("db-0", **fields)).bind] == (["db-0"] if binds else [])


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"scheduling_group": True}, id="its group is for kube-scheduler to place"),
        pytest.param({"unmodelled": (Unmodelled.RESOURCE_CLAIMS,)}, id="a resource claim"),
    ],
)
def test_a_pod_that_kube_scheduler_alone_can_prepare_is_never_bound(fields: dict[str, object]) -> None:
    assert goes_on(pod("web-new", **fields)).bind == ()
    assert len(goes_on(pod("web-new")).bind) == 1


def test_a_promise_is_asked_again_before_it_is_kept() -> None:
    waits, other = pod("web-new", **ALONE), pod("web-other", "a2")
    promised = goes_on(waits).slot_status["k001"]
    assert promised.pod is not None
    target = slot(1, waits, "a1")
    running = plan(
        place(1, waits, target),
        target,
        steering=PlanSteering.BIND,
        phase=PlanPhase.RUNNING,
        started_at=NOW,
        epoch=1,
        slot_status={"k001": promised},
    )
    cluster = snapshot(HERE, BESIDE, ELSEWHERE, waits, other)
    assert advance(running, Situation(cluster, POLICY, NOW, epoch=1, reserved=True)).bind == ()


def test_a_host_port_that_was_taken_meanwhile_is_in_the_way() -> None:
    port = {"host_ports": (HostPort("TCP", "0.0.0.0", 80),)}
    waits = pod("web-new", **port)
    assert [binding.node for binding in goes_on(waits, pod("other", "a2", app="x", **port)).bind] == ["a1"]
    assert goes_on(waits, pod("other", "a1", cpu=1, app="x", **port)).bind == ()
