"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stowage.cli.errors import InputError


class Output(StrEnum):
    """Form of the answer on standard output."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


LARGEST_SEED = 2**31 - 1

OutputOption = Annotated[Output, typer.Option("-o", "--output", help="Form of the answer.")]
FileOption = Annotated[
    Path | None,
    typer.Option(
        "-f", "--file", help="A dump (a Kubernetes List as JSON) instead of the cluster.", metavar="DUMP.json"
    ),
]
KubeconfigOption = Annotated[
    str | None, typer.Option("--kubeconfig", help="Path of a kubeconfig. Default: as kubectl does.", metavar="PATH")
]
ContextOption = Annotated[
    str | None, typer.Option("--context", help="Context of the kubeconfig. Default: its current one.", metavar="NAME")
]
PolicyOption = Annotated[
    str | None,
    typer.Option("--policy", help="A PackingPolicy: its name, or a YAML or JSON file.", metavar="NAME|FILE"),
]
NowOption = Annotated[
    str | None,
    typer.Option("--now", help="What counts as now (RFC 3339). With -f: default is the newest timestamp in the file."),
]
BudgetOption = Annotated[
    str | None, typer.Option("--budget", help="Wall time for a plan, like 1s. Default: the policy's, else 10s.")
]
DeterministicBudgetOption = Annotated[
    float | None,
    typer.Option("--deterministic-budget", help="Work units instead of wall time: same input and seed, same plan."),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of the search.")]


def refuse_no_picture(file: Path | None) -> None:
    """Looks at the file of `--plot` before there is anything to draw: what was worked out would be lost.

    Raises:
        InputError: it is no PNG, or its folder is not there.
    """
    if file is not None and file.suffix != ".png":
        raise InputError(f"--plot {file}: the name must end in .png")
    if file is not None and not file.parent.is_dir():
        raise InputError(f"--plot {file}: there is no folder {file.parent}")
