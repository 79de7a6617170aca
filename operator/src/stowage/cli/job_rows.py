"""TrainingJobs in `stowage top`: one row for each that has not ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from stowage.cli.printing import remark

if TYPE_CHECKING:
    from stowage.api.training_job import TrainingJob


class JobRow(Struct, frozen=True):
    """A job as `top` shows it; `most_lost` is the cause that cost it most time."""

    job: str
    phase: str
    nodes: str
    step: int | None = None
    goodput: float | None = None
    restarts: int = 0
    most_lost: str | None = None
    most_lost_seconds: int = 0


def job_rows(documents: Iterable[Mapping[str, Any]]) -> list[JobRow]:
    """The jobs that have not ended, the least goodput first; those that cannot be read are named and left out."""
    from stowage.api.resource import InvalidObjectError
    from stowage.api.training_job import TrainingJob

    found = []
    for document in documents:
        try:
            job = TrainingJob.parse_stored(document)
        except InvalidObjectError as error:
            remark(f"left out: {error}")
            continue
        if job.status.phase is None or not job.status.phase.ended:
            found.append(_row(job))
    return sorted(found, key=lambda row: (1.0 if row.goodput is None else row.goodput, row.job))


def _row(job: TrainingJob) -> JobRow:
    status = job.status
    lost = status.goodput.lost_seconds if status.goodput is not None else ()
    most = max(lost, key=lambda one: one.seconds, default=None)
    return JobRow(
        job=job.key,
        phase=status.phase.value if status.phase is not None else "New",
        nodes=status.nodes.summary,
        step=status.progress.step,
        goodput=float(status.goodput.ratio) if status.goodput is not None else None,
        restarts=status.restart_count,
        most_lost=most.cause.value if most is not None else None,
        most_lost_seconds=most.seconds if most is not None else 0,
    )


def document(rows: Iterable[JobRow]) -> list[dict[str, Any]]:
    """The rows as JSON values."""
    return [
        {
            "job": row.job,
            "phase": row.phase,
            "nodes": row.nodes,
            "step": row.step,
            "goodput": row.goodput,
            "restarts": row.restarts,
            "mostLost": {"cause": row.most_lost, "seconds": row.most_lost_seconds} if row.most_lost else None,
        }
        for row in rows
    ]


def show(rows: Iterable[JobRow]) -> None:
    """Print a table; nothing where there are no jobs."""
    from stowage.cli.plan import print_rows
    from stowage.cli.printing import console
    from stowage.decide.training.time_words import span

    heads = ("training job", "state", "nodes", "step", "goodput", "restarts", "most time lost to")
    cells = [
        (
            row.job,
            row.phase,
            row.nodes,
            "" if row.step is None else str(row.step),
            "" if row.goodput is None else f"{row.goodput:.3f}",
            str(row.restarts),
            f"{row.most_lost} {span(row.most_lost_seconds)}" if row.most_lost else "",
        )
        for row in rows
    ]
    print_rows(console(), heads, cells)
