"""Hundreds of PodDisruptionBudgets: the check looks at those that a pod's labels speak of, not at all of them."""

from __future__ import annotations

import pytest

from harness.facts import OPTIONS, node, pod, snapshot
from stowage_scheduler.cluster import DisruptionBudget, LabelSelector
from stowage_scheduler.kube import budgets
from stowage_scheduler.rules import Outcome
from stowage_scheduler.rules.budgets import Budgets

_PODS = 200


def test_a_pod_is_held_against_few_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each with each there were 40,000 looks here, and a million where 1,000 pods move."""
    looks: list[int] = []
    matches = budgets.matches_selector

    def counted(selector: LabelSelector | None, labels: dict[str, str]) -> bool:
        looks.append(1)
        return matches(selector, labels)

    monkeypatch.setattr(budgets, "matches_selector", counted)
    covered = tuple(
        DisruptionBudget("default", f"b{n}", f"b{n}", LabelSelector((("app", f"a{n}"),)), int(n > 0))
        for n in range(_PODS)
    )
    pods = [pod(f"a{n}-0", on="n0", labels={"app": f"a{n}"}) for n in range(_PODS)]
    facts = snapshot(node("n0", 100_000), node("n1", 100_000), *pods, budgets=covered)
    outcome = Outcome(facts, OPTIONS, {one.uid: "n1" for one in pods})
    assert [violation.subject for violation in Budgets().check(outcome)] == ["default/b0"]
    assert len(looks) <= 2 * _PODS
