"""One pass over one TrainingJob: read, decide, write the status, act on what the status says."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final

from stowage.act.events import announce_job
from stowage.act.policies import list_policies
from stowage.act.training import (
    NameTaken,
    apply_child,
    delete_job,
    delete_pod,
    get_job,
    refuse_unreadable,
    release_pod,
)
from stowage.act.workload_status import write_workload_status
from stowage.api.packing_policy import PackingPolicy
from stowage.api.resource import InvalidObjectError
from stowage.api.training_job import TrainingJob
from stowage.decide.training.children import seat_pod
from stowage.decide.training.coverage import is_covered
from stowage.decide.training.job_announcements import job_announcements
from stowage.decide.training.job_progress import only_shows
from stowage.decide.training.job_status import Seen, Step, next_step
from stowage.decide.training.seats import LEAVE_SECONDS, Work, seat_pods, work_of
from stowage.observe.store import Store
from stowage.run.coordinator_pods import CoordinatorPods
from stowage.run.coordinators import Coordinators
from stowage.run.cordons import Cordons
from stowage.run.event_allowance import EventAllowance
from stowage.run.known_jobs import KnownJobs
from stowage.run.lease import Lease, term_of
from stowage.run.metrics import Metrics
from stowage.run.node_records import NodeRecords
from stowage.run.open_gates import OpenGates
from stowage.run.queries import Queries
from stowage.run.settings import OperatorSettings
from stowage.run.training_metrics import TrainingMetrics
from stowage.run.training_places import Places
from stowage.transport import Api, Forbidden, Invalid, NotFound, paths
from stowage_scheduler.cluster import Pod

AGAIN_SECONDS: Final = 0.5
TAKEN_SECONDS: Final = 2.0
REFUSED_SECONDS: Final = 30.0
POLICIES_SECONDS: Final = 10.0
RING_SECONDS: Final = 0.05  # one pass for the many events of one change
WRITES_AT_ONCE: Final = 16

Ring = Callable[[str, float], None]
"""Told the key of a job and after how many seconds to look at it."""

logger = logging.getLogger(__name__)


class TrainingReconciler:
    """Carries jobs through their lives. What it remembers only saves requests: a new process goes on without it.

    Args:
        api: the connection.
        store: facts of the cluster.
        lease: of the leader; nothing is written without it.
        metrics: of the process.
        clock: wall clock, seconds since the epoch.
        settings: of the process.
        ring: called when a job has to be looked at.
        queries: the PromQL rules.
        generator: source of the jitter.
    """

    def __init__(
        self,
        *,
        api: Api,
        store: Store,
        lease: Lease,
        metrics: Metrics,
        clock: Callable[[], float],
        settings: OperatorSettings,
        ring: Ring,
        queries: Queries,
        generator: random.Random,
    ) -> None:
        self._api = api
        self._store = store
        self._lease = lease
        self._clock = clock
        self._settings = settings
        self._ring = ring
        self._queries = queries
        self.coordinators = Coordinators(ring, generator, clock)
        self._metrics = TrainingMetrics(metrics, self._term, clock, self.coordinators, store)
        self._events = EventAllowance(clock)
        self._coordinator_pods = CoordinatorPods(
            api=api, store=store, lease=lease, clock=clock, settings=settings, links=self.coordinators
        )
        self._cordons = Cordons(api=api, store=store, lease=lease, may_touch_nodes=not settings.watch_namespaces)
        self._gates = OpenGates(api=api, clock=clock)
        self._known = KnownJobs(clock)
        self._places = Places(store.pods)
        self._records = NodeRecords()
        self._released: dict[str, set[str]] = {}  # by key: UIDs of pods
        self._refused: dict[str, str] = {}  # by key: the API server's words about a child
        self._progress_at: dict[str, float] = {}
        self._written: dict[str, str] = {}  # by key: the resource version that we wrote last
        self._rung_at: dict[str, float] = {}  # by key: when the cluster told something that nobody has looked at yet
        self._policies: tuple[PackingPolicy, ...] = ()
        self._policies_at: float | None = None
        self._writes = asyncio.Semaphore(WRITES_AT_ONCE)

    def _term(self) -> int:
        return self._lease.epoch if self._lease.leading else 0

    def on_store_event(self, kind: str, key: str) -> None:
        """Ring the jobs that a change of the cluster may concern."""
        if kind == "Node":
            concerned = self._places.jobs_on(key)
        elif kind == "Pod":
            concerned = self._places.pod_changed(key)
        else:
            return
        for job in concerned:
            self._ring_for_change(job)

    def with_pods(self) -> tuple[str, ...]:
        """The keys of jobs that have pods: one that was deleted while nobody led is not told of any more."""
        return self._places.jobs()

    def _ring_for_change(self, job: str) -> None:
        if self._lease.leading:
            self._rung_at.setdefault(job, self._clock())
        self._ring(job, RING_SECONDS)

    async def reconcile(self, key: str) -> float | None:
        """Bring one job up to date; returns after how many seconds to look again, None: at the next ring."""
        namespace, _, name = key.partition("/")
        if self._settings.watch_namespaces and namespace not in self._settings.watch_namespaces:
            return None
        changes = self._known.changes(key)
        try:
            job = await self._read(key, changes)
        except InvalidObjectError as error:
            leads = term_of(self._lease)
            await refuse_unreadable(self._api, namespace, name, error, now=self._clock(), leads=leads)
            return None
        pods = self._places.pods_of(key)
        if job is None:
            await self._let_go(key, pods)
            return None
        if await self._is_behind(job, pods):
            return AGAIN_SECONDS
        seen = await self._seen(job, pods)
        step = next_step(job, seen)
        late = self._only_progress(job, step, seen.now)
        if late:
            written: TrainingJob | None = job
        else:
            written = await write_workload_status(self._api, job, step.status, leads=term_of(self._lease))
            self._progress_at[key] = seen.now
        if written is None:
            self._known.changed(key)
            return AGAIN_SECONDS
        if written is not job:
            self._known.keep(written, changes)
        self._wrote(job, written, seen)
        self._tell(job, written)
        self._queries.listen(written)
        self._places.stands_on(key, (seat.node for seat in written.status.seats if seat.node))
        self._records.learn(written)
        try:
            again = await self._act(written, seen, step)
        finally:
            await self._announce(job, written, seen.now)
        if late and step.status != job.status:
            progress_seconds = self.coordinators.progress_seconds()
            return min(progress_seconds, again if again is not None else progress_seconds)  # it is told then
        return again

    async def _read(self, key: str, changes: int) -> TrainingJob | None:
        """The job as it is now; None when it is gone or going."""
        known = self._known.get(key)
        if known is not None:
            return known
        namespace, _, name = key.partition("/")
        job = await get_job(self._api, namespace, name)
        if job is not None:
            self._known.keep(job, changes)
        return job

    def changed(self, key: str) -> None:
        """Somebody else changed a job, or it is gone."""
        self._known.changed(key)

    def is_own(self, key: str, version: str) -> bool:
        """Whether a version of a job is what this process wrote last, and so nothing to look at."""
        return self._written.get(key) == version

    def _wrote(self, before: TrainingJob, after: TrainingJob, seen: Seen) -> None:
        """Nobody rings for what we write ourselves: where one step makes room for another, look again."""
        if after is before:
            return
        self._written[after.key] = after.metadata.resource_version or ""
        if not only_shows(before.status, after.status) and next_step(after, seen).status != after.status:
            self._ring(after.key, RING_SECONDS)

    def stand_by(self) -> None:
        """Somebody else leads: what is remembered of jobs will be old, and of some that are gone by then."""
        self.coordinators.drop_all()
        self._known.clear()
        self._queries.clear()
        self._records = NodeRecords()
        for memory in (self._released, self._refused, self._progress_at, self._written, self._rung_at):
            memory.clear()

    async def _let_go(self, key: str, pods: tuple[Pod, ...]) -> None:
        """The job is gone: its pods are the garbage collector's, and nobody counts them any more."""
        self._coordinator_pods.forget(key)
        self._gates.forget(key)
        self._metrics.gone(key)
        self._events.forget(key)
        self._queries.forget(key)
        self._known.forget(key)
        self._places.stands_on(key, ())
        self._records.forget(key)
        for memory in (self._refused, self._progress_at, self._written, self._rung_at):
            memory.pop(key, None)
        released = self._released.setdefault(key, set())
        leaving = [pod for pod in pods if pod.uid not in released]
        await self._all(partial(release_pod, self._api, pod) for pod in leaving)
        released.update(pod.uid for pod in leaving)
        if not pods:
            self._released.pop(key, None)

    async def _is_behind(self, job: TrainingJob, pods: tuple[Pod, ...]) -> bool:
        """Whether the store has not seen yet what the status speaks of: missing there would look like deleted."""
        known = {pod.uid for pod in pods}
        for seat in job.status.seats:
            if seat.pod_uid is None or seat.pod_uid in known:
                continue
            try:
                path = paths.pod(job.namespace, f"{job.name}-{seat.seat}-{seat.attempt}")
                if (await self._api.get(path))["metadata"]["uid"] == seat.pod_uid:
                    return True
            except NotFound:
                continue
        return False

    async def _seen(self, job: TrainingJob, pods: tuple[Pod, ...]) -> Seen:
        now = self._clock()
        makes_pods = job.status.phase is None or any(seat.pod_uid is None for seat in job.status.seats)
        if makes_pods or self._policies_at is None or now - self._policies_at >= POLICIES_SECONDS:
            self._policies, self._policies_at = await list_policies(self._api), now
        return Seen(
            pods=seat_pods(pods, job),
            nodes=self._store.nodes,
            snapshot=self._store.snapshot(now),
            now=now,
            report=self.coordinators.report(job.key, job.metadata.uid or ""),
            connected=self.coordinators.connected(job.key),
            link_since=self.coordinators.since(job.key),
            gated=is_covered(job, self._policies, self._labels_of(job.namespace)),
            records=self._records.at(now),
            refused=self._refused.get(job.key, ""),
            heard=self.coordinators.heard(job.key),
            rung_at=self._rung_at.pop(job.key, None),
            queried=self._queries.queried(job),
        )

    def _labels_of(self, namespace: str) -> Mapping[str, str]:
        found = self._store.namespaces.get(namespace)
        return found.labels if found is not None else {}

    def _is_planned(self, job: TrainingJob) -> bool:
        return is_covered(job, self._policies, self._labels_of(job.namespace), paused=True)

    def _only_progress(self, job: TrainingJob, step: Step, now: float) -> bool:
        """Whether nothing is new but what may be told late, and something was told a moment ago."""
        lately = now - self._progress_at.get(job.key, 0.0) < self.coordinators.progress_seconds()
        return lately and only_shows(job.status, step.status)

    async def _announce(self, before: TrainingJob, after: TrainingJob, now: float) -> None:
        """The events of one write, once what it asks for is under way."""
        told = self._events.allowed(after.key, job_announcements(before, after))
        await announce_job(self._api, after, told, identity=self._settings.identity, now=now)

    def _tell(self, before: TrainingJob, after: TrainingJob) -> None:
        self._metrics.wrote(before, after)
        old, new = before.status, after.status
        if (old.phase, old.epoch) != (new.phase, new.epoch):
            words = (after.key, new.phase, new.epoch, new.attempt, new.message)
            logger.info("job %s: %s, epoch %d, attempt %d. %s", *words)

    async def _act(self, job: TrainingJob, seen: Seen, step: Step) -> float | None:
        status = job.status
        ended_seconds = None
        if status.phase is not None and status.phase.ended:
            ended_seconds = seen.now - (status.finished_at.timestamp() if status.finished_at is not None else seen.now)
            ttl = job.spec.ttl_after_finished
            if ttl is not None and ended_seconds >= ttl.seconds:
                await delete_job(self._api, job)
                return None
        work = work_of(job, seen.pods, seen.nodes, gated=seen.gated, ended_seconds=ended_seconds)
        again = [step.again_at - seen.now if step.again_at is not None else None]
        try:
            await self._clear(job, work)
            again.append(await self._coordinator_pods.keep(job, ended_seconds, makes_pods=bool(work.create)))
            image = self._settings.worker_image
            pods = [seat_pod(job, one, image) for one in work.create]
            await self._all(partial(apply_child, self._api, job, paths.PODS, pod) for pod in pods)
            again.append(await self._gates.carry_out(job.key, seen.pods, planned=self._is_planned(job)))
            if not await self._cordons.carry_out(job):
                again.append(AGAIN_SECONDS)
            self._refused.pop(job.key, None)
        except NameTaken as error:
            self._log_refusal(job.key, str(error))
            again.append(TAKEN_SECONDS)
        except (Invalid, Forbidden) as error:
            self._log_refusal(job.key, error.message or str(error))
            again.append(REFUSED_SECONDS)
        if ended_seconds is not None and ended_seconds < LEAVE_SECONDS:
            again.append(LEAVE_SECONDS - ended_seconds)
        soonest = min((one for one in again if one is not None), default=None)
        return max(RING_SECONDS, soonest) if soonest is not None else None

    def _log_refusal(self, key: str, words: str) -> None:
        if self._refused.get(key) != words:
            self._refused[key] = words
            logger.warning("job %s: %s", key, words)
            self._ring(key, RING_SECONDS)

    async def _clear(self, job: TrainingJob, work: Work) -> None:
        """Deletions before all else: what is made may need the room, or the quota."""
        released = self._released.setdefault(job.key, set())
        released &= {pod.uid for pod in self._places.pods_of(job.key)}  # of those that are gone nobody asks
        leaving = [pod for pod in (*work.release, *self._of_earlier_jobs(job)) if pod.uid not in released]
        await self._all(partial(delete_pod, self._api, one.pod, force=one.force) for one in work.delete)
        await self._all(partial(release_pod, self._api, pod) for pod in leaving)
        released.update(pod.uid for pod in leaving)

    def _of_earlier_jobs(self, job: TrainingJob) -> list[Pod]:
        """Pods of a job of this name that was deleted: nobody counts them any more."""
        pods = self._places.pods_of(job.key)
        own = {pod.uid for pod in seat_pods(pods, job)}
        kind = job.kind
        return [pod for pod in pods if pod.uid not in own and pod.terminating and pod.owner and pod.owner.kind == kind]

    async def _all(self, actions: Iterable[Callable[[], Awaitable[None]]]) -> None:
        """Some at once; the first error is raised when all have ended. Who is cancelled before its turn did nothing."""

        async def one(action: Callable[[], Awaitable[None]]) -> None:
            async with self._writes:
                await action()

        results = await asyncio.gather(*(one(action) for action in actions), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
