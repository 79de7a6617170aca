"""What API servers answer to objects that they can not read: in three ways, none of which is an outage."""

from __future__ import annotations

import json

import pytest

from stowage.transport import ApiError, ApiUnavailable, Invalid
from stowage.transport.errors import from_response

TYPED = "failed to create typed patch object (a/x; apps/v1, Kind=Deployment): .spec.foo"


def answer(code: int, message: str) -> ApiError:
    return from_response("PATCH /x", code, json.dumps({"kind": "Status", "code": code, "message": message}).encode())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        pytest.param(
            400,
            'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field',
            id="created, with a number for a text",
        ),
        pytest.param(500, f"{TYPED}: field not declared in schema", id="applied, with a field that nobody knows"),
        pytest.param(
            500,
            "failed to convert new object (a/x; apps/v1, Kind=Deployment) to proper version: quantities must match",
            id="applied, with a quantity that is none",
        ),
    ],
)
def test_an_object_that_no_server_can_read_is_invalid(code: int, words: str) -> None:
    error = answer(code, words)
    assert isinstance(error, Invalid)
    assert (error.status, error.message) == (code, words)


def test_an_outage_in_other_words_stays_one() -> None:
    assert isinstance(answer(500, "etcdserver: leader changed"), ApiUnavailable)
    assert not isinstance(answer(400, "the webhook says no"), Invalid)


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        pytest.param("string", "&value.valueUnstructured{Value:4711}", id="a number for a text"),
        pytest.param("map", "&{4711}", id="a text for fields"),
        pytest.param("list", "&{map[key:4711]}", id="fields for items"),
    ],
)
def test_a_value_that_is_refused_is_not_repeated(wanted: str, value: str) -> None:
    assert answer(500, f"{TYPED}: expected {wanted}, got {value}").message == f"{TYPED}: expected {wanted}"
