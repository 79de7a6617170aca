"""Recorded jobs: when they came, how long they ran, what they asked for; read from the Philly and openb traces."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from stowage.simulate import openb
from stowage.simulate.openb import TraceError, TraceNode
from stowage_scheduler.gpu.devices import DEVICE_MILLI, Demand

PHILLY = "philly_jobs_*.csv.gz"
PHILLY_GPUS = 8
"""GPUs of a node; larger jobs are gangs of whole nodes."""
_NODE_CPU_MILLI, _NODE_MEMORY_MIB = 64_000, 512 * 1024
_POD_CPU_MILLI, _POD_MEMORY_MIB = 100, 200
"""What kube-scheduler counts for pods that ask for nothing (`GetNonzeroRequests`): the trace knows GPUs alone."""


class Job(Struct, frozen=True):
    """So many pods that ask for the same, from `arrival_seconds` on; they start together and run `duration_seconds`."""

    arrival_seconds: int
    duration_seconds: int
    demand: Demand
    pods: int = 1

    @property
    def gpu_milli(self) -> int:
        """Thousandths of GPUs that all its pods hold."""
        return self.pods * self.demand.total_milli


def is_philly(folder: Path) -> bool:
    """Whether a folder holds the Philly trace."""
    return any(folder.glob(PHILLY))


def philly_nodes(count: int) -> tuple[TraceNode, ...]:
    """Nodes for the Philly jobs, with more CPU and memory than these jobs are counted with."""
    return tuple(
        TraceNode(f"node-{number:04d}", _NODE_CPU_MILLI, _NODE_MEMORY_MIB, PHILLY_GPUS, "") for number in range(count)
    )


def philly(folder: Path) -> tuple[Job, ...]:
    """Jobs of the Philly trace (Jeon et al., USENIX ATC'19), in order of arrival; seconds count from the first.

    Raises:
        TraceError: a file can not be read, or a line is not as expected.
    """
    found = []
    for file in sorted(folder.glob(PHILLY)):
        try:
            text = gzip.decompress(file.read_bytes()).decode()
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise TraceError(f"{file}: {error}") from error
        reader = csv.DictReader(text.splitlines(), restval="")
        missing = {"timestamp", "duration", "num_gpus"} - set(reader.fieldnames or ())
        if missing:
            raise TraceError(f"{file}: no column {', '.join(sorted(missing))}")
        for row in reader:
            try:
                found.append(_philly_job(row))
            except ValueError as error:
                raise TraceError(f"{file}, line {reader.line_num}: {error}") from error
    return _from_first(found)


def _philly_job(row: Mapping[str, str]) -> Job:
    when = datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC)
    gpus = int(row["num_gpus"])
    pods = max(1, -(-gpus // PHILLY_GPUS))
    if gpus <= 0 or gpus % pods:
        raise ValueError(f"num_gpus is {gpus}: not one node's, nor the same on several")
    demand = Demand(_POD_CPU_MILLI, _POD_MEMORY_MIB, DEVICE_MILLI, gpus // pods)
    return Job(int(when.timestamp()), int(float(row["duration"])), demand, pods)


def recorded_openb(folder: Path) -> tuple[Job, ...]:
    """Pods of the openb trace at the times recorded; they run from their start, or from their arrival without one.

    Raises:
        TraceError: a file can not be read, or a line is not as expected.
    """
    columns = ("creation_time", "deletion_time", "scheduled_time", *openb.POD_COLUMNS)
    return _from_first(list(openb.parsed(folder / openb.PODS, columns, _openb_job)))


def _openb_job(row: Mapping[str, str]) -> Job:
    arrival = int(row["creation_time"])
    start = int(float(row["scheduled_time"] or arrival))
    return Job(arrival, max(0, int(row["deletion_time"]) - start), openb.demand_of(row))


def _from_first(jobs: list[Job]) -> tuple[Job, ...]:
    first = min((job.arrival_seconds for job in jobs), default=0)
    ordered = sorted(jobs, key=lambda job: job.arrival_seconds)
    return tuple(
        Job(job.arrival_seconds - first, job.duration_seconds, job.demand, job.pods)
        for job in ordered
        if job.duration_seconds
    )
