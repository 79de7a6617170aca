"""When pods with a need of GPU devices may come to a node, in an order of moves.

A node opens once all that the plan brings there would fit on its devices, beside those that have not left yet. From
then on it stays open, for more only leave. So one assignment of newcomers to devices serves from the first arrival to
the last, in whatever order they come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stowage_scheduler.problem import PodClass, Problem


class DeviceGates:
    """The nodes to which pods come for devices; kept up to date by who simulates the order."""

    def __init__(self, problem: Problem, arrivals: Iterable[tuple[PodClass, int]]) -> None:
        """`arrivals` are all pods that come to a node, by class; nobody stands anywhere yet."""
        self.limits = problem.devices
        self.coming: dict[int, dict[int, int]] = {}
        self.present: dict[int, dict[int, int]] = {}
        if self.limits is None:
            return
        for pod_class, node in arrivals:
            if pod_class.index in self.limits.needs:
                coming = self.coming.setdefault(node, {})
                coming[pod_class.index] = coming.get(pod_class.index, 0) + 1

    def concern(self, pod_class: PodClass) -> bool:
        """Whether pods of a class need devices, and there are shares of some."""
        return self.limits is not None and pod_class.index in self.limits.needs

    def take(self, pod_class: PodClass, node: int, count: int) -> None:
        """Count pods of a class that come to a node (fewer: that leave it)."""
        if self.concern(pod_class):
            present = self.present.setdefault(node, {})
            present[pod_class.index] = present.get(pod_class.index, 0) + count

    def open(self, pod_class: PodClass, node: int) -> bool:
        """Whether a pod of a class may come to a node now."""
        return not self.concern(pod_class) or self.opens(node, self.present.get(node, {}))

    def opens(self, node: int, present: Mapping[int, int]) -> bool:
        """Whether all that come to a node fit beside those of `present` (class to pods) that ran there before."""
        limits = self.limits
        if limits is None:
            return True
        coming = self.coming.get(node, {})
        staying = {index: min(count, limits.running[index].get(node, 0)) for index, count in present.items()}
        return limits.admit(node, {index: count for index, count in staying.items() if count > 0}, coming)

    def openers(self, node: int, departed: Iterable[PodClass]) -> tuple[int, ...]:
        """Which of the departures from a node, in their order, have to be over for it to open."""
        limits = self.limits
        if limits is None or not self.coming.get(node):
            return ()
        present = {index: runs[node] for index, runs in limits.running.items() if node in runs}
        found: list[int] = []
        for number, pod_class in enumerate(departed):
            if self.opens(node, present):
                break
            if pod_class.index in limits.needs:
                present[pod_class.index] -= 1
                found.append(number)
        return tuple(found)
