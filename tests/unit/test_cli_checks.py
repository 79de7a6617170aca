"""The checks of `stowage doctor`."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.cli import checks
from stowage.cli.checks import Result, check_handshake, check_leftovers, check_policies, check_scheduler, check_version
from stowage.transport.errors import NotFound

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


@pytest.mark.parametrize(
    ("plans", "result"),
    [
        ([], Result.PASSED),
        ([plan("Done", startedAt="2025-12-31T23:00:00Z")], Result.PASSED),
        ([plan("Running", startedAt="2025-12-31T23:00:00Z", extenders=SEEN)], Result.PASSED),
        ([plan("Running", startedAt="2025-12-31T23:59:55Z")], Result.PASSED),
        ([plan("Running", startedAt="2025-12-31T23:00:00Z")], Result.FAILED),
        ([plan("Running", startedAt="2025-12-31T23:00:00Z", extenders=OTHER)], Result.FAILED),
    ],
    ids=["no plan", "ended", "acknowledged", "just started", "not acknowledged", "another plan was acknowledged"],
)
def test_running_plans_are_acknowledged_by_an_extender(plans: list[Document], result: Result) -> None:
    assert check_handshake(plans, NOW).result is result


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
    assert check_leftovers(plans, [{"metadata": {"name": "p"}}]).result is result


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
async def test_the_scheduler_leads_while_its_lease_is_fresh(
    spec: Document | None, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks.time, "time", lambda: NOW)
    check = await check_scheduler(OneLease(spec), "kube-system", "stowage-scheduler")
    assert check.result is result
    assert check.found
