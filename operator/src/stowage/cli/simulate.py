"""`stowage simulate packing`: replay a trace of pods through placement policies, beside what any placement could do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stowage.cli.errors import InputError
from stowage.cli.options import Output, OutputOption
from stowage.cli.printing import console, print_document, progress

if TYPE_CHECKING:
    from stowage.simulate.ceiling import Ceiling
    from stowage.simulate.fill_up import Outcome
    from stowage.simulate.report import Published

simulate = typer.Typer(
    name="simulate",
    help="Replay recorded workloads without a cluster.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@simulate.callback()
def _group() -> None:
    """Replay recorded workloads without a cluster."""


@simulate.command("packing", short_help="Fill a recorded cluster by several policies.")
def packing(
    *,
    trace: Annotated[Path, typer.Option("--trace", help="Folder of the openb trace.", metavar="FOLDER")],
    policy: Annotated[
        list[str] | None, typer.Option("--policy", help="A policy by name; may be given several times. Default: all.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", min=0, help="A seed; may be given several times. Default: 42 to 51.")
    ] = None,
    load: Annotated[
        float, typer.Option("--load", min=0.01, max=3, help="GPUs asked for, as multiple of those there are.")
    ] = 1.3,
    moves: Annotated[
        float, typer.Option("--moves", min=0, max=100, help="Moves of running pods, in % of those placed: LookAhead.")
    ] = 0.0,
    bounds: Annotated[bool, typer.Option("--bounds/--no-bounds", help="Bound what any placement could hold.")] = True,
    output: OutputOption = Output.TABLE,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw the curves.", metavar="FILE.png")] = None,
) -> None:
    """Let the trace's pods arrive one by one, none departing, and tell how many GPUs each policy fills.

    `regret` is how far a policy stays below the bound of any placement that knows all arrivals beforehand.
    """
    from stowage.simulate import openb
    from stowage.simulate.ceiling import ceiling
    from stowage.simulate.fill_up import REPORTED_SEEDS, arrivals, fill_up
    from stowage.simulate.policies import OURS, policies
    from stowage.simulate.report import document

    if plot is not None and plot.suffix != ".png":
        raise InputError(f"--plot {plot}: the name must end in .png")
    try:
        recorded, published = openb.read(trace), openb.published(trace)
    except openb.TraceError as error:
        raise InputError(str(error)) from error
    known = policies(recorded)
    unknown = set(policy or ()) - set(known)
    if unknown:
        raise InputError(f"--policy {', '.join(sorted(unknown))}: known are {', '.join(known)}")
    chosen = list(dict.fromkeys(policy or known))
    outcomes: list[Outcome] = []
    ceilings: list[Ceiling] = []
    for number in dict.fromkeys(seed or REPORTED_SEEDS):
        run = arrivals(recorded, load=load, seed=number)
        for name in chosen:
            with progress(f"seed {number}: {name}"):
                outcomes.append(fill_up(run, known[name]()))
        if moves and OURS in chosen:
            with progress(f"seed {number}: {OURS} with moves"):
                outcomes.append(fill_up(run, known[OURS](), most_moves_percent=moves))
        if bounds:
            with progress(f"seed {number}: bounds"):
                ceilings.append(ceiling(run))
    if plot is not None:
        _draw(outcomes, ceilings, plot)
    if output is Output.TABLE:
        print_tables(outcomes, ceilings, published)
    else:
        print_document(document(outcomes, ceilings, published), output)


def print_tables(outcomes: list[Outcome], ceilings: list[Ceiling], published: Published) -> None:
    """Means over the seeds, for people."""
    from rich.table import Table

    from stowage.simulate.ceiling import WELCOME_PERCENT
    from stowage.simulate.report import summaries

    table = Table("policy", box=None)
    for head in ("GPUs held", "deviation", "published", "pods placed", "moves", "regret"):
        table.add_column(head, justify="right")
    for one in summaries(outcomes, ceilings, published):
        table.add_row(
            one.policy,
            f"{one.mean_percent:.2f} %",
            f"{one.deviation_percent:.2f}",
            "-" if one.published_percent is None else f"{one.published_percent:.2f} %",
            f"{one.placed:.0f}",
            f"{one.moves:.0f} ({one.moved_percent:.1f} %)" if one.moves else "-",
            "-" if one.regret_percent is None else f"{one.regret_percent:.2f}",
        )
    out = console()
    out.print(table)
    if ceilings:
        most = sum(one.any_percent for one in ceilings) / len(ceilings)
        welcoming = sum(one.welcoming_percent for one in ceilings) / len(ceilings)
        out.print()
        out.print(f"no placement of these pods holds more than {most:.2f} % of the GPUs")
        out.print(
            f"none that holds all pods of the first {WELCOME_PERCENT} % arrived holds more than {welcoming:.2f} %"
        )


def _draw(outcomes: list[Outcome], ceilings: list[Ceiling], file: Path) -> None:
    from stowage.simulate.plots import draw

    try:
        draw(outcomes, ceilings, file, title="GPUs held as pods arrive")
    except ImportError as error:
        raise InputError("--plot needs matplotlib: pip install 'stowage[demo]'") from error
