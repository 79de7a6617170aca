"""To zero and back: who takes requests meanwhile, what has to be known, and what wakes a service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.serving_children import NOW, Told, deployment, pod, quiet_view, role, service, starting
from stowage.api.conditions import Condition
from stowage.api.model_service import ModelService
from stowage.api.model_service_reasons import ServiceReason
from stowage.api.names import ACTIVATOR_COMPONENT, COMPONENT_LABEL
from stowage.decide.serving.hold import HEARD_SECONDS, TURNED_OVER_SECONDS, Held
from stowage.decide.serving.role_memory import RoleMemory
from stowage.decide.serving.service_facts import ChildRef, DeploymentFact, PodFact
from stowage.decide.serving.service_step import Look, Seen, ServiceStep, next_step

ZERO = {"scaleToZero": {"after": "10m"}}
MORNING = {"name": "morning", "start": "08:00", "end": "09:00", "min": 2}
NOON = {"name": "now", "start": "13:30", "end": "14:00", "min": 2}  # `NOW` is 13:46 in UTC
READY = Held(is_ready=True, heard_at=NOW - 3.0)
LEADS = replace(READY, leads_since=NOW - TURNED_OVER_SECONDS)
ONE = pod(0)
QUIET = Told(quiet_view([ONE], 1))


def stepped(
    of: ModelService,
    pods: Sequence[PodFact] = (),
    deployments: Sequence[DeploymentFact] = (),
    looks: Mapping[str, Look] | None = None,
    **seen: Any,
) -> ServiceStep:
    children = {one.name: one for one in deployments}
    return next_step(Seen(of, tuple(pods), children, looks or {}, **{"profiles": {}, "now": NOW, **seen}))


def told(desired: int, reason: str = "Steady") -> dict[str, Any]:
    return {"roles": [{"name": "unified", "desired": desired, "reason": reason, "variants": []}]}


def of_zero(desired: int, reason: str = "Steady", **scaling: Any) -> ModelService:
    return service(scaling=ZERO | scaling, status=told(desired, reason))


def desired(step: ServiceStep) -> tuple[int, str | None]:
    found = step.status.roles[0]
    return found.desired, found.reason


def leads_to(step: ServiceStep) -> str:
    """Whom the Service under the service's own name selects."""
    (one,) = [one for one in step.apply if (one["kind"], one["metadata"]["name"]) == ("Service", "llama")]
    spec = one["spec"]
    is_activator = spec["selector"].get(COMPONENT_LABEL) == ACTIVATOR_COMPONENT
    assert spec["ports"][0]["targetPort"] == (8080 if is_activator else 8000)
    assert spec["ports"][0]["port"] == 8000
    assert step.leads_to_activator is is_activator
    return "activator" if is_activator else "replicas"


def condition(step: ServiceStep, kind: str) -> Condition:
    return next(one for one in step.status.conditions if one.type == kind)


# --- to zero ---


def test_the_service_is_turned_over_before_the_last_replica_leaves() -> None:
    first = stepped(of_zero(1), [ONE], [deployment(1)], {"unified": QUIET}, held=READY)
    assert (desired(first), leads_to(first), first.drain) == ((1, "Idle"), "activator", ())
    later = stepped(of_zero(1, "Idle"), [ONE], [deployment(1)], {"unified": QUIET}, held=LEADS)
    assert (desired(later), leads_to(later), later.drain) == ((0, "Idle"), "activator", (ONE.ref,))
    assert condition(later, "Accepted").reason == ServiceReason.ACCEPTED


STAYS = [
    pytest.param(
        replace(READY, leads_since=NOW - TURNED_OVER_SECONDS + 0.1), {}, "Idle", id="proxies may not know yet"
    ),
    pytest.param(replace(LEADS, is_ready=False), {}, "ActivatorMissing", id="nobody could hold requests"),
    pytest.param(replace(LEADS, heard_at=None), {}, "ActivatorMissing", id="nobody knows what it holds"),
    pytest.param(replace(LEADS, heard_at=NOW - HEARD_SECONDS - 1), {}, "ActivatorMissing", id="nobody knows any more"),
    pytest.param(replace(LEADS, waiting=1), {}, "", id="a request waits"),
    pytest.param(replace(LEADS, running=1), {}, "", id="a request runs through it"),
    pytest.param(replace(LEADS, idle_since=NOW - 599.0), {}, "", id="one has ended a moment ago"),
    pytest.param(LEADS, {"schedules": [NOON]}, "", id="a schedule holds"),
    pytest.param(LEADS, {"scaleToZero": {"after": "30m"}}, "", id="not for long enough"),
]


