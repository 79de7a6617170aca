"""Messages to lines of JSON and back; what is no message raises `MessageError` and never anything else.

A line is one object whose field `kind` names the class. Fields that equal their default are left out, so a default
never changes. Numbers that JSON does not have are written as the texts `NaN`, `Infinity` and `-Infinity`.
"""

from __future__ import annotations

import ast
import json
import math
from dataclasses import MISSING, fields
from typing import Callable, TypeVar, Union

from stowage_worker import messages
from stowage_worker.messages import (
    MAX_LINE_BYTES,
    Attach,
    Beat,
    Begin,
    Checkpoint,
    End,
    Exited,
    Finished,
    Go,
    Hello,
    Leave,
    Leaving,
    Matched,
    MayLeave,
    MessageError,
    Prepare,
    Prepared,
    Refused,
    Report,
    SaveAt,
    Started,
    Stop,
    Welcome,
    Yield,
    Yielded,
)

MAX_TEXT = 1 << 16
"""Characters of one text."""
MAX_ITEMS = 1 << 14
"""Entries of one list or table."""
_INTEGER_BOUND = 1 << 63

FromSupervisor = Union[Hello, Beat, Prepared, Started, Exited, Matched, Finished, Yielded, Leaving]
ToSupervisor = Union[Welcome, Prepare, Go, SaveAt, Yield, Stop, MayLeave, Refused]
FromCommander = Union[Attach, Begin, Checkpoint, End]
ToCommander = Union[Report, Refused]
ToLeaver = Union[MayLeave, Refused]
Message = Union[FromSupervisor, ToSupervisor, FromCommander, ToCommander, Leave]

FROM_SUPERVISOR: tuple[type[FromSupervisor], ...] = (
    Hello,
    Beat,
    Prepared,
    Started,
    Exited,
    Matched,
    Finished,
    Yielded,
    Leaving,
)
TO_SUPERVISOR: tuple[type[ToSupervisor], ...] = (Welcome, Prepare, Go, SaveAt, Yield, Stop, MayLeave, Refused)
TO_LEAVER: tuple[type[ToLeaver], ...] = (MayLeave, Refused)
FROM_COMMANDER: tuple[type[FromCommander], ...] = (Attach, Begin, Checkpoint, End)
TO_COMMANDER: tuple[type[ToCommander], ...] = (Report, Refused)

_Take = Callable[[object], object]
_M = TypeVar("_M")
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class UnknownKindError(MessageError):
    """A line of a kind that this version does not know, or that does not come from this side: pass over it."""


