"""Which rows of a profile are meant: `--profile-select key=value,...`, with choices named where several remain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from stowage.simulate.openb import TraceError
from stowage.simulate.serving.csv_files import Row

_ALIASES: Final = {
    "model": ("model_path",),
    "hardware": ("system",),
    "tensor_parallel": ("tp_size",),
    "pipeline_parallel": ("pp_size",),
}


def selected(file: Path, rows: Sequence[Row], identity: Sequence[str], select: Mapping[str, str]) -> list[Row]:
    """The rows of one replica.

    Args:
        file: for words.
        rows: all of them.
        identity: columns that tell replicas apart.
        select: values by column; the names of splitwise's columns serve for those of other formats too.

    Raises:
        TraceError: a key is no such column, no row matches, or several replicas remain.
    """
    left = list(rows)
    for key, value in select.items():
        column = next((name for name in (key, *_ALIASES.get(key, ())) if name in identity), None)
        if column is None:
            known = f"not one of {', '.join(identity)}" if identity else "the file holds one profile"
            raise TraceError(f"{file}: profile-select {key}: {known}")
        fitting = [row for row in left if row[column] == value]
        if not fitting:
            raise TraceError(f"{file}: profile-select {key}={value}: not one of {_choices(left, column)}")
        left = fitting
    several = [column for column in identity if len({row[column] for row in left}) > 1]
    if several:
        named = "; ".join(f"{column}: {_choices(left, column)}" for column in several)
        raise TraceError(f"{file}: holds several profiles; choose with profile-select, {named}")
    return left


def parse_select(text: str) -> dict[str, str]:
    """`key=value,key=value` as a mapping; an empty text selects nothing.

    Raises:
        ValueError: a part has no `=` or no key, or a key comes twice.
    """
    found: dict[str, str] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"{part!r} is not key=value")
        if key.strip() in found:
            raise ValueError(f"{key.strip()} is selected twice")
        found[key.strip()] = value.strip()
    return found


def _choices(rows: Sequence[Row], column: str) -> str:
    return ", ".join(sorted({row[column] or "(empty)" for row in rows}, key=lambda text: (len(text), text)))
