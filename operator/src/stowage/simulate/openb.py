"""Reads the openb trace: nodes with GPUs and the pods that asked for them.

The trace is that of Weng et al., USENIX ATC'23 (`cluster-trace-gpu-v2023` of alibaba/clusterdata): memory in MiB, CPU
and GPU in thousandths; `gpu_milli` is per device, and `gpu_spec` names models that will do, divided by `|`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from stowage_scheduler.gpu.devices import Demand

NODES = "openb_node_list_gpu_node.csv"
PODS = "openb_pod_list_default.csv"
PUBLISHED = "fgd_expected_default.csv"
POD_COLUMNS = ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec")
T = TypeVar("T")


class TraceError(Exception):
    """A file of a trace can not be read; says which line and why."""


class TraceNode(Struct, frozen=True):
    """A node: CPU in milli-CPU, memory in MiB, number and model of its GPUs."""

    name: str
    cpu_milli: int
    memory_mib: int
    gpus: int
    model: str


class Trace(Struct, frozen=True):
    """Nodes by name, and the demands of the pods in the order of the file."""

    nodes: tuple[TraceNode, ...]
    pods: tuple[Demand, ...]

    @property
    def gpu_milli(self) -> int:
        """Thousandths of GPUs that the nodes have."""
        return 1000 * sum(node.gpus for node in self.nodes)


def read(folder: Path) -> Trace:
    """The trace in a folder.

    Raises:
        TraceError: a file is missing, or a line of it is not as expected.
    """
    nodes = parsed(folder / NODES, ("sn", "cpu_milli", "memory_mib", "gpu", "model"), _node)
    pods = parsed(folder / PODS, POD_COLUMNS, demand_of)
    if not nodes or not pods:
        raise TraceError(f"{folder}: the trace has no {'pods' if nodes else 'nodes'}")
    return Trace(tuple(sorted(nodes, key=lambda node: node.name)), pods)


def published(folder: Path) -> dict[tuple[str, int, int], float]:
    """GPUs allocated in percent, by (policy, seed, arrived percent), as FGD's authors published; empty: not there.

    Raises:
        TraceError: the file is not as expected.
    """
    if not (folder / PUBLISHED).is_file():
        return {}
    return dict(parsed(folder / PUBLISHED, ("policy", "seed", "arrived_gpu_pct", "gpu_alloc_pct"), _figure))


def _node(row: Mapping[str, str]) -> TraceNode:
    return TraceNode(
        row["sn"], _amount(row, "cpu_milli"), _amount(row, "memory_mib"), _amount(row, "gpu"), row["model"]
    )


def demand_of(row: Mapping[str, str]) -> Demand:
    """What the pod of a line asks for.

    Raises:
        ValueError: an amount is no whole number, or the GPUs make no sense.
    """
    gpus = _amount(row, "num_gpu")
    return Demand(
        cpu_milli=_amount(row, "cpu_milli"),
        memory_mib=_amount(row, "memory_mib"),
        gpu_milli=_amount(row, "gpu_milli") if gpus else 0,
        gpu_count=gpus,
        models=frozenset(filter(None, row["gpu_spec"].split("|"))),
    )


def _figure(row: Mapping[str, str]) -> tuple[tuple[str, int, int], float]:
    return (row["policy"], _amount(row, "seed"), _amount(row, "arrived_gpu_pct")), float(row["gpu_alloc_pct"])


def _amount(row: Mapping[str, str], column: str) -> int:
    try:
        amount = int(row[column])
    except ValueError:
        raise ValueError(f"{column} is {row[column]!r}, not a whole number") from None
    if amount < 0:
        raise ValueError(f"{column} is {amount}, less than 0")
    return amount


def parsed(file: Path, columns: Sequence[str], parse: Callable[[Mapping[str, str]], T]) -> tuple[T, ...]:
    """Every line of a file, as `parse` makes it; what it finds wrong is told with the line's number.

    Raises:
        TraceError: the file can not be read, lacks a column, or `parse` raised `ValueError`.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"{file}: {error.strerror if isinstance(error, OSError) else error}") from error
    reader = csv.DictReader(lines, restval="")
    missing = set(columns) - set(reader.fieldnames or ())
    if missing:
        raise TraceError(f"{file}: no column {', '.join(sorted(missing))}")
    found = []
    for row in reader:
        try:
            found.append(parse(row))
        except ValueError as error:
            raise TraceError(f"{file}, line {reader.line_num}: {error}") from error
    return tuple(found)
