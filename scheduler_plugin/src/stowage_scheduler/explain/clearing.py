"""Which pods have to leave before another fits on a node: few of them, and no more than needed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property

import numpy as np

from stowage_scheduler.cluster import Pod
from stowage_scheduler.explain.clauses import Clause
from stowage_scheduler.explain.situation import Amounts
from stowage_scheduler.explain.table import Table, Way

_MOST_PODS = 16  # of one piece of help: nobody reads more


class Clearing:
    """Pods of a table by the nodes where their going helps."""

    def __init__(self, table: Table) -> None:
        self.table = table

    @cached_property
    def _by_node(self) -> Mapping[int, Sequence[tuple[int, Pod, Way]]]:
        found: dict[int, list[tuple[int, Pod, Way]]] = defaultdict(list)
        for way in self.table.ways:
            for number, pod in way.holders:
                for node in {number, *self._marked(pod)}:
                    found[node].append((number, pod, way))
        return found

    def _marked(self, pod: Pod) -> set[int]:
        marks = (row.marks.get(pod.uid) for row in self.table.facts if row.marks)
        return {int(node) for numbers in marks if numbers is not None for node in numbers}

    def clear(self, node: int, enforced: AbstractSet[Clause], most: int = _MOST_PODS) -> list[tuple[int, Pod]] | None:
        """Pods that may go while these rules hold, with their nodes, after which the pod fits on `node`.

        Of pods that help alike those of the lowest priority go. None when it takes more than `most`.
        """
        rows = [number for number, clause in enumerate(self.table.rows) if clause in enforced]
        need = np.maximum(self.table.lacking[rows, node], 0)
        if not need.any():
            return []
        asked = need.astype(float)
        asked[asked == 0] = 1.0
        goers = [(number, pod) for number, pod, way in self._by_node[node] if way.goes(enforced)]
        goers.sort(key=lambda one: (one[1].priority, one[1].key))
        gains = [self._gain(pod, number, node, rows) for number, pod in goers]
        chosen: list[int] = []
        left = need.copy()
        while left.any():
            worth = [float((np.minimum(gain, left) / asked).sum()) for gain in gains]
            best = max((n for n in range(len(goers)) if n not in chosen), key=lambda n: worth[n], default=None)
            if best is None or not worth[best] or len(chosen) == most:
                return None
            chosen.append(best)
            left = np.maximum(left - gains[best], 0)
        for number in list(chosen):
            others = [gains[other] for other in chosen if other != number]
            if (need <= np.sum(others, axis=0, dtype=np.int64)).all():
                chosen.remove(number)
        return [goers[number] for number in sorted(chosen)]

    def needs(
        self, without: AbstractSet[Clause], gone: Iterable[tuple[int, Pod]], enforced: AbstractSet[Clause]
    ) -> bool:
        """Whether each rule that was given up keeps one of the pods that go; else another set of rules will do."""
        uids = {pod.uid for _, pod in gone}
        ways = [way for way in self.table.ways if any(pod.uid in uids for _, pod in way.holders)]
        return all(any(not way.goes(enforced | {rule}) for way in ways) for rule in without)

    def _gain(self, pod: Pod, home: int, node: int, rows: Sequence[int]) -> Amounts:
        """What one pod frees on a node, by row."""
        gain = np.zeros(len(rows), dtype=np.int64)
        for place, number in enumerate(rows):
            row = self.table.facts[number]
            if row.resource and home == node:
                gain[place] = pod.requests.get(row.resource, 0)
            elif pod.uid in row.marks:
                gain[place] = int((row.marks[pod.uid] == node).sum())
        return gain
