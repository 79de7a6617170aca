"""Free GPUs by node, counted at most every few seconds for all services together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from stowage.decide.gpu_use import free_gpus
from stowage.observe.store import Store

COUNTED_SECONDS: Final = 15.0
"""Which replica of a role leaves depends on it, and nothing that has to be right to the second."""


class FreeGpus:
    """What `free_gpus` says, lately.

    Args:
        store: facts of the cluster.
        clock: seconds since 1970.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._counted_at: float | None = None
        self._known: Mapping[str, int] = {}

    def of(self, nodes: frozenset[str]) -> Mapping[str, int]:
        """Of these nodes; nothing where there is no choice between them."""
        if len(nodes) < 2:
            return {}
        now = self._clock()
        if self._counted_at is None or not 0 <= now - self._counted_at < COUNTED_SECONDS:
            self._known, self._counted_at = free_gpus(self._store.snapshot(now)), now
        return {name: self._known[name] for name in nodes if name in self._known}
