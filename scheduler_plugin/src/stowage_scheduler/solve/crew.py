"""Who solves neighbourhoods: threads of this process, or warm processes beside it.

CP-SAT leaves Python's lock while it solves, but building a model does not, so threads stop to gain beyond a
few (docs/design/engine.md); processes need 0.4 s to start and about 90 MB each. Both give the same answers for
the same neighbourhoods, so which one works changes nothing in deterministic mode.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from stowage_scheduler.placement import Placement
from stowage_scheduler.solve.neighbourhood import Answer, Neighbourhood, prepare

Change = tuple[int, Mapping[int, int]]  # a node, and all that stands on it by class


class Scene:
    """The placement that neighbourhoods are cut from, with the log of its changes.

    Whoever holds the problem and replays `changes` has the same placement: that is how other processes
    follow without being sent all of it for every neighbourhood.
    """

    def __init__(self, placement: Placement) -> None:
        """Start from a placement, which is copied."""
        self.now = Placement(placement.problem)
        self.changes: list[Change] = []
        self.reset(placement)

    def replace(self, node: int, held: Mapping[int, int]) -> None:
        """Make `held` (class to pods) all that stands on a node."""
        self.now.replace(node, dict(held))
        self.changes.append((node, held))

    def reset(self, placement: Placement) -> None:
        """Become equal to a placement."""
        for node, held in enumerate(placement.on_node):
            if self.now.on_node[node] != held:
                self.replace(node, dict(held))

    def at(self, position: int) -> Placement:
        """The placement as it was after so many changes."""
        placement = Placement(self.now.problem)
        for node, held in self.changes[:position]:
            placement.replace(node, dict(held))
        return placement


class Crew(ABC):
    """Solves neighbourhoods beside the caller."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    @abstractmethod
    def submit(self, scene: Scene, wanted: Neighbourhood) -> Future[Answer]:
        """Begin with a neighbourhood of the scene as it is now; later changes of the scene do not matter."""

    @abstractmethod
    def close(self) -> None:
        """End all work."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Threads(Crew):
    """Threads of this process: nothing to start, good for small problems and a few workers."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._threads = ThreadPoolExecutor(workers, "neighbourhood")

    def submit(self, scene: Scene, wanted: Neighbourhood) -> Future[Answer]:
        """Build the model here, solve it in a thread."""
        return self._threads.submit(prepare(scene.now, wanted).solve)

    def close(self) -> None:
        """Drop what has not begun; what has ends within its limits."""
        self._threads.shutdown(wait=False, cancel_futures=True)
