"""The checks of `stowage doctor`."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.cli import approval, checks, rights
from stowage.cli.checks import (
    Evidence,
    Places,
    ReadyAnswer,
    check_definitions,
    check_handshake,
    check_operator,
    check_policies,
    check_scheduler,
    check_version,
    extender_answer,
    run_checks,
)
from stowage.cli.errors import CommandError
from stowage.cli.held_pods import held_pods
from stowage.cli.held_pods import told as told_of_pods
from stowage.cli.leftovers import Result, leftovers, told
from stowage.observe.store import COLLECTIONS
from stowage.transport import paths
from stowage.transport.errors import Forbidden, NotFound, from_response
from stowage.transport.server_clock import ServerClock

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
Document = dict[str, Any]


@pytest.mark.parametrize(
    ("major", "minor", "result"),
    [
        ("1", "33", Result.FAILED),
        ("1", "34", Result.PASSED),
        ("1", "36+", Result.PASSED),
        ("1", "37", Result.WARNING),
        ("2", "36", Result.FAILED),
        ("1", "", Result.FAILED),
    ],
)
def test_versions(major: str, minor: str, result: Result) -> None:
    assert check_version({"major": major, "minor": minor, "gitVersion": "v"}).result is result


def plan(phase: str, *, name: str = "p-1", policy: str = "p", **status: Any) -> Document:
    return {"metadata": {"name": name, "uid": "u-1"}, "spec": {"policy": policy}, "status": {"phase": phase, **status}}


SEEN = [{"holder": "h", "observedPlan": "u-1"}]
OTHER = [{"holder": "h", "observedPlan": "u-0"}]


LEADS = Evidence(None, "http://e/readyz", scheduler_leads=True)


@pytest.mark.parametrize(
    ("plans", "result"),
    [
        ([], Result.WARNING),
        ([plan("Done", startedAt="2025-12-31T23:00:00Z", extenders=SEEN)], Result.WARNING),
        ([plan("Running", startedAt="2025-12-31T23:00:00Z", extenders=SEEN)], Result.PASSED),
        ([plan("Running", startedAt="2025-12-31T23:59:55Z")], Result.WARNING),
        ([plan("Running", startedAt="2025-12-31T23:00:00Z")], Result.FAILED),
        ([plan("Running", startedAt="2025-12-31T23:00:00Z", extenders=OTHER)], Result.FAILED),
    ],
    ids=["no plan", "ended", "acknowledged", "just started", "not acknowledged", "another plan was acknowledged"],
)
def test_running_plans_are_acknowledged_by_an_extender(plans: list[Document], result: Result) -> None:
    assert check_handshake(plans, NOW, LEADS).result is result


@pytest.mark.parametrize(
    ("leads", "given", "answer", "result", "word"),
    [
        (True, False, None, Result.WARNING, "unknown: no plan runs"),
        (True, True, None, Result.FAILED, "nobody answers"),
        (True, False, ReadyAnswer(ready=True, words="ok"), Result.PASSED, "ready"),
        (True, False, ReadyAnswer(ready=False, words="no list yet"), Result.WARNING, "no list yet"),
        (False, False, ReadyAnswer(ready=True, words="ok"), Result.WARNING, "not seen"),
        (False, False, None, Result.WARNING, "not seen"),
    ],
)
def test_without_evidence_nobody_says_that_the_extender_runs(
    leads: bool, given: bool, answer: ReadyAnswer | None, result: Result, word: str
) -> None:
    check = check_handshake([], NOW, Evidence(answer, "http://e/readyz", given, leads))
    assert check.result is result
    assert word in check.found


async def test_nobody_at_an_address_is_no_answer() -> None:
    assert await extender_answer("http://127.0.0.1:1/readyz") is None


@pytest.mark.parametrize(
    ("plans", "result"),
    [
        ([plan("Running")], Result.PASSED),
        ([plan("Done", policy="gone")], Result.PASSED),
        ([plan("Running", policy="gone")], Result.WARNING),
        ([plan("", policy="gone")], Result.WARNING),
        ([plan("Proposed", policy="gone")], Result.PASSED),
    ],
    ids=["its policy is there", "ended", "active without a policy", "new without a policy", "keeps no places"],
)
def test_active_plans_without_a_policy_are_leftovers(plans: list[Document], result: Result) -> None:
    assert told(leftovers([], plans, [{"metadata": {"name": "p"}}]), (), "")[0] is result


@pytest.mark.parametrize(
    ("steering", "phase", "kept"),
    [
        pytest.param("Bind", "Running", {}, id="its plan runs"),
        pytest.param("Bind", "Done", {"n1": "u-1"}, id="its plan has ended"),
        pytest.param("Extender", "Running", {"n1": "u-1"}, id="its plan never kept a node"),
        pytest.param(None, "", {"n1": "u-1"}, id="there is no such plan"),
    ],
)
def test_nodes_kept_for_plans_that_do_not_run_are_leftovers(steering: str | None, phase: str, kept: Document) -> None:
    taint = {"key": "stowage.dev/reserved", "value": "u-1", "effect": "NoSchedule"}
    nodes = [{"metadata": {"name": "n1"}, "spec": {"taints": [taint]}}, {"metadata": {"name": "n2"}, "spec": {}}]
    plans = [] if steering is None else [plan(phase) | {"spec": {"policy": "p", "steering": steering}}]
    found = leftovers(nodes, plans, [{"metadata": {"name": "p"}}])
    assert found.nodes == kept
    result, words = told(found, (), "")
    assert ("n1" in words and "doctor --fix" in words) is bool(kept)
    assert result is (Result.WARNING if kept else Result.PASSED)
    assert told(found, tuple(kept), "")[0] is Result.PASSED


def seat(name: str, **metadata: object) -> Document:
    """A pod of job j-1."""
    usual = {"labels": {"stowage.dev/seat": "s0"}, "finalizers": ["stowage.dev/tracking"]}
    owners = {"ownerReferences": [{"uid": "j-1"}]}
    return {"metadata": {"namespace": "a", "name": name, "uid": f"uid-of-{name}", **usual, **owners, **metadata}}


@pytest.mark.parametrize(
    ("pod", "jobs", "leads", "word"),
    [
        pytest.param(seat("p"), {"j-1"}, False, "", id="it runs on without an operator"),
        pytest.param(seat("p"), {"j-2"}, False, "jobs that are gone: a/p", id="its job is gone"),
        pytest.param(seat("p"), {"j-2"}, True, "", id="its job is gone, and an operator is at it"),
        pytest.param(seat("p", deletionTimestamp="now"), {"j-1"}, False, "no operator counts them: a/p", id="deleted"),
        pytest.param(seat("p", deletionTimestamp="now"), {"j-1"}, True, "", id="deleted, and an operator is at it"),
        pytest.param(seat("p") | {"status": {"phase": "Succeeded"}}, {"j-1"}, False, "counts them: a/p", id="it ended"),
        pytest.param(seat("p", finalizers=["other"]), {"j-2"}, False, "", id="others hold it"),
        pytest.param(seat("p", labels={}), {"j-2"}, False, "", id="no pod of a job"),
        pytest.param(seat("p", ownerReferences=None), {"j-2"}, False, "are gone: a/p", id="nobody owns it any more"),
    ],
)
def test_pods_that_nobody_counts_are_found(pod: Document, jobs: set[str], leads: bool, word: str) -> None:
    found = held_pods([pod], jobs, operator_leads=leads)
    result, words = told_of_pods(found, ())
    assert (result is Result.WARNING, bool(found.all)) == (bool(word), bool(word))
    assert word in words
    assert told_of_pods(found, found.all)[0] is Result.PASSED


def test_a_plan_steered_by_bindings_needs_no_extender() -> None:
    bound = plan("Running") | {"spec": {"policy": "p", "steering": "Bind"}}
    evidence = Evidence(None, "http://e/readyz", url_given=False, scheduler_leads=True)
    assert check_handshake([bound], NOW, evidence).result is Result.WARNING


def test_a_cluster_without_a_policy_that_acts_is_worth_a_word() -> None:
    assert check_policies([]).result is Result.WARNING
    assert check_policies([{"metadata": {"name": "p"}, "spec": {"paused": True}}]).result is Result.WARNING
    assert check_policies([{"metadata": {"name": "p"}}]).result is Result.PASSED


class OneLease:
    """Stands in for the API server; None: there is no lease."""

    def __init__(self, spec: Document | None) -> None:
        self.spec = spec

    async def get(self, path: str) -> Document:
        if self.spec is None:
            raise NotFound(f"GET {path}", status=404)
        return {"spec": self.spec}


@pytest.mark.parametrize(
    ("spec", "result"),
    [
        (None, Result.WARNING),
        ({"holderIdentity": "h", "renewTime": "2025-12-31T23:59:58.5Z", "leaseDurationSeconds": 15}, Result.PASSED),
        ({"holderIdentity": "h", "renewTime": "2025-12-31T23:59:30Z", "leaseDurationSeconds": 15}, Result.FAILED),
        ({"holderIdentity": "", "renewTime": "2025-12-31T23:59:59Z", "leaseDurationSeconds": 1}, Result.FAILED),
        ({"holderIdentity": "h"}, Result.FAILED),
    ],
    ids=["no lease", "fresh", "expired", "released", "never renewed"],
)
async def test_a_process_leads_while_its_lease_is_fresh(spec: Document | None, result: Result) -> None:
    scheduler = await check_scheduler(OneLease(spec), "kube-system", "stowage-scheduler", NOW)
    operator = await check_operator(OneLease(spec), "stowage-system", "stowage-operator", NOW)
    assert scheduler.result is result
    assert operator.result is (Result.PASSED if result is Result.PASSED else Result.WARNING)
    assert scheduler.found
    assert "stowage-system/stowage-operator" in operator.found or operator.result is Result.PASSED


async def test_missing_definitions_come_with_the_chart_or_by_hand() -> None:
    found = await check_definitions(OneLease(None))
    assert found.result is Result.FAILED
    assert "missing: packingpolicies, packingplans, trainingjobs, modelservices, performanceprofiles;" in found.found
    assert "--take-ownership" in found.found
    assert "kubectl apply -f crds/" in found.found


class MayDoNothing:
    """An API server that knows the user and allows nothing but questions about rights."""

    server = "https://server"

    def __init__(self) -> None:
        self.clock = ServerClock()
        self.asked: list[Document] = []

    async def get(self, path: str, query: object = None) -> Document:  # noqa: ARG002
        raise Forbidden(f"GET {path}", status=403, reason="Forbidden", message=f"no access to {path}")

    async def create(self, _: str, body: Document) -> Document:
        self.asked.append(body["spec"]["resourceAttributes"])
        return {"status": {"allowed": False}}


async def test_what_a_user_may_not_look_at_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(_: str) -> None:
        return None

    monkeypatch.setattr(checks, "extender_answer", nobody)
    api = MayDoNothing()

    found = {check.name: check for check in await run_checks(api, Places(("ns-o", "o"), ("ns-s", "s")))}

    failed = {name for name, check in found.items() if check.result is Result.FAILED}
    looked = {"version", "custom resources", "pod groups", "operator", "scheduler stowage", "policies", "extender"}
    looked |= {"leftovers", "training pods"}
    assert failed == looked
    assert all("no access to /" in found[name].found for name in failed)
    assert found["permissions"].result is Result.WARNING
    assert {(one["verb"], one["namespace"]) for one in api.asked if one["resource"] == "leases"} == {
        *((verb, "ns-o") for verb in ("get", "list", "create", "update", "patch", "delete")),
        ("get", "ns-s"),
    }


class Serves:
    """An API server that has some collections."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths

    async def get(self, path: str, _: Document) -> Document:
        if path not in self.paths:
            raise NotFound(f"GET {path}", status=404)
        return {"items": []}


