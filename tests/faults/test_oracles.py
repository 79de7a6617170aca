"""Each oracle sees the violation that it is there for, and says nothing when all is well."""

from __future__ import annotations

import json
from typing import Any

import pytest

from faults import oracles
from faults.kill_points import PACKINGS, points, sample
from faults.report import Report
from faults.scenarios import BIND, EXTENDER, SCENARIOS, Kills, Victim
from faults.script import Side
from faults.sweep import Outcome
from faults.traffic import Exchange, Request
from faults.watch_log import Change, WatchLog

Document = dict[str, Any]
OWNER = [{"kind": "ReplicaSet", "name": "web", "controller": True}]
NODES = [
    {
        "metadata": {"name": name, "labels": {"pool": name}},
        "spec": {},
        "status": {"allocatable": {"cpu": "8", "memory": "64Gi", "pods": "3"}},
    }
    for name in ("n1", "n2")
]


def pod(name: str, node: str | None = None, *, ready: bool = True, cpu: str = "3", **spec: Any) -> Document:
    return {
        "metadata": {
            "namespace": "a",
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": "7",
            "labels": {"app": "web"},
            "ownerReferences": OWNER,
        },
        "spec": {
            "priority": 100,
            "containers": [{"name": "main", "resources": {"requests": {"cpu": cpu}}}],
            **({"nodeName": node} if node else {}),
            **spec,
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready and node else "False"}],
        },
    }


def terminating(document: Document) -> Document:
    return {**document, "metadata": {**document["metadata"], "deletionTimestamp": "2027-01-15T08:00:00Z"}}


def added(*documents: Document) -> list[Change]:
    return [Change("ADDED", document) for document in documents]


def eviction(name: str = "p1", uid: str | None = "u1", status: int | None = 201, client: int | None = 201) -> Exchange:
    body = {"deleteOptions": {"preconditions": {"uid": uid}} if uid else {}}
    path = f"/api/v1/namespaces/a/pods/{name}/eviction"
    return Exchange(Request(0, "POST", path, body=json.dumps(body).encode()), 0.0, status, client)


def deletion(name: str = "p1", uid: str = "u1") -> Exchange:
    body = json.dumps({"preconditions": {"uid": uid}}).encode()
    return Exchange(Request(0, "DELETE", f"/api/v1/namespaces/a/pods/{name}", body=body), 0.0, 200, 200)


def test_the_end_state_counts_ready_pods_that_stay_by_owner_and_priority() -> None:
    pods = [pod("p1", "n1"), pod("p2", "n1"), pod("p3", "n1", ready=False), terminating(pod("p4", "n1")), pod("p5")]
    assert oracles.end_state(pods) == {("ReplicaSet/web", 100): 2}


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        pytest.param({("ReplicaSet/web", 100): 2}, False, id="the same"),
        pytest.param({("ReplicaSet/web", 100): 1}, True, id="a pod is lost"),
        pytest.param({("ReplicaSet/web", 100): 3}, True, id="a pod too many"),
        pytest.param({("ReplicaSet/web", 200): 2}, True, id="of another priority"),
        pytest.param({}, True, id="none at all"),
    ],
)
def test_another_end_state_is_seen(found: dict[tuple[str, int], int], wrong: bool) -> None:
    assert bool(oracles.other_end_state({("ReplicaSet/web", 100): 2}, found)) is wrong


@pytest.mark.parametrize(
    ("exchanges", "wrong"),
    [
        pytest.param([eviction(), eviction("p2", "u2")], False, id="two pods, once each"),
        pytest.param([eviction(), eviction()], True, id="the same pod twice"),
        pytest.param([eviction(client=None), eviction()], True, id="twice, although the first was not heard"),
        pytest.param([eviction(status=429, client=429), eviction()], False, id="refused, then granted"),
        pytest.param([eviction(status=None), eviction()], False, id="never reached the server, then granted"),
        pytest.param([eviction(uid="u1"), eviction(uid="u2")], False, id="a successor of the same name"),
        pytest.param([eviction(), deletion()], True, id="evicted, then deleted"),
    ],
)
def test_a_pod_that_is_evicted_twice_is_seen(exchanges: list[Exchange], wrong: bool) -> None:
    assert bool(oracles.evicted_twice(exchanges)) is wrong


