"""Neighbourhood search: free a few nodes, solve them exactly, keep what is not worse.

Four free nodes were as good as or better than eight at every size tried (reference: packing notes 5.1).
Three kinds of neighbourhood take turns:

- *fill* frees nodes around a pod that waits and places as many as it can;
- *gather* does the same but, where nothing more can be placed, pushes the free room of those nodes
  together on one of them, so that the next neighbourhood finds a hole that is large enough;
- *calm* frees the nodes between which pods moved and brings home whom it can.

Several neighbourhoods are in work at once, on disjoint nodes and with disjoint waiting pods. They are
chosen and taken in order, a fixed number ahead, so the answer does not depend on who finishes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from random import Random

from msgspec import Struct

from stowage_scheduler.placement import Placement, Score
from stowage_scheduler.problem import PodClass, Problem
from stowage_scheduler.solve.crew import Crew, Scene
from stowage_scheduler.solve.effort import Aim, Clockwork
from stowage_scheduler.solve.neighbourhood import Answer, Kind, Neighbourhood

_FREE_NODES = 4
_MOST_WAITING_CLASSES = 24  # more make a neighbourhood slow without making it better
_SHARE = {Kind.FILL: 0.03, Kind.GATHER: 0.03, Kind.CALM: 0.05}  # seconds or units for one neighbourhood
_PATIENCE = 12  # fruitless neighbourhoods before the kind changes
_LOOK = 256  # nodes that are looked at for one neighbourhood
_AHEAD = 2  # neighbourhoods in work per worker: a slow one must not keep the others waiting


class _Flying(Struct):
    """A neighbourhood in work."""

    wanted: Neighbourhood
    future: Future[Answer]


class _Flight:
    """Neighbourhoods in work, oldest first."""

    def __init__(self) -> None:
        self.queue: deque[_Flying] = deque()

    def nodes(self) -> set[int]:
        """Nodes that are being decided on."""
        return {node for one in self.queue for node in one.wanted.nodes}

    def classes(self) -> set[int]:
        """Classes whose waiting pods are spoken for."""
        return {index for one in self.queue for index in one.wanted.growing}


class Search:
    """One search over one problem. `best` never gets worse."""

    def __init__(self, start: Placement, random: Random, limit: Clockwork, crew: Crew) -> None:
        """Search from `start`; `random` makes it repeatable, `limit` ends it, `crew` does the work."""
        self.problem: Problem = start.problem
        self.random = random
        self.limit = limit
        self.crew = crew
        self.window = crew.workers * _AHEAD if crew.workers > 1 else 1
        self.scene = Scene(start)
        self._best: Placement | None = start  # None: that of the scene before what `_since` tells
        self._since: list[tuple[int, dict[int, int]]] = []  # nodes that changed, with what they held before
        self.best_score: Score = start.score()
        self.taken = 0  # answers so far
        self.sorted: dict[frozenset[int], tuple[int, ...]] = {}  # nodes of sets
        # too large for a neighbourhood: see solve.gangs
        self.wide = {g for g in range(len(self.problem.gangs)) if not self.problem.might_hold(g, _FREE_NODES)}

    @property
    def best(self) -> Placement:
        """The best placement so far. A copy of a large one takes long, so it is made when somebody asks."""
        if self._best is None:
            self._best = self.scene.now.copy()
            for node, held in reversed(self._since):
                self._best.replace(node, held)
            self._since = []
        return self._best

    def adopt(self, placement: Placement) -> None:
        """Go on from a placement that came from elsewhere, if it is better."""
        score = placement.score()
        if score > self.best_score:
            self._best, self.best_score = placement, score

    def place(self, target: dict[int, int], until: float, stall: int | None = None) -> None:
        """Place more pods until every tier meets `target` or less than `until` seconds or units are left.

        With `stall` it gives up after so many fruitless changes between filling and gathering.
        """
        self.scene.reset(self.best)
        fruitless = changes = 0
        gathering = False
        unsettled: deque[tuple[int, ...]] = deque()

        def more() -> bool:
            return self.limit.left() > until and self.scene.now.placed_by_priority() != target and changes != stall

        def choose(flight: _Flight) -> Neighbourhood | None:
            if unsettled:
                return self._neighbourhood(Kind.CALM, unsettled.popleft(), (), until)
            waiting = self._waiting(target, flight.classes())
            if not waiting:
                return None
            mine = waiting[:: self._shares_of(flight)]
            nodes = self._around(self.random.choice(mine), flight.nodes())
            if not nodes:
                return None
            kind = Kind.GATHER if gathering else Kind.FILL
            growing = {one.index for c in mine for one in self.problem.together_with(c)}
            return self._neighbourhood(kind, nodes, tuple(sorted(growing)), until)

        def judge(wanted: Neighbourhood, *, better: bool) -> None:
            nonlocal fruitless, changes, gathering
            if wanted.kind is Kind.CALM:
                return
            if better:
                unsettled.append(wanted.nodes)
                fruitless = changes = 0
                return
            fruitless += 1
            if fruitless >= _PATIENCE:
                gathering = not gathering
                fruitless = 0
                changes += 1

        self._fly(more, choose, judge)

    def calm(self, until: float) -> None:
        """Undo needless moves until none can be found or less than `until` seconds or units are left."""
        self.scene.reset(self.best)
        fruitless = 0
        patience = min(_PATIENCE, max(_FREE_NODES, len(self.problem.nodes) // 2))  # a few see all of a small cluster

        def more() -> bool:
            return self.limit.left() > until and fruitless < patience and any(self.best_score[-2:])

        def choose(flight: _Flight) -> Neighbourhood | None:
            nodes = self._between_moves(flight.nodes())
            return self._neighbourhood(Kind.CALM, nodes, (), until) if nodes else None

        def judge(_: Neighbourhood, *, better: bool) -> None:
            nonlocal fruitless
            fruitless = 0 if better else fruitless + 1

        self._fly(more, choose, judge)

    def _fly(
        self,
        more: Callable[[], bool],
        choose: Callable[[_Flight], Neighbourhood | None],
        judge: Callable[..., None],
    ) -> None:
        """Keep the window full, take answers in order."""
        flight = _Flight()
        while True:
            while len(flight.queue) < self.window and more():
                wanted = choose(flight)
                if wanted is None:
                    break
                flight.queue.append(_Flying(wanted, self.crew.submit(self.scene, wanted)))
            if not flight.queue:
                return
            oldest = flight.queue.popleft()
            answer = oldest.future.result()
            self.taken += 1
            self.limit.spent += answer.spent
            judge(oldest.wanted, better=self._take(oldest.wanted.kind, answer))
            if not more():
                return  # what is still in work is not waited for

    def _neighbourhood(
        self, kind: Kind, nodes: tuple[int, ...], growing: tuple[int, ...], until: float
    ) -> Neighbourhood:
        aim = Aim.CALM if kind is Kind.CALM else Aim.PLACE
        effort = self.limit.effort(_SHARE[kind], until, self.random.getrandbits(31), aim)
        return Neighbourhood(kind, nodes, growing, effort)

    def _shares_of(self, flight: _Flight) -> int:
        """In how many shares waiting pods are dealt out to what may still begin."""
        return max(1, min(self.window - len(flight.queue), len(self.problem.nodes) // _FREE_NODES))

    def _take(self, kind: Kind, answer: Answer) -> bool:
        """Take an answer unless a tier gets worse; whether `best` got better."""
        if not answer.held:
            return False
        now = self.scene.now
        before = tuple(now.placed_by_priority().values())
        changed = {node: held for node, held in answer.held.items() if now.on_node[node] != held}
        if not changed:
            return False
        previous = {node: dict(now.on_node[node]) for node in changed}
        for node, held in changed.items():
            self.scene.replace(node, held)
        for node, held in now.without_halved_gangs().items():
            previous.setdefault(node, dict(now.on_node[node]))
            self.scene.replace(node, held)
        after = tuple(now.placed_by_priority().values())
        if after < before or not now.within_limits():
            for node, held in previous.items():
                self.scene.replace(node, held)
            return False
        if self._best is None:
            self._since += previous.items()
        if kind is not Kind.CALM and after <= self.best_score[: len(after)]:
            return False  # without a look at all running pods, which takes long in a large cluster
        score = now.score()
        if score <= self.best_score:
            return False
        self._best, self._since, self.best_score = None, [], score
        return True

    def _waiting(self, target: dict[int, int], taken: set[int]) -> list[PodClass]:
        """Classes with unplaced pods; those of the highest tier that can still gain come first."""
        now = self.scene.now
        placed = now.placed_by_priority()
        short = next((p for p in self.problem.priorities if placed[p] < target[p]), None)
        short_of_places = (c for c, placed in zip(self.problem.classes, now.placed_of, strict=True) if placed < c.total)
        waiting = [
            c for c in short_of_places if c.index not in taken and c.eligible and c.preempts and not self._is_beyond(c)
        ]
        self.random.shuffle(waiting)
        waiting.sort(key=lambda c: c.priority != short)
        return waiting[:_MOST_WAITING_CLASSES]

    def _is_beyond(self, pod_class: PodClass) -> bool:
        """Whether a class waits for a gang that no neighbourhood can begin; more of one that stands may come."""
        return pod_class.gang in self.wide and not any(
            self.scene.now.placed(c) for c in self.problem.together_with(pod_class)
        )

    def _around(self, pod_class: PodClass, taken: set[int]) -> tuple[int, ...]:
        """Nodes that could receive a pod of the class: some with much room, some by chance."""
        every = self.sorted.get(pod_class.eligible)
        if every is None:
            every = self.sorted[pod_class.eligible] = tuple(sorted(pod_class.eligible))
        if len(every) > _LOOK:
            eligible = [node for node in self.random.sample(every, _LOOK) if node not in taken]
        else:
            eligible = [node for node in every if node not in taken]
            self.random.shuffle(eligible)
        if self.random.random() < 0.5:
            weights = [sum(self._room(node)) for node in eligible]
            roomy = [node for _, node in sorted(zip(weights, eligible, strict=True), reverse=True)]
            eligible = roomy[: 2 * _FREE_NODES]
            self.random.shuffle(eligible)
        return tuple(eligible[:_FREE_NODES])

    def _room(self, node: int) -> list[float]:
        """Shares of a node's room that are left."""
        room, free = self.scene.now.room[node], self.problem.free[node]
        return [left / all_ if all_ else 0.0 for left, all_ in zip(room, free, strict=True)]

    def between_moves(self, most: int) -> tuple[int, ...]:
        """So many nodes of the best placement between which pods moved; none where none moved."""
        self.scene.reset(self.best)
        return self._between_moves(set(), most)

    def _between_moves(self, taken: set[int], most: int = _FREE_NODES) -> tuple[int, ...]:
        """A node that lost pods, where replacements went, and so on along the moves."""
        counts = self.scene.now.counts
        moved = [c for c, left in zip(self.problem.classes, self.scene.now.leaving_of, strict=True) if left]
        losers = [
            (c, node)
            for c in moved
            for node, count in c.running.items()
            if counts[c.index].get(node, 0) < count and node not in taken
        ]
        if not losers:
            return ()
        between = {c.index: c for c, _ in losers}.values()
        _, first = self.random.choice(losers)
        chosen, edge = [first], [first]
        while edge and len(chosen) < most:
            node = edge.pop(0)
            near = {
                other
                for c in between
                if node in c.running or node in counts[c.index]
                for other in (*c.running, *counts[c.index])
                if counts[c.index].get(other, 0) != c.running.get(other, 0)
            }
            fresh = sorted(near - taken - set(chosen))
            self.random.shuffle(fresh)
            fresh = fresh[: most - len(chosen)]
            chosen += fresh
            edge += fresh
        spare = [n for n in range(len(self.problem.nodes)) if n not in chosen and n not in taken]
        chosen += self.random.sample(spare, min(len(spare), most - len(chosen)))
        return tuple(chosen)
