from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stowage_worker import codec
from stowage_worker.codec import FROM_COMMANDER, FROM_SUPERVISOR, TO_COMMANDER, TO_SUPERVISOR, decode, encode
from stowage_worker.messages import Leave, MessageError

SIDES = {
    kind: side for side in (FROM_SUPERVISOR, TO_SUPERVISOR, FROM_COMMANDER, TO_COMMANDER, (Leave,)) for kind in side
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.floats(allow_nan=False)
INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "str": TEXTS,
    "int": INTEGERS,
    "float": NUMBERS,
    "bool": st.booleans(),
    "float | None": st.none() | NUMBERS,
    "int | None": st.none() | INTEGERS,
    "tuple[int, ...]": st.lists(INTEGERS, max_size=3).map(tuple),
    "tuple[str, ...]": st.lists(TEXTS, max_size=3).map(tuple),
    "tuple[tuple[str, str], ...]": st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple),
    "dict[str, str]": st.dictionaries(TEXTS, TEXTS, max_size=3),
    "dict[str, Any]": st.dictionaries(TEXTS, JSON, max_size=3),
}


def strategy(annotation: str) -> st.SearchStrategy[Any]:
    if annotation in PLAIN:
        return PLAIN[annotation]
    if annotation.startswith("tuple["):
        return st.lists(strategy(annotation[len("tuple[") : -len(", ...]")]), max_size=2).map(tuple)
    if annotation.endswith(" | None"):
        return st.none() | strategy(annotation.removesuffix(" | None"))
    kind = getattr(codec.messages, annotation)
    return st.builds(kind, **{name: strategy(one.type) for name, one in kind.__dataclass_fields__.items()})


@pytest.mark.parametrize("kind", sorted(SIDES, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_every_message_comes_back_as_it_was(kind: type) -> None:
    @given(strategy(kind.__name__))
    def comes_back(message: Any) -> None:
        assert decode(encode(message), SIDES[kind]) == message

    comes_back()


@given(st.binary(max_size=200) | JSON.map(lambda value: codec.json.dumps(value).encode()))
def test_anything_is_a_message_or_a_message_error(line: bytes) -> None:
    try:
        taken = decode(line, FROM_SUPERVISOR)
    except MessageError:
        return
    assert isinstance(taken, FROM_SUPERVISOR)


@given(st.sampled_from(sorted(SIDES, key=lambda kind: kind.__name__)), st.data())
def test_wrong_forms_are_message_errors(kind: type, data: st.DataObject) -> None:
    names = list(kind.__dataclass_fields__)
    document = {"kind": kind.__name__, **{name: data.draw(JSON) for name in names}}
    try:
        taken = decode(codec.json.dumps(document).encode(), SIDES[kind])
    except MessageError:
        return
    assert type(taken) is kind
