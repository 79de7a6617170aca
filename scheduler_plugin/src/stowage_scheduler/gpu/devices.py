"""Fit of one pod on the devices of one node: a share of a single device, or some whole ones.

A node's devices are a tuple of ints, the free thousandths of each. A share never spans devices, and whole devices
have to be empty: FGD's model (Weng et al., "Beware of Fragmentation", USENIX ATC'23), which is that of
`stowage.dev/gpu-milli` and of the usual plugins that share devices.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

DEVICE_MILLI = 1000
"""Capacity of one device."""

ANY_MODEL: frozenset[str] = frozenset()


class Demand(Struct, frozen=True, order=False):
    """What a pod asks for.

    `gpu_milli` is asked of each of `gpu_count` devices: below 1000 it is a share of exactly one. `models` names the
    GPU models that will do; empty: any. A pod without GPUs has zeros in both.

    Raises:
        ValueError: an amount is negative, or the GPU part asks for something that no device can give.
    """

    cpu_milli: int = 0
    memory_mib: int = 0
    gpu_milli: int = 0
    gpu_count: int = 0
    models: frozenset[str] = ANY_MODEL

    def __post_init__(self) -> None:
        if min(self.cpu_milli, self.memory_mib, self.gpu_milli, self.gpu_count) < 0:
            raise ValueError(f"{self}: amounts are not negative")
        if (self.gpu_milli == 0) != (self.gpu_count == 0):
            raise ValueError(f"{self}: gpu_milli and gpu_count go together")
        if self.gpu_milli > DEVICE_MILLI or (self.gpu_milli < DEVICE_MILLI and self.gpu_count > 1):
            raise ValueError(f"{self}: a share of one device, or whole ones")

    @property
    def total_milli(self) -> int:
        """Thousandths of devices held in all."""
        return self.gpu_milli * self.gpu_count

    @property
    def shared(self) -> bool:
        """Whether it asks for less than a whole device."""
        return 0 < self.gpu_milli < DEVICE_MILLI


def fits(free_milli: Sequence[int], demand: Demand) -> bool:
    """Whether enough devices have enough free."""
    return sum(free >= demand.gpu_milli for free in free_milli) >= demand.gpu_count


def options(free_milli: Sequence[int], demand: Demand) -> list[tuple[int, ...]]:
    """The choices of devices that differ in their outcome; empty: it does not fit.

    A share may go to each device with room, once per amount that is free; whole devices are all alike, so their
    first ones are the only choice. Without GPUs there is the one choice of no device.
    """
    if not demand.gpu_count:
        return [()]
    roomy = [index for index, free in enumerate(free_milli) if free >= demand.gpu_milli]
    if demand.shared:
        first = {free_milli[index]: index for index in reversed(roomy)}
        return [(index,) for index in sorted(first.values())]
    return [tuple(roomy[: demand.gpu_count])] if len(roomy) >= demand.gpu_count else []


def best_fit(free_milli: Sequence[int], demand: Demand) -> tuple[int, ...] | None:
    """The devices that leave the least beside the pod; None: it does not fit."""
    choices = options(free_milli, demand)
    if not choices:
        return None
    return min(choices, key=lambda devices: sum(free_milli[index] for index in devices))


def place(free_milli: Sequence[int], demand: Demand, devices: Sequence[int]) -> tuple[int, ...]:
    """What is free once the pod holds these devices.

    Raises:
        ValueError: the devices are not of the number asked for, named twice, or have too little free.
    """
    if len(devices) != demand.gpu_count or len(set(devices)) != len(devices):
        raise ValueError(f"{demand} asks for {demand.gpu_count} devices, not {list(devices)}")
    after = list(free_milli)
    for index in devices:
        if after[index] < demand.gpu_milli:
            raise ValueError(f"device {index} has {after[index]} milli free, {demand.gpu_milli} are asked for")
        after[index] -= demand.gpu_milli
    return tuple(after)


def remove(free_milli: Sequence[int], demand: Demand, devices: Sequence[int]) -> tuple[int, ...]:
    """What is free once the pod has gone.

    Raises:
        ValueError: more would be free than a device has: the pod was not there.
    """
    after = list(free_milli)
    for index in devices:
        after[index] += demand.gpu_milli
        if after[index] > DEVICE_MILLI:
            raise ValueError(f"device {index} would have {after[index]} milli free of {DEVICE_MILLI}")
    return tuple(after)
