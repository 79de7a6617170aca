"""GPU shares on single devices: each on one, none on a device that another pod has whole.

kube-scheduler has no such rule: plugins that share devices keep to it on the node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.counted import counted
from stowage_scheduler.kube.gpu_facts import node_devices, whole_devices
from stowage_scheduler.packing import Reason
from stowage_scheduler.rules.rule import Outcome, Rule, Violation

if TYPE_CHECKING:
    from stowage_scheduler.solve.model import CountModel

_Device = Mapping[str, int]  # what is free in each measure
_MOST_SITUATIONS = 1_000  # tried; beyond it nothing is found


class GpuShares(Rule):
    """Whoever comes to a node with a need of GPUs finds devices beside those that stand there."""

    name = "GpuShares"

    def refuses(self, pod: Pod, node: Node) -> Reason | None:
        """GpuFragmented on a node of which one device is smaller than the share; its total is a matter of resources."""
        if pod.gpu_share is None:
            return None
        capacity = node_devices(node).capacity
        too_small = any(amount > capacity.get(measure, amount) for measure, amount in pod.gpu_share.amounts)
        return Reason.GPU_FRAGMENTED if too_small else None

    def constrain(self, model: CountModel) -> None:
        """Devices and islands of nodes, where pods share them."""
        from stowage_scheduler.devices.rows import keep_to_devices  # noqa: PLC0415 - who solves nothing is spared the solver

        keep_to_devices(model)

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Nodes where the arrivals do not fit on devices."""
        targets = {node.name for pod, node in outcome.arrivals if node is not None and _wants_devices(pod, node)}
        arriving = {pod.uid for pod, _ in outcome.arrivals} if targets else set()
        for name in sorted(targets):
            node, residents = outcome.nodes[name], outcome.residents[name]
            if all(pod.gpu_share is None for pod in residents):
                continue  # the number of devices says all
            coming = [pod for pod in residents if pod.uid in arriving]
            staying = [pod for pod in residents if pod.uid not in arriving]
            check = _DeviceCheck(node, staying)
            if not check.holds(coming):
                who, free = ", ".join(sorted(pod.key for pod in coming)), describe_free(node, staying)
                words = f"too many ways to try devices for {who}" if check.gave_up else f"no devices for {who}"
                yield Violation(self.name, name, f"{words}: {free}")


def _wants_devices(pod: Pod, node: Node) -> bool:
    return pod.gpu_share is not None or (whole_devices(None, pod.requests) > 0 and not node_devices(node).sliced)


def admits_on_devices(pod: Pod, node: Node, residents: Sequence[Pod]) -> bool:
    """Whether one more pod finds devices on a node, beside pods that stand there."""
    if pod.gpu_share is None and all(other.gpu_share is None for other in residents):
        return True  # then the number of devices says all
    return not _wants_devices(pod, node) or _DeviceCheck(node, residents).holds([pod])


def describe_free(node: Node, residents: Sequence[Pod]) -> str:
    """What is free on the devices of a node, for people: `400 stowage.dev/gpu-milli free on one GPU, 900 on all`.

    Shares whose GPU nobody tells are not taken off.
    """
    check = _DeviceCheck(node, residents)
    free = [*check.shared.values(), *[check.capacity] * max(0, check.empty)]
    told = []
    for measure in sorted({m for pod in residents if pod.gpu_share for m, _ in pod.gpu_share.amounts}):
        amounts = [max(0, device[measure]) for device in free]
        told.append(f"{max(amounts, default=0)} {measure} free on one GPU, {sum(amounts)} on all")
    loose = f", less {counted(len(check.loose), 'share')} whose GPU nobody tells" if check.loose else ""
    return "; ".join(told) + loose


