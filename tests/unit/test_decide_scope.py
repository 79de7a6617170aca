from __future__ import annotations

from typing import Any

import pytest

from stowage.decide.scope import (
    Scope,
    free_nodes,
    moves_last_hour,
    moves_left,
    options,
    rival_of,
    scopes,
    within,
    without_planned,
)
from stowage_scheduler.cluster import LabelSelector
from stowage_scheduler.kube.matching import matches_selector
from stowage_scheduler.options import BatchJobs, PackOptions
from stowage_scheduler.unavailable import MaxUnavailable
from unit.builders import NOW, evict, node, place, plan_resource, pod, policy_resource, slot, snapshot

GPU, ANY = node("gpu-1", labels={"type": "gpu"}), node("cpu-1")
WEB, NEW = pod("web-1", "n1"), pod("new-1", app="new")


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        pytest.param({"priority": 1}, {}, "a", id="higher-priority"),
        pytest.param({}, {"priority": 1}, "b", id="higher-priority-of-the-other"),
        pytest.param({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}, {}, "a", id="older"),
        pytest.param({}, {"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}, "b", id="the-other-is-older"),
        pytest.param({}, {}, "a", id="same-age-smaller-name"),
    ],
)
def test_a_node_belongs_to_one_policy(first: dict[str, Any], second: dict[str, Any], winner: str) -> None:
    loser = "b" if winner == "a" else "a"
    found = scopes([policy_resource("b", **second), policy_resource("a", **first)], [GPU])
    assert found == {
        winner: Scope(frozenset({"gpu-1"}), {}),
        loser: Scope(frozenset(), {"gpu-1": winner}),
    }


def test_a_policy_keeps_the_nodes_that_the_stronger_one_does_not_select() -> None:
    strong = policy_resource("strong", priority=5, nodeSelector={"type": "gpu"})
    found = scopes([policy_resource("weak"), strong], [GPU, ANY])
    assert found["strong"] == Scope(frozenset({"gpu-1"}), {})
    assert found["weak"] == Scope(frozenset({"cpu-1"}), {"gpu-1": "strong"})


def test_every_limit_of_a_policy_reaches_the_packer() -> None:
    policy = policy_resource(
        schedulerNames=["x"],
        podSelector={"matchLabels": {"a": "b"}},
        namespaceSelector={},
        nodeSelector={"type": "gpu"},
        disruption={
            "maxMovesPerPlan": 7,
            "minPodAge": "1m30s",
            "ownerSettled": "10s",
            "protect": {"namespaces": ["one"], "priorityAtLeast": 9},
            "maxUnavailablePerOwner": 3,
            "evictLowerPriority": False,
            "batchJobs": "Always",
            "protectEmptyDir": True,
        },
    )
    assert options(policy, 100) == PackOptions(
        scheduler_names=("x",),
        pod_selector=LabelSelector(labels=(("a", "b"),)),
        namespace_selector=LabelSelector(),
        node_selector={"type": "gpu"},
        max_moves=7,
        max_gang_pods=256,
        min_pod_age_seconds=90,
        owner_settled_seconds=10,
        protected_namespaces=("one",),
        protected_priority_at_least=9,
        max_unavailable_per_owner=MaxUnavailable(pods=3),
        evict_lower_priority=False,
        batch_jobs=BatchJobs.ALWAYS,
        protect_empty_dir=True,
    )
    assert options(policy, 3).max_moves == 3