def encode(message: Message) -> bytes:
    """The line of a message, with its end of line.

    Raises:
        MessageError: the line would be longer than `MAX_LINE_BYTES`, or holds what JSON has no form for.
    """
    try:
        text = json.dumps({"kind": type(message).__name__, **_given(message)}, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageError(f"{type(message).__name__} has no form in JSON: {error}") from None
    line = text.encode("ascii") + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise MessageError(f"{type(message).__name__} of {len(line)} bytes; at most {MAX_LINE_BYTES} can be sent")
    return line


def decode(line: bytes, expected: tuple[type[_M], ...]) -> _M:
    """The message of a line, one of `expected`.

    Raises:
        UnknownKindError: a kind that is not expected; the connection can go on.
        MessageError: no JSON, no object, or a field that is missing or of the wrong form. Values are not repeated:
            they may be secret.
    """
    if len(line) > MAX_LINE_BYTES:
        raise MessageError(f"a line of {len(line)} bytes; at most {MAX_LINE_BYTES} are taken")
    try:
        document = _JSON.decode(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise MessageError("a line that is not UTF-8") from None
    except (ValueError, RecursionError):
        raise MessageError("a line that is not JSON") from None
    if not isinstance(document, dict):
        raise MessageError(f"an object is needed, not {_form(document)}")
    kind = document.get("kind")
    for one in expected:
        if one.__name__ == kind:
            try:
                return _take_object(one, document)
            except _FormError as error:
                raise MessageError(".".join((one.__name__, *error.path)) + error.says) from None
    if not isinstance(kind, str):
        raise MessageError(f"kind: text is needed, not {_form(kind)}")
    raise UnknownKindError(f"kind {kind[:40]!r} is not known here")


def _given(message: object) -> dict[str, object]:
    """The fields that differ from their defaults."""
    given = {}
    for name, default in _DEFAULTS[type(message)]:
        value = getattr(message, name)
        if default is MISSING or value != default:
            given[name] = _plain(value)
    return given


def _plain(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return _given(value) if type(value) in _DEFAULTS else value


class _FormError(Exception):
    """A value of the wrong form; fields on the way to it are put in front as it rises: the path costs nothing else."""

    def __init__(self, says: str) -> None:
        super().__init__(says)
        self.says = says
        self.path: tuple[str, ...] = ()


def _take_object(kind: type[_M], value: object) -> _M:
    if not isinstance(value, dict):
        raise _FormError(f": an object is needed, not {_form(value)}")
    taken = {}
    name = ""
    try:
        for name, take, is_needed in _FORMS[kind]:
            if name in value:
                taken[name] = take(value[name])
            elif is_needed:
                _miss()
    except _FormError as error:
        error.path = (name, *error.path)
        raise
    return kind(**taken)


def _miss() -> None:
    raise _FormError(" is missing")


def _take_text(value: object) -> str:
    if not isinstance(value, str):
        raise _FormError(f": text is needed, not {_form(value)}")
    if len(value) > MAX_TEXT:
        raise _FormError(f": {len(value)} characters; at most {MAX_TEXT} are taken")
    return value


def _take_integer(value: object) -> int:
    if type(value) is not int:
        raise _FormError(f": a whole number is needed, not {_form(value)}")
    if not -_INTEGER_BOUND <= value < _INTEGER_BOUND:
        raise _FormError(": a whole number of at most 64 bits is needed")
    return value


def _take_number(value: object) -> float:
    if type(value) is float:
        return value
    if isinstance(value, str) and value in _NON_FINITE:
        return _NON_FINITE[value]
    if type(value) is not int:
        raise _FormError(f": a number is needed, not {_form(value)}")
    return float(_take_integer(value))


def _take_truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise _FormError(f": true or false is needed, not {_form(value)}")
    return value


def _take_any(value: object) -> object:
    return value


def _take_tuple_of(take: _Take) -> _Take:
    def take_tuple(value: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise _FormError(f": a list is needed, not {_form(value)}")
        if len(value) > MAX_ITEMS:
            raise _FormError(f": {len(value)} entries; at most {MAX_ITEMS} are taken")
        return tuple([take(item) for item in value])

    return take_tuple


def _take_pair_of(first: _Take, second: _Take) -> _Take:
    def take_pair(value: object) -> tuple[object, object]:
        if not isinstance(value, list) or len(value) != 2:
            raise _FormError(f": a list of two is needed, not {_form(value)}")
        return first(value[0]), second(value[1])

    return take_pair


def _take_table_of(take: _Take) -> _Take:
    def take_table(value: object) -> dict[str, object]:
        if not isinstance(value, dict):
            raise _FormError(f": an object is needed, not {_form(value)}")
        if len(value) > MAX_ITEMS:
            raise _FormError(f": {len(value)} entries; at most {MAX_ITEMS} are taken")
        return {key: take(item) for key, item in value.items()}

    return take_table


def _take_or_none(take: _Take) -> _Take:
    return lambda value: None if value is None else take(value)


def _form(value: object) -> str:
    """What JSON calls a value, without the value."""
    forms = {dict: "an object", list: "a list", str: "text", bool: "a truth value", int: "a number", float: "a number"}
    return forms.get(type(value), "null")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")


def _classes() -> list[type]:
    return [one for one in vars(messages).values() if isinstance(one, type) and hasattr(one, "__dataclass_fields__")]


def _taker(annotation: ast.expr) -> _Take:
    """How a field is read; annotations are read as text, for Python 3.9 cannot evaluate `float | None`."""
    plain = {"str": _take_text, "int": _take_integer, "float": _take_number, "bool": _take_truth, "Any": _take_any}
    if isinstance(annotation, ast.Name):
        if annotation.id in plain:
            return plain[annotation.id]
        nested = vars(messages)[annotation.id]
        return lambda value: _take_object(nested, value)
    if isinstance(annotation, ast.BinOp):
        return _take_or_none(_taker(annotation.left))
    if not isinstance(annotation, ast.Subscript) or not isinstance(annotation.slice, ast.Tuple):
        raise TypeError(f"no form is known for {ast.dump(annotation)}")
    first, second = annotation.slice.elts
    if isinstance(annotation.value, ast.Name) and annotation.value.id == "dict":
        return _take_table_of(_taker(second))
    if isinstance(second, ast.Constant):  # tuple[X, ...]
        return _take_tuple_of(_taker(first))
    return _take_pair_of(_taker(first), _taker(second))


def _forms_of(kind: type) -> list[tuple[str, _Take, bool]]:
    return [
        (
            one.name,
            _taker(ast.parse(str(one.type), mode="eval").body),
            one.default is MISSING and one.default_factory is MISSING,
        )
        for one in fields(kind)
    ]


def _defaults_of(kind: type) -> list[tuple[str, object]]:
    return [
        (one.name, one.default if one.default_factory is MISSING else one.default_factory()) for one in fields(kind)
    ]


_JSON = json.JSONDecoder(parse_constant=_refuse_constant)
_DEFAULTS: dict[type, list[tuple[str, object]]] = {one: _defaults_of(one) for one in _classes()}
_FORMS: dict[type, list[tuple[str, _Take, bool]]] = {one: _forms_of(one) for one in _classes()}
