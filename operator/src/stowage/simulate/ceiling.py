"""What any placement of a run's pods could hold at most: what an on-line policy is measured against.

Two bounds, both proven (`stowage_scheduler.gpu.bound`). The first lets a placement pick among all pods that will
arrive, as if it knew the future and could turn pods away that fit. The second has to hold every pod that arrived
up to some load: it binds every policy that turned nobody away until then.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from stowage.simulate.fill_up import Arrivals
from stowage_scheduler.gpu.bound import Asked, NodeKind, held_bound
from stowage_scheduler.gpu.devices import DEVICE_MILLI, Demand

WELCOME_PERCENT = 90
"""All published policies but Random place every pod until so much has arrived (reference: FGD's figures)."""


class Ceiling(Struct, frozen=True):
    """Bounds of one run, in percent of the cluster's GPUs.

    `any_percent` for whatever placement; `welcoming_percent` for those that hold all pods of the first
    `WELCOME_PERCENT`.
    """

    seed: int
    any_percent: float
    welcoming_percent: float


def ceiling(run: Arrivals) -> Ceiling:
    """Both bounds of a run."""
    return Ceiling(run.seed, held_percent(run, Counter()), held_percent(run, first_arrivals(run, WELCOME_PERCENT)))


def held_percent(run: Arrivals, kept: Counter[Demand]) -> float:
    """Most GPUs that a placement of the arrivals can hold, given what it holds at least; in percent of all GPUs."""
    counted = Counter((node.cpu_milli, node.memory_mib, node.gpus, node.model) for node in run.nodes)
    kinds = [NodeKind(*kind, nodes=count) for kind, count in sorted(counted.items())]
    asked = [Asked(demand, most, kept[demand]) for demand, most in Counter(run.pods).items()]
    total = DEVICE_MILLI * sum(node.gpus for node in run.nodes)
    return 100 * held_bound(kinds, asked) / max(1, total)


def first_arrivals(run: Arrivals, percent: float) -> Counter[Demand]:
    """The pods that arrived until they asked for so much of the cluster's GPUs."""
    left = percent / 100 * DEVICE_MILLI * sum(node.gpus for node in run.nodes)
    first: Counter[Demand] = Counter()
    for pod in run.pods:
        left -= pod.total_milli
        if left < 0:
            break
        first[pod] += 1
    return first
