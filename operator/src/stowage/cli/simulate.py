"""`stowage simulate packing`: replay a trace of pods through placement policies, beside what any placement could do.

A trace without times worth replaying (openb) fills the cluster up; one with times (Philly) is replayed as recorded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stowage.cli.errors import InputError
from stowage.cli.options import Output, OutputOption, refuse_no_picture
from stowage.cli.printing import console, print_document, progress
from stowage.cli.simulate_serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stowage.simulate.ceiling import Ceiling
    from stowage.simulate.fill_up import Outcome
    from stowage.simulate.openb import Trace
    from stowage.simulate.policies import Policy
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


simulate.command("serving", short_help="Play requests against autoscaling policies.")(serving)


@simulate.command("packing", short_help="Fill a recorded cluster by several policies.")
def packing(
    *,
    trace: Annotated[Path, typer.Option("--trace", help="Folder of the openb or Philly trace.", metavar="FOLDER")],
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
        float, typer.Option("--moves", min=0, max=100, help="Also LookAhead with so many moves, in % of pods placed.")
    ] = 0.0,
    bounds: Annotated[bool, typer.Option("--bounds/--no-bounds", help="Bound what any placement could hold.")] = True,
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Replay times as recorded; always so for the Philly trace.")
    ] = False,
    nodes: Annotated[
        int, typer.Option("--nodes", min=1, max=10_000, help="Nodes of 8 GPUs for the Philly trace, which names none.")
    ] = 64,
    output: OutputOption = Output.TABLE,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw the curves.", metavar="FILE.png")] = None,
) -> None:
    """Let a trace's pods arrive one by one, and tell how many GPUs each policy fills and what it misses.

    openb: pods arrive up to a load and none departs, ten seeds. Philly: jobs come and go as recorded. `regret` is how
    far a policy stays below the bound of whatever knows all arrivals beforehand. Stowage is kube-scheduler's default
    with the packer behind it: asked when a job finds no room, within a policy's default limits.
    """
    from stowage.simulate.jobs import is_philly
    from stowage.simulate.openb import TraceError
    from stowage.simulate.policies import OURS

    refuse_no_picture(plot)
    try:
        if recorded or is_philly(trace):
            if plot is not None:
                raise InputError("--plot: there are curves of a fill-up alone")
            _replay(trace, policy, nodes, (seed or [0])[0], output)
        else:
            repacked = moves if policy is None or OURS in policy else 0
            _fill_up(trace, policy, seed, load, repacked, output, plot, bounds=bounds)
    except TraceError as error:
        raise InputError(str(error)) from error


def _chosen(policy: list[str] | None, trace: Trace, *packing: str) -> Mapping[str, Callable[[], Policy]]:
    """Policies by name; those in `packing` place as kube-scheduler does, and something more is done for them."""
    from stowage.simulate.kube_scheduler import KubeScheduler
    from stowage.simulate.policies import policies

    known = {**policies(trace), **dict.fromkeys((KubeScheduler.name, *packing), KubeScheduler)}
    unknown = set(policy or ()) - set(known)
    if unknown:
        raise InputError(f"--policy {', '.join(sorted(unknown))}: known are {', '.join(known)}")
    return {name: known[name] for name in policy or known}


def _fill_up(
    folder: Path,
    policy: list[str] | None,
    seeds: Iterable[int] | None,
    load: float,
    moves: float,
    output: Output,
    plot: Path | None,
    *,
    bounds: bool,
) -> None:
    from stowage.simulate import openb
    from stowage.simulate.ceiling import ceiling
    from stowage.simulate.fill_up import REPORTED_SEEDS, arrivals, fill_up
    from stowage.simulate.policies import OURS
    from stowage.simulate.report import document

    trace, published = openb.read(folder), openb.published(folder)
    chosen = _chosen(policy, trace)
    outcomes: list[Outcome] = []
    ceilings: list[Ceiling] = []
    for seed in dict.fromkeys(seeds or REPORTED_SEEDS):
        run = arrivals(trace, load=load, seed=seed)
        for name, make in chosen.items():
            with progress(f"seed {seed}: {name}"):
                outcomes.append(fill_up(run, make()))
        if moves:
            with progress(f"seed {seed}: {OURS} with moves"):
                outcomes.append(fill_up(run, chosen[OURS](), most_moves_percent=moves))
        if bounds:
            with progress(f"seed {seed}: bounds"):
                ceilings.append(ceiling(run))
    if plot is not None:
        _draw(outcomes, ceilings, plot)
    if output is Output.TABLE:
        print_tables(outcomes, ceilings, published)
    else:
        print_document(document(outcomes, ceilings, published), output)


def _replay(folder: Path, policy: list[str] | None, nodes: int, seed: int, output: Output) -> None:
    from stowage.simulate import jobs, openb
    from stowage.simulate.hindsight import most_gpu_hours
    from stowage.simulate.live_packer import STOWAGE, LivePacker
    from stowage.simulate.replay import replay

    philly = jobs.is_philly(folder)
    recorded = jobs.philly(folder) if philly else jobs.recorded_openb(folder)
    trace = openb.Trace(
        jobs.philly_nodes(nodes) if philly else openb.read(folder).nodes, tuple(job.demand for job in recorded)
    )
    most = most_gpu_hours(recorded, trace.gpu_milli)
    found = []
    chosen = _chosen(policy, trace, STOWAGE)
    for name, make in chosen.items():
        with progress(name):
            packer = LivePacker(seed) if name == STOWAGE else None
            found.append(replay(trace.nodes, recorded, make(), seed=seed, packer=packer, name=name))
    if output is not Output.TABLE:
        answer = {
            "gpus": trace.gpu_milli // 1000,
            "jobs": len(recorded),
            "gpuHoursBound": round(most, 1),
            "policies": [
                {
                    "policy": one.policy,
                    "gpuHours": round(one.gpu_hours, 1),
                    "regretPercent": round(_regret(one.gpu_hours, most), 3),
                    "started": one.started,
                    "neverFit": one.never_fit,
                    "meanWaitSeconds": round(one.mean_wait_seconds, 1),
                    "moves": one.moves,
                }
                for one in found
            ],
        }
        print_document(answer, output)
        return
    from rich.table import Table

    table = Table("policy", box=None)
    for head in ("GPU hours held", "regret", "jobs started", "mean wait of a GPU", "moves"):
        table.add_column(head, justify="right")
    for one in found:
        wait = f"{one.mean_wait_seconds / 3600:.1f} h"
        regret = f"{_regret(one.gpu_hours, most):.2f} %"
        table.add_row(
            one.policy, f"{one.gpu_hours:,.0f}", regret, f"{one.started} of {len(recorded)}", wait, f"{one.moves}"
        )
    out = console()
    out.print(table)
    out.print()
    out.print(f"no schedule of these jobs holds more than {most:,.0f} GPU hours on {trace.gpu_milli // 1000} GPUs")


def _regret(held: float, most: float) -> float:
    return 100 * (1 - held / most) if most else 0.0


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