@pytest.mark.parametrize(("held", "scaling", "reason"), STAYS)
def test_what_keeps_a_service_from_zero(held: Held, scaling: dict[str, Any], reason: str) -> None:
    step = stepped(of_zero(1, **scaling), [ONE], [deployment(1)], {"unified": QUIET}, held=held)
    count, why = desired(step)
    assert count >= 1
    assert not step.drain
    assert why == reason or (not reason and why not in {"Idle", "ActivatorMissing"})


@pytest.mark.parametrize(
    "replica",
    [
        pytest.param(starting(created_at=NOW - 7200.0), id="starts for two hours"),
        pytest.param(pod(created_at=NOW - 7200.0, ready_at=NOW - 599.0), id="ready after two hours"),
    ],
)
def test_a_replica_that_was_asked_for_stays_for_a_while_though_nothing_has_come_since_long(replica: PodFact) -> None:
    """Samples from before tell of no request, as they do of a service that was at zero."""
    step = stepped(of_zero(1), [replica], [deployment(1)], {"unified": QUIET}, held=LEADS)
    assert desired(step)[0] == 1
    assert step.memories["unified"].idle_since in {None, NOW - 599.0}


@pytest.mark.parametrize("problem", [ServiceReason.SIGNALS_STALE, ServiceReason.PROMETHEUS_UNREACHABLE])
def test_without_signals_nothing_goes_to_zero(problem: ServiceReason) -> None:
    look = replace(QUIET, problem=problem)
    assert desired(stepped(of_zero(1), [ONE], [deployment(1)], {"unified": look}, held=LEADS))[0] == 1


def test_without_signals_or_an_activator_that_is_heard_a_service_at_zero_stays_there() -> None:
    step = stepped(of_zero(0, "Idle"), (), [deployment(0)])
    assert (desired(step), leads_to(step)) == ((0, "Idle"), "activator")
    assert condition(step, "Available").reason == ServiceReason.AT_ZERO
    told = condition(step, "Observed")
    assert (told.status, told.reason) == ("Unknown", "AtZero"), "an alert counts the services that lack signals"


def test_a_service_at_zero_that_was_paused_stays_there_when_it_goes_on() -> None:
    step = stepped(of_zero(0, "Paused"), (), [deployment(0)])
    assert desired(step) == (0, "Idle")


# --- and back ---


WAKES = [
    pytest.param({}, None, replace(LEADS, waiting=1), 1, "RequestsHeld", id="a request that waits"),
    pytest.param({}, None, replace(LEADS, waiting=70, is_ready=False), 1, "RequestsHeld", id="in a pod that ends"),
    pytest.param({"schedules": [NOON]}, None, LEADS, 2, "Scheduled", id="a schedule"),
    pytest.param({"schedules": [MORNING]}, None, LEADS, 0, "Idle", id="not one that comes later"),
    pytest.param({}, 3, LEADS, 3, "ManualOverride", id="a hand"),
    pytest.param({"paused": True}, None, replace(LEADS, waiting=1), 0, "Paused", id="nothing while it is paused"),
    pytest.param({}, None, replace(LEADS, running=1), 0, "Idle", id="not a request that a leaving replica answers"),
]


@pytest.mark.parametrize(("scaling", "by_hand", "held", "count", "reason"), WAKES)
def test_what_wakes_a_service_at_zero(
    scaling: dict[str, Any], by_hand: int | None, held: Held, count: int, reason: str
) -> None:
    spec = {} if by_hand is None else {"replicas": by_hand}
    of = service(scaling=ZERO | scaling, status=told(0, "Idle"), **spec)
    step = stepped(of, (), [deployment(0)], held=held)
    assert desired(step) == (count, reason)
    assert leads_to(step) == "activator"
    if reason == "RequestsHeld":
        assert f"{held.waiting} wait for a replica" in (step.status.roles[0].message or "")


def test_it_comes_back_with_the_least_of_each_role_within_the_budget() -> None:
    roles = [role("first", least=2), role("second", least=3)]
    status = {"roles": [{"name": name, "desired": 0, "reason": "Idle"} for name in ("first", "second")]}
    of = service(*roles, scaling=ZERO | {"budget": {"gpus": 8}}, status=status)
    step = stepped(of, held=replace(LEADS, waiting=9))
    assert [(one.desired, one.reason) for one in step.status.roles] == [(2, "RequestsHeld"), (3, "RequestsHeld")]


def test_a_replica_that_starts_for_long_is_waited_for() -> None:
    slow = starting(created_at=NOW - 7200.0)
    for held in (replace(LEADS, waiting=3), replace(LEADS, idle_since=NOW - 3600.0)):
        step = stepped(of_zero(1, "RequestsHeld"), [slow], [deployment(1)], {}, held=held)
        assert desired(step)[0] == 1
        assert (step.drain, leads_to(step)) == ((), "activator")


