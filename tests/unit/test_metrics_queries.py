"""Dashboards and alerts speak of metrics that exist; everything that is generated is current."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.promql import names, problems
from stowage.run.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "helm" / "stowage" / "alerts" / "stowage.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"
BOARDS = sorted((ROOT / "helm" / "stowage" / "dashboards").glob("*.json"))
Document = dict[str, Any]

RULES: list[Document] = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
BOARD_VARIABLES = {"$__rate_interval": "5m"}
SECTIONS = ["Meaning", "Likely causes", "What to look at", "What to do"]
GRAFANA_UNITS = {"short", "s", "bytes", "percentunit", "ops", "reqps"}


def panels(board: Path) -> list[Document]:
    found: list[Document] = json.loads(board.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def queries(board: Path) -> list[str]:
    raw = [target["expr"] for panel in panels(board) for target in panel["targets"]]
    for variable, value in BOARD_VARIABLES.items():
        raw = [query.replace(variable, value) for query in raw]
    return raw


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        pytest.param("sum by (reason) (stowage_pending_pods)", [], id="all is known"),
        pytest.param("rate(stowage_solve_seconds_bucket{stage='total'}[5m])", [], id="a histogram's series"),
        pytest.param("up", ["up is not in the catalogue"], id="another's metric"),
        pytest.param("stowage_plans", ["stowage_plans is not in the catalogue"], id="its suffix forgotten"),
        pytest.param("stowage_leader{pod='a'}", ["stowage_leader has no label pod"], id="a label it has not"),
        pytest.param(
            "stowage_plans_total{outcome='Failed'}",
            ["stowage_plans_total: outcome is never Failed"],
            id="a value that is never taken",
        ),
        pytest.param(
            "stowage_plans_total{outcome=~'Aborted|Failed'}",
            ["stowage_plans_total: outcome is never Failed"],
            id="one of several values that is never taken",
        ),
        pytest.param(
            "sum by (node) (stowage_leader)", ["stowage_leader: no label node to group by"], id="grouped by nothing"
        ),
        pytest.param(
            "stowage_leader / on (node) stowage_leader",
            ["stowage_leader: no label node to match on"],
            id="matched on nothing",
        ),
    ],
)
def test_a_query_is_held_against_the_catalogue(query: str, wrong: list[str]) -> None:
    assert problems(query) == wrong


def test_a_query_that_is_none_is_told() -> None:
    (problem,) = problems("sum by (reason stowage_leader")
    assert "sum by" in problem


def test_generated_files_are_current() -> None:
    command = [sys.executable, str(ROOT / "tools" / "metrics_reference.py"), "--check"]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board.stem))
class TestBoards:
    def test_queries_ask_for_what_is_shown(self, board: Path) -> None:
        assert [problem for query in queries(board) for problem in problems(query)] == []

    def test_panels_say_what_they_show_and_in_what_unit(self, board: Path) -> None:
        for panel in panels(board):
            assert panel["title"]
            assert panel["description"], panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"] in GRAFANA_UNITS
            assert panel["targets"]
        numbers = [panel["id"] for panel in panels(board)]
        assert len(set(numbers)) == len(numbers)

    def test_panels_stand_beside_each_other(self, board: Path) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(board.read_text())["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not cells & taken, panel["title"]
            taken |= cells

    def test_the_data_source_is_chosen_and_nothing_comes_from_elsewhere(self, board: Path) -> None:
        text = board.read_text()
        assert "http" not in text
        document = json.loads(text)
        assert [one["type"] for one in document["templating"]["list"]] == ["datasource", "query"]
        sources = [panel["datasource"] for panel in panels(board)]
        sources += [target["datasource"] for panel in panels(board) for target in panel["targets"]]
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_every_metric_is_on_a_dashboard() -> None:
    shown = {name for board in BOARDS for query in queries(board) for name in names(query)}
    hidden = [metric.name for metric in CATALOGUE if not metric.series.keys() & shown]
    assert hidden == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
class TestAlerts:
    def test_it_asks_for_what_is_shown(self, rule: Document) -> None:
        assert problems(rule["expr"]) == []

    def test_it_says_what_it_means_and_where_to_read_on(self, rule: Document) -> None:
        name = rule["alert"]
        assert re.fullmatch(r"Stowage([A-Z][a-z]+)+", name)
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{name}/")

    def test_its_words_use_labels_that_the_expression_keeps(self, rule: Document) -> None:
        words = " ".join(rule["annotations"].values())
        kept = {label.strip() for group in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in group.split(",")}
        assert set(re.findall(r"\$labels\.(\w+)", words)) <= kept

    def test_its_page_tells_what_to_do(self, rule: Document) -> None:
        page = (RUNBOOKS / f"{rule['alert']}.md").read_text()
        assert page.startswith(f"# {rule['alert']}\n")
        assert re.findall(r"^## (.*)$", page, re.MULTILINE) == SECTIONS
        assert "```sh" in page, "a command to look with"
        known = {name for one in CATALOGUE for name in (one.name, *one.series)}
        unknown = set(re.findall(r"stowage_[a-z_]+", page)) - known
        assert unknown == set()


def test_each_page_has_an_alert() -> None:
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"index"}
    assert pages == {rule["alert"] for rule in RULES}
    index = (RUNBOOKS / "index.md").read_text()
    assert set(re.findall(r"\]\((\w+)\.md\)", index)) == pages
