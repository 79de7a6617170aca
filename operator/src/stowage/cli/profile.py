"""`stowage profile`: a PerformanceProfile from a table of measurements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stowage.api.engine_type import EngineType
from stowage.cli.errors import InputError
from stowage.cli.options import Output
from stowage.cli.printing import console, print_document

if TYPE_CHECKING:
    from stowage.api.performance_profile import PerformanceProfile, PerformanceProfileSpec
    from stowage.decide.serving.performance import Performance
    from stowage.decide.serving.profile_resource import Origin


def profile(
    file: Annotated[Path, typer.Argument(help="Measurements, in a form below.", metavar="FILE")],
    name: Annotated[str, typer.Argument(help="Name of the PerformanceProfile.", metavar="NAME")],
    *,
    model: Annotated[str, typer.Option("--model", help="The model that was measured.")],
    accelerator: Annotated[str, typer.Option("--accelerator", help="On which accelerator, such as h100-80gb.")],
    select: Annotated[
        str,
        typer.Option("--profile-select", help="Which of several profiles in FILE.", metavar="KEY=VALUE,…"),
    ] = "",
    engine: Annotated[EngineType, typer.Option("--engine", help="With which engine.")] = EngineType.VLLM,
    engine_version: Annotated[str | None, typer.Option("--engine-version", help="Its version.")] = None,
    tensor: Annotated[
        int | None,
        typer.Option("--tensor", min=1, max=64, help="GPUs that share each layer. Default: as the file tells, or 1."),
    ] = None,
    pipeline: Annotated[
        int | None,
        typer.Option("--pipeline", min=1, max=64, help="Stages that follow each other. Default: likewise."),
    ] = None,
    kv_cache_tokens: Annotated[
        int | None,
        typer.Option("--kv-cache-tokens", min=1, help="What the KV cache holds."),
    ] = None,
    max_running: Annotated[int | None, typer.Option("--max-running", min=1, help="Most requests at once.")] = None,
    max_batched_tokens: Annotated[
        int | None, typer.Option("--max-batched-tokens", min=2, help="Most tokens of a step.")
    ] = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="Form of the answer.")] = Output.YAML,
) -> None:
    """Print a PerformanceProfile made from measurements, for `kubectl apply -f -`.

    Forms: splitwise-sim's perf_model.csv, AIConfigurator's silicon_sample.csv, the folder of Dynamo's planner,
    inference-perf's summaries, LLMServingSim's runs of vLLM. Several profiles in a file: --profile-select
    model=llama2-70b,hardware=h100-80gb,tensor_parallel=8 chooses one.
    """
    from stowage.decide.serving.profile_resource import Origin
    from stowage.simulate.openb import TraceError
    from stowage.simulate.serving.profile_files import Limits, measured_parallelism, read_profile
    from stowage.simulate.serving.profile_rows import parse_select

    try:
        chosen = parse_select(select)
        limits = Limits(kv_cache_tokens, max_running, max_batched_tokens)
        performance = read_profile(file, chosen, limits)
        told = measured_parallelism(file, chosen)
    except TraceError as error:
        raise InputError(str(error)) from error
    except ValueError as error:
        raise InputError(f"--profile-select {select}: {error}") from error
    measured = told or (None, None)
    spread = (_agreed("--tensor", tensor, measured[0], file), _agreed("--pipeline", pipeline, measured[1], file))
    origin = Origin(model, accelerator, engine, engine_version, *spread, source=file.name)
    if chosen:
        origin = replace(origin, source=f"{file.name}, {', '.join(f'{key} {value}' for key, value in chosen.items())}")
    found = _resource(name, performance, origin)
    if output is Output.TABLE:
        _print_table(found.spec)
    else:
        whole = found.to_document()
        head = {"apiVersion": whole["apiVersion"], "kind": whole["kind"], "metadata": {"name": name}}
        print_document({**head, "spec": whole["spec"]}, output)


def _agreed(option: str, given: int | None, measured: int | None, file: Path) -> int:
    """How many there are: as the file tells, or else as was given, or one.

    Raises:
        InputError: the two differ.
    """
    if given is not None and measured is not None and given != measured:
        raise InputError(
            f"{option} {given}: {file.name} was measured with {measured}; leave it out, or choose other rows"
        )
    return given or measured or 1


def _resource(name: str, performance: Performance, origin: Origin) -> PerformanceProfile:
    """The resource, strictly read as the API server would.

    Raises:
        InputError: a name, or what was measured, is none that a profile may have.
    """
    from pydantic import TypeAdapter, ValidationError
    from pydantic.alias_generators import to_camel

    from stowage.api.fields import ResourceName
    from stowage.api.performance_profile import PerformanceProfile
    from stowage.api.resource import InvalidObjectError, part_to_document, problems_of
    from stowage.decide.serving.profile_resource import profile_of

    try:
        TypeAdapter(ResourceName).validate_python(name)
    except ValidationError as error:
        raise InputError(f"NAME {name}: must be lower case letters, digits, - and ., as of any object") from error
    try:
        spec = part_to_document(profile_of(performance, origin))
        return PerformanceProfile.parse({"metadata": {"name": name}, "spec": spec})
    except ValidationError as error:
        words = "; ".join(f"{to_camel(field)} = {value}: {rule}" for field, value, rule in problems_of(error))
        raise InputError(f"PerformanceProfile {name}: {words}") from error
    except InvalidObjectError as error:
        raise InputError(str(error)) from error
    except ValueError as error:
        raise InputError(f"PerformanceProfile {name}: {error}") from error


def _print_table(spec: PerformanceProfileSpec) -> None:
    from rich.table import Table

    where = f"{spec.model} on {spec.parallelism.gpus} {spec.accelerator}"
    if spec.measured is None:
        raise AssertionError("profiles that are made here hold rows")
    console().print(where)
    prefill = Table("tokens", "milliseconds", title="prefill")
    for one in spec.measured.prefill:
        prefill.add_row(str(one.tokens), one.milliseconds)
    decode = Table("running", "KV tokens", "milliseconds", title="decode")
    for step in spec.measured.decode:
        decode.add_row(str(step.running), str(step.kv_tokens), step.milliseconds)
    for table in (prefill, decode):
        console().print(table)
