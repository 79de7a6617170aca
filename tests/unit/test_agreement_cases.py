"""The generated cases: the same in every run, all families and pairs among them, and reports that count them."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from harness.agreement.cases import CASES_IN_A_STATE, FAMILIES, PAIRS, Case, coverage, state
from harness.agreement.comparison import Verdict
from harness.agreement.draws import Draws
from harness.agreement.readings import NOT_READY
from harness.agreement.report import AgreementReport

CASE = state(0).cases[0]


def test_state_is_the_same_in_every_run() -> None:
    assert state(3) == state(3)
    assert state(3) != state(4)
    assert state(3) != state(3, seed="2")


def test_name_of_a_case_tells_where_it_is() -> None:
    assert [case.name for case in islice(state(7).cases, 2)] == ["s007-000", "s007-001"]


def test_what_is_drawn_for_one_part_does_not_depend_on_other_parts() -> None:
    draws = Draws("seed")
    first = draws.within("a").between(0, 10**9)
    draws.within("b").some(range(100))
    draws.chance(50)
    assert draws.within("a").between(0, 10**9) == first


@pytest.mark.parametrize("states", [4, 40], ids=["sample", "all"])
def test_all_families_and_pairs_are_covered(states: int) -> None:
    counts = coverage(case for number in range(states) for case in state(number).cases)
    assert min(counts[family,] for family in FAMILIES) >= states * CASES_IN_A_STATE // len(FAMILIES)
    assert min(counts[pair] for pair in PAIRS) >= states


def test_a_case_has_what_its_families_say() -> None:
    fields = {"node affinity": ("nodeSelector", "affinity"), "spread": ("topologySpreadConstraints",)}
    for case in state(1).cases:
        for family, names in fields.items():
            assert any(name in case.document["spec"] for name in names) or family not in case.families


def test_report_counts_by_family(tmp_path: Path) -> None:
    cases = [Case(("taints",), CASE.document), Case(("taints", "spread"), CASE.document)]
    report = AgreementReport(
        [
            Verdict(cases[0], feasible=2, nodes=3),
            Verdict(cases[1], feasible=0, nodes=3, findings=("rules: too many",)),
            Verdict(cases[1], feasible=3, nodes=3, explained=(NOT_READY,)),
            Verdict(cases[1], feasible=3, nodes=3, skipped="Volumes"),
        ]
    )
    report.write(tmp_path / "build" / "agreement.json")
    document = json.loads((tmp_path / "build" / "agreement.json").read_text(encoding="utf-8"))
    assert document["families"]["taints"] == {
        "cases": 4,
        "some nodes": 1,
        "no node": 1,
        "all nodes": 2,
        "skipped": 1,
        "explained": 1,
        "disagreements": 1,
    }
    assert document["pairs"]["taints + spread"] == 2  # what is skipped covers nothing
    assert [entry["findings"] for entry in document["disagreements"]] == [["rules: too many"]]
    assert any("DISAGREEMENT" in line and "rules: too many" in line for line in report.table())
