"""The metrics of TrainingJobs. None has the name of a job as a label: what one job does stands in its status."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from stowage.api.training_reasons import JobReason
from stowage.api.training_words import Action, Domain, Event, JobPhase, Lost, Scope
from stowage.decide.training.repair_times import STAGES
from stowage.run.coordinators import Links
from stowage.run.metric import Label, Metric, Unit, counter, gauge, histogram

REPAIR_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
WHOLE: Final = "total"
ENDINGS: Final = (
    JobReason.ALL_RANKS_SUCCEEDED,
    JobReason.FAILED_BY_RULE,
    JobReason.USER_ERROR,
    JobReason.BUDGET_EXHAUSTED,
    JobReason.NO_SMALLER_SIZE,
    JobReason.DEADLINE_EXCEEDED,
    JobReason.START_DEADLINE_EXCEEDED,
)
"""Why jobs end."""


def _values(values: Iterable[StrEnum]) -> tuple[str, ...]:
    return tuple(one.value for one in values)


_EVENT: Final = Label("event", _values(Event))
_LIVING: Final = Label("phase", _values(phase for phase in JobPhase if not phase.ended))

JOBS: Final = gauge("training_jobs", Unit.JOBS, "TrainingJobs by phase", Label("phase", _values(JobPhase)))
PHASE_AGE: Final = gauge(
    "training_phase_age_seconds",
    Unit.SECONDS,
    "How long the job that has been longest in a phase is in it; 0 without one",
    _LIVING,
)
RECOVERIES: Final = counter(
    "training_recoveries",
    Unit.TIMES,
    "Failures by what was done about them, and whose fault they were",
    _EVENT,
    Label("action", _values(Action)),
    Label("domain", _values(Domain)),
)
DETECTION: Final = histogram(
    "training_detection", "From a failure to its evidence, by what had happened", _EVENT, buckets=REPAIR_SECONDS
)
REPAIR: Final = histogram(
    "training_recovery",
    "Stages of recoveries; `total` is all six, until training was as far as before",
    Label("stage", (*STAGES, WHOLE)),
    buckets=REPAIR_SECONDS,
)
RESTARTS: Final = counter(
    "training_restarts", Unit.TIMES, "Starts after failures, by what was started", Label("scope", _values(Scope))
)
ENDED: Final = counter(
    "training_ended_jobs",
    Unit.JOBS,
    "Jobs that ended, by the reason in their status",
    Label("reason", _values(ENDINGS)),
)
PRODUCTIVE: Final = counter(
    "training_productive_seconds",
    Unit.SECONDS,
    "Time of all jobs in steps that count; a job counts once, however large",
)
LOST: Final = counter(
    "training_lost_seconds", Unit.SECONDS, "Time of all jobs that was lost, by cause", Label("cause", _values(Lost))
)
GOODPUT: Final = gauge(
    "training_goodput_ratio",
    Unit.RATIO,
    "Share of the time of the jobs that have not ended which went into steps that count, weighted by nodes; "
    "1 without a job",
)
CHECKPOINT_AGE: Final = gauge(
    "training_checkpoint_age_seconds",
    Unit.SECONDS,
    "Age of the oldest among the newest checkpoints of running jobs that make some",
)
SPARES: Final = gauge("training_spare_pods", Unit.PODS, "Pods of jobs that hold a node and wait for one to fail")
STRAGGLING: Final = gauge(
    "training_straggling_ranks", Unit.RANKS, "Ranks slower than those beside them by a tenth and more; 16 a job at most"
)
CORDONED: Final = gauge(
    "training_cordoned_nodes", Unit.NODES, "Nodes that Stowage keeps jobs away from because jobs failed there"
)
LINKS: Final = gauge(
    "coordinator_links",
    Unit.CONNECTIONS,
    "Links to coordinators; `connecting`: never heard yet, `lost`: heard before, or in vain for a minute",
    Label("state", _values(Links)),
)
RECONNECTS: Final = counter("coordinator_reconnects", Unit.TIMES, "Links to coordinators that were made again")

OF_TRAINING: Final[tuple[Metric, ...]] = (
    *(JOBS, PHASE_AGE, ENDED),
    *(RECOVERIES, RESTARTS, DETECTION, REPAIR),
    *(PRODUCTIVE, LOST, GOODPUT, CHECKPOINT_AGE),
    *(SPARES, STRAGGLING, CORDONED),
    *(LINKS, RECONNECTS),
)
"""All of them, in the order of the reference."""
