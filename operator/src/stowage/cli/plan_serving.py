"""`stowage plan-serving`: which layout serves a model on given GPUs, from a measured profile alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from stowage.cli.errors import ExitCode, InputError
from stowage.cli.options import Output, OutputOption, SeedOption
from stowage.cli.printing import console, print_document, progress, remark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stowage.cli.plan_mix import MixRow
    from stowage.decide.serving.capacity import Shape
    from stowage.decide.serving.plan_serving import Demand, Fleet, Layout
    from stowage.simulate.serving.requests import Requests

_MOST_STAGES = 64


def plan_serving(
    *,
    profile: Annotated[Path, typer.Option("--profile", help="A measured profile, as simulate serving reads it.")],
    gpu: Annotated[
        list[str], typer.Option("--gpu", help="GPUs there are; may be given several times.", metavar="NAME:COUNT")
    ],
    slo_ttft: Annotated[str, typer.Option("--slo-ttft", help="Longest time to the first token.")] = "2s",
    slo_itl: Annotated[str, typer.Option("--slo-itl", help="Longest mean time between tokens.")] = "100ms",
    profile_select: Annotated[
        str, typer.Option("--profile-select", help="Which rows, where there are several models or engines.")
    ] = "",
    rate: Annotated[
        float | None, typer.Option("--rate", help="Requests per second. Default: the trace's mean.", min=0)
    ] = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Requests, for their lengths and rate.", metavar="FILE.csv")
    ] = None,
    input_tokens: Annotated[
        int | None, typer.Option("--input-tokens", min=1, help="Of a prompt, where there is no trace.")
    ] = None,
    output_tokens: Annotated[
        int | None, typer.Option("--output-tokens", min=1, help="Of an answer, where there is no trace.")
    ] = None,
    attainment: Annotated[
        float, typer.Option("--attainment", min=0.5, max=0.9999, help="Share of requests within the targets.")
    ] = 0.99,
    gpus_per_node: Annotated[int, typer.Option("--gpus-per-node", min=1, max=1024)] = 8,
    pipeline: Annotated[
        str, typer.Option("--pipeline", help="Numbers of pipeline stages to consider.", metavar="N,N…")
    ] = "1,2,4",
    across_nodes: Annotated[
        bool, typer.Option("--across-nodes", help="KV caches may be sent between nodes; else roles share a node.")
    ] = False,
    price: Annotated[
        list[str] | None, typer.Option("--price", help="Of a GPU per hour. Default: all alike.", metavar="NAME:PRICE")
    ] = None,
    profile_gpus: Annotated[
        int, typer.Option("--profile-gpus", min=1, max=64, help="GPUs of the replica measured, if not in the profile.")
    ] = 1,
    kv_capacity: Annotated[
        int | None,
        typer.Option("--kv-capacity", min=1, help="Tokens that a replica holds. Default: from model and GPU."),
    ] = None,
    closed_form: Annotated[
        bool, typer.Option("--closed-form", help="Rates by a queueing model instead of simulation: faster, less close.")
    ] = False,
    mix: Annotated[
        bool,
        typer.Option("--mix", help="Instead of layouts: of which replicas a role with several variants would be made."),
    ] = False,
    rows: Annotated[int, typer.Option("--rows", min=1, max=1000, help="Layouts to show.")] = 10,
    seed: SeedOption = 0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Rank the layouts that serve a demand within latency targets.

    Prefill and decode together or apart, tensor and pipeline parallel degree of each, and how many replicas.
    Exit code 0 when some layout meets the demand, else 1.
    """
    from stowage.cli import plan_mix
    from stowage.decide.serving.capacity import Targets, capacity
    from stowage.decide.serving.plan_serving import Demand, Fleet, layouts
    from stowage.simulate.openb import TraceError
    from stowage.simulate.serving.profile_rows import parse_select
    from stowage.simulate.serving.profile_splits import read_splits
    from stowage.simulate.serving.simulated_rate import SimulatedRate

    gpus = {name: _whole(count, "--gpu") for name, count in _pairs(gpu, "--gpu").items()}
    prices = {name: _number(cost, "--price") for name, cost in _pairs(price or [], "--price").items()}
    stages = [_whole(text, "--pipeline") for text in pipeline.split(",")]
    if not all(1 <= count <= _MOST_STAGES for count in stages):
        raise InputError(f"--pipeline {pipeline}: each is 1 to {_MOST_STAGES}")
    if unknown := set(prices) - set(gpus):
        raise InputError(f"--price {', '.join(sorted(unknown))}: not a name of --gpu")
    try:
        requests, mean_rate = _requests(trace, input_tokens, output_tokens, seed)
        wanted = rate if rate is not None else mean_rate
        if not wanted:
            raise InputError("--rate: more than 0, or a --trace")
        demand = Demand(
            wanted,
            _shape(requests),
            Targets(_seconds(slo_ttft, "--slo-ttft"), _seconds(slo_itl, "--slo-itl"), attainment),
        )
        fleet = Fleet(gpus, gpus_per_node, not across_nodes, prices)
        with progress("rating layouts"):
            read = read_splits(
                profile,
                list(gpus),
                stages,
                select=parse_select(profile_select),
                tensor=profile_gpus,
                kv_tokens=kv_capacity,
            )
            if mix:
                _end_with_mixes(plan_mix.mixes(read.splits, demand, fleet), output)
            simulated = SimulatedRate(requests.prompt_tokens, requests.output_tokens, seed)
            found = layouts(read.splits, demand, fleet, capacity if closed_form else simulated)
    except (TraceError, ValueError) as error:
        raise InputError(str(error)) from error
    for words in read.left_out:
        remark(f"left out: {words}")
    if output is Output.TABLE:
        _show(found[:rows], demand)
    else:
        print_document(_document(found[:rows], demand, fleet, read.left_out), output)
    if not found or not found[0].meets_demand:
        raise typer.Exit(ExitCode.NEGATIVE)


