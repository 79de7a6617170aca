"""The default rules, and the record that shows them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stowage.api.training_words import Action, Event
from stowage.decide.training.facts import Evidence, RuleFacts
from stowage.decide.training.rules import DEFAULT_RULES, MAINTENANCE_CONDITIONS, matched, matches

RECORD = Path(__file__).parents[2] / "docs" / "design" / "recovery.md"


def test_the_record_shows_what_is_done_by_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", RECORD.read_text(), re.MULTILINE))
    assert set(rows) == set(Event)
    for event in Event:
        named = {rule.action for rule in DEFAULT_RULES if event in rule.events}
        shown = {action for action in Action if f"`{action}`" in rows[event]}
        assert named <= shown, event
        assert f"`{matched(Evidence(event, 0.0, 'test'), ()).rule.action}`" in rows[event]


@pytest.mark.parametrize("event", list(Event))
def test_defaults_cover_every_event(event: Event) -> None:
    match = matched(Evidence(event, 0.0, "test"), ())
    assert (match.number, event in match.rule.events) == (None, True)


@pytest.mark.parametrize(
    ("rule", "matching"),
    [
        pytest.param(RuleFacts(Action.FAIL), True, id="a rule that asks for nothing"),
        pytest.param(RuleFacts(Action.FAIL, frozenset({Event.PROCESS_EXITED}), frozenset({3})), True, id="all is so"),
        pytest.param(RuleFacts(Action.FAIL, frozenset({Event.HANG}), frozenset({3})), False, id="another event"),
        pytest.param(RuleFacts(Action.FAIL, codes=frozenset({4})), False, id="another code"),
        pytest.param(RuleFacts(Action.FAIL, signals=frozenset({9})), False, id="no signal"),
        pytest.param(RuleFacts(Action.FAIL, error_types=frozenset({"KeyError"})), True, id="the exception"),
        pytest.param(RuleFacts(Action.FAIL, names=MAINTENANCE_CONDITIONS), False, id="no name"),
    ],
)
def test_rules_match_when_all_that_they_ask_for_is_so(rule: RuleFacts, matching: bool) -> None:
    one = Evidence(Event.PROCESS_EXITED, 0.0, "test", code=3, error_type="KeyError")
    assert matches(rule, one) is matching


def test_the_first_of_the_rules_that_match_wins() -> None:
    rules = (RuleFacts(Action.PAUSE, codes=frozenset({4})), RuleFacts(Action.IGNORE), RuleFacts(Action.FAIL))
    match = matched(Evidence(Event.HANG, 0.0, "test"), rules)
    assert (match.number, match.rule.action) == (1, Action.IGNORE)
