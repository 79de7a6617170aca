"""Looking for nodes to empty, until it is found what to do or a pod waits: that comes first, also for the solver."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from stowage.api.packing_policy import PackingPolicy
from stowage.api.reasons import PolicyReason
from stowage.decide.consolidation import Looked, cut_off, emptied
from stowage.decide.document import stale_for
from stowage.decide.trigger import in_scope, pends
from stowage.observe.store import Store
from stowage.run.catalogue import Searched
from stowage.run.metrics import Metrics
from stowage.run.solver import Solver, SolverError
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.packing import Packing

POLL_SECONDS: Final = 0.5

logger = logging.getLogger(__name__)


class Found(Struct, frozen=True):
    """Nodes that can be emptied, and the plan that does so."""

    nodes: tuple[str, ...]
    packing: Packing


class Consolidator:
    """Asks the solver.

    Args:
        solver: the solver workers.
        store: facts of the cluster.
        metrics: of the process.
        clock: wall clock, seconds since the epoch.
        seed: of every random choice.
    """

    def __init__(self, solver: Solver, store: Store, metrics: Metrics, clock: Callable[[], float], seed: int) -> None:
        self._solver = solver
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._seed = seed
        self._policies: Sequence[PackingPolicy] = ()
        self._looked: dict[str, Looked] = {}  # by policy UID; what it forgets costs one needless search

    def looked(self, policy: PackingPolicy) -> Looked:
        """What the last search for a policy found nothing for."""
        return self._looked.get(policy.metadata.uid or "", Looked())

    def refused(self, policy: PackingPolicy, words: str) -> None:
        """The API server did not take the plan that was made: it is not made again at once."""
        logger.warning("policy %s: the plan to empty nodes is refused: %s", policy.name, words)
        self._remember(policy, Looked("", self._clock(), PolicyReason.PLAN_REFUSED, words))

    def know(self, policies: Sequence[PackingPolicy]) -> None:
        """These are all policies: others are forgotten, and pods that these plan for end a search."""
        self._policies = policies
        uids = {policy.metadata.uid for policy in policies}
        self._looked = {uid: looked for uid, looked in self._looked.items() if uid in uids}

    async def search(
        self, policy: PackingPolicy, scene: Snapshot, options: PackOptions, fingerprint: str
    ) -> Found | None:
        """Look for nodes to empty.

        Returns:
            None when there are none, or when a pod began to wait meanwhile. That is remembered.
        """
        spec = policy.spec.budget
        budget = Budget(seconds=spec.time.seconds, certify_seconds=spec.certify_within.seconds)
        waited = self._waiting(scene)
        task = asyncio.create_task(self._solver.consolidate(scene, options, budget, self._seed))
        try:
            while not (await asyncio.wait({task}, timeout=POLL_SECONDS))[0]:
                if self._waiting(scene) - waited:
                    self._cut_off(policy, "a pod waits")
                    return None
            found = task.result()
        except SolverError as error:
            logger.warning("policy %s: looking for nodes to empty: %s", policy.name, error)
            self._remember(policy, Looked("", self._clock(), PolicyReason.SOLVER_FAILED, str(error)))
            self._count(Searched.FAILED)
            return None
        finally:
            task.cancel()  # which ends its worker, if it still searches
        nodes = emptied(found, policy)
        if not nodes or found.packing is None:
            self._remember(policy, Looked(fingerprint, self._clock()))
            self._count(Searched.NOTHING)
            return None
        stale = stale_for(found.packing, {pod.uid: pod for pod in self._store.pods.values()})
        if stale is not None or self._waiting(scene) - waited:
            self._cut_off(policy, stale or "a pod waits")
            return None
        self._remember(policy, Looked())
        self._count(Searched.FOUND)
        return Found(nodes, found.packing)

    def _waiting(self, scene: Snapshot) -> set[str]:
        """UIDs of pods that wait and that some policy plans for: the solver is everybody's, but not for other pods."""
        pods = [pod for pod in self._store.pods.values() if pends(pod)]
        return {pod.uid for pod in pods if any(in_scope(policy, pod, scene) for policy in self._policies)}

    def _cut_off(self, policy: PackingPolicy, why: str) -> None:
        logger.info("policy %s: no node is emptied now: %s", policy.name, why)
        self._remember(policy, cut_off(self.looked(policy), self._clock()))
        self._count(Searched.OVERTAKEN)

    def _remember(self, policy: PackingPolicy, looked: Looked) -> None:
        self._looked[policy.metadata.uid or ""] = looked

    def _count(self, outcome: Searched) -> None:
        self._metrics.consolidations.labels(outcome.value).inc()