def _end_with_mixes(found: Sequence[MixRow], output: Output) -> NoReturn:
    from stowage.cli import plan_mix

    if output is Output.TABLE:
        plan_mix.show(found)
    else:
        print_document(plan_mix.document(found), output)
    raise typer.Exit(ExitCode.OK if found[-1].replicas else ExitCode.NEGATIVE)


def _pairs(given: Sequence[str], option: str) -> dict[str, str]:
    """`NAME:VALUE` each."""
    found: dict[str, str] = {}
    for text in given:
        name, colon, value = text.rpartition(":")
        if not colon or not name or name in found:
            raise InputError(f"{option} {text}: must be NAME:NUMBER, each name once")
        found[name] = value
    return found


def _whole(text: str, option: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise InputError(f"{option}: {text!r} is not a whole number")
    return int(text)


def _number(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(f"{option}: {text!r} is not a number of at least 0")
    return value


def _seconds(text: str, option: str) -> float:
    from stowage.api.durations import Duration

    try:
        seconds = Duration(text).seconds
    except ValueError as error:
        raise InputError(f"{option} {text}: {error}") from error
    if not seconds:
        raise InputError(f"{option} {text}: must be more than 0")
    return seconds


def _requests(trace: Path | None, prompt: int | None, answer: int | None, seed: int) -> tuple[Requests, float | None]:
    """Requests as they look, and how many come in a second, if a trace says it."""
    import numpy as np

    from stowage.simulate.serving.arrivals import read_requests
    from stowage.simulate.serving.requests import Requests

    if trace is None:
        if prompt is None or answer is None:
            raise InputError("--trace, or --input-tokens and --output-tokens, say what requests look like")
        return Requests(np.zeros(1), np.array([prompt]), np.array([answer])), None
    if prompt is not None or answer is not None:
        raise InputError("--trace: instead of --input-tokens and --output-tokens, not beside them")
    requests = read_requests(trace, seed=seed)
    return requests, len(requests) / requests.duration_seconds if requests.duration_seconds else None


def _shape(requests: Requests) -> Shape:
    from stowage.decide.serving.capacity import Shape

    prompts, answers = requests.prompt_tokens, requests.output_tokens
    return Shape(
        float(prompts.mean()),
        float(answers.mean()),
        float(prompts.std() / prompts.mean()),
        float(answers.std() / answers.mean()),
    )


def _document(found: Sequence[Layout], demand: Demand, fleet: Fleet, left_out: Sequence[str]) -> dict[str, Any]:
    return {
        "requestsPerSecond": round(demand.requests_per_second, 4),
        "inputTokens": round(demand.shape.prompt_tokens, 1),
        "outputTokens": round(demand.shape.output_tokens, 1),
        "acrossNodes": not fleet.is_low_affinity,
        "layouts": [
            {
                "meetsDemand": layout.meets_demand,
                "requestsPerSecond": round(layout.requests_per_second, 4),
                "goodputPerGpu": round(layout.goodput_per_gpu, 4),
                "gpus": dict(layout.gpus),
                "costPerHour": round(layout.cost_per_hour, 4) if fleet.price else None,
                "roles": [
                    {
                        "role": one.role.value,
                        "replicas": count,
                        "gpu": one.split.gpu,
                        "tensorParallel": one.split.tensor,
                        "pipelineParallel": one.split.pipeline,
                        "requestsPerSecondOfReplica": round(one.requests_per_second, 4),
                        "goodputPerGpu": round(one.per_gpu, 4),
                        "boundBy": one.bound.value,
                    }
                    for one, count in layout.parts
                ],
            }
            for layout in found
        ],
        "leftOut": list(left_out),
    }


def _show(found: Sequence[Layout], demand: Demand) -> None:
    from rich.table import Table

    out = console()
    shape = demand.shape
    out.print(
        f"{demand.requests_per_second:.2f} requests/s of {shape.prompt_tokens:.0f} + {shape.output_tokens:.0f} tokens, "
        f"{100 * demand.targets.quantile:g} % within {demand.targets.ttft_seconds:g} s and "
        f"{1000 * demand.targets.itl_seconds:g} ms a token"
    )
    if not found:
        out.print("no layout serves any of them within the targets")
        return
    table = Table("replicas", box=None)
    for head in ("GPUs", "requests/s", "per GPU", "bound by"):
        table.add_column(head, justify="right" if head != "bound by" else "left")
    for layout in found:
        replicas = " + ".join(
            f"{count} {one.role.value} tp{one.split.tensor} pp{one.split.pipeline} {one.split.gpu}"
            for one, count in layout.parts
        )
        table.add_row(
            replicas,
            f"{sum(layout.gpus.values())}",
            f"{layout.requests_per_second:.2f}{'' if layout.meets_demand else ' (too few)'}",
            f"{layout.goodput_per_gpu:.3f}",
            ", ".join(one.bound.value for one, _ in layout.parts),
        )
    out.print(table)
