"""`stowage simulate serving`: autoscaling policies on recorded requests, against engines with measured performance."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stowage.cli.errors import InputError
from stowage.cli.options import LARGEST_SEED, Output, OutputOption, refuse_no_picture
from stowage.cli.printing import console, print_document, progress, remark
from stowage.cli.times import duration_seconds, positive_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stowage.simulate.serving.comparison import Comparison
    from stowage.simulate.serving.requests import Requests
    from stowage.simulate.serving.setup import Setup

_ALL = "all"
_MOST_GPUS = 4096
_MOST_HOURS = 31 * 24
"""Of a trace: ServeGen's has a week."""


def serving(
    *,
    trace: Annotated[
        Path,
        typer.Option(
            "--trace",
            help="Requests: TIMESTAMP, ContextTokens, GeneratedTokens; or ServeGen's rates.",
            metavar="FILE.csv",
        ),
    ],
    profile: Annotated[Path, typer.Option("--profile", help="Measured performance of a replica.", metavar="FILE")],
    profile_select: Annotated[
        str | None,
        typer.Option("--profile-select", help="Which rows of a profile that holds several.", metavar="COLUMN=VALUE,…"),
    ] = None,
    gpus_per_replica: Annotated[
        int, typer.Option("--gpus-per-replica", min=1, max=_MOST_GPUS, help="What a replica costs.")
    ] = 1,
    slo_ttft: Annotated[str, typer.Option("--slo-ttft", help="Longest time to first token, like 2s.")] = "2s",
    slo_itl: Annotated[
        str, typer.Option("--slo-itl", help="Longest mean time between the tokens of a request, like 100ms.")
    ] = "100ms",
    attainment: Annotated[
        float, typer.Option("--attainment", min=0.5, max=0.9999, help="Share of requests to keep within both.")
    ] = 0.99,
    cold_start: Annotated[
        str, typer.Option("--cold-start", help="From asking for a replica until it serves, like 2m.")
    ] = "120s",
    cold_start_deviation: Annotated[
        str | None, typer.Option("--cold-start-deviation", help="Standard deviation of cold starts. Default: none.")
    ] = None,
    rate_scale: Annotated[
        float, typer.Option("--rate-scale", help="How many times as many requests arrive in the same time.")
    ] = 1.0,
    start: Annotated[
        str | None, typer.Option("--start", help="Begin so far into the trace, like 7h. Default: at its start.")
    ] = None,
    length: Annotated[
        str | None, typer.Option("--length", help="Play so much of it, like 2h. Default: all, of ServeGen a day.")
    ] = None,
    policies: Annotated[
        str, typer.Option("--policies", help="Names joined by commas, or all.", metavar="NAMES")
    ] = _ALL,
    seed: Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Of copies, samples, starts.")] = 0,
    output: OutputOption = Output.TABLE,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Also draw attainment and replicas.", metavar="FILE.png")
    ] = None,
) -> None:
    """Play a trace of requests against autoscaling policies: who attains the targets, and for how many GPU-hours.

    Every request counts: who is rejected or not finished has missed. All policies begin with the fixed size that meets
    the targets on the first five minutes. `oracle` knows all arrivals, `static-best` is the best fixed size; the others
    are published autoscalers at their defaults, with thresholds derived from the profile.
    """
    from stowage.simulate.openb import TraceError
    from stowage.simulate.serving.comparison import compare

    refuse_no_picture(plot)
    names = _names(policies)
    positive_number(rate_scale, "--rate-scale")
    try:
        setup = _setup(profile, profile_select, gpus_per_replica, slo_ttft, slo_itl, cold_start, cold_start_deviation)
        requests = _requests(trace, rate_scale, seed, start, length)
    except TraceError as error:
        raise InputError(str(error)) from error
    with progress(f"{len(requests):,} requests: {', '.join(names)}"):
        comparison = compare(requests, replace(setup, seed=seed), names, attainment=attainment)
    if plot is not None:
        _draw(comparison, plot, f"{trace.name}, {rate_scale:g} times the rate, cold start {cold_start}", attainment)
    if output is Output.TABLE:
        print_table(comparison, attainment)
    else:
        from stowage.simulate.serving.comparison_report import document

        print_document(document(comparison), output)


