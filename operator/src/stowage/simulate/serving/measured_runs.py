"""Recorded runs of one real engine, request by request, to be compared with the replica model.

The form is that of LLMServingSim's ground truth (casys-kaist/LLMServingSim, `bench/examples`), as csv: `arrival_s` from
the first arrival, tokens, `ttft_s` from queued to first token, `decode_s` from there to the last. Beside it
`<name>.meta.json` tells the engine's limits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from stowage.decide.serving.performance import DEFAULT_BATCHED_TOKENS, DEFAULT_RUNNING, Performance, constant, line
from stowage.simulate.openb import TraceError
from stowage.simulate.serving.csv_files import Row, number, parsed, whole
from stowage.simulate.serving.kv_capacity import kv_capacity
from stowage.simulate.serving.ledger import Ledger
from stowage.simulate.serving.replica import Replica
from stowage.simulate.serving.requests import Floats, Requests

RUN_COLUMNS: Final = ("arrival_s", "input_tokens", "output_tokens", "queue_wait_s", "ttft_s", "decode_s")
_LIMITS: Final = {"max_num_seqs": DEFAULT_RUNNING, "max_num_batched_tokens": DEFAULT_BATCHED_TOKENS}
_GPUS: Final = {"RTXPRO6000": "rtx_pro_6000"}


@dataclass(frozen=True, slots=True)
class Run:
    """A run: its requests, what was measured of each in seconds, and the engine's limits.

    `kv_capacity_tokens` is None where model or GPU is not known.
    """

    requests: Requests
    ttft_seconds: Floats
    decode_seconds: Floats
    max_running: int
    max_batched_tokens: int
    kv_capacity_tokens: int | None

    @property
    def end_to_end_seconds(self) -> Floats:
        """Per request from arrival to last token."""
        return self.ttft_seconds + self.decode_seconds


def read_run(file: Path) -> Run:
    """A run and, where there is one, its `.meta.json`.

    Raises:
        TraceError: a file is not as expected; says line and field.
    """
    rows = parsed(file, RUN_COLUMNS, _request)
    arrivals = np.array([row[0] for row in rows])
    if (np.diff(arrivals) < 0).any():
        line_number = int((np.diff(arrivals) < 0).argmax()) + 3
        raise TraceError(f"{file}, line {line_number}: arrival_s is less than in the line before")
    engine = _engine(file.with_suffix(".meta.json"))
    return Run(
        requests=Requests(arrivals, np.array([row[1] for row in rows]), np.array([row[2] for row in rows])),
        ttft_seconds=np.array([row[3] for row in rows]),
        decode_seconds=np.array([row[4] for row in rows]),
        max_running=engine["max_num_seqs"],
        max_batched_tokens=engine["max_num_batched_tokens"],
        kv_capacity_tokens=kv_capacity(
            engine["model"], _GPUS.get(file.name.split("_")[0], ""), engine["tensor_parallel_size"]
        ),
    )


def run_performance(run: Run) -> Performance:
    """A performance with the run's limits and step times to begin a calibration from: an 8B model on one GPU."""
    return Performance(
        prefill_seconds=line(0.01, 5e-5),
        decode_seconds=line(0.01, 1e-4),
        kv_capacity_tokens=run.kv_capacity_tokens or 10**9,
        decode_seconds_per_kv_token=constant(1e-7),
        max_running=run.max_running,
        max_batched_tokens=run.max_batched_tokens,
    )


def play(requests: Requests, performance: Performance) -> tuple[Floats, Floats]:
    """Time to first token and from there to the last, in seconds per request, on one replica that is always there.

    Raises:
        ValueError: a request does not fit into the replica.
    """
    ledger = Ledger(requests)
    replica = Replica(performance, ledger)
    for index, at in enumerate(ledger.arrival_seconds):
        if not replica.fits(index):
            raise ValueError(f"request {index} does not fit into {performance.kv_capacity_tokens} tokens")
        replica.advance(at)
        replica.enqueue(index, at)
    while replica.outstanding:
        replica.advance(replica.next_at)
    first = np.array(ledger.first_token_at)
    return first - requests.arrival_seconds, np.array(ledger.finished_at) - first


def _request(row: Row) -> tuple[float, int, int, float, float]:
    if number(row, "ttft_s") <= 0:
        raise ValueError(f"ttft_s is {row['ttft_s']}, not more than 0")
    return (
        number(row, "arrival_s"),
        whole(row, "input_tokens", least=1),
        whole(row, "output_tokens", least=1),
        number(row, "ttft_s"),
        number(row, "decode_s"),
    )


def _engine(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"model": "", "tensor_parallel_size": 1, **_LIMITS}
    if not file.is_file():
        return found
    try:
        told = json.loads(file.read_text(encoding="utf-8"))["engine_kwargs"]
        given = {name: told.get(name, default) for name, default in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TraceError(f"{file}: {error}") from error
    for name, value in given.items():
        if type(value) is not type(found[name]) or (isinstance(value, int) and value < 1):
            raise TraceError(f"{file}: engine_kwargs.{name} is {value!r}")
    return given
