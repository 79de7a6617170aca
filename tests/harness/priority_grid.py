"""The grid of "Priority Matters" (arXiv:2511.08373): its cells, its instances, and in which order they are run.

Nodes 4, 8, 16, 32; 4 or 8 pods per node; 1, 2 or 4 priorities; 90, 95, 100 or 105 % of the room asked for. At 90 and
95 % the seeds are those for which the scheduler leaves pods pending; at 100 and 105 % they are the first ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count, islice, product
from random import Random

from harness.default_scheduler import scheduled
from harness.instances import Instance, paper_instance

NODES = (4, 8, 16, 32)
PODS_PER_NODE = (4, 8)
PRIORITIES = (1, 2, 4)
USAGES = (90, 95, 100, 105)
CHOSEN_BY_START = (90, 95)  # usages at which many starts leave nothing to do


@dataclass(frozen=True, order=True)
class Cell:
    """One combination of the grid."""

    nodes: int
    pods_per_node: int
    priorities: int
    usage_percent: int

    def __str__(self) -> str:
        return f"{self.nodes} nodes x {self.pods_per_node}, {self.priorities} priorities, {self.usage_percent} %"


CELLS = tuple(Cell(*values) for values in product(NODES, PODS_PER_NODE, PRIORITIES, USAGES))


@cache
def start(cell: Cell, seed: int) -> Instance:
    """The instance of a seed as the scheduler leaves it."""
    return scheduled(paper_instance(cell.nodes, cell.pods_per_node, cell.priorities, cell.usage_percent, seed))


@cache
def seeds(cell: Cell, wanted: int) -> tuple[int, ...]:
    """The first seeds of a cell."""
    chosen = cell.usage_percent in CHOSEN_BY_START
    return tuple(islice((seed for seed in count(1) if not chosen or start(cell, seed).pending), wanted))


def in_order(wanted: int) -> Iterator[tuple[Cell, int]]:
    """Every cell with so many seeds; cut off anywhere, cells of all kinds have been run about equally often."""
    for turn in range(wanted):
        cells = list(CELLS)
        Random(turn).shuffle(cells)
        for cell in cells:
            yield cell, seeds(cell, turn + 1)[turn]
