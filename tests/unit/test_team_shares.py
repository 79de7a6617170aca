"""What the status of a policy says of its teams."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.api.team_share import TeamShare
from stowage.decide.policy_status import PolicyView, policy_status
from stowage.decide.scope import Scope
from stowage.decide.team_shares import team_shares
from stowage.decide.trigger import Trigger
from unit.builders import NOW, node, pod, policy_resource, snapshot

TEAMS = [
    {"name": "web", "weight": 2, "selector": {"matchLabels": {"app": "web"}}},
    {"name": "db", "selector": {"matchLabels": {"app": "db"}}},
]
CLUSTER = snapshot(
    node("n1", 10),
    node("n2", 30),
    pod("web-0", "n1", cpu=4),
    pod("web-1", "n2", cpu=6),
    pod("web-2", "n2", cpu=9, phase="Succeeded"),
    pod("web-3", cpu=9),
    pod("other-0", "n1", cpu=1, app="other"),
)


@pytest.mark.parametrize(
    ("fairness", "nodes", "shares"),
    [
        pytest.param({}, {"n1", "n2"}, (), id="no shares asked for"),
        pytest.param(
            {"mode": "WeightedDRF", "teams": TEAMS},
            {"n1", "n2"},
            (TeamShare(name="web", share="0.25", resource="cpu", pods=2), TeamShare(name="db", share="0.00")),
            id="of all nodes",
        ),
        pytest.param(
            {"mode": "WeightedDRF", "teams": TEAMS[:1]},
            {"n1"},
            (TeamShare(name="web", share="0.40", resource="cpu", pods=1),),
            id="of the policy's nodes alone",
        ),
    ],
)
def test_shares_of_teams(fairness: dict[str, Any], nodes: set[str], shares: tuple[TeamShare, ...]) -> None:
    policy = policy_resource(fairness=fairness)
    found = team_shares(policy, CLUSTER, frozenset(nodes))
    assert found == shares
    view = PolicyView(scope=Scope(frozenset(nodes), {}), trigger=Trigger(due=False), teams=found)
    assert policy_status(policy, view, NOW).teams == shares
