"""The workload that is expected: kinds of pods and how often they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct, structs

from stowage_scheduler.gpu.devices import Demand


class Workload(Struct, frozen=True):
    """A distribution over demands: `weights[i]` of `total` pods are like `demands[i]`; most frequent first."""

    demands: tuple[Demand, ...]
    weights: tuple[int, ...]

    @property
    def total(self) -> int:
        """Sum of the weights."""
        return sum(self.weights)

    @property
    def cpu_per_gpu_milli(self) -> float:
        """CPU that goes with one GPU, over all pods with GPUs; 0 where there are none."""
        pairs = [(d, w) for d, w in zip(self.demands, self.weights, strict=True) if d.gpu_count]
        gpu = sum(demand.total_milli * weight for demand, weight in pairs)
        return 1000 * sum(demand.cpu_milli * weight for demand, weight in pairs) / gpu if gpu else 0.0


def typical(demands: Iterable[Demand], *, percent: int = 100, memory: bool = True) -> Workload:
    """The most frequent demands that together make up `percent` of the pods seen.

    FGD looks at 95 percent and not at memory (its artefact: `podPopularityThreshold: 95`, pods without memory); ties go
    to the larger demand there, and here.

    Raises:
        ValueError: `percent` is not within 1..100.
    """
    if not 0 < percent <= 100:
        raise ValueError(f"percent is {percent}, not within 1..100")
    seen = Counter(demand if memory else structs.replace(demand, memory_mib=0) for demand in demands)
    ranked = sorted(seen.items(), key=lambda item: (item[1], _size(item[0])), reverse=True)
    wanted, kept, pods = percent * seen.total(), 0, 0
    for _, count in ranked:
        if 100 * pods >= wanted:
            break
        pods += count
        kept += 1
    return Workload(tuple(d for d, _ in ranked[:kept]), tuple(c for _, c in ranked[:kept]))


def _size(demand: Demand) -> tuple[int, int, int, tuple[str, ...], int]:
    return demand.cpu_milli, demand.gpu_milli, demand.gpu_count, tuple(sorted(demand.models)), demand.memory_mib
