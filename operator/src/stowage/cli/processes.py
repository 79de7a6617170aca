"""`stowage operator`, `stowage extender`, `stowage version`: long-running processes, and what this is."""

from __future__ import annotations

import typer


def version() -> None:
    """Print the version."""
    from stowage import __version__

    print(__version__)


def operator() -> None:
    """Run the operator."""
    raise typer.Exit(3)


def extender() -> None:
    """Run the extender."""
    raise typer.Exit(3)
