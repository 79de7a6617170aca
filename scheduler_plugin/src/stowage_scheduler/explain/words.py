"""Amounts, taints and nodes in words for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stowage_scheduler.cluster import ATTACHMENTS, CPU, EPHEMERAL_STORAGE, FREE_VOLUMES, MEMORY, PODS, Taint
from stowage_scheduler.counted import binary_bytes, counted

_BYTES = (MEMORY, EPHEMERAL_STORAGE)


def toleration(taints: Sequence[Taint]) -> str:
    """The toleration that opens the most nodes."""
    taint = min(taints, key=lambda t: (-taints.count(t), t.key, t.value))
    return f"a toleration for taint {taint.key}{'=' + taint.value if taint.value else ''}:{taint.effect}"


def amounts(resources: Mapping[str, int]) -> str:
    """Amounts for people: `500m cpu, 3Gi memory, 8 nvidia.com/gpu`; the one place of a pod is not told."""
    told = {name: amount for name, amount in resources.items() if amount and (name != PODS or len(resources) == 1)}
    return ", ".join(amount_of(name, told[name]) for name in sorted(told))


def amount_of(name: str, amount: int) -> str:
    """One amount for people."""
    if name == CPU:
        return f"{amount}m {name}" if amount % 1000 else f"{amount // 1000} {name}"
    if name.startswith(ATTACHMENTS):
        return f"{counted(amount, 'volume')} of {name.removeprefix(ATTACHMENTS)}"
    if name.startswith(FREE_VOLUMES):
        pool = name.removeprefix(FREE_VOLUMES).partition("/")[0]  # what follows tells pools of one class apart
        return f"{counted(amount, 'free volume')} of class {pool}"
    if name in _BYTES:
        return f"{binary_bytes(amount)} {name}"
    if name == PODS:
        return counted(amount, "pod")
    return f"{amount} {name}"
