"""States, staged one after the other on one control plane, with kube-scheduler's opinion of each."""

from __future__ import annotations

from collections.abc import Iterable

from harness.agreement.cases import state
from harness.agreement.comparison import Observation
from harness.agreement.own_answers import read_objects
from harness.agreement.reference import feasible_by_scheduler
from harness.agreement.staging import prepare, staged
from harness.large_cluster import BareCluster
from stowage.transport.api import Api


async def observe(bare: BareCluster, numbers: Iterable[int]) -> list[Observation]:
    """What Stowage reads and what kube-scheduler says, for each of the states."""
    found = []
    async with await Api.connect(kubeconfig=str(bare.cluster.kubeconfig), user_agent="stowage-test") as api:
        await prepare(api)
        for number in numbers:
            made = state(number)
            async with staged(bare, api, made):
                passed = await feasible_by_scheduler(bare, api)
                found.append(Observation(made, await read_objects(api), passed))
    return found
