"""What a packing problem knows of GPU devices: those of each node, and what each class takes of them.

Only problems with GPU shares have any of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from stowage_scheduler.cluster import GPU_MILLI, GpuShare, Node, Pod, Snapshot
from stowage_scheduler.devices.fit import Amounts, Standing, fits
from stowage_scheduler.kube.gpu_facts import DEVICE_MILLI, NodeDevices, node_devices, whole_devices

Running = Mapping[int, int]
"""By node, pods of a class that run there."""


class Need(Struct, frozen=True):
    """What a pod takes: `whole` devices, or `times` a `share` of one, which stands on `device` if anybody tells.

    A pod that is not `strict` takes its part, but goes wherever there is as much in all.
    """

    whole: int = 0
    share: Amounts = ()
    device: int | None = None
    times: int = 1
    strict: bool = True


class DeviceLimits(Struct, frozen=True):
    """Devices by node, with the pods that no plan touches, and needs by class.

    Nodes not listed have no devices, or with `elsewhere` whatever is asked for. On nodes of `sliced` nobody has a
    device to itself: what asks for whole ones there gets slices.
    """

    nodes: Mapping[int, Standing]
    needs: Mapping[int, Need]
    running: Mapping[int, Running]  # by class
    sliced: frozenset[int] = frozenset()
    elsewhere: bool = False

    def hold(self, node: int, held: Mapping[int, int]) -> bool:
        """Whether newcomers among the pods of a node (class to pods) fit on its devices.

        Who runs there is no fault of a plan, whatever stands on which device.
        """
        staying: dict[int, int] = {}
        coming: dict[int, int] = {}
        for index, count in held.items():
            if index in self.needs:
                runs = self.running[index].get(node, 0)
                staying[index] = min(count, runs)
                if count > runs:
                    coming[index] = count - runs
        return not coming or self.admit(node, staying, coming)

    def admit(self, node: int, staying: Mapping[int, int], coming: Mapping[int, int]) -> bool:
        """Whether newcomers (class to pods) fit beside those that stay."""
        if not any(self.needs[index].strict for index in coming):
            return True
        sliced = node in self.sliced
        whole = 0 if sliced else sum(self.needs[index].whole * count for index, count in coming.items())
        needs = [(self.needs[index], count) for index, count in coming.items()]
        taken = tuple(sorted(need.share for need, count in needs if need.share for _ in range(count * need.times)))
        if not whole and not taken:
            return True
        fixed = self.nodes.get(node)
        if fixed is None:
            return self.elsewhere
        return fits(self._standing(fixed, staying, sliced=sliced), whole, taken)

    def _standing(self, fixed: Standing, staying: Mapping[int, int], *, sliced: bool) -> Standing:
        """Fixed pods, and those that stay though they might move."""
        known = dict(enumerate(fixed.known))
        unknown, whole = list(fixed.unknown), fixed.whole
        for index, count in sorted(staying.items()):
            need = self.needs[index]
            whole += 0 if sliced else need.whole * count
            if not need.share:
                continue
            device = known_device(need, fixed.devices)
            if device is None:
                unknown += [need.share] * (count * need.times)
            elif count:
                taken = tuple(amount * count * need.times for amount in need.share)
                known[device] = tuple(a + b for a, b in zip(known[device], taken, strict=True))
        loads = tuple(sorted(load for load in known.values() if any(load)))
        return replace(fixed, known=loads, unknown=tuple(sorted(unknown)), whole=whole)

    def milli_of(self, need: Need) -> int:
        """A share in thousandths of the smallest device that has room for it; all of one, where none has."""
        parts = [_milli(need.share, s.capacity) for s in self.nodes.values()]
        return max((milli for milli in parts if milli <= DEVICE_MILLI), default=DEVICE_MILLI)

    def free_milli(self, node: int, held: Running) -> list[int]:
        """What each device of a node has free, in thousandths, beside the pods that it holds (class to pods).

        Where nobody tells the device of a share it is thought on the fullest one that has room.
        """
        fixed = self.nodes.get(node)
        if fixed is None:
            return []
        taken = [_milli(load, fixed.capacity) for load in fixed.known]
        loose = [_milli(share, fixed.capacity) for share in fixed.unknown]
        whole = fixed.whole
        for index, count in held.items():
            need = self.needs.get(index, _NOTHING)
            whole += need.whole * count
            if not need.share:
                continue
            runs = min(count, self.running[index].get(node, 0))
            device, milli = known_device(need, fixed.devices), _milli(need.share, fixed.capacity)
            if device is not None:
                taken[device] += milli * runs
            loose += [milli] * (count if device is None else count - runs)
        for milli in sorted(loose, reverse=True):
            room = [(load, device) for device, load in enumerate(taken) if load + milli <= DEVICE_MILLI]
            if room:
                taken[max(room)[1]] += milli
        empty = [device for device, load in enumerate(taken) if not load]
        for device in empty[: max(0, whole)]:
            taken[device] = DEVICE_MILLI
        return [max(0, DEVICE_MILLI - load) for load in taken]


_NOTHING = Need()


def _milli(share: Amounts, capacity: Amounts) -> int:
    """A share of a device in thousandths, rounded up, by the measure of which it takes most."""
    parts = [-(-amount * DEVICE_MILLI // have) for amount, have in zip(share, capacity, strict=True) if have]
    return max(parts, default=0)


def known_device(need: Need, devices: int) -> int | None:
    """The device that a running share stands on; the only one, where there is no other."""
    if devices == 1:
        return 0
    return need.device if need.device is not None and need.device < devices else None


def device_limits(
    nodes: Sequence[Node], fixed: Iterable[tuple[Pod, int]], classes: Sequence[tuple[Pod, Running]]
) -> DeviceLimits | None:
    """The limits; None where no pod has a GPU share.

    Args:
        nodes: of the problem, in its order.
        fixed: pods that no plan touches, with the number of their node.
        classes: one pod of each class, with where pods of the class run.
    """
    fixed = list(fixed)
    shares = [p.gpu_share for p in (*(p for p, _ in fixed), *(p for p, _ in classes)) if p.gpu_share is not None]
    if not shares:
        return None
    measures = sorted({name for share in shares for name, _ in share.amounts})
    offered = {number: devices for number, node in enumerate(nodes) if (devices := node_devices(node)).count}
    needs = {index: need for index, (pod, _) in enumerate(classes) if (need := _need(pod, measures)) is not None}
    standing: dict[int, list[Need]] = {}
    for pod, number in fixed:
        need = _need(pod, measures)
        if need is not None:
            standing.setdefault(number, []).append(replace(need, device=None) if pod.node is None else need)
    return DeviceLimits(
        {number: _fixed(devices, standing.get(number, ()), measures) for number, devices in offered.items()},
        needs,
        {index: classes[index][1] for index in needs},
        frozenset(number for number, devices in offered.items() if devices.sliced),
    )


def _need(pod: Pod, measures: Sequence[str]) -> Need | None:
    whole = whole_devices(pod.gpu_share, pod.requests)
    if whole:
        return Need(whole)
    if pod.gpu_share is None:
        return None
    amounts = dict(pod.gpu_share.amounts)
    return Need(0, tuple(amounts.get(name, 0) for name in measures), pod.gpu_share.device)


def _fixed(offered: NodeDevices, needs: Iterable[Need], measures: Sequence[str]) -> Standing:
    """The devices of a node; `known` has an entry for every device, so that classes can be counted in."""
    known = [[0] * len(measures) for _ in range(offered.count)]
    unknown, whole = [], 0
    for need in needs:
        whole += 0 if offered.sliced else need.whole
        if not need.share:
            continue
        device = known_device(need, offered.count)
        if device is None:
            unknown.append(need.share)
        else:
            known[device] = [a + b for a, b in zip(known[device], need.share, strict=True)]
    capacity = tuple(offered.capacity.get(name, 0) for name in measures)
    return Standing(offered.count, capacity, tuple(map(tuple, known)), tuple(sorted(unknown)), whole)


def with_gpu_milli(snapshot: Snapshot) -> Snapshot:
    """The snapshot with thousandths of devices as a resource, where pods have shares in that measure.

    A node offers 1000 for each device. Shares ask for their part, and whole devices for all of theirs, unless some
    nodes hand out time slices: there a number of devices is no such amount. So the total of a node is counted like
    any other resource, wherever there is one.
    """
    if not any(pod.gpu_share is not None and _milli_of(pod.gpu_share) for pod in snapshot.pods if not pod.finished):
        return snapshot
    devices = {node.name: node_devices(node) for node in snapshot.nodes}
    sliced = any(offered.sliced for offered in devices.values())

    def asks(pod: Pod) -> Pod:
        whole = 0 if sliced else whole_devices(pod.gpu_share, pod.requests)
        milli = whole * DEVICE_MILLI if pod.gpu_share is None else _milli_of(pod.gpu_share)
        return replace(pod, requests={**pod.requests, GPU_MILLI: milli}) if milli else pod

    def offers(node: Node) -> Node:
        milli = devices[node.name].count * DEVICE_MILLI
        return replace(node, allocatable={**node.allocatable, GPU_MILLI: milli}) if milli else node

    return replace(snapshot, nodes=tuple(map(offers, snapshot.nodes)), pods=tuple(map(asks, snapshot.pods)))


def _milli_of(share: GpuShare) -> int:
    return dict(share.amounts).get(GPU_MILLI, 0)
