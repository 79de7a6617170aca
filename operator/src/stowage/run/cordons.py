"""Carrying out what jobs' statuses say of nodes that nobody should use."""

from __future__ import annotations

import logging
from datetime import datetime

from stowage.act.unhealthy_nodes import cordon
from stowage.api.training_job import TrainingJob
from stowage.decide.training.node_memory import may_be_cordoned
from stowage.observe.store import Store
from stowage.run.lease import Lease, term_of
from stowage.transport import Api, Conflict, Forbidden

logger = logging.getLogger(__name__)


class Cordons:
    """Taints nodes, each once for each time that it failed.

    Args:
        api: the connection.
        store: facts of the cluster.
        lease: of the leader.
        may_touch_nodes: whether the operator has the right; one that is held to namespaces has it not.
    """

    def __init__(self, *, api: Api, store: Store, lease: Lease, may_touch_nodes: bool) -> None:
        self._api = api
        self._store = store
        self._lease = lease
        self._may_touch_nodes = may_touch_nodes
        self._done: dict[str, datetime] = {}  # by node: up to which failure

    async def carry_out(self, job: TrainingJob) -> bool:
        """Taint what the job's status names; False: somebody wrote in between, and it has to be tried again."""
        whole = True
        for one in job.status.avoided_nodes:
            done = self._done.get(one.node)
            if not one.cordon or (done is not None and done >= one.at):
                continue
            whole = await self._one(one.node, one.at, f"TrainingJob {job.key}: {one.reason}") and whole
        return whole

    async def _one(self, node: str, at: datetime, reason: str) -> bool:
        if not self._may_touch_nodes:
            logger.warning("node %s should be kept from new pods, and this operator may not: %s", node, reason)
        elif may_be_cordoned(node, self._store.nodes.values()):
            leads = term_of(self._lease)
            try:
                await cordon(self._api, node, at=at, reason=reason, leads=leads)
            except Conflict:
                return False
            except Forbidden as error:
                logger.warning("node %s may not be kept from new pods: %s", node, error.message or error)
            if not leads():
                return True  # whoever leads now does it; if that is this process again, it looks at the node again
        self._done[node] = at
        return True
