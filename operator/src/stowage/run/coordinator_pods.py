"""The coordinator of each job: its Secret, Service and pod, the link to it, and a new pod where the old one is no use.

A coordinator holds nothing that it is not told again, and training goes on without it: so it is replaced by force.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from stowage.act.training import apply_child, delete_pod, ensure_token
from stowage.api.training_job import TrainingJob
from stowage.api.training_words import JobPhase
from stowage.decide.training.children import (
    COORDINATOR_PORT,
    coordinator_name,
    coordinator_pod,
    service,
)
from stowage.decide.training.commands import command_of
from stowage.decide.training.evidence_of_coordinators import LOST_SECONDS
from stowage.decide.training.seats import LEAVE_SECONDS
from stowage.observe.store import Store
from stowage.run.coordinators import Coordinators, Target
from stowage.run.lease import Lease
from stowage.run.settings import OperatorSettings
from stowage.transport import Api, ApiError, paths
from stowage_scheduler.cluster import Pod

REPLACED_SECONDS: Final = 600.0
"""A coordinator that runs and is not heard is replaced no more often: the network may be at fault."""
MENDED_SECONDS: Final = 60.0
"""Secret and Service are looked at no more often: pods are made many at once, and in turns."""

logger = logging.getLogger(__name__)


class CoordinatorPods:
    """Keeps them. What it remembers saves requests, and is lost without harm.

    Args:
        api: the connection.
        store: facts of the cluster.
        lease: of the leader.
        clock: seconds since 1970.
        settings: of the process.
        links: to the coordinators.
    """

    def __init__(
        self,
        *,
        api: Api,
        store: Store,
        lease: Lease,
        clock: Callable[[], float],
        settings: OperatorSettings,
        links: Coordinators,
    ) -> None:
        self._api = api
        self._store = store
        self._lease = lease
        self._clock = clock
        self._settings = settings
        self._links = links
        self._tokens: dict[str, tuple[str, str]] = {}  # by key: UID of the job, token
        self._replaced_at: dict[str, float] = {}
        self._mended: dict[str, tuple[str, float]] = {}  # by key: UID of the job, when Secret and Service were there

    def forget(self, key: str) -> None:
        """The job is gone."""
        self._links.drop(key)
        self._tokens.pop(key, None)
        self._replaced_at.pop(key, None)
        self._mended.pop(key, None)

    async def keep(self, job: TrainingJob, ended_seconds: float | None, *, makes_pods: bool = False) -> float | None:
        """Secret, Service and coordinator are there while the job may run, and the coordinator knows its command.

        Args:
            job: with the status that was written last.
            ended_seconds: since the job has ended; None: it has not.
            makes_pods: whether pods of it are about to be made, which need Secret and Service.

        Returns:
            After how many seconds to look again; None: when something changes.
        """
        found = self._store.pods.get(f"{job.namespace}/{coordinator_name(job.name)}")
        coordinator = found if found is not None and found.owner and found.owner.uid == job.metadata.uid else None
        over = job.status.phase in {JobPhase.SUSPENDED, JobPhase.PAUSED}
        if ended_seconds is not None:
            over = ended_seconds >= LEAVE_SECONDS or coordinator is None or coordinator.finished
        if over:
            self._links.drop(job.key)
            if coordinator is not None and not coordinator.terminating and not coordinator.finished:
                await delete_pod(self._api, coordinator)
            return None
        if ended_seconds is None and (makes_pods or coordinator is None):
            await self._mend(job)
        token = await self._token(job)
        if ended_seconds is None:
            if coordinator is None:
                await apply_child(self._api, job, paths.PODS, coordinator_pod(job, self._settings.worker_image))
            elif self._is_of_no_use(job, coordinator):
                self._replaced_at[job.key] = self._clock()
                logger.warning("job %s: its coordinator is of no use where it is, and is replaced", job.key)
                await delete_pod(self._api, coordinator, force=True)
        if not self._lease.leading:
            return None
        target = Target(job.key, job.metadata.uid or "", token, self._lease.epoch)
        self._links.follow(target, lambda: self._address(job))
        self._links.command(job.key, command_of(job))
        return self._look_in(job)

    def _is_of_no_use(self, job: TrainingJob, pod: Pod) -> bool:
        """Whether a pod has ended, or stands on a dead node or runs for long, and nobody hears it.

        A kubelet that is gone stops no coordinator: who is heard stays.
        """
        if pod.finished:
            return True
        if self._links.connected(job.key):
            return False
        if self._is_on_dead_node(pod):
            return True
        unheard = self._clock() - self._links.since(job.key) >= LOST_SECONDS
        lately = self._clock() - self._replaced_at.get(job.key, -REPLACED_SECONDS) < REPLACED_SECONDS
        return pod.ready and unheard and not lately

    def _look_in(self, job: TrainingJob) -> float | None:
        """When silence will be long enough to do something about it."""
        if self._links.connected(job.key):
            return None
        left = LOST_SECONDS - (self._clock() - self._links.since(job.key))
        return left if left > 0 else None

    async def _mend(self, job: TrainingJob) -> None:
        """Secret and Service, if somebody has deleted them: without them a pod waits for ever, or finds nobody."""
        now = self._clock()
        uid, at = self._mended.get(job.key, ("", 0.0))
        if uid == job.metadata.uid and now - at < MENDED_SECONDS:
            return
        known, token = self._tokens.get(job.key, ("", ""))
        token = await ensure_token(self._api, job, token if known == job.metadata.uid else None)
        self._tokens[job.key] = (job.metadata.uid or "", token)
        await apply_child(self._api, job, paths.SERVICES, service(job))
        self._mended[job.key] = (job.metadata.uid or "", now)

    async def _token(self, job: TrainingJob) -> str:
        uid, token = self._tokens.get(job.key, ("", ""))
        if uid != job.metadata.uid:
            token = await ensure_token(self._api, job)
            self._tokens[job.key] = (job.metadata.uid or "", token)
        return token

    def _is_on_dead_node(self, pod: Pod) -> bool:
        node = self._store.nodes.get(pod.node) if pod.node is not None else None
        return pod.node is not None and (node is None or not node.ready)

    async def _address(self, job: TrainingJob) -> tuple[str, int]:
        """Where the coordinator is: as the settings say, else the IP of its pod.

        Who is there is told the job's token, so it must be the job's own pod, and one that still has its IP.
        """
        if self._settings.coordinator_address:
            host, _, port = self._settings.coordinator_address.rpartition(":")
            return host, int(port)
        try:
            pod = await self._api.get(paths.pod(job.namespace, coordinator_name(job.name)))
        except ApiError as error:
            raise ConnectionError(f"its pod cannot be read: {error.reason}") from error
        status = pod.get("status") or {}
        if not any(owner.get("uid") == job.metadata.uid for owner in pod["metadata"].get("ownerReferences") or ()):
            raise ConnectionError("its pod is another's")
        if status.get("phase") not in {"Pending", "Running"} or not status.get("podIP"):
            raise ConnectionError("its pod has no address yet, or none any more")
        return status["podIP"], COORDINATOR_PORT
