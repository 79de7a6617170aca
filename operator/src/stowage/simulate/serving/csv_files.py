"""Tables of traces and profiles, read strictly: what is wrong is told with file, line and field."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from stowage.simulate.openb import TraceError

MOST_BYTES: Final = 512 * 2**20
"""What a file may hold unpacked, so that a small packed one can not fill the memory."""
T = TypeVar("T")
Row = Mapping[str, str]


def columns_of(file: Path) -> tuple[str, ...]:
    """The names in the first line.

    Raises:
        TraceError: the file can not be read or is empty.
    """
    try:
        names = next(csv.reader(_lines(file)), None)
    except csv.Error as error:
        raise TraceError(f"{file}, line 1: {error}") from error
    if names is None:
        raise TraceError(f"{file}: the file is empty")
    return tuple(names)


def parsed(file: Path, columns: Sequence[str], parse: Callable[[Row], T]) -> list[T]:
    """Every line of a file as `parse` makes it; `.gz` is unpacked.

    Raises:
        TraceError: the file can not be read, is empty, lacks a column, has a line with more or fewer fields, or `parse`
            raised `ValueError`.
    """
    try:
        reader = csv.DictReader(_lines(file), strict=True)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise TraceError(f"{file}: no column {', '.join(missing)}")
        found = []
        for row in reader:
            if None in row or None in row.values():
                raise TraceError(f"{file}, line {reader.line_num}: not {len(reader.fieldnames or ())} fields")
            try:
                found.append(parse(row))
            except ValueError as error:
                raise TraceError(f"{file}, line {reader.line_num}: {error}") from error
    except csv.Error as error:
        raise TraceError(f"{file}, line {reader.line_num}: {error}") from error
    if not found:
        raise TraceError(f"{file}: no line after the names of the columns")
    return found


def whole(row: Row, column: str, *, least: int = 0, most: int = 10**9) -> int:
    """A whole number in decimal digits.

    Raises:
        ValueError: it is none, or out of bounds; says which field.
    """
    text = row[column].strip()
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise ValueError(f"{column} is {text[:40]!r}, not a whole number of at least {least}")
    amount = int(text)
    if not least <= amount <= most:
        raise ValueError(f"{column} is {amount}, not from {least} to {most}")
    return amount


def number(row: Row, column: str, *, least: float = 0.0) -> float:
    """A finite number.

    Raises:
        ValueError: it is none, or below `least`; says which field.
    """
    text = row[column].strip()
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{column} is {text[:40]!r}, not a number")
    if value < least:
        raise ValueError(f"{column} is {text}, less than {least:g}")
    return value


def _lines(file: Path) -> Iterator[str]:
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise TraceError(f"{file}: more than {MOST_BYTES} bytes")
        text = data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TraceError(f"{file}: {why}") from error
    return iter(text.splitlines(keepends=True))
