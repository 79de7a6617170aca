"""Measured profiles of replicas in the forms in which projects publish them, told apart by their columns.

| form | columns | what is measured |
|---|---|---|
| splitwise-sim `perf_model.csv` | `prompt_time`, `token_time` | steps, by prompt tokens and by batch |
| AIConfigurator `silicon_sample.csv` | `silicon_ttft_ms`, `silicon_tpot_ms` | whole runs at a fixed concurrency |
| Dynamo planner's `prefill.csv`, `decode.csv`, `limits.csv` | `prefill_isl`; `x_kv_usage` | steps, by KV use too |
| inference-perf's summaries | `requested_rps`, `e2e_mean_s` | whole runs at a fixed rate |
| LLMServingSim's runs of vLLM | `queue_wait_s`, `decode_s` | each request of one run |

A PerformanceProfile, as YAML or JSON, is one too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import yaml

from stowage.api.performance_profile import PerformanceProfile
from stowage.decide.serving.performance import DEFAULT_RUNNING, Performance, measured_curve, medians
from stowage.decide.serving.performance_fit import decode_curves
from stowage.decide.serving.profile_resource import performance_of
from stowage.simulate.openb import TraceError
from stowage.simulate.serving.calibration import calibrated
from stowage.simulate.serving.csv_files import Row, columns_of, number, parsed, whole
from stowage.simulate.serving.kv_capacity import kv_capacity
from stowage.simulate.serving.measured_runs import RUN_COLUMNS, read_run, run_performance
from stowage.simulate.serving.profile_fits import fit_concurrency, fit_rates
from stowage.simulate.serving.profile_rows import selected

_RESOURCES: Final = frozenset({".yaml", ".yml", ".json"})
_MILLI: Final = 1e-3
MIXED_FACTOR: Final = 1.1
"""What splitwise-sim multiplies steps of prompts and sequences by."""
MOST_BEYOND_MEASURED: Final = 2
"""No more sequences run than so many times the largest measured batch: what comes after nobody knows."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a profile does not tell and a user may; None: as the form says.

    `kv_capacity_tokens` of one replica, `max_running` sequences, `max_batched_tokens` of a step.
    """

    kv_capacity_tokens: int | None = None
    max_running: int | None = None
    max_batched_tokens: int | None = None

    def over(self, performance: Performance) -> Performance:
        """The performance within these limits.

        Raises:
            ValueError: they contradict each other.
        """
        given = {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}
        return replace(performance, **given)


def read_profile(file: Path, select: Mapping[str, str] | None = None, limits: Limits | None = None) -> Performance:
    """The performance of one replica.

    Args:
        file: in one of the forms above; of Dynamo's, one of the three or their folder.
        select: values by column, where the file holds several profiles.
        limits: what goes before what the file tells.

    Raises:
        TraceError: the file is in none of the forms or not as expected, or `select` does not leave one profile; names
            line and field, or the choices.
    """
    given = limits or Limits()
    if file.suffix in _RESOURCES:
        return given.over(_resource(file, select or {}))
    if file.is_dir():
        file = file / "prefill.csv"
    names = set(columns_of(file))
    for columns, read in _FORMS:
        if set(columns) <= names:
            try:
                return given.over(read(file, select or {}, given))
            except ValueError as error:
                raise TraceError(f"{file}: {error}") from error
    known = "; ".join(", ".join(columns) for columns, _ in _FORMS)
    raise TraceError(f"{file}: no known form of a profile; one of these sets of columns is expected: {known}")


def _resource(file: Path, select: Mapping[str, str]) -> Performance:
    try:
        document = yaml.safe_load(file.read_bytes())
        if not isinstance(document, Mapping) or document.get("kind") != PerformanceProfile.kind_name():
            raise TraceError(f"{file}: kind must be {PerformanceProfile.kind_name()}, and the only document")
        selected(file, (), (), select)
        return performance_of(PerformanceProfile.parse_stored(document).spec)
    except OSError as error:
        raise TraceError(f"{file}: {error.strerror or error}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise TraceError(f"{file}: {' '.join(str(error).split())}") from error


def measured_parallelism(file: Path, select: Mapping[str, str] | None = None) -> tuple[int, int] | None:
    """Over how many GPUs the replica of `read_profile` spread each layer, and in how many stages; None: nobody told.

    Raises:
        TraceError: as of `read_profile`.
    """
    names = set() if file.is_dir() or file.suffix in _RESOURCES else set(columns_of(file))
    if set(_SPLITWISE) <= names:
        first = selected(file, parsed(file, _SPLITWISE, _checked_splitwise), _SPLITWISE[:3], select or {})[0]
        return int(first["tensor_parallel"]), 1
    if set(_SILICON) <= names:
        first = _silicon_rows(file, select or {})[0]
        return max(1, int(first["tp_size"] or 1)), max(1, int(first["pp_size"] or 1))
    return None


def _capacity(file: Path, given: Limits, model: str, gpu: str, gpus: int, precision: str = "") -> int:
    if given.kv_capacity_tokens is not None:
        return given.kv_capacity_tokens
    found = kv_capacity(model, gpu, gpus, precision)
    if found is None:
        raise TraceError(f"{file}: how many tokens {model} on {gpus} {gpu} holds is not known: give the KV capacity")
    return found


_SPLITWISE: Final = (
    *("model", "hardware", "tensor_parallel", "prompt_size", "batch_size"),
    *("token_size", "prompt_time", "token_time"),
)


def _splitwise(file: Path, select: Mapping[str, str], given: Limits) -> Performance:
    rows = selected(file, parsed(file, _SPLITWISE, _checked_splitwise), _SPLITWISE[:3], select)
    first = rows[0]
    rows = _at_once(rows)
    batches = [int(row["batch_size"]) for row in rows]
    lone = [row for row in rows if int(row["batch_size"]) == 1]
    return Performance(
        prefill_seconds=measured_curve(
            (int(row["prompt_size"]), _MILLI * float(row["prompt_time"])) for row in lone or rows
        ),
        decode_seconds=measured_curve((int(row["batch_size"]), _MILLI * float(row["token_time"])) for row in rows),
        kv_capacity_tokens=_capacity(file, given, first["model"], first["hardware"], int(first["tensor_parallel"])),
        mixed_factor=MIXED_FACTOR,
        max_running=min(DEFAULT_RUNNING, MOST_BEYOND_MEASURED * max(batches)),
    )


def _at_once(rows: Sequence[Row]) -> list[Row]:
    """Without batches that did not fit and ran one part after the other: their prompts took less than smaller ones'."""
    fitting = list(rows)
    for size in {row["prompt_size"] for row in rows}:
        times = medians(
            (int(row["batch_size"]), float(row["prompt_time"])) for row in rows if row["prompt_size"] == size
        )
        for smaller, larger in itertools.pairwise(sorted(times)):
            if times[larger] < times[smaller]:
                fitting = [row for row in fitting if int(row["batch_size"]) < larger]
                break
    return fitting


