#!/usr/bin/env python3
"""Writes docs/crd-reference.md from crds/*.yaml; with --check only compares.

python tools/crd_reference.py            write the page
python tools/crd_reference.py --check    exit 1 when it is not up to date
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

ROOT: Final = Path(__file__).resolve().parents[1]
DEFINITIONS: Final = ROOT / "crds"
PAGE: Final = ROOT / "docs" / "crd-reference.md"
# what people write comes before what they read
ORDER: Final = ("packingpolicies", "packingplans", "trainingjobs", "modelservices", "performanceprofiles")
LARGEST: Final = 2**53 - 1  # where numbers have no other limit
BETWEEN: Final = "must be "  # before the bounds of a duration, which no schema can say

INTRODUCTION: Final = """\
# Custom resources

<!-- Written by `python tools/crd_reference.py` from crds/*.yaml. -->

All kinds belong to the group `stowage.dev`; TrainingJobs and ModelServices live in namespaces, the others belong to the
whole cluster.
`kubectl get stowage` lists them together. The API server fills defaults in, refuses values outside of the limits below,
and drops fields that it does not know; `kubectl` refuses such fields, unless it is told `--validate=warn` or `ignore`.
`[]` stands for each item of a list, `*` for any key of a map. Durations are strings like `90s` or `1h30m`.
"""

Schema = Mapping[str, Any]
Row = Sequence[str]


class Field(NamedTuple):
    """One field of a schema, by its path, with what is around it."""

    path: str
    schema: Schema
    required: bool


def fields(schema: Schema, path: str) -> Iterator[Field]:
    """All fields below an object, in the order of the schema; what is inside a list follows the list."""
    required = schema.get("required", ())
    for name, inner in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        yield Field(here, inner, name in required)
        if inner.get("type") == "array":
            yield from fields(inner["items"], f"{here}[]")
        else:
            yield from fields(inner, here)


def rules(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    """Where a rule between fields holds, and its words; the same words at several places come several times."""
    bounds = bounds_of_duration(schema)
    for rule in schema.get("x-kubernetes-validations", ()):
        if rule["message"].removeprefix(BETWEEN) != bounds:
            yield path, rule["message"]
    for name, inner in schema.get("properties", {}).items():
        yield from rules(inner, f"{path}.{name}")
    if schema.get("type") == "array":
        yield from rules(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield from rules(schema["additionalProperties"], f"{path}.*")


def type_of(schema: Schema) -> str:
    """The type, for people."""
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if schema.get("type") == "array":
        return f"list of {type_of(schema['items'])}s"
    if schema.get("additionalProperties"):
        return f"map of {type_of(schema['additionalProperties'])}s"
    return str(schema["type"])


def bounds_of_duration(schema: Schema) -> str:
    """The bounds of a duration; empty: it is none, or has none."""
    words = [rule["message"] for rule in schema.get("x-kubernetes-validations", ())]
    return next((one.removeprefix(BETWEEN) for one in words if one.startswith(f"{BETWEEN}between ")), "")


def limits(schema: Schema) -> str:
    """What values are allowed."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if bounds := bounds_of_duration(schema):
        return bounds
    if schema.get("format") == "date-time":
        return "RFC 3339"
    found = []
    for least, most, unit in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
        ("minProperties", "maxProperties", " keys"),
    ):
        if schema.get(most) == LARGEST:
            found.append(f"{schema.get(least, 0)} or more")
        elif most in schema:
            found.append(f"{schema.get(least, 0)} to {schema[most]}{unit}")
    return ", ".join(found)


def default_of(field: Field) -> str:
    """The default; a field without one is required, or absent until it is set."""
    if field.required:
        return "required"
    default = field.schema.get("default")
    if default is None or (isinstance(default, Mapping) and default):
        return ""  # the defaults of what is inside say it
    return f"`{json.dumps(default)}`"


def row_of(field: Field) -> Row:
    """All of one field."""
    schema = field.schema
    return f"`{field.path}`", type_of(schema), limits(schema), default_of(field), schema.get("description", "")


def table(heads: Row, rows: Sequence[Row]) -> str:
    """A table of Markdown."""
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def as_text(words: str) -> str:
    """Words of a rule as Markdown: a pattern at their end is code, or it would be read as links and emphasis."""
    said, begin, pattern = words.partition("^")
    return f"{said}`^{pattern}`" if begin else said


def rule_table(schema: Schema) -> str:
    """Rules of what people and the operator write that no single limit can say, each told once with all places."""
    whole = [("metadata", rule["message"]) for rule in schema.get("x-kubernetes-validations", ())]
    places: dict[str, list[str]] = {}
    for where, words in [*whole, *rules(schema["properties"]["spec"], "spec")]:
        places.setdefault(words, []).append(where)
    rows = [(", ".join(f"`{where}`" for where in found), as_text(words)) for words, found in places.items()]
    return table(("where", "rule"), rows)


def section(definition: Schema) -> str:
    """All of one kind."""
    names = definition["spec"]["names"]
    (version,) = definition["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    kind, api_version = names["kind"], f"{definition['spec']['group']}/{version['name']}"
    parts = [f"## {kind}\n\n{schema['description']}\n"]
    parts.append(f"`apiVersion: {api_version}`, `kind: {kind}`; in short `kubectl get {names['shortNames'][0]}`.\n")
    columns = [(one["name"], f"`{one['jsonPath']}`") for one in version["additionalPrinterColumns"]]
    for part in ("spec", "status"):
        top = schema["properties"][part]
        rows = [row_of(one) for one in fields(top, part)]
        parts.append(f"### {kind}: {part}\n\n{top.get('description', '')}\n")
        parts.append(table(("field", "type", "values", "default", "what it says"), rows))
    parts.append(f"### {kind}: rules\n\n{rule_table(schema)}")
    parts.append(f"### {kind}: columns\n\n{table(('column', 'from'), columns)}")
    return "\n".join(parts)


def page() -> str:
    """The page, whole."""
    definitions = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in DEFINITIONS.glob("*.yaml")]
    by_plural = {one["spec"]["names"]["plural"]: one for one in definitions}
    plurals = sorted(by_plural, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return "\n".join([INTRODUCTION, *(section(by_plural[plural]) for plural in plurals)])


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write the reference of the custom resources.")
    parser.add_argument("--check", action="store_true", help="write nothing, say whether it is up to date")
    arguments = parser.parse_args()
    text = page()
    if not arguments.check:
        PAGE.write_text(text, encoding="utf-8")
        print(f"written: {PAGE}")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        print(f"not up to date: {PAGE} (run `python tools/crd_reference.py`)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
