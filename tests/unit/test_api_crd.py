from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, Field

from stowage.api import crd
from stowage.api.resource import Fields
from stowage.api.structural import NotStructuralError, structural_schema

CHECKOUT = Path(__file__).parents[2]
SCHEMAS = {
    one["spec"]["names"]["kind"]: one["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for one in crd.documents()
}


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from fields(part, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from fields(schema[key], path + mark)


def below_spec_and_status(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in ("spec", "status"):
        yield from fields(SCHEMAS[kind]["properties"][part], part)


def is_bounded(schema: dict[str, Any]) -> bool:
    if schema.get("x-kubernetes-int-or-string"):
        return "x-kubernetes-validations" in schema  # such a field has no bounds but rules
    match schema["type"]:
        case "string":
            return "enum" in schema or "maxLength" in schema
        case "array":
            return "maxItems" in schema and "x-kubernetes-list-type" in schema
        case "integer":
            return "minimum" in schema and "maximum" in schema
        case "object":
            return "properties" in schema or "maxProperties" in schema
    return bool(schema["type"] == "boolean")


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_field_is_bounded(kind: str) -> None:
    assert [path for path, schema in below_spec_and_status(kind) if not is_bounded(schema)] == []


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_field_says_what_it_is(kind: str) -> None:
    silent = [path for path, schema in below_spec_and_status(kind) if not schema.get("description")]
    assert [path for path in silent if path[-1] not in "]}"] == []


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_status_claims_nothing_by_default(kind: str) -> None:
    assert [path for path, one in fields(SCHEMAS[kind]["properties"]["status"], "status") if "default" in one] == []


def test_the_files_in_the_repository_say_what_the_models_say() -> None:
    assert crd.drift(CHECKOUT / "crds") == []


def test_a_file_is_the_document_that_the_cluster_gets() -> None:
    assert [yaml.safe_load(text) for text in crd.files().values()] == crd.documents()


def test_a_changed_and_a_missing_file_are_drift_until_written(tmp_path: Path) -> None:
    first, second, *_ = crd.write(tmp_path)
    assert crd.write(tmp_path) == []
    first.unlink()
    second.write_text("stale", encoding="utf-8")
    assert crd.drift(tmp_path) == [first, second]
    assert crd.write(tmp_path) == [first, second]
    assert crd.drift(tmp_path) == []


def test_the_command_lists_what_drifts_and_fails(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stowage.api", "--directory", str(tmp_path)]
    stale = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    assert stale.returncode == 1
    assert all(name in stale.stderr for name in crd.files())
    subprocess.run(command, check=True, capture_output=True)
    fresh = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    assert (fresh.returncode, fresh.stdout, fresh.stderr) == (0, "", "")


def resource_of(part: type[Fields]) -> type[BaseModel]:
    class Odd(Fields):
        spec: part  # type: ignore[valid-type]
        status: Fields = Fields()

    return Odd


class TwoTypes(Fields):
    either: int | str


class OneWord(Fields):
    word: Literal["only"]


class Fraction(Fields):
    ratio: float


class Strictly(Fields):
    more: int = Field(gt=0)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        pytest.param(TwoTypes, "spec.either: a union of 2 types", id="a union"),
        pytest.param(OneWord, "spec.word: const", id="a constant"),
        pytest.param(Fraction, "spec.ratio: type 'number'", id="floating point"),
        pytest.param(Strictly, "spec.more: exclusiveMinimum", id="an exclusive bound"),
    ],
)
def test_what_has_no_structural_form_is_refused_by_name(part: type[Fields], words: str) -> None:
    with pytest.raises(NotStructuralError, match=words):
        structural_schema(resource_of(part))
