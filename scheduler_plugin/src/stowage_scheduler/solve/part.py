"""A few nodes of a placement as a problem of their own: the same pods stand on them, in another way."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import PodClass, Problem


class Part(Struct, frozen=True):
    """Nodes of a placement, the classes that stand there, and how they stand; the placement's own numbers."""

    nodes: tuple[int, ...]
    classes: tuple[int, ...]
    placement: Placement

    def put_into(self, whole: Placement, placement: Placement) -> Placement:
        """A placement in which these nodes hold what `placement`, of the part's problem, says."""
        found = whole.copy()
        for number, node in enumerate(self.nodes):
            counts = placement.on_node[number].items()
            found.replace(node, {self.classes[index]: count for index, count in counts})
        return found


def part_of(placement: Placement, nodes: Sequence[int]) -> Part:
    """The placement on these nodes alone.

    A class has as many pods there as it has on these nodes now. If more ran there, those count as running that stay,
    and then others: a plan for the part disrupts the whole no more than the part.
    """
    problem = placement.problem
    number_of = {node: number for number, node in enumerate(nodes)}
    classes: list[PodClass] = []
    originals: list[int] = []
    held: list[dict[int, int]] = [{} for _ in nodes]
    for pod_class in problem.classes:
        here = {number_of[n]: count for n, count in placement.counts[pod_class.index].items() if n in number_of}
        total = sum(here.values())
        if not total:
            continue
        index = len(classes)
        originals.append(pod_class.index)
        classes.append(_of_part(pod_class, index, total, here, number_of))
        for number, count in here.items():
            held[number][index] = count
    part = Problem(
        resources=problem.resources,
        nodes=tuple(problem.nodes[node] for node in nodes),
        free=tuple(problem.free[node] for node in nodes),
        classes=tuple(classes),
        may_evict=problem.may_evict,
    )
    found = Placement(part)
    for number, counts in enumerate(held):
        found.replace(number, counts)
    return Part(tuple(nodes), tuple(originals), found)


def _of_part(pod_class: PodClass, index: int, total: int, here: dict[int, int], number_of: dict[int, int]) -> PodClass:
    runs = {number_of[n]: count for n, count in pod_class.running.items() if n in number_of}
    running = {number: min(count, here.get(number, 0)) for number, count in runs.items()}
    left = total - sum(running.values())
    for number, count in runs.items():
        more = min(left, count - running[number])
        running[number] += more
        left -= more
    return replace(
        pod_class,
        index=index,
        pending=left,
        running={number: count for number, count in running.items() if count},
        eligible=frozenset(number_of[n] for n in pod_class.eligible if n in number_of),
        budgets=(),
        dislikes={},
        pending_uids=(),
        running_uids={},
    )