def test_who_begins_to_leave_is_kept_for_a_request_that_comes() -> None:
    leaving = replace(ONE, takes_requests=False, draining_since=NOW - 2.0, deletion_cost=-1000)
    step = stepped(of_zero(0, "Idle"), [leaving], [deployment(1)], held=replace(LEADS, waiting=1))
    assert desired(step) == (1, "RequestsHeld")
    assert step.undrain == (leaving.ref,)
    assert leads_to(step) == "activator", "its label is still the old one"


@pytest.mark.parametrize(
    ("replica", "held", "answers"),
    [
        pytest.param(starting(), LEADS, "activator", id="it starts"),
        pytest.param(pod(ready_at=NOW - 1.0), LEADS, "activator", id="ready a moment ago: not everybody knows"),
        pytest.param(pod(ready_at=NOW - 2.0), LEADS, "replicas", id="ready for a while"),
        pytest.param(pod(ready_at=None), LEADS, "replicas", id="nobody tells since when"),
        pytest.param(pod(ready_at=NOW - 1.0), READY, "replicas", id="replicas answer already: no turning to and fro"),
        pytest.param(pod(is_terminating=True), LEADS, "activator", id="it goes"),
    ],
)
def test_replicas_answer_once_one_is_ready(replica: PodFact, held: Held, answers: str) -> None:
    assert leads_to(stepped(of_zero(1), [replica], [deployment(1)], held=held)) == answers


def test_both_halves_of_a_pair_are_waited_for() -> None:
    of = service(role("prefill"), role("decode"), role("extra"), scaling=ZERO)
    both = [pod(role="prefill"), pod(role="decode")]
    assert leads_to(stepped(of, both[:1], held=LEADS)) == "activator"
    assert leads_to(stepped(of, both, held=LEADS)) == "replicas"


# --- the activator ---


def activator(step: ServiceStep) -> dict[str, Any]:
    (found,) = [one for one in step.apply if one["metadata"]["name"] == "llama-activator"]
    return found


def test_the_activator_is_a_small_pod_that_knows_nothing_and_may_do_nothing() -> None:
    of = service(role("prefill"), role("decode"), scaling={"scaleToZero": {"hold": {"requests": 40, "longest": "90s"}}})
    found = activator(stepped(of, image="stowage:7"))
    spec = found["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert (spec["automountServiceAccountToken"], "volumes" in spec, "env" in container) == (False, False, False)
    assert (container["image"], container["command"]) == ("stowage:7", ["stowage", "activator"])
    assert container["securityContext"]["readOnlyRootFilesystem"]
    arguments = dict(one.removeprefix("--").split("=", 1) for one in container["args"])
    assert arguments["forward-to"] == "llama-prefill.team.svc:8000"
    assert arguments["needs"] == "llama-decode.team.svc:8000"
    assert (arguments["requests"], arguments["longest-seconds"], arguments["drain-seconds"]) == ("40", "90", "390")
    assert spec["terminationGracePeriodSeconds"] > 390, "what it holds is carried through"
    assert found["metadata"]["ownerReferences"][0]["uid"] == "service-uid"
    assert found["spec"]["selector"]["matchLabels"] == found["spec"]["template"]["metadata"]["labels"]


def test_it_is_there_as_long_as_the_service_may_go_to_zero() -> None:
    names = [one["metadata"]["name"] for one in stepped(service(scaling=ZERO), [ONE], [deployment(1)]).apply]
    assert names[0] == "llama-activator", "it shall be there first"
    there = DeploymentFact("llama-activator", "u-a", 1)
    assert stepped(service(scaling=ZERO), [ONE], [deployment(1), there]).delete == ()
    step = stepped(service(status=told(1)), [ONE], [deployment(1), there])
    assert step.delete == (ChildRef("Deployment", "llama-activator", "u-a"),)
    assert leads_to(step) == "replicas"


def test_a_service_that_is_at_zero_by_hand_refuses_at_once() -> None:
    of = service(scaling=ZERO, replicas=0, status=told(0, "ManualOverride"))
    assert leads_to(stepped(of, held=replace(LEADS, waiting=1))) == "replicas"


def test_idleness_is_counted_from_the_last_request_that_went_through_the_activator() -> None:
    held = replace(LEADS, idle_since=NOW - 100.0)
    step = stepped(of_zero(1), [ONE], [deployment(1)], {"unified": QUIET}, held=held)
    assert step.memories["unified"].idle_since == NOW - 100.0
    again = stepped(
        of_zero(1), [ONE], [deployment(1)], {"unified": QUIET}, held=LEADS, memories={"unified": RoleMemory()}
    )
    assert desired(again) == (0, "Idle")