async def test_which_pod_groups_are_followed() -> None:
    check = await checks.check_pod_groups(Serves(paths.COSCHEDULING_POD_GROUPS))
    assert check.result is Result.PASSED
    assert check.found == "scheduling.k8s.io/v1alpha2 is not served, scheduling.x-k8s.io/v1alpha1 is followed"


def test_the_needed_rights_cover_every_collection_that_is_followed() -> None:
    named = rights.attributes(operator_namespace="o", scheduler_namespace="s")
    asked = {(one["group"], one["resource"], one["verb"]) for one in named.values()}
    for collection in COLLECTIONS:
        version, _, plural = collection.path.removeprefix("/apis/").rpartition("/")
        group = "" if version.startswith("/api/") else version.rpartition("/")[0]
        assert {(group, plural, verb) for verb in ("list", "watch")} <= asked
    assert {"list podgroups.scheduling.k8s.io", "list podgroups.scheduling.x-k8s.io"} <= set(named)
    assert named["create pods/eviction"]["subresource"] == "eviction"
    assert {"update packingplans/status", "patch packingplans/status", "create events"} <= set(named)
    assert not {"update nodes", "update pods", "update secrets", "list secrets"} & set(named)


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        (
            b'{"kind":"Status","reason":"NotFound","code":404,"message":"p not found"}',
            2,
            "not found",
        ),
        (
            b"404 page not found\n",
            3,
            "serves no PackingPlan at all; is it the right one .--context.* stowage doctor tells",
        ),
    ],
    ids=["the object is missing", "the resource is missing"],
)
async def test_a_missing_object_is_told_from_a_missing_resource(body: bytes, code: int, word: str) -> None:
    class Answers:
        async def get(self, path: str) -> Document:
            raise from_response(f"GET {path}", 404, body, None)

    with pytest.raises(CommandError, match=word) as refused:
        await approval._existing(Answers(), "/packingplans/p", "PackingPlan p")
    assert refused.value.code == code