def _names(text: str) -> Sequence[str]:
    from stowage.simulate.serving.comparison import POLICIES

    asked = [name.strip() for name in text.split(",")]
    if asked == [_ALL]:
        return POLICIES
    unknown = sorted({name for name in asked if name not in POLICIES})
    if unknown:
        raise InputError(
            f"--policies {', '.join(repr(name) for name in unknown)}: known are {', '.join(POLICIES)}, or all"
        )
    return [name for name in POLICIES if name in asked]


def _setup(
    profile: Path,
    select: str | None,
    gpus_per_replica: int,
    slo_ttft: str,
    slo_itl: str,
    cold_start: str,
    deviation: str | None,
) -> Setup:
    from stowage.simulate.serving.profile_files import read_profile
    from stowage.simulate.serving.profile_rows import parse_select
    from stowage.simulate.serving.setup import ColdStart, Setup

    try:
        chosen = parse_select(select) if select is not None else {}
    except ValueError as error:
        raise InputError(f"--profile-select {select}: {error}") from error
    start = ColdStart(
        duration_seconds(cold_start, "--cold-start"),
        0.0 if deviation is None else duration_seconds(deviation, "--cold-start-deviation"),
    )
    return Setup(
        performance=read_profile(profile, chosen),
        gpus_per_replica=gpus_per_replica,
        slo_ttft_seconds=duration_seconds(slo_ttft, "--slo-ttft"),
        slo_itl_seconds=duration_seconds(slo_itl, "--slo-itl"),
        cold_start_seconds=start,
    )


def _requests(trace: Path, rate_scale: float, seed: int, start: str | None, length: str | None) -> Requests:
    from stowage.simulate.serving.arrivals import read_requests

    begins = 0.0 if start is None else duration_seconds(start, "--start", most_hours=_MOST_HOURS)
    seconds = math.inf if length is None else duration_seconds(length, "--length", most_hours=_MOST_HOURS)
    try:
        return read_requests(trace, rate_scale=rate_scale, seed=seed, start_seconds=begins, seconds=seconds)
    except ValueError as error:
        raise InputError(f"--rate-scale {rate_scale:g}: {error}") from error


def print_table(comparison: Comparison, attainment: float) -> None:
    """The figures of all policies, for people."""
    from rich.table import Table

    from stowage.simulate.serving.comparison_report import HEADS, rows, verdict

    table = Table(HEADS[0], box=None)
    for head in HEADS[1:]:
        table.add_column(head, justify="right")
    for row in rows(comparison):
        table.add_row(*row)
    out = console()
    out.print(table)
    out.print()
    targets = comparison.targets
    out.print(
        f"{len(comparison.requests):,} requests; one replica keeps {100 * attainment:g} % within both targets up to "
        f"{targets.requests_per_second:.2f} requests/s, {targets.in_flight:.0f} in flight"
    )
    found = verdict(comparison, attainment)
    if found is not None and found.best_online is not None and found.saved_percent is not None:
        word = "fewer" if found.saved_percent >= 0 else "more"
        out.print(
            f"stowage takes {abs(found.saved_percent):.1f} % {word} GPU hours than {found.best_online}, the cheapest "
            f"on-line baseline that attains {100 * attainment:g} %"
        )


def _draw(comparison: Comparison, file: Path, title: str, attainment: float) -> None:
    from stowage.simulate.serving.comparison_plots import draw

    try:
        draw(comparison, file, title=title, attainment=attainment)
    except ImportError as error:
        raise InputError("--plot needs matplotlib: pip install 'stowage[demo]'") from error
    except OSError as error:
        raise InputError(f"--plot {file}: {error.strerror or error}") from error
    remark(f"written: {file}")