class _DeviceCheck:
    """The devices of one node, with the pods that stay there."""

    def __init__(self, node: Node, staying: Sequence[Pod]) -> None:
        offered = node_devices(node)
        self.offered = offered
        measures = {measure for pod in staying if pod.gpu_share for measure, _ in pod.gpu_share.amounts}
        self.capacity = {m: offered.capacity.get(m, 0) for m in (*offered.capacity, *measures)}
        self.shared: dict[int, dict[str, int]] = {}
        self.loose: list[dict[str, int]] = []
        whole = 0
        for pod in staying:
            if pod.gpu_share is None:
                whole += 0 if offered.sliced else whole_devices(None, pod.requests)
                continue
            amounts = dict(pod.gpu_share.amounts)
            device = 0 if offered.count == 1 else pod.gpu_share.device if pod.node == node.name else None
            if device is None or device >= offered.count:
                self.loose.append(amounts)
                continue
            left = self.shared.setdefault(device, dict(self.capacity))
            for measure, amount in amounts.items():
                left[measure] -= amount
        self.empty = offered.count - whole - len(self.shared)
        self.gave_up = False  # nobody knows whether there is a way: not all were tried

    def holds(self, coming: Sequence[Pod]) -> bool:
        """Whether all of these get devices, wherever the loose shares are."""
        shares = [dict(pod.gpu_share.amounts) for pod in coming if pod.gpu_share is not None]
        whole = 0 if self.offered.sliced else sum(whole_devices(pod.gpu_share, pod.requests) for pod in coming)
        if not shares and not whole:
            return True
        if any(measure not in self.capacity for share in shares for measure in share):
            return False
        loose = sorted(self.loose, key=self._part)
        while True:
            empty = self.empty - whole - (len(self.loose) - len(loose))
            if empty < 0:
                return False
            if not (whole and loose):
                shadow: Counter[str] = Counter()
                for share in loose:
                    shadow.update(share)
                rooms = [*self.shared.values(), *[self.capacity] * empty]
                devices = [{m: room[m] - shadow[m] for m in self.capacity} for room in rooms]
                hopeless: set[object] = set()
                if find_devices(sorted(shares, key=self._part), devices, hopeless):
                    return True
                self.gave_up |= len(hopeless) > _MOST_SITUATIONS
            if not loose:
                return False
            loose.pop()  # the largest has a device of its own instead

    def _part(self, share: Mapping[str, int]) -> float:
        return max(amount / max(1, self.capacity.get(measure, 0)) for measure, amount in share.items())


def find_devices(shares: Sequence[Mapping[str, int]], devices: Sequence[_Device], hopeless: set[object]) -> bool:
    """Whether shares find devices, the last ones first; `hopeless` are situations that were tried.

    Who fills the first device is decided first: nobody is left out who still has room there. A plan for which that
    takes too long does not hold.
    """
    if not shares:
        return True
    situation = len(devices), tuple(tuple(sorted(share.items())) for share in shares)
    if not devices or situation in hopeless or len(hopeless) > _MOST_SITUATIONS:
        return False
    first, others = devices[0], devices[1:]
    alike = all(other == first for other in others)  # then it is the one for the last share
    for left, room in _filled(first, shares, len(shares) if alike else 0):
        full = not any(_has(room, share) for share in left)
        enough = all(sum(share.get(m, 0) for share in left) <= sum(max(0, o[m]) for o in others) for m in first)
        if full and enough and find_devices(left, others, hopeless):
            return True
    hopeless.add(situation)
    return False


def _filled(
    device: _Device, shares: Sequence[Mapping[str, int]], chosen: int
) -> Iterator[tuple[list[Mapping[str, int]], _Device]]:
    """Ways to fill a device: the shares that are left, and its room; share number `chosen` has to be there."""
    for number in range(len(shares), 0, -1):
        share, passed = shares[number - 1], shares[number:]
        if not (passed and passed[0] == share) and _has(device, share):  # of equal ones the first
            room = {measure: have - share.get(measure, 0) for measure, have in device.items()}
            for left, rest in _filled(room, shares[: number - 1], 0):
                yield [*left, *passed], rest
        if number == chosen:
            return
    yield list(shares), device


def _has(device: _Device, share: Mapping[str, int]) -> bool:
    return all(device[measure] >= amount for measure, amount in share.items())
