"""When a policy with tail LeastPower has to say that it can not do better than Consolidate."""

from __future__ import annotations

import pytest

from stowage.decide.power_words import without_figures
from stowage.decide.scope import options
from stowage_scheduler.cluster import Node
from stowage_scheduler.options import Tail
from unit.builders import node, policy_resource

TELLS = node("n1", labels={"stowage.dev/idle-watts": "100", "stowage.dev/peak-watts": "200"})


@pytest.mark.parametrize(
    ("tail", "nodes", "speaks"),
    [
        pytest.param("LeastPower", [node("n1")], True, id="no node tells"),
        pytest.param("LeastPower", [], True, id="no nodes"),
        pytest.param("LeastPower", [node("n0"), TELLS], False, id="one tells"),
        pytest.param("Consolidate", [node("n1")], False, id="nobody asked"),
    ],
)
def test_who_speaks(tail: str, nodes: list[Node], speaks: bool) -> None:
    policy = policy_resource(objective={"tail": tail})
    assert ("acts as Consolidate" in without_figures(policy, nodes)) == speaks
    assert options(policy, 1).tail is Tail(tail)
