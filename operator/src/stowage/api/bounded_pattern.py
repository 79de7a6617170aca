"""Regular expressions that users write, with a bound on the time that one line can cost.

Python's `re` backtracks: `(a+)+b` takes longer than anybody waits on a line of forty letters. So a pattern is read
here first, in the part of the language that RE2 has too, and the steps that a backtracking search takes at worst on a
line of `MAX_LINE` characters are counted. Those who match must cut lines to that length.

The count follows how a backtracking search goes on: each character of the line may be a start; a repeat that can end
in many places multiplies what comes after it by their number, unless what must follow cannot be part of what is
repeated, or nothing follows: then only one end leads on.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from math import prod
from typing import Annotated, Final

from pydantic import AfterValidator, StringConstraints

MAX_LINE: Final = 1024
"""Characters of a line that are searched."""
MAX_PATTERN: Final = 256
MAX_STEPS: Final = 1 << 24
"""What one search may take at worst: well below a second."""

_ASCII: Final = frozenset(map(chr, range(128)))
# letters beyond ASCII count by what the classes tell apart: a digit, another word character, a space, the rest
_DIGIT, _WORD, _SPACE, _REST = "\u0660", "\u00e9", "\u2003", "\u20ac"
_ALL: Final = _ASCII | {_DIGIT, _WORD, _SPACE, _REST}
_CLASSES: Final = {
    "d": frozenset(string.digits) | {_DIGIT},
    "w": frozenset(string.ascii_letters + string.digits + "_") | {_DIGIT, _WORD},
    "s": frozenset(" \t\n\r\f\v\x1c\x1d\x1e\x1f") | {_SPACE},
}
_CLASSES_OF_ALL: Final = {**_CLASSES, **{name.upper(): _ALL - held for name, held in _CLASSES.items()}}
_CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_ANY: Final = _ALL - {"\n"}
_MOST: Final = 2 * MAX_STEPS


class PatternError(ValueError):
    """A pattern that is not taken; the message says why and what to write instead."""


@dataclass(frozen=True)
class _One:
    """One character of a set."""

    held: frozenset[str]


@dataclass(frozen=True)
class _Edge:
    """The start or the end of a line or a word: no character."""

    start: bool


@dataclass(frozen=True)
class _Repeat:
    part: _Node
    least: int
    most: int


@dataclass(frozen=True)
class _Choice:
    ways: tuple[tuple[_Node, ...], ...]


_Node = _One | _Edge | _Repeat | _Choice


def steps_at_worst(pattern: str, line: int = MAX_LINE) -> int:
    """Steps that a backtracking search for `pattern` takes at worst on a line of `line` characters.

    A run of single characters counts as one step. Far above `MAX_STEPS` the count is no bound any more.

    Raises:
        PatternError: the pattern cannot be read, or uses what is not taken: references to groups, looks ahead or
            behind, groups with names, flags, lazy or possessive repeats.
    """
    try:
        re.compile(pattern)
        choice = _Reader(pattern).read()
        pinned = all(way and way[0] == _Edge(start=True) for way in choice.ways)
        return (1 if pinned else line + 1) * sum(_steps(way, 0, line) for way in choice.ways)
    except RecursionError as error:
        raise PatternError("must not nest groups so deeply") from error
    except (re.error, OverflowError) as error:
        raise PatternError(f"must be a regular expression: {error}") from error


def check_pattern(pattern: str) -> str:
    """`pattern`, unchanged.

    Raises:
        PatternError: it cannot be read, uses what is not taken, or may take more than `MAX_STEPS`.
    """
    if steps_at_worst(pattern) > MAX_STEPS:
        raise PatternError(
            f"may take too long on some lines of {MAX_LINE} characters: use fewer repeats that can end in many places "
            "({0,80} instead of *), no repeat inside of a repeat, and no .* at the start"
        )
    return pattern


LogPattern = Annotated[str, StringConstraints(min_length=1, max_length=MAX_PATTERN), AfterValidator(check_pattern)]
"""A regular expression whose search has a bound; looked for anywhere in a line."""


def _steps(sequence: tuple[_Node, ...], at: int, line: int) -> int:
    """Steps from `sequence[at]` to the end, from one place of the line."""
    if at == len(sequence):
        return 1
    node = sequence[at]
    rest = _steps(sequence, at + 1, line)
    if isinstance(node, (_One, _Edge)):
        follows_alike = at + 1 < len(sequence) and isinstance(sequence[at + 1], (_One, _Edge))
        return rest if follows_alike else rest + 1
    own = _own_steps(node, line)
    if isinstance(node, _Repeat) and isinstance(node.part, _One) and _only_one_end(node.part, sequence, at):
        return own + rest
    return own + _ends(node, line) * rest


def _own_steps(node: _Node, line: int) -> int:
    """Steps of finding all ends of a node from one place."""
    if isinstance(node, _Repeat):
        ways = _ends(node, line) if _ends(node.part, line) > 1 else 1
        return max(1, min(node.most, line)) * _own_steps(node.part, line) * ways
    if isinstance(node, _Choice):
        return sum(_steps(way, 0, line) for way in node.ways)
    return 1


def _ends(node: _Node, line: int) -> int:
    """In how many ways a node can be met from one place, at most; counted no further than `_MOST`."""
    if isinstance(node, _Choice):
        return min(_MOST, sum(min(_MOST, prod(_ends(part, line) for part in way)) for way in node.ways))
    if isinstance(node, _Repeat):
        each, longest = _ends(node.part, line), min(node.most, line)
        if each == 1:
            return max(1, longest - min(node.least, longest) + 1)
        return _powers(each, min(node.least, longest), longest)
    return 1


def _powers(each: int, least: int, most: int) -> int:
    """each^least + … + each^most for each > 1, counted no further than `_MOST`."""
    total = 0
    for count in range(least, most + 1):
        if count * (each.bit_length() - 1) >= _MOST.bit_length():
            return _MOST
        total += each**count
    return min(_MOST, total)


def _only_one_end(repeated: _One, sequence: tuple[_Node, ...], at: int) -> bool:
    """Whether a repeat of single characters leads on from one end alone: what must come next is none of them."""
    if at + 1 == len(sequence):
        return True  # the longest is taken and nothing can fail after it
    after = sequence[at + 1]
    if isinstance(after, _Repeat) and after.least >= 1:
        after = after.part
    return isinstance(after, _One) and not (after.held & repeated.held)


class _Reader:
    """Reads a pattern that `re` has compiled, so that only its meaning is left to find."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0

    def read(self) -> _Choice:
        return self._choice()

    def _peek(self, length: int = 1) -> str:
        return self._text[self._at : self._at + length]

    def _take(self, length: int = 1) -> str:
        taken = self._peek(length)
        self._at += length
        return taken

    def _choice(self) -> _Choice:
        ways = [self._sequence()]
        while self._peek() == "|":
            self._take()
            ways.append(self._sequence())
        return _Choice(tuple(ways))

    def _sequence(self) -> tuple[_Node, ...]:
        found: list[_Node] = []
        while self._peek() not in {"", "|", ")"}:
            found.append(self._repeated(self._atom()))
        return tuple(found)

    def _repeated(self, part: _Node) -> _Node:
        counted = re.compile(r"\{(\d*)(,?)(\d*)\}").match(self._text, self._at)
        mark = self._peek()
        if mark and mark in "*+?":
            self._take()
            least, most = {"*": (0, MAX_LINE), "+": (1, MAX_LINE), "?": (0, 1)}[mark]
        elif counted and (counted[1] or counted[2]):
            self._take(len(counted[0]))
            least = int(counted[1] or 0)
            most = (int(counted[3]) if counted[3] else MAX_LINE) if counted[2] else least
        else:
            return part
        if self._peek() and self._peek() in "?+":
            raise PatternError(f"must not have lazy or possessive repeats ({mark}{self._peek()}): leave the mark out")
        if isinstance(part, _Edge):
            raise PatternError("must not repeat ^, $ or \\b")
        return _Repeat(part, least, most)

    def _atom(self) -> _Node:
        mark = self._take()
        if mark == "(":
            return self._group()
        if mark == "[":
            return _One(self._set())
        if mark == "\\":
            return self._escaped()
        if mark in "^$":
            return _Edge(start=mark == "^")
        return _One(_ANY if mark == "." else _kind_of(mark))

    def _group(self) -> _Node:
        if self._peek() == "?":
            if self._peek(2) != "?:":
                raise PatternError(
                    "must not look ahead or behind, name groups, set flags or refer to groups: only (…) and (?:…)"
                )
            self._take(2)
        inner = self._choice()
        self._take()  # the closing mark: `re` has seen it
        return inner

    def _escaped(self) -> _Node:
        mark = self._take()
        if mark in _CLASSES_OF_ALL:
            return _One(_CLASSES_OF_ALL[mark])
        if mark in "bB":
            return _Edge(start=False)
        return _One(self._literal(mark))

    def _literal(self, mark: str) -> frozenset[str]:
        if mark in _CONTROLS:
            return frozenset(_CONTROLS[mark])
        if mark.isalnum():
            raise PatternError(f"must not use \\{mark}: only \\d \\w \\s \\b, their capitals, \\t and escaped marks")
        return _kind_of(mark)

    def _set(self) -> frozenset[str]:
        turned = self._peek() == "^"
        if turned:
            self._take()
        held: frozenset[str] = frozenset()
        first = True
        while first or self._peek() != "]":
            first = False
            held |= self._member()
        self._take()
        return _ALL - held if turned else held

    def _member(self) -> frozenset[str]:
        mark = self._take()
        if mark == "\\":
            mark = self._take()
            if mark in _CLASSES_OF_ALL:
                return _CLASSES_OF_ALL[mark]
            self._literal(mark)  # refuses what is not taken
            mark = _CONTROLS.get(mark, mark)
        if self._peek() == "-" and self._peek(2) != "-]":
            self._take()
            last = self._take()
            if last == "\\":
                last = self._take()
                self._literal(last)
                last = _CONTROLS.get(last, last)
            return _range(mark, last)
        return _kind_of(mark)


def _kind_of(letter: str) -> frozenset[str]:
    """The letter itself, or for one beyond ASCII all of its kind: too many is safe, for sets only tell apart."""
    if letter in _ASCII:
        return frozenset(letter)
    if re.match(r"\d", letter):
        return frozenset(_DIGIT)
    if re.match(r"\w", letter):
        return frozenset(_WORD)
    return frozenset(_SPACE if re.match(r"\s", letter) else _REST)


def _range(first: str, last: str) -> frozenset[str]:
    held = frozenset(one for one in _ASCII if first <= one <= last)
    return held if last in _ASCII else held | {_DIGIT, _WORD, _SPACE, _REST}
