"""Stowage and an unmodified kube-scheduler name the same nodes for generated pods (docs/design/agreement.md).

A sample here; `make agreement` takes all states. A case is found again by its name: s007-042 is case 42 of state 7.
"""

from __future__ import annotations

import asyncio

import pytest

from harness.agreement.cases import FAMILIES, PAIRS
from harness.agreement.comparison import Observation, verdicts
from harness.agreement.observing import observe
from harness.agreement.report import FILE, REPORT, AgreementReport
from harness.large_cluster import bare_cluster
from stowage_scheduler.cluster import Unmodelled
from stowage_scheduler.rules import RULES
from stowage_scheduler.rules.rule import Rule

ALL_STATES, SAMPLED_STATES = 40, 4
SKIPPED = {Unmodelled.RESOURCE_CLAIMS, Unmodelled.SCHEDULING_GROUP}
RULES_OF_NODES = tuple(
    rule
    for rule in RULES
    if rule.name
    # those that speak of plans, one about pods that no API server holds, and two of which kube-scheduler knows nothing
    not in {"NeverMoves", "Evictions", "Budgets", "MoveLimit", "Gangs", "ClosedNodes", "DrainedNodes"}
    | {"GpuShares", "GpuIslands"}
)


@pytest.fixture(scope="module")
def observed(pytestconfig: pytest.Config) -> list[Observation]:
    """States that stood on a control plane without controllers, which would change them."""
    every = pytestconfig.getoption("--agreement", default="sample") == "all"
    with bare_cluster() as bare:
        return asyncio.run(observe(bare, range(ALL_STATES if every else SAMPLED_STATES)))


def test_nodes_are_those_of_kube_scheduler(observed: list[Observation], pytestconfig: pytest.Config) -> None:
    report = AgreementReport(verdict for one in observed for verdict in verdicts(one))
    pytestconfig.stash[REPORT] = report
    if len(observed) == ALL_STATES:
        report.write(FILE)
    assert not report.disagreements, "\n".join(report.table())
    assert set(report.skipped) <= SKIPPED
    of_family = len(observed) * 100 // len(FAMILIES)
    assert min(report.coverage[family,] for family in FAMILIES) >= of_family
    assert min(report.coverage[pair] for pair in PAIRS) >= len(observed)
    rows = report.rows()
    assert all(rows[family]["some nodes"] >= rows[family]["cases"] // 5 for family in FAMILIES)


@pytest.mark.parametrize("rule", RULES_OF_NODES, ids=lambda rule: rule.name)
def test_rule_that_is_left_out_is_noticed(
    observed: list[Observation], rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(rule), "refuses", Rule.refuses)
    monkeypatch.setattr(type(rule), "check", Rule.check)
    found = (verdict for one in observed[:SAMPLED_STATES] for verdict in verdicts(one))
    assert any(verdict.findings for verdict in found)