@pytest.mark.parametrize(
    ("status", "count"),
    [
        pytest.param({"state": "Done", "reason": "Bound", "at": "2027-01-15T07:30:00Z"}, 1, id="moved"),
        pytest.param({"state": "Intended", "at": "2027-01-15T07:30:00Z"}, 1, id="perhaps-evicted"),
        pytest.param({"state": "Void", "reason": "OwnerGone", "at": "2027-01-15T07:30:00Z"}, 1, id="evicted-then-void"),
        pytest.param({"state": "Done", "reason": "Bound", "at": "2027-01-15T06:59:00Z"}, 0, id="more-than-an-hour-ago"),
        pytest.param({"state": "Waiting", "at": "2027-01-15T07:30:00Z"}, 0, id="not-begun"),
        pytest.param({"state": "Void", "reason": "PlanEnded", "at": "2027-01-15T07:30:00Z"}, 0, id="never-begun"),
        pytest.param({"state": "Done", "reason": "AlreadyGone", "at": "2027-01-15T07:30:00Z"}, 0, id="not-our-doing"),
    ],
)
def test_moves_of_the_last_hour(status: dict[str, str], count: int) -> None:
    target = slot(1, NEW, "n1")
    steps = (evict(1, WEB), place(2, NEW, target))
    statuses = [{"id": "s001", **status}, {"id": "s002", "state": "Done", "at": "2027-01-15T07:30:00Z"}]
    plans = [plan_resource("default-1", *steps, slots=(target,), status={"steps": statuses})]
    assert moves_last_hour(plans, NOW) == count
    assert moves_left(policy_resource(disruption={"maxMovesPerHour": 1}), plans, NOW) == 1 - count


def test_what_belongs_to_others_is_left_out() -> None:
    away, free = pod("away-1", "n2", app="away"), pod("free-1", app="free")
    target = slot(1, NEW, "n3")
    other = plan_resource("other-1", place(1, NEW, target), slots=(target,), policy="other")
    assert free_nodes(Scope(frozenset({"n1", "n3"}), {}), [other]) == {"n1"}, "the other plan works on n3"
    seen = without_planned(snapshot(WEB, away, NEW, free), [other])
    assert {one.name for one in seen.pods} == {"web-1", "away-1", "free-1"}, "the other plan places new-1"


@pytest.mark.parametrize(
    ("phase", "policy", "on", "rival"),
    [
        pytest.param("Running", "default", "n9", True, id="same-policy"),
        pytest.param("Running", "other", "n1", True, id="same-node"),
        pytest.param("Running", "other", "n9", False, id="nothing-in-common"),
        pytest.param("Proposed", "default", "n1", False, id="only-proposed"),
        pytest.param("Done", "default", "n1", False, id="ended"),
    ],
)
def test_two_plans_do_not_run_for_one_policy_or_on_one_node(phase: str, policy: str, on: str, rival: bool) -> None:
    mine = plan_resource("default-2", evict(1, WEB))
    other = plan_resource("default-1", evict(1, pod("x", on, app="x")), policy=policy, status={"phase": phase})
    assert (rival_of(mine, [mine, other]) is other) is rival


def test_of_two_plans_that_wait_for_the_extender_one_goes_first() -> None:
    one, two = (plan_resource(name, evict(1, WEB), status={"phase": "Approved"}) for name in ("p-1", "p-2"))
    assert rival_of(one, [one, two]) is None
    assert rival_of(two, [one, two]) is one


@pytest.mark.parametrize(
    ("given", "watched", "held"),
    [
        pytest.param(None, (), {"ml": True, "web": True}, id="the whole cluster"),
        pytest.param(None, ("ml",), {"ml": True, "web": False}, id="one namespace"),
        pytest.param({"matchLabels": {"team": "a"}}, ("ml", "web"), {"ml": True, "web": False}, id="and the policy's"),
    ],
)
def test_a_policy_speaks_of_watched_namespaces_only(
    given: dict[str, Any] | None, watched: tuple[str, ...], held: dict[str, bool]
) -> None:
    policy = within(policy_resource("a", **({"namespaceSelector": given} if given else {})), watched)
    selector = options(policy, moves_left=1).namespace_selector
    teams = {"ml": "a", "web": "b"}
    found = {
        name: selector is None or matches_selector(selector, {"kubernetes.io/metadata.name": name, "team": teams[name]})
        for name in held
    }
    assert found == held
