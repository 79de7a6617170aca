"""Answers on standard output, progress and remarks on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stowage.cli.options import Output

if TYPE_CHECKING:
    from rich.console import Console

Document = Mapping[str, Any]

_WIDTH_OF_A_FILE = 160  # columns, where no terminal says how wide it is


def print_document(document: Document, output: Output) -> None:
    """Prints one JSON or YAML document, and nothing else."""
    if output is Output.YAML:
        import yaml

        yaml.safe_dump(dict(document), sys.stdout, sort_keys=False, allow_unicode=True)
        return
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


def console() -> Console:
    """Where tables go."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
    return Console(highlight=False, emoji=False, markup=False, width=width)


def remark(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr)


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Shows on a terminal that something is under way; silent elsewhere."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
