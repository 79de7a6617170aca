"""The named workloads on which autoscalers are compared: two recorded ones, and four shapes with recorded lengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from stowage.simulate.serving.arrivals import read_requests
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.synthetic import Shape, synthetic

AZURE: Final = Path("azure-llm-2023-conv", "AzureLLMInferenceTrace_conv.csv")
SERVEGEN: Final = Path("servegen", "m-large_week1_client_rates.csv.gz")
_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Workload:
    """`read` gives the requests from the folder that holds the data sets, and a seed.

    `about` says what it is; `needs` are the files in that folder.
    """

    about: str
    needs: tuple[Path, ...]
    read: Callable[[Path, int], Requests]


def _azure(rate_scale: float) -> Callable[[Path, int], Requests]:
    return lambda folder, seed: read_requests(folder / AZURE, rate_scale=rate_scale, seed=seed)


def _servegen(start_hours: float, hours: float, per_second: float) -> Callable[[Path, int], Requests]:
    """Scaled so that about `per_second` requests arrive on average."""

    def read(folder: Path, seed: int) -> Requests:
        def scaled(scale: float) -> Requests:
            return read_requests(
                folder / SERVEGEN, rate_scale=scale, seed=seed, start_seconds=start_hours * _HOUR, seconds=hours * _HOUR
            )

        probe = 0.2
        measured = len(scaled(probe)) / (hours * _HOUR)
        return scaled(probe * per_second / measured)

    return read


def _shape(shape: Shape, low: float, high: float) -> Callable[[Path, int], Requests]:
    """An hour of one shape; prompts and outputs are drawn together from the Azure trace."""

    def read(folder: Path, seed: int) -> Requests:
        made = synthetic(shape, seconds=_HOUR, low_per_second=low, high_per_second=high, seed=seed)
        recorded = read_requests(folder / AZURE)
        drawn = np.random.default_rng((seed, 1)).integers(0, len(recorded), len(made))
        return Requests(made.arrival_seconds, recorded.prompt_tokens[drawn], recorded.output_tokens[drawn])

    return read


WORKLOADS: Final[Mapping[str, Workload]] = {
    "azure-1": Workload("the Azure conversation trace as recorded, an hour", (AZURE,), _azure(1)),
    "azure-4": Workload("four copies of it, each shifted", (AZURE,), _azure(4)),
    "servegen": Workload(
        "two hours of a morning of ServeGen's m-large, 8 requests/s on average", (SERVEGEN,), _servegen(7, 2, 8)
    ),
    "ramp": Workload("2 to 24 requests/s over an hour, evenly", (AZURE,), _shape(Shape.RAMP, 2, 24)),
    "spike": Workload("4 requests/s, for six minutes 20", (AZURE,), _shape(Shape.SPIKE, 4, 20)),
    "diurnal": Workload("2 to 24 requests/s and back, a day in an hour", (AZURE,), _shape(Shape.DIURNAL, 2, 24)),
    "on-off": Workload("16 and 4 requests/s by turns of five minutes", (AZURE,), _shape(Shape.ON_OFF, 4, 16)),
}
"""In the order of tables."""


def are_there(workload: Workload, folder: Path) -> bool:
    """Whether the folder holds what the workload needs."""
    return all((folder / file).is_file() for file in workload.needs)


def peak_per_second(requests: Requests, window_seconds: float = 60.0) -> float:
    """The most requests per second over a window."""
    windows = max(1, math.ceil(requests.duration_seconds / window_seconds))
    counts = np.bincount((requests.arrival_seconds / window_seconds).astype(np.int64), minlength=windows)
    return float(counts.max(initial=0)) / window_seconds
