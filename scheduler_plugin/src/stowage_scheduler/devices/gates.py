"""When pods with a need of GPU devices may come to a node, in an order of moves.

A node opens once all that the plan brings there would fit on its devices, beside those that have not left yet. From
then on it stays open, for more only leave. So one assignment of newcomers to devices serves from the first arrival to
the last, in whatever order they come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stowage_scheduler.devices.limits import DeviceLimits
from stowage_scheduler.problem import PodClass, Problem


class DeviceGates:
    """The nodes to which pods come for devices; kept up to date by who simulates the order."""

    def __init__(self, problem: Problem, arrivals: Iterable[tuple[PodClass, int]]) -> None:
        """`arrivals` are all pods that come to a node, by class; nobody stands anywhere yet."""
        come = list(arrivals) if problem.device_limits else []
        self._gates = [_Gates(limits, come) for limits in problem.device_limits]

    def concern(self, pod_class: PodClass) -> bool:
        """Whether pods of a class need devices, and there are shares of some."""
        return any(pod_class.index in gates.limits.needs for gates in self._gates)

    def take(self, pod_class: PodClass, node: int, count: int) -> None:
        """Count pods of a class that come to a node (fewer: that leave it)."""
        for gates in self._gates:
            gates.take(pod_class, node, count)

    def open(self, pod_class: PodClass, node: int) -> bool:
        """Whether a pod of a class may come to a node now."""
        return all(gates.open(pod_class, node) for gates in self._gates)

    def openers(self, node: int, departed: Iterable[PodClass]) -> tuple[int, ...]:
        """Which of the departures from a node, in their order, have to be over for it to open."""
        leaving = list(departed) if self._gates else []
        return tuple(sorted({number for gates in self._gates for number in gates.openers(node, leaving)}))


class _Gates:
    """The same for one sort of limits."""

    def __init__(self, limits: DeviceLimits, arrivals: Iterable[tuple[PodClass, int]]) -> None:
        self.limits = limits
        self.coming: dict[int, dict[int, int]] = {}
        self.present: dict[int, dict[int, int]] = {}
        for pod_class, node in arrivals:
            if pod_class.index in limits.needs:
                coming = self.coming.setdefault(node, {})
                coming[pod_class.index] = coming.get(pod_class.index, 0) + 1

    def take(self, pod_class: PodClass, node: int, count: int) -> None:
        if pod_class.index in self.limits.needs:
            present = self.present.setdefault(node, {})
            present[pod_class.index] = present.get(pod_class.index, 0) + count

    def open(self, pod_class: PodClass, node: int) -> bool:
        return pod_class.index not in self.limits.needs or self._opens(node, self.present.get(node, {}))

    def _opens(self, node: int, present: Mapping[int, int]) -> bool:
        """Whether all that come to a node fit beside those of `present` (class to pods) that ran there before."""
        running = self.limits.running
        staying = {index: min(count, running[index].get(node, 0)) for index, count in present.items()}
        coming = self.coming.get(node, {})
        return self.limits.admit(node, {index: count for index, count in staying.items() if count > 0}, coming)

    def openers(self, node: int, departed: Iterable[PodClass]) -> Iterable[int]:
        if not self.coming.get(node):
            return
        present = {index: runs[node] for index, runs in self.limits.running.items() if node in runs}
        for number, pod_class in enumerate(departed):
            if self._opens(node, present):
                return
            if pod_class.index in self.limits.needs:
                present[pod_class.index] -= 1
                yield number
