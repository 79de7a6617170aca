"""Evidence in Prometheus: rules that admins wrote, which fire for a job."""

from __future__ import annotations

from typing import Final

from stowage.api.training_job import TrainingJob
from stowage.api.training_words import Event
from stowage.decide.training.children import seat_pod_name
from stowage.decide.training.facts import Evidence
from stowage.decide.training.promql_rules import Queried

PROMETHEUS: Final = "prometheus"


def evidence_of_queries(job: TrainingJob, queried: Queried) -> tuple[Evidence, ...]:
    """One for each rule that fires, and each pod that it fires for.

    A rule that fired before the current epoch was answered by it: it has to stop and fire again. One that has held
    since before the job was made speaks of an earlier job of that name, whose series have not ended yet.
    """
    made = job.metadata.creation_timestamp
    made_at = made.timestamp() if made is not None else 0.0
    seats = {seat_pod_name(job.name, seat.seat, seat.attempt): seat for seat in job.status.seats}
    found = []
    for one in sorted(queried.firing, key=lambda firing: (firing.rule, firing.pod or "")):
        seat = seats.get(one.pod) if one.pod is not None else None
        if one.since <= made_at or (one.pod is not None and (seat is None or seat.pod_uid is None)):
            continue
        found.append(
            Evidence(
                Event.PROMQL,
                one.at,
                PROMETHEUS,
                seat=seat.seat if seat is not None else None,
                node=seat.node if seat is not None else None,
                pod=seat.pod_uid if seat is not None else None,
                name=one.rule,
                detail=f"it returned {one.value:g} and had held for {one.at - one.since:g} s",
            )
        )
    return tuple(found)
