"""What `--status-file` holds."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from stowage_worker.messages import Evidence, Progress


@dataclass(frozen=True)
class LocalStatus:
    """One local run at one moment."""

    epoch: int
    attempt: int
    phase: str
    """`Starting`, `Running`, `Recovering`, `Succeeded` or `Failed`."""
    nodes: int
    processes_per_node: int
    restarts: int
    progress: Progress = field(default_factory=Progress)
    last_failure: Evidence | None = None
    reason: str = ""
    exit_code: int | None = None
    coordinator: int | None = None
    """Its process id."""
    seats: dict[str, dict[str, object]] = field(default_factory=dict)
    """By name: process ids of the supervisor and of its ranks."""

    def document(self) -> dict[str, object]:
        """As it is written; keys stay."""
        progress, failure = self.progress, self.last_failure
        return {
            "epoch": self.epoch,
            "attempt": self.attempt,
            "phase": self.phase,
            "worldSize": self.nodes * self.processes_per_node,
            "nodes": self.nodes,
            "processesPerNode": self.processes_per_node,
            "restarts": self.restarts,
            "step": progress.step,
            "tokens": progress.tokens,
            "loss": progress.loss if progress.loss is not None and math.isfinite(progress.loss) else None,
            "checkpointStep": progress.checkpoint_step,
            "lastFailure": failure
            and {
                "event": failure.event,
                "epoch": failure.epoch,
                "seat": failure.seat,
                "rank": failure.rank,
                "code": failure.code,
                "signal": failure.signal,
                "type": failure.error_type,
                "message": failure.error_message,
                "step": failure.step,
            },
            "reason": self.reason,
            "exitCode": self.exit_code,
            "pid": os.getpid(),
            "coordinatorPid": self.coordinator,
            "seats": self.seats,
        }

    def write(self, file: Path) -> None:
        """Write it whole: readers see the old one or the new one.

        Raises:
            OSError: it cannot be written.
        """
        fresh = file.with_name(f".{file.name}.{os.getpid()}")
        fresh.write_text(json.dumps(self.document(), indent=1) + "\n")
        fresh.replace(file)


def pids_of(directory: Path) -> dict[str, object]:
    """Of a supervisor and its ranks, from what it wrote in its run directory; empty before that."""
    try:
        document = json.loads((directory / "ranks.json").read_text())
    except (OSError, ValueError):
        return {}
    return {"epoch": document["epoch"], "ranks": document["ranks"]}
