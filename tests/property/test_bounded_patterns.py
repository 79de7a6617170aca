"""The bound on a pattern's cost holds for a plain backtracking search that knows nothing of how it was counted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stowage.api.bounded_pattern import MAX_STEPS, PatternError, check_pattern, steps_at_worst

LINE = 9
Tree = tuple[Any, ...]
Then = Callable[[int], bool]

LETTERS = {"a": "a", "b": "b", "[ab]": "ab", "[^a]": "bc", ".": "abc", r"\w": "abc", r"\d": ""}
COUNTS = {"*": (0, LINE), "+": (1, LINE), "?": (0, 1), "{2}": (2, 2), "{1,2}": (1, 2), "{,}": (0, LINE)}

letters = st.sampled_from(sorted(LETTERS)).map(lambda text: ("letter", text))


def longer(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    marks = st.sampled_from(sorted(COUNTS))
    return st.one_of(
        st.tuples(st.just("repeat"), inner, marks),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: ("sequence", *parts)),
        st.lists(inner, min_size=2, max_size=3).map(lambda ways: ("choice", *ways)),
    )


repeats = st.tuples(st.just("repeat"), letters, st.sampled_from(["*", "+"]))
gaps = st.lists(st.one_of(letters, repeats), min_size=3, max_size=6).map(lambda parts: ("sequence", *parts))
trees = st.one_of(gaps, st.recursive(letters, longer, max_leaves=5))
lines = st.one_of(st.text("abc", max_size=LINE), st.just("a" * LINE))


def text_of(tree: Tree) -> str:
    kind, *parts = tree
    if kind == "letter":
        return str(parts[0])
    if kind == "repeat":
        inner, mark = parts
        return (text_of(inner) if inner[0] == "letter" else f"(?:{text_of(inner)})") + mark
    if kind == "choice":
        return f"({'|'.join(map(text_of, parts))})"
    return "".join(map(text_of, parts))


class Search:
    """Tries what `re` would try, greedily; counts repeats, and runs of characters once, where they end."""

    def __init__(self, tree: Tree, line: str) -> None:
        self.tree, self.line, self.steps = tree, line, 0

    def found(self) -> bool:
        return any(self._match(self.tree, at, lambda _end: True) for at in range(len(self.line) + 1))

    def _match(self, tree: Tree, at: int, then: Then) -> bool:
        kind, *parts = tree
        if kind == "letter":
            fits = at < len(self.line) and self.line[at] in LETTERS[parts[0]]
            self.steps += not fits
            return fits and then(at + 1)
        if kind == "choice":
            return any(self._match(way, at, then) for way in parts)
        if kind == "sequence":
            return self._in_turn(parts, at, then)
        inner, mark = parts
        return self._repeated(inner, at, *COUNTS[mark], then)

    def _in_turn(self, parts: list[Tree], at: int, then: Then) -> bool:
        if not parts:
            return then(at)
        return self._match(parts[0], at, lambda end: self._in_turn(parts[1:], end, then))

    def _repeated(self, inner: Tree, at: int, least: int, most: int, then: Then) -> bool:
        def once_more(end: int) -> bool:
            self.steps += 1
            return (end > at or least > 0) and self._repeated(inner, end, max(0, least - 1), most - 1, then)

        if most > 0 and self._match(inner, at, once_more):
            return True
        return least == 0 and then(at)


@settings(max_examples=300)
@given(tree=trees, end=letters, line=lines)
def test_no_search_takes_more_steps_than_the_bound(tree: Tree, end: Tree, line: str) -> None:
    whole = ("sequence", tree, end)
    pattern = text_of(whole)
    search = Search(whole, line)
    assert search.found() == (re.search(pattern, line) is not None)
    assert search.steps <= steps_at_worst(pattern, LINE)


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("loss=nan", id="words"),
        pytest.param(r"step \d+ .* nan", id="a number, and something later"),
        pytest.param(r"NCCL (WARN|ERROR).*timeout", id="one of two words, and something later"),
        pytest.param(r"grad norm:? +(inf|nan)", id="options"),
        pytest.param(r"Xid.*: (79|48)", id="codes"),
        pytest.param(r"\d+\s+\d+\s+\d+ x", id="repeats that cannot be part of each other"),
        pytest.param(r"^.*x.*y", id="two gaps, from the start of the line"),
        pytest.param("ERROR .{0,80} NCCL .{0,40} timeout", id="gaps with a limit"),
        pytest.param(r"[\w.-]+@x", id="a set with a dash at its end"),
        pytest.param("nan.*", id="the rest of the line"),
    ],
)
def test_patterns_that_people_write_are_taken(pattern: str) -> None:
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        pytest.param("(a+)+b", "may take too long", id="a repeat of a repeat"),
        pytest.param("(a|a)*b", "may take too long", id="a repeat of a choice"),
        pytest.param("(a?){40}a{40}", "may take too long", id="many options"),
        pytest.param(".*a.*b", "may take too long", id="two gaps anywhere"),
        pytest.param("x{,}x{,}x", "may take too long", id="repeats in their oddest form"),
        pytest.param("(?=a)b", "must not look ahead", id="a look ahead"),
        pytest.param(r"(a)\1", r"must not use \\1", id="a reference"),
        pytest.param("(?P<a>b)", "must not look ahead", id="a group with a name"),
        pytest.param("(?i)a", "must not look ahead", id="a flag"),
        pytest.param("a*?b", "must not have lazy", id="a lazy repeat"),
        pytest.param("^*a", "must", id="a repeat of the start"),
        pytest.param("(", "must be a regular expression", id="no pattern"),
        pytest.param("(" * 120 + "a" + ")*" * 120, "may take too long|must not nest", id="groups in groups"),
    ],
)
def test_what_is_not_taken_says_why(pattern: str, words: str) -> None:
    with pytest.raises(PatternError, match=words):
        check_pattern(pattern)


def test_the_bound_is_what_a_line_costs() -> None:
    assert steps_at_worst("a", 10) == 22
    assert steps_at_worst("^a", 10) == 2
    assert steps_at_worst("(a+)+b") > MAX_STEPS
