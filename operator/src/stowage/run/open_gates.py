"""Letting pods go that wait behind Stowage's gate for a policy that is no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from stowage.act.gates import open_gate
from stowage.api.names import GANG_GATE
from stowage.transport import Api
from stowage_scheduler.cluster import Pod
from stowage_scheduler.packing import PodRef

PATIENCE_SECONDS: Final = 30.0
"""So long a policy may be away: people delete one and make another, and so do tools."""


class OpenGates:
    """Remembers since when nobody plans for the pods of each job.

    Args:
        api: the connection.
        clock: seconds since 1970.
    """

    def __init__(self, *, api: Api, clock: Callable[[], float]) -> None:
        self._api = api
        self._clock = clock
        self._since: dict[str, float] = {}

    def forget(self, key: str) -> None:
        """The job is gone."""
        self._since.pop(key, None)

    async def carry_out(self, key: str, pods: Iterable[Pod], *, planned: bool) -> float | None:
        """Take the gate off pods for which no policy has planned for a while.

        Args:
            key: of the job.
            pods: of its seats.
            planned: whether a policy covers them, paused or not: one that is paused will go on.

        Returns:
            After how many seconds to look again; None: when something changes.
        """
        gated = [pod for pod in pods if GANG_GATE in pod.gates and not pod.terminating]
        if planned or not gated:
            self._since.pop(key, None)
            return None
        left = self._since.setdefault(key, self._clock()) + PATIENCE_SECONDS - self._clock()
        if left > 0:
            return left
        for pod in gated:
            await open_gate(self._api, PodRef(pod.namespace, pod.name, pod.uid))
        return None