def test_an_eviction_that_could_hit_a_successor_is_seen() -> None:
    assert oracles.evicted_without_uid([eviction()]) == []
    assert oracles.evicted_without_uid([eviction(uid=None)])


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        pytest.param(added(pod("p1", "n1"), pod("p2", "n1")), False, id="two fit"),
        pytest.param(added(pod("p1", "n1"), pod("p2", "n1"), pod("p3", "n1")), True, id="too much CPU"),
        pytest.param(added(*(pod(f"p{i}", "n1", cpu="1") for i in range(4))), True, id="too many pods"),
        pytest.param(added(pod("p1", "n1"), pod("p2", "n2"), pod("p3", "n2")), False, id="on two nodes"),
        pytest.param(
            [*added(pod("p1", "n1"), pod("p2", "n1")), Change("DELETED", pod("p1", "n1")), *added(pod("p3", "n1"))],
            False,
            id="one goes before another comes",
        ),
        pytest.param(
            [*added(pod("p1", "n1"), terminating(pod("p2", "n1")), pod("p3", "n1"))],
            True,
            id="one that still terminates holds its room",
        ),
        pytest.param(
            [
                *added(pod("p1", "n1"), pod("p2", "n1"), pod("p3", "n1")),
                Change("DELETED", pod("p1", "n1")),
            ],
            True,
            id="for a moment only",
        ),
        pytest.param(added(pod("p1", "n9")), True, id="on a node that nobody knows"),
    ],
)
def test_an_oversubscribed_node_is_seen_at_any_resource_version(changes: list[Change], wrong: bool) -> None:
    assert bool(list(oracles.oversubscribed(changes, NODES))) is wrong


@pytest.mark.parametrize(
    ("places", "wrong"),
    [
        pytest.param([None, "n1", "n1"], False, id="once"),
        pytest.param(["n1", "n2"], True, id="to another node"),
        pytest.param(["n1", None], True, id="to no node"),
    ],
)
def test_a_pod_that_is_bound_twice_is_seen(places: list[str | None], wrong: bool) -> None:
    changes = [Change("MODIFIED", pod("p1", place)) for place in places]
    assert bool(list(oracles.bound_twice(changes))) is wrong


@pytest.mark.parametrize(
    ("kept", "wrong"), [pytest.param(1, False, id="the budget allows it"), pytest.param(2, True, id="it does not")]
)
def test_an_overdrawn_budget_is_seen(kept: int, wrong: bool) -> None:
    changes = [*added(pod("p1", "n1"), pod("p2", "n2")), Change("MODIFIED", terminating(pod("p1", "n1")))]
    assert bool(list(oracles.budget_overdrawn(changes, {"web": kept}))) is wrong


def test_pods_that_are_not_there_yet_overdraw_no_budget() -> None:
    assert not list(oracles.budget_overdrawn(added(pod("p1"), pod("p2", "n1")), {"web": 2}))


REPELS = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}
        ]
    }
}
PORT = [{"name": "main", "ports": [{"hostPort": 80, "containerPort": 80}], "resources": {}}]


@pytest.mark.parametrize(
    ("pods", "wrong"),
    [
        pytest.param([pod("p1", "n1", nodeSelector={"pool": "n1"})], False, id="its node is selected"),
        pytest.param([pod("p1", "n2", nodeSelector={"pool": "n1"})], True, id="its node is not selected"),
        pytest.param([pod("p1", "n1", affinity=REPELS), pod("p2", "n2", affinity=REPELS)], False, id="apart"),
        pytest.param([pod("p1", "n1", affinity=REPELS), pod("p2", "n1")], True, id="together although one repels"),
        pytest.param([pod("p1", "n1", containers=PORT), pod("p2", "n1", containers=PORT)], True, id="one port twice"),
        pytest.param([pod("p1", "n1", schedulingGates=[{"name": "x"}])], True, id="gated and bound"),
        pytest.param([pod("p1", "n3")], True, id="on a node that does not exist"),
    ],
)
def test_a_broken_rule_is_seen(pods: list[Document], wrong: bool) -> None:
    assert bool(list(oracles.rules_broken(pods, NODES))) is wrong


def plan(phase: str | None) -> Document:
    return {"metadata": {"name": "p"}, "status": {"phase": phase}}


def member(name: str, *, gated: bool) -> Document:
    made = pod(name, **({"schedulingGates": [{"name": "gate"}]} if gated else {}))
    made["metadata"]["labels"]["stowage.dev/gang"] = "g"
    return made


@pytest.mark.parametrize(
    ("plans", "taints", "pods", "wrong"),
    [
        pytest.param([plan("Done"), plan("Superseded")], [], [], False, id="all is over"),
        pytest.param([plan("Running")], [], [], True, id="a plan still runs"),
        pytest.param([plan(None)], [], [], True, id="a plan that nobody took up"),
        pytest.param([], [{"key": "taint", "value": "u"}], [], True, id="a taint is left"),
        pytest.param([], [{"key": "other"}], [], False, id="a taint of somebody else"),
        pytest.param([], [], [member("a", gated=True), member("b", gated=False)], True, id="half a gang"),
        pytest.param([], [], [member("a", gated=True), member("b", gated=True)], False, id="a gang that waits"),
    ],
)
def test_leftovers_are_seen(plans: list[Document], taints: list[Document], pods: list[Document], wrong: bool) -> None:
    nodes = [{"metadata": {"name": "n1"}, "spec": {"taints": taints}}]
    assert bool(list(oracles.leftovers(plans, nodes, pods, "taint", "gate"))) is wrong


