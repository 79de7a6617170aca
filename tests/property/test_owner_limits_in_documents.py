"""Plans and drains of whole dumps, as documents: no order that their edges allow has too many of a controller away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.instances import dump as dump_of
from harness.instances import paper_instance
from harness.owner_checker import most_away
from stowage.cli import run

ORDERS = 10
WITH_A_LIMIT = {"apiVersion": "stowage.dev/v1alpha1", "kind": "PackingPolicy", "metadata": {"name": "slow"}}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("command", ["plan", "drain"])
def test_a_limit_of_the_policy_holds_in_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, seed: int
) -> None:
    usage = 70 if command == "drain" else 95
    dump = dump_of(paper_instance(8, 8, 1, usage, seed, placeable=True))
    free, limited = (_answer(tmp_path, capsys, command, dump, limit) for limit in ("100%", 1))
    assert limited["moves"], "nothing moves"
    assert {move["pod"] for move in limited["moves"]} == {move["pod"] for move in free["moves"]}
    worst = [max(most_away(dump, limited, order).values(), default=0) for order in range(ORDERS)]
    assert max(worst) == 1
    if command == "drain":
        assert max(max(most_away(dump, free, order).values()) for order in range(ORDERS)) > 1, "nothing to limit"


def _answer(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, dump: dict[str, Any], limit: object
) -> dict[str, Any]:
    disruption = {"maxUnavailablePerOwner": limit, "minPodAge": "0s", "ownerSettled": "0s"}
    policy = {**WITH_A_LIMIT, "spec": {"schedulerNames": ["default-scheduler", "stowage"], "disruption": disruption}}
    (folder / "dump.json").write_text(json.dumps(dump))
    (folder / "policy.json").write_text(json.dumps(policy))
    nodes = ["node-000", "node-001"] if command == "drain" else []
    files = ("-f", str(folder / "dump.json"), "--policy", str(folder / "policy.json"))
    code = run([command, *nodes, *files, "--deterministic-budget", "1", "-o", "json"])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == 0 or command == "plan"
    return answer if command == "plan" else answer["plan"]
