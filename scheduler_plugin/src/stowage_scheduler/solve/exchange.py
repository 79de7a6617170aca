"""Places for more pods by exchanges: pods that do not fit yet are put on nodes all the same, and swaps repair it.

The pods that a plan as good as the bound would place are chosen first, small ones before large ones, and get a node
each, be there room or not. Then, again and again, a node that is too full gives a pod to another node or swaps one
with it, or with a pod of the same priority that has no place: whatever leaves the least overload in the cluster, with
a short memory of what was just moved (tabu search; Glover, ORSA Journal on Computing 1, 1989). A running pod away from
home counts like some overload, less and less while there is no progress. All exchanges of a node are looked at in one
go, which takes about 0.1 ms, so thousands are tried while a solver builds a few models. It ends when nothing is too
full any more; where that does not happen, pods that are too many lose their place again.

Room is what is looked at for all exchanges at once. Where more than that decides, for pods with rules about each
other and with host ports, the best exchange is asked about before it is made (`solve.ruled`). It is not used where pods
share devices, and what it finds is checked against the limits that span nodes before anybody sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import numpy as np
import numpy.typing as npt

from stowage_scheduler.greedy import fill
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import Problem
from stowage_scheduler.solve.effort import Clockwork
from stowage_scheduler.solve.ruled import Ruled, is_plain, rooted

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]
_ROUND_UNITS = 0.00006  # of one exchange in a small cluster, in deterministic units
_ROUND_UNITS_PER_POD = 1e-8
_START_ROUNDS = 10  # what beginning anew counts
_NEVER = np.inf
_MOST_NODES = 48  # whose pods one exchange looks at
_MOST_OUTSIDE = 64  # pods without a place that one exchange looks at
_TENURE = (3, 10)  # rounds for which a moved pod stays
_DEAR = 0.08  # share of a node in overload that a move is worth, at first
_STUBBORN = 10  # fruitless rounds until moves get cheaper
_CHEAPER = 0.7
_ROUNDS_PER_NODE = 4  # more of them for each node that is too full
_A_LITTLE = 1e-12
_MOST_REFUSED = 12  # exchanges that rules between pods refuse, before a node has to wait
_ASKING_UNITS = 0.00003  # for one look at those rules
_FOR_GOOD = 1 << 60  # rounds


class Exchange:
    """Pods one by one, where they are now, and how full that makes each node."""

    def __init__(self, problem: Problem, random: Random, limit: Clockwork, start: Placement | None = None) -> None:
        """Know all pods; each search begins where they run, but for gangs, which stay where they are in `start`."""
        self.problem = problem
        self.rooted = rooted(Placement(problem) if start is None else start)
        self.ruled = None if is_plain(problem) else Ruled(problem)
        self.random = random
        self.limit = limit
        self.outside = len(problem.nodes)  # where those are that have no place
        self._list_pods()
        self._list_resources()
        self._list_places()
        self.everywhere = bool(self.allowed.all())
        self.units = _ROUND_UNITS + _ROUND_UNITS_PER_POD * len(self.classes)

    def _list_pods(self) -> None:
        classes, home, takes_part, stay = [], [], [], []
        for c in self.problem.classes:
            here = [node for node, count in self.rooted.get(c.index, {}).items() for _ in range(count)]
            stay += here + [-1] * (c.total - len(here))
            for node, count in c.running.items():
                classes += [c.index] * count
                home += [node] * count
                takes_part += [c.index not in self.rooted] * count
            classes += [c.index] * c.pending
            home += [-1] * c.pending
            takes_part += [c.preempts and bool(c.eligible) and c.gang is None] * c.pending
        self.classes = np.array(classes, dtype=np.int64)
        self.home = np.array(home, dtype=np.int64)
        self.takes_part = np.array(takes_part, dtype=np.bool_)
        self.stay = np.array(stay, dtype=np.int64)  # the node that a pod keeps, or -1
        concerns = [False] * len(self.problem.classes) if self.ruled is None else self.ruled.concerns
        self.concerned = np.array(concerns, dtype=np.bool_)[self.classes]
        self.all_make_room = all(c.preempts for c in self.problem.classes if c.pending and c.eligible)
        self.priority = np.array([c.priority for c in self.problem.classes], dtype=np.int64)[self.classes]
        costs = np.array([c.move_cost for c in self.problem.classes], dtype=np.float64)[self.classes]
        runs = self.home >= 0
        mean = float(costs[runs].mean()) if runs.any() else 1.0
        self.cost = np.where(runs, costs / max(mean, _A_LITTLE), 0.0)

    def _list_places(self) -> None:
        """Where a pod may stand: `allowed[places[pod]]`. A node that takes nothing new may keep whom it has."""
        rows: list[tuple[int, int | None]] = [(c.index, None) for c in self.problem.classes]
        rows += [(c.index, node) for c in self.problem.classes for node in c.running if node not in c.eligible]
        self.allowed = np.zeros((len(rows), self.outside + 1), dtype=np.bool_)
        for row, (index, kept) in enumerate(rows):
            self.allowed[row, [*self.problem.classes[index].eligible, self.outside]] = True
            if kept is not None:
                self.allowed[row, kept] = True
        number = {one: row for row, one in enumerate(rows)}
        pods = zip(self.classes.tolist(), self.home.tolist(), strict=True)
        self.places = np.array([number.get(one, one[0]) for one in pods], dtype=np.int64)

    def _list_resources(self) -> None:
        problem = self.problem
        free = np.array(problem.free, dtype=np.float64).reshape(len(problem.nodes), -1)
        requests = np.array([c.requests for c in problem.classes], dtype=np.float64).reshape(len(problem.classes), -1)
        asked = requests[self.classes]
        # what can not run short on any node needs no look
        scarce = [r for r in range(free.shape[1]) if asked[:, r].sum() > free[:, r].min(initial=np.inf)]
        self.free = [free[:, r].copy() for r in scarce]
        self.asked = [asked[:, r].copy() for r in scarce]
        self.weight = [1.0 / max(1.0, float(one.mean())) for one in self.free]
        self.size = np.zeros(len(self.classes))
        for asks, weight in zip(self.asked, self.weight, strict=True):
            self.size += asks * weight

    def reach(
        self, wanted: Mapping[int, int], until: float, patience: int, *, keep: bool, gently: bool = False
    ) -> Placement | None:
        """A placement with so many pods by priority or higher, or with fewer where that does not succeed.

        Args:
            wanted: pods placed by priority or higher.
            until: seconds or units of the limit that must be left over.
            patience: fruitless rounds after which it gives up.
            keep: whether no running pod may lose its place for a smaller one.
            gently: those that run lose their place only to a higher priority, the largest of each tier.
        """
        keep = keep or not self.problem.may_evict
        self.limit.spent += _START_ROUNDS * self.units
        if not self._choose(wanted, keep=keep, gently=gently or keep):
            return None
        if self.ruled and not self.ruled.begin(self.classes.tolist(), self.home.tolist(), self.node.tolist()):
            return None
        if not self._settle(until):
            return None
        if not self._repair(until, patience, keep=keep):
            if not self.problem.may_evict:
                return None
            if not self._shed():
                return None
        found = self._placement()
        if self.all_make_room:  # else some would take room that is free only because others gave it up
            found = fill(found, lambda c: c.index)
        return found if found.within_limits() else None

    def _choose(self, wanted: Mapping[int, int], *, keep: bool, gently: bool) -> bool:
        """Who shall have a place: in each tier the smallest, and with `gently` those that run before them."""
        self.node = np.where(self.stay < 0, self.outside, self.stay)
        # who runs and has a rule is chosen like the smallest: others may need it where it is
        size = np.where(self.concerned & (self.home >= 0), 0.0, self.size)
        before = 0
        for priority in self.problem.priorities:
            here = np.flatnonzero((self.priority == priority) & self.takes_part)
            count = wanted[priority] - self.problem.fixed_from(priority) - before
            count -= int(((self.stay >= 0) & (self.priority >= priority)).sum())
            before += count
            waits = self.home[here] < 0
            if count < 0 or (keep and count < len(here) - int(waits.sum())):
                return False
            order = np.lexsort((size[here], waits)) if gently else np.lexsort((waits, size[here]))
            chosen = here[order[:count]]
            self.node[chosen] = self.home[chosen]
        return True

    def _settle(self, until: float) -> bool:
        """Put whoever has no node where it leaves the least overload, large pods first; False when time is up."""
        at = (self.node >= 0) & (self.node < self.outside)
        self.load = [np.zeros(self.outside + 1) for _ in self.free]
        for load, asked in zip(self.load, self.asked, strict=True):
            np.add.at(load, self.node[at], asked[at])
        waiting = sorted(np.flatnonzero(self.node < 0).tolist(), key=lambda p: (-self.size[p], p))
        for number, pod in enumerate(waiting):
            if number % 256 == 0 and self.limit.left() <= until:
                return False
            over = np.zeros(self.outside)
            for load, asked, free, weight in self._resources():
                after = load[:-1] + asked[pod]
                over += (np.maximum(0.0, after - free) + after * 1e-3) * weight
            over[~self.allowed[self.places[pod], :-1]] = _NEVER
            node = int(over.argmin()) if not self.concerned[pod] else self._admitting(pod, over)
            self.node[pod] = node
            for load, asked, _, _ in self._resources():
                load[node] += asked[pod]
            if self.ruled and self.concerned[pod]:
                self.ruled.move(int(self.classes[pod]), -1, node)
        return True

    def _admitting(self, pod: int, over: _Floats) -> int:
        """The node of the least overload to which rules between pods let a pod come; outside if there is none."""
        if self.ruled is None:
            return int(over.argmin())
        index = int(self.classes[pod])
        over[~self.ruled.open_to(index, -1)[:-1]] = _NEVER
        for _ in range(_MOST_REFUSED):
            node = int(over.argmin())
            self.limit.spent += _ASKING_UNITS
            if over[node] == _NEVER:
                break
            if self.ruled.allows([(index, -1, node)]):
                return node
            over[node] = _NEVER
        return self.outside

    def _resources(self) -> list[tuple[_Floats, _Floats, _Floats, float]]:
        return list(zip(self.load, self.asked, self.free, self.weight, strict=True))

    def _overload(self) -> _Floats:
        over = np.zeros(self.outside)
        for load, _, free, weight in self._resources():
            over += np.maximum(0.0, load[:-1] - free) * weight
        return over

    def _repair(self, until: float, patience: int, *, keep: bool) -> bool:
        """Exchange until no node is too full; if that does not come about, go back to the least overload."""
        stays = np.where(self.stay < 0, 0, _FOR_GOOD)  # the round until which a pod stays where it is
        over = self._overload()
        bad = np.flatnonzero(over > 0)
        least, best = float(over.sum()), self.node.copy()
        patience += _ROUNDS_PER_NODE * len(bad)
        dear = _DEAR
        fruitless = number = 0
        while len(bad) and fruitless <= patience and (number % 32 or self.limit.left() > until):
            number += 1
            self.limit.spent += self.units
            node = int(bad[self.random.randrange(len(bad))])
            found = self._best(node, over, stays < number, dear, keep=keep)
            if found is not None:
                pod, other, target = found
                self._move(pod, node, target)
                stays[pod] = number + self.random.randrange(*_TENURE)
                if other is not None:
                    self._move(other, target, node)
                    stays[other] = number + self.random.randrange(*_TENURE)
                over = self._overload()
                bad = np.flatnonzero(over > 0)
            total = float(over.sum())
            if total < least - _A_LITTLE:
                least, fruitless = total, 0
                best = self.node.copy()
            else:
                fruitless += 1
                if fruitless % _STUBBORN == 0:
                    dear *= _CHEAPER
        if not len(bad):
            return True
        for pod in np.flatnonzero(self.node != best).tolist():
            self._move(pod, int(self.node[pod]), int(best[pod]))
        return False

    def _move(self, pod: int, source: int, target: int) -> None:
        self.node[pod] = target
        for load, asked, _, _ in self._resources():
            load[source] -= asked[pod]
            load[target] += asked[pod]
            load[self.outside] = 0.0
        if self.ruled and self.concerned[pod]:
            self.ruled.move(int(self.classes[pod]), source, target)

    def _others(self, node: int, movable: _Flags) -> _Ints:
        """Pods elsewhere to swap with; in a large cluster those on some nodes."""
        if self.outside <= _MOST_NODES:
            return np.flatnonzero((self.node != node) & movable & self.takes_part)
        chosen = np.zeros(self.outside + 1, dtype=np.bool_)
        chosen[self.random.sample(range(self.outside), _MOST_NODES)] = True
        chosen[node] = False
        inside = np.flatnonzero(chosen[self.node] & movable)
        waiting = np.flatnonzero((self.node == self.outside) & movable & self.takes_part)
        if len(waiting) > _MOST_OUTSIDE:
            waiting = waiting[sorted(self.random.sample(range(len(waiting)), _MOST_OUTSIDE))]
        return np.concatenate([inside, waiting])

    def _best(
        self, node: int, over: _Floats, movable: _Flags, dear: float, *, keep: bool
    ) -> tuple[int, int | None, int] | None:
        """The exchange of a node that leaves the least overload: a pod, whom it swaps with (or None), and where to."""
        here = np.flatnonzero((self.node == node) & movable)
        if not len(here):
            return None
        others = self._others(node, movable)
        there = self.node[others]
        swap = np.zeros((len(here), len(others)))
        give = np.zeros((len(here), self.outside))
        for load, asked, free, weight in self._resources():
            mine, theirs = asked[here][:, None], asked[others][None, :]
            room = np.append(free - load[:-1], np.inf)
            gain = mine - theirs
            swap += (np.maximum(0.0, -room[node] - gain) + np.maximum(0.0, gain - room[there][None, :])) * weight
            give += (np.maximum(0.0, -room[node] - mine) + np.maximum(0.0, mine - room[None, :-1])) * weight
        swap -= np.append(over, 0.0)[there][None, :]
        give -= over[None, :]
        self._price_moves(swap, give, node, here, others, dear)
        self._forbid(swap, give, node, here, others, keep=keep)
        for _ in range(_MOST_REFUSED):
            first = int(give.argmin())
            cheapest, (pod, target) = float(give.flat[first]), divmod(first, self.outside)
            number: int | None = None
            if swap.size and (least := float(swap.min())) <= cheapest:
                cheapest, (pod, number) = least, divmod(int(swap.argmin()), len(others))
                target = int(there[number])
            if cheapest == _NEVER:
                return None
            other = None if number is None else int(others[number])
            if self.ruled is None or self._is_allowed(self.ruled, int(here[pod]), other, node, target):
                return int(here[pod]), other, target
            if self.concerned[here[pod]]:
                shut = ~self.ruled.open_to(int(self.classes[here[pod]]), node)
                shut |= not shut[target]  # it may not leave
                give[pod, shut[:-1]] = _NEVER
                swap[pod, shut[there]] = _NEVER
            if number is not None and self.concerned[others[number]]:
                swap[:, number] = _NEVER
        return None

    def _is_allowed(self, ruled: Ruled, pod: int, other: int | None, node: int, target: int) -> bool:
        """Whether rules between pods and host ports let an exchange happen."""
        changes = [(int(self.classes[pod]), node, target)]
        if other is not None:
            changes.append((int(self.classes[other]), target, node))
        self.limit.spent += _ASKING_UNITS
        return ruled.allows(changes)

    def _price_moves(self, swap: _Floats, give: _Floats, node: int, here: _Ints, others: _Ints, dear: float) -> None:
        """A running pod that is not at home counts like overload."""
        home, cost = self.home[here], self.cost[here] * dear
        there = self.node[others]
        at_home = (home == node) * cost
        swap += at_home[:, None] - (home[:, None] == there[None, :]) * cost[:, None]
        give += at_home[:, None]
        for row in np.flatnonzero((home >= 0) & (home != node)).tolist():
            give[row, home[row]] -= cost[row]
        swap += (((self.home[others] == there) * 1.0 - (self.home[others] == node)) * self.cost[others] * dear)[None, :]

    def _forbid(self, swap: _Floats, give: _Floats, node: int, here: _Ints, others: _Ints, *, keep: bool) -> None:
        there = self.node[others]
        give[:, node] = _NEVER
        apart = there == self.outside
        if apart.any():
            wrong = self.priority[here][:, None] != self.priority[others[apart]][None, :]
            if keep:
                wrong = wrong | (self.home[here] >= 0)[:, None]
            swap[:, apart] += np.where(wrong, _NEVER, 0.0)
        if not self.everywhere:
            allowed = self.allowed[self.places[here]]
            swap[~(allowed[:, there] & self.allowed[self.places[others], node][None, :])] = _NEVER
            give[~allowed[:, :-1]] = _NEVER

    def _shed(self) -> bool:
        """Take pods from nodes that are too full: those of the lowest priority, of them the one that helps most.

        False where nobody may be taken.
        """
        for node in np.flatnonzero(self._overload() > 0).tolist():
            while True:
                excess = [(load[node] - free[node], asked, w) for load, asked, free, w in self._resources()]
                excess = [(amount, asked, w) for amount, asked, w in excess if amount > 0]
                if not excess:
                    break
                here = np.flatnonzero((self.node == node) & (self.stay < 0))
                help_ = np.zeros(len(here))
                for amount, asked, weight in excess:
                    help_ += np.minimum(asked[here], amount) * weight
                useful = here[help_ > 0]
                order = np.lexsort((self.size[useful], -help_[help_ > 0], self.priority[useful]))
                ordered = useful[order].tolist()
                pod = next((p for p in ordered if self._may_go(p, node)), None)
                if pod is None:
                    return False
                self._move(pod, node, self.outside)
        return True

    def _may_go(self, pod: int, node: int) -> bool:
        return self.ruled is None or self.ruled.allows([(int(self.classes[pod]), node, self.outside)])

    def _placement(self) -> Placement:
        held: list[dict[int, int]] = [{} for _ in self.problem.nodes]
        for index, node in zip(self.classes.tolist(), self.node.tolist(), strict=True):
            if node < self.outside:
                held[node][index] = held[node].get(index, 0) + 1
        found = Placement(self.problem)
        for node, counts in enumerate(held):
            if found.on_node[node] != counts:
                found.replace(node, counts)
        return found
