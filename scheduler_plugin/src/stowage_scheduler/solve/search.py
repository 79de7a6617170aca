"""Neighbourhood search: free a few nodes, solve them exactly, keep what is not worse.

Four free nodes were as good as or better than eight at every size tried (reference: packing notes 5.1).
Three kinds of neighbourhood take turns:

- *fill* frees nodes around a pod that waits and optimises the full objective;
- *gather* does the same but, where nothing more can be placed, pushes the free room of those nodes
  together on one of them, so that the next neighbourhood finds a hole that is large enough;
- *calm* frees the nodes between which pods moved and brings home whom it can.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

from msgspec import Struct

from stowage_scheduler.greedy import sizes
from stowage_scheduler.placement import Placement, Score
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.rules.rule import Rule
from stowage_scheduler.solve.effort import Clockwork, Effort
from stowage_scheduler.solve.model import CountModel, Level

_FREE_NODES = 4
_MOST_WAITING_CLASSES = 24  # more make a neighbourhood slow without making it better
_FILL, _GATHER, _CALM = 0.1, 0.05, 0.1  # seconds or units for one neighbourhood
_BUILD_UNITS = 0.005  # what building a model counts in deterministic units
_PATIENCE = 12  # fruitless neighbourhoods before the kind changes


class _Try(Struct):
    """One neighbourhood to solve."""

    model: CountModel
    levels: list[Level]
    effort: Effort
    answer: dict[int, dict[int, int]] | None = None

    def run(self) -> None:
        """Solve it; runs in a thread, for the solver leaves Python's lock alone."""
        self.answer = self.model.maximise(self.levels, self.effort)