def _checked_splitwise(row: Row) -> Row:
    for column in ("tensor_parallel", "prompt_size", "batch_size", "token_size"):
        whole(row, column, least=1)
    _positive(row, "prompt_time", "token_time")
    return row


_SILICON_KEYS: Final = (
    *("system", "backend", "backend_version", "model_path", "precision", "mode"),
    *("tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size"),
)
_SILICON: Final = (*_SILICON_KEYS, "isl", "osl", "batch_size", "silicon_ttft_ms", "silicon_tpot_ms")


def _silicon(file: Path, select: Mapping[str, str], given: Limits) -> Performance:
    rows = _silicon_rows(file, select)
    first = rows[0]
    gpus = max(1, int(first["tp_size"] or 1)) * max(1, int(first["pp_size"] or 1))
    capacity = _capacity(file, given, first["model_path"], first["system"], gpus, first["precision"])
    return fit_concurrency(rows, capacity)


def _silicon_rows(file: Path, select: Mapping[str, str]) -> list[Row]:
    rows = [row for row in parsed(file, _SILICON, _checked_silicon) if row["mode"] == "agg"]
    if not rows:
        raise TraceError(f"{file}: no row with mode agg; those with prefill and decode apart tell of no single replica")
    return selected(file, rows, _SILICON_KEYS, select)


