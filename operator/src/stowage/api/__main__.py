"""`python -m stowage.api`: writes the resource definitions below crds/; with `--check`, only compares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stowage.api import crd


def main(
    directory: Annotated[Path, typer.Option(help="Where the files are.")] = Path("crds"),
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 when a file is not up to date.")
    ] = False,
) -> None:
    """Write the CustomResourceDefinitions that follow from the models."""
    if not check:
        for path in crd.write(directory):
            typer.echo(f"written: {path}")
        return
    stale = crd.drift(directory)
    for path in stale:
        typer.echo(f"not up to date: {path} (run `python -m stowage.api`)", err=True)
    if stale:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
