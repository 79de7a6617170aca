"""What the statuses of TrainingJobs show as metrics: numbers of all jobs together, and what each write adds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from msgspec import Struct

from stowage.api.names import UNHEALTHY_TAINT
from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import LastFailure, TrainingJobStatus
from stowage.api.training_reasons import JobReason
from stowage.api.training_words import JobPhase, Scope
from stowage.decide.training.job_facts import recoveries_of
from stowage.decide.training.repair_times import STAGES
from stowage.decide.training.time_words import stages
from stowage.observe.store import Store
from stowage.run.coordinators import Coordinators, Links
from stowage.run.metrics import Metrics
from stowage.run.training_catalogue import ENDINGS, WHOLE


class _Shown(Struct, frozen=True):
    """What one job adds to the gauges; times in seconds since 1970."""

    phase: JobPhase
    since: float
    nodes: int
    good_seconds: float
    all_seconds: float
    checkpoint_at: float | None
    spares: int
    slow_ranks: int


class TrainingMetrics:
    """Numbers of the jobs.

    Args:
        metrics: of the process.
        term: epoch of the lease while this process leads, else nought; a standby shows nought, for what it knew is old,
            and who leads again begins anew: jobs may have gone meanwhile.
        clock: seconds since 1970.
        coordinators: the links.
        store: facts of the cluster.
    """

    def __init__(
        self,
        metrics: Metrics,
        term: Callable[[], int],
        clock: Callable[[], float],
        coordinators: Coordinators,
        store: Store,
    ) -> None:
        self._metrics = metrics
        self._term = term
        self._known_in = 0
        self._clock = clock
        self._coordinators = coordinators
        self._jobs: dict[str, _Shown] = {}
        for phase in JobPhase:
            self._follow_phase(phase)
        for state in Links:
            self._follow_links(state)
        metrics.training_goodput_ratio.set_function(self._goodput)
        metrics.training_checkpoint_age_seconds.set_function(self._checkpoint_age)
        metrics.training_spare_pods.set_function(lambda: self._sum(lambda job: job.spares))
        metrics.training_straggling_ranks.set_function(lambda: self._sum(lambda job: job.slow_ranks))
        metrics.training_cordoned_nodes.set_function(lambda: self._shown(_cordoned(store)))
        metrics.coordinator_reconnects.set_function(lambda: float(coordinators.reconnects()))

    def wrote(self, before: TrainingJob, after: TrainingJob) -> None:
        """The status of a job was written, or found as it was."""
        self._known()[after.key] = _shown(after.status)
        if before.status is not after.status:
            self._count(before, after)

    def gone(self, key: str) -> None:
        """The job was deleted."""
        self._jobs.pop(key, None)

    def _count(self, before: TrainingJob, after: TrainingJob) -> None:
        old, new = before.status, after.status
        known = frozenset(recoveries_of(before))
        for one in recoveries_of(after):
            if one not in known:
                labels = (one.event.value, one.action.value, one.domain.value)
                self._metrics.training_recoveries.labels(*labels).inc()
        was = {one.scope: one.count for one in old.restarts}
        for restart in new.restarts:
            self._add_restarts(restart.scope, restart.count - was.get(restart.scope, 0))
        if new.phase is not old.phase and new.phase is not None and new.phase.ended and new.reason in ENDINGS:
            self._metrics.training_ended_jobs.labels(JobReason(new.reason).value).inc()
        if new.last_failure is not None:
            self._observe(old.last_failure, new.last_failure)
        self._account(old, new)

    def _add_restarts(self, scope: Scope, more: int) -> None:
        if more > 0:
            self._metrics.training_restarts.labels(scope.value).inc(more)

    def _observe(self, old: LastFailure | None, new: LastFailure) -> None:
        """The stages that are over since the last write."""
        same = old is not None and (old.at, old.event, old.seat) == (new.at, new.event, new.seat)
        known = stages(old.recovery) if old is not None and same else {}
        spent = stages(new.recovery)
        for stage, seconds in spent.items():
            if stage not in known:
                self._metrics.training_recovery_seconds.labels(stage).observe(seconds)
        if "detect" in spent and "detect" not in known:
            self._metrics.training_detection_seconds.labels(new.event.value).observe(spent["detect"])
        if len(spent) == len(STAGES) > len(known):
            self._metrics.training_recovery_seconds.labels(WHOLE).observe(sum(spent.values()))

    def _account(self, old: TrainingJobStatus, new: TrainingJobStatus) -> None:
        """Add what the account of the job's time has more; open time is of no kind yet."""
        if new.goodput is None:
            return
        more = new.goodput.productive_seconds - (old.goodput.productive_seconds if old.goodput is not None else 0)
        if more > 0:
            self._metrics.training_productive_seconds.inc(more)
        lost = Counter({one.cause: one.seconds for one in new.goodput.lost_seconds})
        lost.subtract({one.cause: one.seconds for one in old.goodput.lost_seconds} if old.goodput is not None else {})
        for cause, seconds in lost.items():
            if seconds > 0:
                self._metrics.training_lost_seconds.labels(cause.value).inc(seconds)

    def _follow_phase(self, phase: JobPhase) -> None:
        def since() -> list[float]:
            return [job.since for job in self._known().values() if job.phase is phase]

        self._metrics.training_jobs.labels(phase.value).set_function(lambda: self._shown(len(since())))
        if not phase.ended:
            age = self._metrics.training_phase_age_seconds.labels(phase.value)
            age.set_function(lambda: self._shown(self._age(min(since(), default=None))))

    def _follow_links(self, state: Links) -> None:
        links = self._metrics.coordinator_links.labels(state.value)
        links.set_function(lambda: float(self._coordinators.counts()[state]))

    def _sum(self, number: Callable[[_Shown], int]) -> float:
        return self._shown(sum(number(job) for job in self._known().values() if not job.phase.ended))

    def _goodput(self) -> float:
        going = [job for job in self._known().values() if not job.phase.ended]
        total = sum(job.nodes * job.all_seconds for job in going)
        if not total:
            return self._shown(1.0)
        return self._shown(sum(job.nodes * job.good_seconds for job in going) / total)

    def _checkpoint_age(self) -> float:
        made = [
            job.checkpoint_at
            for job in self._known().values()
            if job.phase is JobPhase.RUNNING and job.checkpoint_at is not None
        ]
        return self._shown(self._age(min(made, default=None)))

    def _age(self, since: float | None) -> float:
        return max(0.0, self._clock() - since) if since is not None else 0.0

    def _shown(self, number: float) -> float:
        return float(number) if self._term() else 0.0

    def _known(self) -> dict[str, _Shown]:
        """The jobs of this term."""
        term = self._term()
        if term and term != self._known_in:
            self._jobs.clear()
            self._known_in = term
        return self._jobs


def _cordoned(store: Store) -> int:
    """Nodes with our taint for nodes at which jobs fail."""
    return sum(any(taint.key == UNHEALTHY_TAINT for taint in node.taints) for node in store.nodes.values())


def _shown(status: TrainingJobStatus) -> _Shown:
    goodput, checkpoint = status.goodput, status.progress.last_checkpoint
    good = everything = 0.0
    if goodput is not None:
        good = float(goodput.productive_seconds + goodput.open_seconds)
        everything = good + sum(one.seconds for one in goodput.lost_seconds)
    return _Shown(
        phase=status.phase or JobPhase.PENDING,
        since=status.phase_since.timestamp() if status.phase_since is not None else 0.0,
        nodes=max(1, status.nodes.desired),
        good_seconds=good,
        all_seconds=everything,
        checkpoint_at=checkpoint.at.timestamp() if checkpoint is not None else None,
        spares=status.nodes.spares,
        slow_ranks=len(status.stragglers),
    )
