"""One look at a service: how many replicas of what, and who leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from harness.serving_children import (
    COLD_START_SECONDS,
    NOW,
    PERFORMANCE,
    Told,
    deployment,
    pod,
    quiet_view,
    role,
    service,
    starting,
    variant,
)
from stowage.api.model_service_reasons import ServiceReason
from stowage.decide.serving.pod_patches import pod_patches
from stowage.decide.serving.role_memory import RoleMemory
from stowage.decide.serving.service_facts import PodFact
from stowage.decide.serving.service_step import BUSY_SECONDS, QUIET_SECONDS, Look, ServiceStep, asks
from stowage.decide.serving.view import View
from unit.serving_steps import PODS, busy, condition, replicas, stepped, told
from unit.serving_views import view


def test_a_new_service_gets_its_least_replicas_and_all_its_children() -> None:
    step = stepped(service(role(least=2)))
    assert replicas(step) == {"unified-default": 2}
    assert [(one["kind"], one["metadata"]["name"]) for one in step.apply] == [
        ("Service", "llama"),
        ("Service", "llama-unified"),
        ("PodDisruptionBudget", "llama-unified"),
        ("Deployment", "llama-unified-default"),
    ]
    assert condition(step, "Available").reason == ServiceReason.REPLICAS_STARTING
    assert condition(step, "Observed").reason == ServiceReason.SIGNALS_MISSING
    assert condition(step, "Accepted").status == "True"
    assert not step.drain
    assert not step.delete


def test_what_signals_are_asked_for_with() -> None:
    of = service(role(least=2), status=told(4))
    assert asks(of, (), {}, {})["unified"].desired == 4
    pods = [pod(number, created_at=NOW - 4000.0, ready_at=NOW - 3950.0) for number in range(2)]
    found = asks(service(role(least=2)), pods, {"llama-unified-default": deployment(3)}, {})["unified"]
    assert (found.desired, found.cold_start_seconds) == (3, 50.0)


def test_more_load_means_more_replicas_and_says_why() -> None:
    of = service(role(variants=[variant(profile="p")]), status=told(1))
    step = stepped(of, PODS[:1], [deployment(1)], {"unified": busy(20.0, 1)}, profiles={"p": PERFORMANCE})
    count = replicas(step)["unified-default"]
    assert count is not None
    assert count > 1
    record = step.status.decisions[-1]
    assert (record.from_, record.to, record.role) == (1, count, "unified")
    assert f"1 to {count} replicas" in record.message
    assert "requests/s" in record.message
    assert step.status.roles[0].desired == count
    assert step.status.roles[0].starting == count - 1
    assert condition(step, "Scaling").reason == ServiceReason.FOLLOWS_SIGNALS
    assert step.memories["unified"].decisions.last_good == count


def quiet_until_one_leaves(problem: ServiceReason | None = None) -> ServiceStep:
    """The first step that lets a replica go after a time without requests; `problem` is with its signals alone."""
    of = service(role(variants=[variant(profile="p")]), status=told(3))
    requests = {one.ref.name: 0 for one in PODS}
    memories: Mapping[str, RoleMemory] = {}
    for second in range(0, 300, 10):
        at = NOW + second
        known = {"profiles": {"p": PERFORMANCE}, "now": at, "memories": memories}
        look = Told(quiet_view(PODS, 3, at, 3600.0), requests)
        step = stepped(of, PODS, [deployment(3)], {"unified": look}, **known)
        if step.drain:
            break
        memories = step.memories
    return stepped(of, PODS, [deployment(3)], {"unified": replace(look, problem=problem)}, **known)


def test_replicas_that_are_quiet_for_long_leave_one_by_one() -> None:
    step = quiet_until_one_leaves()
    assert len(step.drain) == 1
    assert replicas(step) == {"unified-default": 3}, "it is asked to leave before it goes"
    patch = pod_patches(step, NOW)[step.drain[0]]
    assert patch["metadata"]["uid"] == step.drain[0].uid
    assert patch["metadata"]["labels"] == {"stowage.dev/takes-requests": "false"}
    assert patch["metadata"]["annotations"] == {
        "stowage.dev/draining-since": "1970-01-12T13:46:40Z",
        "stowage.dev/leaving-cost": "-1000",
        "controller.kubernetes.io/pod-deletion-cost": "-1000",
    }


def test_what_would_leave_stays_where_signals_are_known_to_be_incomplete() -> None:
    """The scrapes that are there are sound, and those that are not there may tell of a thousand requests."""
    step = quiet_until_one_leaves(ServiceReason.SIGNALS_MISSING)
    assert not step.drain
    assert step.status.roles[0].desired == 3
    assert step.status.roles[0].reason == "SignalsMissing"


UNSEEN = Told(View(NOW, 1, (), (), 60.0), problem=ServiceReason.SIGNALS_MISSING, message="not scraped yet")


@pytest.mark.parametrize(
    ("pods", "status"),
    [
        pytest.param([], "Unknown", id="a service that was made a moment ago"),
        pytest.param([starting()], "Unknown", id="a replica that starts"),
        pytest.param([pod(created_at=NOW - 900.0, ready_at=NOW - 9.0)], "Unknown", id="one that answers since now"),
        pytest.param([pod(ready_at=NOW - 61.0)], "False", id="one that should have been scraped by now"),
        pytest.param([pod(), pod(1, ready_at=NOW - 9.0)], "False", id="one of two"),
    ],
)
def test_signals_are_lost_only_where_somebody_could_tell(pods: Sequence[PodFact], status: str) -> None:
    step = stepped(service(), pods, [deployment(1)], {"unified": UNSEEN})
    found = condition(step, "Observed")
    assert (found.status, found.reason) == (status, "SignalsMissing")
    assert condition(step, "Scaling").reason == ServiceReason.FROZEN


def test_what_is_wished_for_beside_sound_signals_is_said() -> None:
    seen = replace(busy(5.0, 2), message="no replica has a histogram")
    found = condition(stepped(service(status=told(2)), PODS[:2], [deployment(2)], {"unified": seen}), "Observed")
    assert (found.status, found.reason, found.message) == (
        "True",
        "SignalsFresh",
        "unified: no replica has a histogram",
    )


@pytest.mark.parametrize(
    ("ready_at", "seconds"),
    [
        pytest.param(NOW - 5.0, BUSY_SECONDS, id="its first samples are to come"),
        pytest.param(NOW - 90.0, QUIET_SECONDS, id="at rest"),
    ],
)
def test_a_fixed_number_is_looked_at_often_until_its_replicas_can_have_told(ready_at: float, seconds: float) -> None:
    step = stepped(service(replicas=1), [pod(ready_at=ready_at)], [deployment(1)])
    assert step.again_seconds == seconds


MISSING = [
    pytest.param({}, id="nobody asked"),
    pytest.param(
        {"unified": Told(quiet_view(PODS, 3), problem=ServiceReason.PROMETHEUS_UNREACHABLE, message="refused")},
        id="the server does not answer, and old scrapes look sound",
    ),
    pytest.param({"unified": Told(replace(quiet_view(PODS, 3), now=NOW + 400.0))}, id="stale"),
]


@pytest.mark.parametrize("looks", MISSING)
def test_without_signals_nothing_falls(looks: Mapping[str, Look]) -> None:
    of = service(role(variants=[variant(profile="p")]), status=told(3))
    memories: Mapping[str, RoleMemory] = {}
    for _ in range(3):
        step = stepped(of, PODS, [deployment(3)], looks, memories=memories, profiles={"p": PERFORMANCE})
        memories = step.memories
        assert replicas(step) == {"unified-default": 3}
        assert condition(step, "Observed").status == "False"
        assert condition(step, "Scaling").reason == ServiceReason.FROZEN


@pytest.mark.parametrize("asked", [0, 1, 5])
def test_replicas_by_hand(asked: int) -> None:
    step = stepped(service(replicas=asked, status=told(3)), PODS, [deployment(3)])
    assert step.status.roles[0].desired == asked
    assert step.status.roles[0].reason == "ManualOverride"
    assert condition(step, "Scaling").reason == ServiceReason.MANUAL_OVERRIDE
    assert len(step.drain) == max(0, 3 - asked)
    assert replicas(step) == {"unified-default": max(3, asked)}


def test_a_paused_service_stays_as_it_is() -> None:
    of = service(role(variants=[variant(profile="p")]), scaling={"paused": True}, status=told(1))
    step = stepped(of, PODS[:1], [deployment(1)], {"unified": busy(40.0, 1)}, profiles={"p": PERFORMANCE})
    assert replicas(step) == {"unified-default": 1}
    assert step.status.reason == "Paused"
    assert condition(step, "Scaling").reason == ServiceReason.PAUSED


def test_prefill_and_decode_are_decided_together() -> None:
    roles = [role(name, variants=[variant(profile="p")]) for name in ("prefill", "decode")]
    of = service(*roles, ratio={"prefill": 1, "decode": 3, "tolerance": "0"}, status=told(1, "prefill"))
    looks = {"prefill": busy(30.0, 1), "decode": busy(30.0, 1)}
    pods = [pod(0, role=name) for name in looks]
    children = [deployment(1, role=name) for name in looks]
    step = stepped(of, pods, children, looks, profiles={"p": PERFORMANCE})
    found = replicas(step)
    assert (found["decode-default"] or 0) >= 3 * (found["prefill-default"] or 0) or found["decode-default"] == 10


def test_a_budget_cuts_in_the_order_of_roles_and_keeps_their_least() -> None:
    roles = [role("first", least=1), role("second", least=2)]
    status = {"roles": [{"name": "first", "desired": 5}, {"name": "second", "desired": 5}]}
    step = stepped(service(*roles, scaling={"budget": {"gpus": 10}}, status=status))
    assert replicas(step) == {"first-default": 3, "second-default": 2}
    assert [one.reason for one in step.status.roles] == ["BudgetReached", "BudgetReached"]
    assert "5 were decided" in step.status.roles[0].message


CRASHING = [
    starting(9, trouble="CrashLoopBackOff", restarts=4),
    starting(8, trouble="ImagePullBackOff", phase="Pending"),
]


@pytest.mark.parametrize("broken", [*CRASHING, starting(7, restarts=2)])
def test_no_more_replicas_are_asked_for_while_new_ones_can_not_start(broken: PodFact) -> None:
    of = service(role(variants=[variant(profile="p")]), status=told(2))
    pods = [pod(0), broken]
    step = stepped(of, pods, [deployment(2)], {"unified": busy(60.0, 2)}, profiles={"p": PERFORMANCE})
    assert replicas(step) == {"unified-default": 2}
    assert step.status.roles[0].reason == "ReplicasFailing"
    assert step.status.roles[0].desired == 2
    works = stepped(of, [pod(0), starting(9)], [deployment(2)], {"unified": busy(60.0, 2)}, profiles={"p": PERFORMANCE})
    assert (replicas(works)["unified-default"] or 0) > 2


def test_a_service_without_one_that_answers_says_what_is_wrong() -> None:
    step = stepped(service(status=told(2)), CRASHING, [deployment(2)])
    assert condition(step, "Available").reason == ServiceReason.REPLICAS_FAILING
    assert "unified-default-9 (CrashLoopBackOff)" in step.status.message


@pytest.mark.parametrize(
    "count", [pytest.param(2, id="more are asked for"), pytest.param(10, id="bounds.max was asked for in one step")]
)
def test_a_full_quota_holds_the_count_and_is_named(count: int) -> None:
    of = service(role(least=2, variants=[variant(profile="p")]), status=told(count))
    full = deployment(count, failure='pods "x" is forbidden: exceeded quota: gpus')
    step = stepped(of, PODS[:1], [full], {"unified": busy(60.0, 2)}, profiles={"p": PERFORMANCE})
    assert replicas(step) == {"unified-default": count}
    assert step.status.roles[0].reason == "QuotaReached"
    assert condition(step, "Available").reason == ServiceReason.QUOTA_FULL


def test_without_a_profile_misses_add_one_replica_at_a_time() -> None:
    late = replace(view(5.0, ready=2, begin=NOW - 900.0, ttft_seconds=8.0), desired=2)
    of = service(slo={"timeToFirstToken": "2s"}, status=told(2))
    step = stepped(of, PODS[:2], [deployment(2)], {"unified": Told(late)})
    assert replicas(step) == {"unified-default": 3}
    assert step.status.roles[0].reason == "SloMissed"
    fresh = [replace(one, age_seconds=COLD_START_SECONDS) for one in late.replicas]
    young = Told(replace(late, replicas=tuple(fresh)))
    assert replicas(stepped(of, PODS[:2], [deployment(2)], {"unified": young})) == {"unified-default": 2}
    met = Told(replace(view(5.0, ready=2, begin=NOW - 900.0, ttft_seconds=0.4), desired=2))
    assert replicas(stepped(of, PODS[:2], [deployment(2)], {"unified": met})) == {"unified-default": 2}


def test_without_a_profile_misses_add_none_beyond_a_schedule() -> None:
    late = replace(view(5.0, ready=2, begin=NOW - 900.0, ttft_seconds=8.0), desired=2)
    all_day = {"name": "few", "start": "00:00", "end": "24:00", "max": 2}
    of = service(slo={"timeToFirstToken": "2s"}, scaling={"schedules": [all_day]}, status=told(2))
    assert replicas(stepped(of, PODS[:2], [deployment(2)], {"unified": Told(late)})) == {"unified-default": 2}
    of = service(slo={"timeToFirstToken": "2s"}, scaling={"schedules": [{**all_day, "max": 1}]}, status=told(2))
    step = stepped(of, PODS[:2], [deployment(2)], {"unified": Told(late)})
    assert (step.status.roles[0].desired, step.status.roles[0].reason) == (1, "Scheduled")


def test_the_same_is_seen_and_the_same_is_done() -> None:
    of = service(role(variants=[variant(profile="p")]), slo={"timeToFirstToken": "2s"}, status=told(3))
    looks = {"unified": busy(9.0, 3)}
    first = stepped(of, PODS, [deployment(3)], looks, profiles={"p": PERFORMANCE})
    second = stepped(of, list(reversed(PODS)), [deployment(3)], looks, profiles={"p": PERFORMANCE})
    assert first == second
    again = stepped(
        of.model_copy(update={"status": first.status}),
        PODS,
        [deployment(3)],
        looks,
        profiles={"p": PERFORMANCE},
        memories=first.memories,
    )
    assert [one.last_transition_time for one in again.status.conditions] == [
        one.last_transition_time for one in first.status.conditions
    ]


def test_a_decision_keeps_what_each_recommender_asked_for() -> None:
    of = service(
        role(most=8, variants=[variant(profile="p")]),
        slo={"timeToFirstToken": "2s", "interTokenLatency": "100ms"},
        scaling={"recommenders": ["Slo", "Saturation", "Concurrency"], "concurrency": {"target": 4}},
    )
    look = busy(4.0, 2)
    step = stepped(of, PODS[:2], [deployment(2)], {"unified": look}, profiles={"p": PERFORMANCE}, now=look.view.now)
    (last,) = step.status.decisions
    asked = {one.recommender: one.replicas for one in last.recommendations}
    assert set(asked) == {"Slo", "Saturation", "Concurrency"}
    assert (asked["Concurrency"], last.to) == (max(asked.values()), 8), "any raises, up to bounds.max"
