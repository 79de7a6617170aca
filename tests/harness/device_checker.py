"""Checks which devices GPU shares could have on plain Kubernetes objects; shares no code with the product.

Knows annotations `stowage.dev/gpu-milli` and `stowage.dev/gpu-index`, and `nvidia.com/gpu` for whole devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

Document = dict[str, Any]
Where = Mapping[str, str]  # by pod, its node
_FULL = 1000


class DeviceChecker:
    """Pods and nodes by name, as objects."""

    def __init__(self, nodes: Mapping[str, Document], pods: Mapping[str, Document]) -> None:
        """Read what they say about GPUs."""
        self.devices = {n: int(i["status"]["allocatable"].get("nvidia.com/gpu", 0)) for n, i in nodes.items()}
        self.milli: dict[str, int] = {}
        self.index: dict[str, int] = {}
        self.whole: dict[str, int] = {}
        for name, pod in pods.items():
            notes = pod["metadata"].get("annotations", {})
            if "stowage.dev/gpu-milli" in notes:
                self.milli[name] = int(notes["stowage.dev/gpu-milli"])
                if "stowage.dev/gpu-index" in notes and pod["spec"].get("nodeName"):
                    self.index[name] = int(notes["stowage.dev/gpu-index"])
            else:
                self.whole[name] = sum(
                    int(c.get("resources", {}).get("requests", {}).get("nvidia.com/gpu", 0))
                    for c in pod["spec"]["containers"]
                )
        self.start = {name: pod["spec"].get("nodeName") for name, pod in pods.items()}

    def has_room(self, name: str, where: Where) -> bool:
        """Whether a pod may land now; `where` has all that come to its node, beside those that stand there now.

        Before that, its slot is not open: one choice of devices has to serve all newcomers.
        """
        if not self.milli or not (name in self.milli or self.whole[name]):
            return True
        return not any(True for _ in self.problems([where], {where[name]}))

    def problems(self, moments: Sequence[Where], nodes: set[str] | None = None) -> Iterator[str]:
        """Nodes where no choice of devices for newcomers serves from their arrival to the last moment.

        Shares that run keep the device that they are on, whichever that is.
        """
        if not self.milli:
            return
        for node in sorted(nodes if nodes is not None else {n for where in moments for n in where.values()}):
            held = [{name for name, at in where.items() if at == node} for where in moments]
            newcomers = {name for here in held for name in here if self.start[name] != node}
            if not any(name in self.milli or self.whole[name] for name in newcomers):
                continue
            for known in self._ways(node, {name for here in held for name in here} - newcomers):
                if not self._serves(node, held, newcomers, known):
                    yield f"no devices of {node} serve {sorted(newcomers)} if shares stand as {known}"
                    break

    def _ways(self, node: str, standing: set[str]) -> Iterator[dict[str, int]]:
        """Every way in which shares may stand on devices at the start."""
        shares = sorted(name for name in standing if name in self.milli)
        choices = [[self.index[name]] if name in self.index else range(self.devices[node]) for name in shares]
        for spots in product(*choices):
            known = dict(zip(shares, spots, strict=True))
            if self._clean(node, standing, known):
                yield known

    def _clean(self, node: str, here: set[str], at: Mapping[str, int]) -> bool:
        loads = [0] * self.devices[node]
        for name in here:
            if name in self.milli:
                loads[at[name]] += self.milli[name]
        return max(loads, default=0) <= _FULL and loads.count(0) >= sum(self.whole.get(name, 0) for name in here)

    def _serves(self, node: str, held: Sequence[set[str]], newcomers: set[str], known: Mapping[str, int]) -> bool:
        shares = sorted((name for name in newcomers if name in self.milli), key=lambda name: -self.milli[name])
        crowds = [here for here in held if here & newcomers]

        def serves(number: int, at: dict[str, int]) -> bool:
            placed = {name for here in held for name in here if name in at or name not in self.milli}
            if not all(self._clean(node, here & placed, at) for here in crowds):
                return False
            if number == len(shares):
                return True
            return any(serves(number + 1, {**at, shares[number]: spot}) for spot in range(self.devices[node]))

        return serves(0, dict(known))