def _checked_silicon(row: Row) -> Row:
    if row["mode"] == "agg":
        for column in ("isl", "osl", "batch_size"):
            whole(row, column, least=1)
        for column in ("tp_size", "pp_size"):
            if row[column]:
                whole(row, column, least=1)
        _positive(row, "silicon_ttft_ms", "silicon_tpot_ms")
    return row


def _dynamo(file: Path, select: Mapping[str, str], given: Limits) -> Performance:
    selected(file, [], (), select)
    prefill = parsed(file.with_name("prefill.csv"), ("prefill_isl", "prefill_ttft"), _dynamo_prefill)
    capacity = given.kv_capacity_tokens
    if capacity is None:
        [capacity, *_] = parsed(
            file.with_name("limits.csv"), ("max_kv_tokens",), lambda row: whole(row, "max_kv_tokens", least=1)
        )
    surface = parsed(file.with_name("decode.csv"), ("x_kv_usage", "y_context_length", "z_itl"), _dynamo_decode)
    steps = [(usage * capacity / context, usage * capacity, seconds) for usage, context, seconds in surface]
    known = [step for step in steps if step[0] <= MOST_SEQUENCES] or steps
    base, per_token = decode_curves(*zip(*known, strict=True))
    return Performance(
        prefill_seconds=measured_curve(prefill),
        decode_seconds=base,
        kv_capacity_tokens=capacity,
        decode_seconds_per_kv_token=per_token,
        max_running=DEFAULT_RUNNING,
    )


MOST_SEQUENCES: Final = 1024
"""Of Dynamo's surface, points with more sequences than this are not what they say: the engine ran fewer at once."""


def _dynamo_prefill(row: Row) -> tuple[int, float]:
    _positive(row, "prefill_ttft")
    return whole(row, "prefill_isl", least=1), _MILLI * float(row["prefill_ttft"])


def _dynamo_decode(row: Row) -> tuple[float, int, float]:
    _positive(row, "x_kv_usage", "z_itl")
    return number(row, "x_kv_usage"), whole(row, "y_context_length", least=1), _MILLI * float(row["z_itl"])


_CURVE: Final = (
    *("config", "stage", "requested_rps", "completed_rps", "input_tok_per_s", "output_tok_per_s", "achieved_rps"),
    *("ttft_mean_s", "e2e_mean_s"),
)


def _inference_perf(file: Path, select: Mapping[str, str], given: Limits) -> Performance:
    rows = selected(file, parsed(file, _CURVE, _checked_curve), ("config",), select)
    # the folder names no GPU: 80 GiB and an 8B model, as nothing smaller serves this rate
    capacity = _capacity(file, given, "Llama-3.1-8B", "h100-80gb", 1)
    return fit_rates(rows, capacity)


def _checked_curve(row: Row) -> Row:
    _positive(row, *_CURVE[2:])
    return row


def _vllm_run(file: Path, select: Mapping[str, str], given: Limits) -> Performance:
    selected(file, [], (), select)
    run = read_run(file)
    capacity = given.kv_capacity_tokens or run.kv_capacity_tokens
    if capacity is None:
        raise TraceError(f"{file}: the KV capacity is not known: give it")
    return calibrated(run, run_performance(replace(run, kv_capacity_tokens=capacity)))


def _positive(row: Row, *columns: str) -> None:
    for column in columns:
        if number(row, column) <= 0:
            raise ValueError(f"{column} is {row[column]}, not more than 0")


_Read = Callable[[Path, Mapping[str, str], Limits], Performance]
_FORMS: Final[tuple[tuple[tuple[str, ...], _Read], ...]] = (
    (("prompt_time", "token_time"), _splitwise),
    (("silicon_ttft_ms", "silicon_tpot_ms"), _silicon),
    (("prefill_isl", "prefill_ttft"), _dynamo),
    (("x_kv_usage", "z_itl"), _dynamo),
    (("requested_rps", "e2e_mean_s"), _inference_perf),
    (RUN_COLUMNS, _vllm_run),
)