@pytest.mark.parametrize(
    ("method", "path", "wrong"),
    [
        pytest.param("GET", "/api/v1/pods", False, id="reading"),
        pytest.param("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", False, id="renewing a lease"),
        pytest.param("PATCH", "/api/v1/nodes/n1", True, id="writing"),
    ],
)
def test_a_hot_loop_is_seen(method: str, path: str, wrong: bool) -> None:
    assert bool(oracles.still_writing([Exchange(Request(0, method, path), 0.0, 200, 200)])) is wrong


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        pytest.param("INFO plan p: Done", False, id="nothing special"),
        pytest.param("WARNING eviction: 429 TooManyRequests", False, id="a warning"),
        pytest.param("Traceback (most recent call last):", True, id="a traceback"),
        pytest.param("panic: runtime error", True, id="a panic"),
        pytest.param("Task exception was never retrieved", True, id="an error that nobody looked at"),
    ],
)
def test_a_defect_in_a_log_is_seen(line: str, wrong: bool) -> None:
    assert bool(oracles.alarms(f"INFO first\n{line}\nINFO last")) is wrong


def test_a_watch_log_tells_what_is_there_now() -> None:
    log = WatchLog([*added(pod("p1"), pod("p2")), Change("MODIFIED", pod("p1", "n1")), Change("DELETED", pod("p2"))])
    assert [(one["metadata"]["name"], one["spec"].get("nodeName")) for one in log.objects] == [("p1", "n1")]


CHANGES = {Victim.OPERATOR: 60, Victim.EXTENDER: 1, Victim.SCHEDULER: 100}


def test_every_change_is_a_point_on_both_sides() -> None:
    found = points(BIND, Kills(Victim.OPERATOR, Victim.OPERATOR), CHANGES)
    assert [(point.number, point.side) for point in found] == [
        (number, side) for number in range(1, 61) for side in (Side.BEFORE, Side.AFTER)
    ]
    assert found[2].id == "bind:operator:2:before"


def test_points_at_the_changes_of_another_process_are_told_apart() -> None:
    found = points(EXTENDER, Kills(Victim.EXTENDER, Victim.OPERATOR, every=20), CHANGES)
    assert [point.id for point in found[::2]] == [f"extender:extender@operator:{n}:before" for n in (1, 21, 41)]
    assert len(points(EXTENDER, Kills(Victim.SOLVER, Victim.SOLVER), CHANGES)) == PACKINGS


def test_all_points_have_different_names_and_are_enough() -> None:
    found = [
        point.id for scenario in SCENARIOS for kills in scenario.kills for point in points(scenario, kills, CHANGES)
    ]
    assert len(found) == len(set(found))
    assert len(found) >= 200


def test_a_sample_has_points_that_stay_and_points_that_rotate() -> None:
    found = points(BIND, Kills(Victim.OPERATOR, Victim.OPERATOR), CHANGES)
    drawn = [sample(found, fixed=4, rotating=3, seed=seed) for seed in ("a", "a", "b")]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [len(one) for one in drawn] == [7, 7, 7]
    assert {found[15], found[45], found[75], found[105]} <= set(drawn[0]) & set(drawn[2])
    union = {point for seed in range(1000) for point in sample(found, fixed=0, rotating=3, seed=str(seed))}
    assert union == set(found), "every point comes up some day"


@pytest.mark.parametrize(("fixed", "rotating"), [(0, 0), (1, 0), (0, 1), (500, 500)])
def test_a_sample_is_never_larger_than_what_there_is(fixed: int, rotating: int) -> None:
    found = points(EXTENDER, Kills(Victim.SOLVER, Victim.SOLVER), CHANGES)
    drawn = sample(found, fixed=fixed, rotating=rotating, seed="a")
    assert len(drawn) == min(len(found), fixed + rotating) == len(set(drawn))
    assert sample([], fixed=fixed, rotating=rotating, seed="a") == []


def test_the_report_counts_points_that_were_reached_and_failures() -> None:
    [point, *_] = points(BIND, Kills(Victim.OPERATOR, Victim.OPERATOR), CHANGES)
    report = Report(seed="s", chosen="all")
    report.outcomes["bind"] += [Outcome(None), Outcome(point, killed=True), Outcome(point, problems=["lost"])]
    assert (report.kills, report.document()["failed"]) == (1, 1)
    assert report.document()["runs"][1]["point"] == "bind:operator:1:before"
    assert report.table()[2].split() == ["bind", "operator", "at", "operator", "2", "1", "1", "0.0", "0-0"]