class Search:
    """One search over one problem. `best` never gets worse.

    Neighbourhoods are solved `workers` at a time, on disjoint nodes and with disjoint waiting pods, and
    taken in order, so that threads change nothing about the answer in deterministic mode.
    """

    def __init__(self, start: Placement, rules: Sequence[Rule], random: Random, limit: Clockwork, workers: int) -> None:
        """Search from `start`; `random` makes it repeatable, `limit` ends it."""
        self.problem: Problem = start.problem
        self.rules = rules
        self.random = random
        self.limit = limit
        self.workers = workers
        self.now = start.copy()
        self.best = start
        self.best_score: Score = start.score()
        self.tiers = len(self.problem.priorities)
        self.sizes = sizes(self.problem)

    def adopt(self, placement: Placement) -> None:
        """Go on from a placement that came from elsewhere, if it is better."""
        score = placement.score()
        if score > self.best_score:
            self.best, self.best_score = placement, score

    def place(self, target: dict[int, int], until: float, stall: int | None = None) -> None:
        """Place more pods until every tier meets `target` or less than `until` seconds or units are left.

        With `stall` it gives up after so many fruitless changes between filling and gathering.
        """
        self.now = self.best.copy()
        fruitless = changes = 0
        gathering = False
        while self.limit.left() > until and self.now.placed_by_priority() != target and changes != stall:
            waiting = self._waiting(target)
            if not waiting:
                return
            tries = self._fill(waiting, until, gathering=gathering)
            if self._take(tries):
                self._take([self._settle(list(t.model.nodes), until) for t in tries])
                fruitless = changes = 0
            else:
                fruitless += 1
            if fruitless >= _PATIENCE:
                gathering = not gathering
                fruitless = 0
                changes += 1

    def calm(self, until: float) -> None:
        """Undo needless moves until none can be found or less than `until` seconds or units are left."""
        fruitless = 0
        while self.limit.left() > until and fruitless < _PATIENCE and self.best.disrupted():
            self.now = self.best.copy()
            chosen: set[int] = set()
            tries = []
            for _ in range(self.workers):
                nodes = self._between_moves(chosen)
                if nodes:
                    chosen.update(nodes)
                    tries.append(self._settle(nodes, until))
            fruitless = 0 if self._take(tries) else fruitless + 1

    def _fill(self, waiting: list[PodClass], until: float, *, gathering: bool) -> list[_Try]:
        """Neighbourhoods around pods that wait; each gets its share of them."""
        tries = []
        free = set(range(len(self.problem.nodes)))
        for number in range(self.workers):
            mine = waiting[number :: self.workers]
            nodes = self._around(self.random.choice(mine), free) if mine else []
            if not nodes:
                continue
            free.difference_update(nodes)
            model = CountModel(self.now, nodes, [c.index for c in mine], self.rules)
            levels = model.tier_levels()
            if gathering:
                levels.append(self._hole_level(model, nodes[0]))
            tries.append(_Try(model, levels, self._effort(_GATHER if gathering else _FILL, until)))
        return tries

    def _settle(self, nodes: list[int], until: float) -> _Try:
        """Same pods, less disruption, on a few nodes."""
        model = CountModel(self.now, nodes, [], self.rules)
        model.keep_placed()
        return _Try(model, model.disruption_levels(), self._effort(_CALM, until))

    def _effort(self, share: float, until: float) -> Effort:
        return self.limit.effort(share, until, self.random.getrandbits(31))

    def _take(self, tries: list[_Try]) -> bool:
        """Solve neighbourhoods, take each answer unless a tier gets worse; whether `best` got better."""
        if len(tries) > 1:
            with ThreadPoolExecutor(len(tries)) as threads:
                list(threads.map(_Try.run, tries))
        else:
            for one in tries:
                one.run()
        for one in tries:
            self.limit.spent += one.model.spent + _BUILD_UNITS
            self._apply(one.answer or {})
        score = self.now.score()
        if score <= self.best_score:
            return False
        self.best, self.best_score = self.now.copy(), score
        return True

    def _apply(self, answer: dict[int, dict[int, int]]) -> None:
        before = tuple(self.now.placed_by_priority().values())
        previous = {node: dict(self.now.on_node[node]) for node in answer}
        for node, held in answer.items():
            self.now.replace(node, held)
        after = tuple(self.now.placed_by_priority().values())
        if after < before or not self.now.within_limits():
            for node, held in previous.items():
                self.now.replace(node, held)

    def _hole_level(self, model: CountModel, hole: int) -> Level:
        """As little as possible on node `hole`, measured in shares of the cluster."""
        terms = tuple((-max(1, self.sizes[index]), variable) for index, variable in model.on_node(hole))
        span = sum(
            -k * self.problem.classes[i].limit(hole) for (k, _), (i, _) in zip(terms, model.on_node(hole), strict=True)
        )
        return Level(terms, span)

    def _waiting(self, target: dict[int, int]) -> list[PodClass]:
        """Classes with unplaced pods; those of the highest tier that can still gain come first."""
        placed = self.now.placed_by_priority()
        short = next((p for p in self.problem.priorities if placed[p] < target[p]), None)
        waiting = [c for c in self.problem.classes if self.now.unplaced(c) and c.eligible and c.preempts]
        self.random.shuffle(waiting)
        waiting.sort(key=lambda c: c.priority != short)
        return waiting[:_MOST_WAITING_CLASSES]

    def _around(self, pod_class: PodClass, free: set[int]) -> list[int]:
        """Nodes that could receive a pod of the class: some with much room, some by chance."""
        eligible = sorted(pod_class.eligible & free)
        self.random.shuffle(eligible)
        if self.random.random() < 0.5:
            weights = [sum(self._shares(node)) for node in eligible]
            roomy = [node for _, node in sorted(zip(weights, eligible, strict=True), reverse=True)]
            pool = roomy[: 2 * _FREE_NODES]
            self.random.shuffle(pool)
            return pool[:_FREE_NODES]
        return eligible[:_FREE_NODES]

    def _shares(self, node: int) -> list[float]:
        room, free = self.now.room[node], self.problem.free[node]
        return [left / all_ if all_ else 0.0 for left, all_ in zip(room, free, strict=True)]

    def _between_moves(self, taken: set[int]) -> list[int]:
        """A node that lost pods, where replacements went, and so on along the moves."""
        losers = [
            (c, node)
            for c in self.problem.classes
            for node, count in c.running.items()
            if self.now.counts[c.index].get(node, 0) < count and node not in taken
        ]
        if not losers:
            return []
        _, first = self.random.choice(losers)
        chosen, edge = [first], [first]
        while edge and len(chosen) < _FREE_NODES:
            node = edge.pop(0)
            near = {
                other
                for c, _ in losers
                if node in c.running or node in self.now.counts[c.index]
                for other in (*c.running, *self.now.counts[c.index])
                if self.now.counts[c.index].get(other, 0) != c.running.get(other, 0)
            }
            fresh = sorted(near - taken - set(chosen))
            self.random.shuffle(fresh)
            fresh = fresh[: _FREE_NODES - len(chosen)]
            chosen += fresh
            edge += fresh
        spare = [n for n in range(len(self.problem.nodes)) if n not in chosen and n not in taken]
        chosen += self.random.sample(spare, min(len(spare), _FREE_NODES - len(chosen)))
        return chosen
