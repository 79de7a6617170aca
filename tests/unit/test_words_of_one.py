"""One of a thing is told as one: in answers of commands, conditions of policies and messages of plans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stowage.api.conditions import condition_of
from stowage.api.packing_plan_status import PlanPhase
from stowage.api.reasons import PolicyCondition
from stowage.cli import run
from stowage.decide.policy_status import PolicyView, policy_status
from stowage.decide.scope import Scope
from stowage.decide.trigger import Trigger
from unit import one_move
from unit.builders import NOW, bound, node, plan, policy_resource, snapshot
from unit.one_move import MOVE, OWNERS, PLACE, REPLACEMENT, RUNNING, TO_N1, TO_N2
from unit.test_cli_answers import Document, pod
from unit.test_cli_answers import node as node_document

FULL = [node_document("n1"), pod("left", "3", on="n1"), pod("wide", "3")]


@pytest.mark.parametrize(
    ("arguments", "items", "told"),
    [
        pytest.param(["plan"], FULL, "0 pending pods get a place, 1 stays pending, 0 moves", id="plan"),
        pytest.param(["top"], FULL, "1 node, 3.0 of 4.0 cores (75 %) requested, 1 pod pending", id="top"),
        pytest.param(["why", "pod/wide", "-n", "a"], FULL, "1 of 1 node: InsufficientCpu", id="why"),
        pytest.param(["drain", "n1"], FULL, "1 pod would find no place elsewhere", id="drain"),
    ],
)
def test_commands(
    arguments: list[str], items: list[Document], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = tmp_path / "dump.json"
    dump.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    run([*arguments, "-f", str(dump)])
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("condition", "view", "told"),
    [
        pytest.param(
            PolicyCondition.READY,
            {"trigger": Trigger(due=False, pending=1), "fruitless": True},
            "1 pod stays pending",
            id="stays-pending",
        ),
        pytest.param(
            PolicyCondition.READY,
            {"trigger": Trigger(due=False, pending=1, limited=1)},
            "1 pod was planned for four times in the last hour",
            id="planned-for-too-often",
        ),
        pytest.param(
            PolicyCondition.CONFLICT,
            {"scope": Scope(frozenset({"n1"}), {"n2": "strong"})},
            "policy strong holds 1 node: n2",
            id="held-by-another",
        ),
    ],
)
def test_conditions(condition: PolicyCondition, view: dict[str, Any], told: str) -> None:
    usual = {"scope": Scope(frozenset({"n1"}), {}), "trigger": Trigger(due=False)}
    status = policy_status(policy_resource(), PolicyView(**{**usual, **view}), NOW)
    found = condition_of(status.conditions, condition)
    assert found is not None
    assert found.message == told


def test_a_plan_of_one_step_says_so_at_its_end() -> None:
    facts = plan(MOVE, TO_N2, **RUNNING)
    step = one_move.run(facts, one_move.cluster(bound(REPLACEMENT, "n2")))
    assert (step.phase, step.message) == (PlanPhase.DONE, "1 of 1 step done")


def test_a_node_that_is_gone_says_how_many_were_to_land_there() -> None:
    facts = plan(MOVE, PLACE, TO_N1, TO_N2, **RUNNING)
    seen = snapshot(node("n1"), *OWNERS, one_move.WEB, one_move.OTHER, one_move.NEW)
    assert one_move.run(facts, seen).message == "node n2 is gone; 1 pod was to land there"
