"""Upper bounds from rules that allow fewer pods than there is room for.

The aggregated bound knows of room alone. Here nodes that rules can not tell apart are one *cell*: each class has one
count per cell, and rows say what host ports, rules between pods, gangs and budgets leave of it. A cell may stand for
one domain of a rule (a zone) or for many that are alike (hosts); of many it is counted how many of them classes take.
Every plan satisfies every row, so what no solution of the model reaches, no plan reaches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct
from ortools.sat.python import cp_model

from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import Problem
from stowage_scheduler.relations import NOBODY, OUTSIDE, Apart, Near, Relation, Role, Spread, Within
from stowage_scheduler.solve.bound import Bounds, tier_bounds
from stowage_scheduler.solve.cliques import Topology, cliques, exclusions
from stowage_scheduler.solve.effort import Clockwork
from stowage_scheduler.solve.reach import Ints, in_domains, least_at_most, members, reach, runs, standing
from stowage_scheduler.solve.whole import whole_or_none

_MOST_CELLS = 64
_MOST_HOSTS = 16  # each a cell of its own
_MOST_COUNTS = 6_000  # of classes in cells; a model with more takes longer than it is worth
_MOST_TERMS = 20_000  # of classes that exclude each other, in all rows
_LARGEST = 1 << 62
_UNITS_PER_TERM = 5e-6  # deterministic, for making the model


def has_rules(problem: Problem) -> bool:
    """Whether anything but room could decide."""
    return bool(problem.relations or problem.device_limits or any(c.ports for c in problem.classes))


def rule_bounds(placement: Placement, bounds: Bounds, limit: Clockwork, share: float) -> Bounds:
    """Lower the bounds of tiers that `placement` does not meet, within `share` seconds or units.

    A tier is bounded given what the tiers above reach, as by `aggregated_bounds`. Without rules, it costs nothing.
    """
    if bounds.met_by(placement) or not has_rules(placement.problem):
        return bounds
    until = limit.left() - share
    model = _Model(placement)
    if len(model.count) > _MOST_COUNTS:
        return bounds
    model.state()
    limit.spent += _UNITS_PER_TERM * (len(model.count) + min(model.terms, _MOST_TERMS))
    left = limit.left() - until
    found = tier_bounds(model.cp, model.placed, model.most, placement, limit, left, bounds.by_priority)
    return bounds.tightened(found)


class _Group(Struct, frozen=True):
    """Cells with whole domains of a topology; shapes: `[i]` for node `nodes[i]`, which is in domain `labels[i]`."""

    cells: tuple[int, ...]
    nodes: Ints
    labels: Ints
    domains: int
    outside: Ints  # nodes of these cells in no domain

    def sums(self, by_node: Ints) -> Ints:
        """What each domain has of something."""
        found = np.zeros(self.domains, dtype=np.int64)
        np.add.at(found, self.labels, by_node[self.nodes])
        return found


class _Model:
    """The model. `count[c, k]` are pods of class c in cell k, `placed[c]` all of the class, `most[c]` bounds it."""

    def __init__(self, placement: Placement) -> None:
        self.problem = problem = placement.problem
        self.placement = placement
        self.cp = cp_model.CpModel()
        self.reach = reach(problem)
        self.running = runs(problem)
        self.totals = np.array([c.total for c in problem.classes], dtype=np.int64)
        self.cells, self.split = _cells(problem, self.reach)
        self.cell_of = np.zeros(len(problem.nodes), dtype=np.int64)
        self.most_in = np.zeros((len(problem.classes), len(self.cells)), dtype=np.int64)
        self.runs_in = np.zeros_like(self.most_in)
        for number, nodes in enumerate(self.cells):
            self.cell_of[nodes] = number
            self.most_in[:, number] = np.minimum(self.totals, self.reach[:, nodes].sum(axis=1))
            self.runs_in[:, number] = self.running[:, nodes].sum(axis=1)
        self.most: list[int] = np.minimum(self.totals, self.most_in.sum(axis=1)).tolist()
        places = np.argwhere(self.most_in).tolist()
        self.count = {
            (index, cell): self.cp.new_int_var(0, int(self.most_in[index, cell]), "") for index, cell in places
        }
        self.placed = [self.cp.new_int_var(0, most, "") for most in self.most]
        self.terms = 0  # in rows of classes that exclude each other

    def state(self) -> None:
        """Add all rows."""
        every = range(len(self.cells))
        for index, placed in enumerate(self.placed):
            self.cp.add(cp_model.LinearExpr.sum(self.of([index], every)) == placed)
        for gang in self.problem.gangs:
            whole_or_none(self.cp, self.problem, gang, self.placed)
        self._room()
        self._losses()
        for topology, excluded in exclusions(self.problem).items():
            groups = list(self._groups(topology))
            for clique in cliques(excluded):
                self.terms += len(clique) * len(groups)
                for group in groups if self.terms <= _MOST_TERMS else ():
                    self._exclude(clique, excluded, group)
        for relation in self.problem.relations:
            if isinstance(relation, Spread):
                self._spread(relation)
            elif isinstance(relation, Within) or _is_begun_once(relation):
                self._one_domain(relation)
            elif isinstance(relation, Near):
                self._company(relation)
        for (index, cell), variable in self.count.items():
            held = self.placement.counts[index]
            self.cp.add_hint(variable, sum(count for node, count in held.items() if self.cell_of[node] == cell))

    def of(self, classes: Sequence[int], cells: Sequence[int]) -> list[cp_model.IntVar]:
        """The counts of classes in cells."""
        pairs = ((index, cell) for index in classes for cell in cells)
        return [self.count[pair] for pair in pairs if pair in self.count]

    def _room(self) -> None:
        """What stands in a cell fits into it in all."""
        requests = np.array([c.requests for c in self.problem.classes], dtype=np.int64).reshape(len(self.totals), -1)
        free = np.array(self.problem.free, dtype=np.int64).reshape(len(self.problem.nodes), -1)
        for cell, nodes in enumerate(self.cells):
            here = [index for index in range(len(self.totals)) if (index, cell) in self.count]
            for resource, room in enumerate(free[nodes].sum(axis=0).tolist()):
                amounts = [int(requests[index, resource]) for index in here]
                wanted = sum(a * int(self.most_in[index, cell]) for a, index in zip(amounts, here, strict=True))
                if room < wanted < _LARGEST:
                    counts = [self.count[index, cell] for index in here]
                    self.cp.add(cp_model.LinearExpr.weighted_sum(counts, amounts) <= room)

    def _losses(self) -> None:
        """Who runs keeps a place, but for as many as evictions and budgets allow."""
        lost: dict[int, cp_model.IntVar] = {}
        for pod_class in self.problem.classes:
            if pod_class.running and (pod_class.budgets or not self.problem.may_evict):
                runs_now, index = pod_class.running_total, pod_class.index
                lost[index] = self.cp.new_int_var(0, runs_now if self.problem.may_evict else 0, "")
                self.cp.add(lost[index] + self.placed[index] >= runs_now)
        for number, budget in enumerate(self.problem.budgets):
            covered = [lost[c.index] for c in self.problem.covered_by[number] if c.index in lost]
            if covered:
                self.cp.add(cp_model.LinearExpr.sum(covered) <= max(0, budget.allowed))

    def _groups(self, topology: Topology) -> Iterator[_Group]:
        """The domains of a topology: one by one where cells do not straddle them, else those of one cell, else all."""
        domain_of = np.array(topology, dtype=np.int64)
        inside = np.flatnonzero(domain_of != OUTSIDE)
        pairs = {(topology[node], int(self.cell_of[node])) for node in inside.tolist()}
        together: list[list[int]]
        if topology in self.split:
            by_domain: dict[int, list[int]] = {}
            for domain, cell in sorted(pairs):
                by_domain.setdefault(domain, []).append(cell)
            together = list(by_domain.values())
        elif len(pairs) == len({domain for domain, _ in pairs}):
            together = [[cell] for cell in sorted({cell for _, cell in pairs})]
        else:
            together = [list(range(len(self.cells)))]
        for cells in together:
            here = np.isin(self.cell_of, cells)
            nodes = np.flatnonzero(here & (domain_of != OUTSIDE))
            values, labels = np.unique(domain_of[nodes], return_inverse=True)
            outside = np.flatnonzero(here & (domain_of == OUTSIDE))
            yield _Group(tuple(cells), nodes, labels.astype(np.int64), len(values), outside)

    def _exclude(self, clique: Sequence[int], excluded: Sequence[int], group: _Group) -> None:
        """The domains that classes take are no more than there are, when no two of them share one.

        Where running pods already stand together, there is a place more for them.
        """
        taken: list[cp_model.IntVar] = []
        reached = np.zeros(group.domains, dtype=np.bool_)
        present = np.zeros(group.domains, dtype=np.int64)
        spare = wanted = 0
        for index in clique:
            here = group.sums(self.reach[index])
            counts = self.of([index], group.cells)
            if not counts or not here.any():
                continue
            reached |= here > 0
            now = group.sums(self.running[index])
            beyond = int(self.reach[index][group.outside].sum())
            if excluded[index] >> index & 1:
                taken += counts
                spare += beyond
                present += now
                wanted += sum(int(self.most_in[index, cell]) for cell in group.cells)
            else:
                used = self.cp.new_int_var(0, int((here > 0).sum()), "")
                largest = min(int(here.max()), int(self.totals[index]))
                self.cp.add(cp_model.LinearExpr.sum(counts) <= largest * used + beyond)
                taken.append(used)
                present += now > 0
                wanted += int((here > 0).sum())
        room = int(reached.sum()) + spare + int(np.maximum(0, present - 1).sum())
        if wanted > room:
            self.cp.add(cp_model.LinearExpr.sum(taken) <= room)

    def _spread(self, relation: Spread) -> None:
        """Domains to which pods come are ahead of the smallest by no more than the skew."""
        both, counting = members(relation, counts=True, obeys=True), members(relation, counts=True)
        most = least_at_most(relation, self.reach)
        fixed = standing(relation)
        if relation.domain_of not in self.split:
            left = np.maximum(0, most + relation.max_skew - fixed)
            left = np.maximum(left, in_domains(relation, self.running[both].sum(axis=0)))
            here = np.unique(np.array([d for d in relation.domain_of if d != OUTSIDE], dtype=np.int64))
            outside = [node for node, domain in enumerate(relation.domain_of) if domain == OUTSIDE]
            beyond = int(self.reach[np.ix_(both, outside)].sum())
            counts = self.of(both, range(len(self.cells)))
            self.cp.add(cp_model.LinearExpr.sum(counts) <= int(left[here].sum()) + beyond)
            return
        least = self.cp.new_int_var(0, most, "")
        for domain, cells in self._domains(relation):
            total = cp_model.LinearExpr.sum(self.of(counting, cells)) + int(fixed[domain])
            self.cp.add(total >= least)
            arrives = self._arrives(members(relation, obeys=True), cells)
            self.cp.add(total <= least + relation.max_skew).only_enforce_if(arrives)

    def _one_domain(self, relation: Relation) -> None:
        """Pods that have the rule come to one domain alone."""
        if relation.domain_of in self.split:
            obeying = members(relation, obeys=True)
            self.cp.add_at_most_one([self._arrives(obeying, cells) for _, cells in self._domains(relation)])

    def _company(self, relation: Near) -> None:
        """Who wants company and is none for itself comes where some is at the end."""
        followers = [index for index, role in relation.roles.items() if role is Role.SUBJECT]
        if relation.domain_of not in self.split or not followers:
            return
        for domain, cells in self._domains(relation):
            if not any(relation.standing.get(domain, NOBODY)[Role.BOTH :]):
                company = self.of(members(relation, counts=True), cells)
                self.cp.add(cp_model.LinearExpr.sum(company) >= self._arrives(followers, cells))

    def _domains(self, relation: Relation) -> list[tuple[int, list[int]]]:
        """Cells by domain, of a topology whose domains no cell straddles."""
        found: dict[int, list[int]] = {}
        for cell, nodes in enumerate(self.cells):
            domain = relation.domain_of[nodes[0]]
            if domain != OUTSIDE:
                found.setdefault(domain, []).append(cell)
        return sorted(found.items())

    def _arrives(self, classes: Sequence[int], cells: Sequence[int]) -> cp_model.IntVar:
        """Whether there are more pods of some classes than run there now; may be true without."""
        arrives = self.cp.new_bool_var("")
        chosen = np.ix_(classes, cells)
        now, most = int(self.runs_in[chosen].sum()), int(self.most_in[chosen].sum())
        self.cp.add(cp_model.LinearExpr.sum(self.of(classes, cells)) <= now + max(0, most - now) * arrives)
        return arrives


def _is_begun_once(relation: Relation) -> bool:
    """Whether nobody is there yet of whom affinity speaks, and all of them follow the first."""
    return isinstance(relation, Near) and relation.may_begin and all(role.obeys for role in relation.roles.values())


def _cells(problem: Problem, most: Ints) -> tuple[list[list[int]], frozenset[Topology]]:
    """Nodes in cells, and the topologies of which no cell straddles two domains.

    Topologies with few domains come first; then nodes that other classes can come to, as long as cells are few.
    """
    most_cells = max(1, min(_MOST_CELLS, _MOST_COUNTS // max(1, len(problem.classes))))
    labels = np.zeros(len(problem.nodes), dtype=np.int64)
    split = set()
    by_size = {r.domain_of: len(r.nodes_of) for r in problem.relations if not _is_of_hosts(r)}
    for topology in sorted(by_size, key=lambda one: (by_size[one], one)):
        finer = _refined(labels, np.array(topology, dtype=np.int64)[:, None])
        if finer.max(initial=0) < most_cells:
            labels = finer
            split.add(topology)
    finer = _refined(labels, (most.T > 0).astype(np.int64))
    if finer.max(initial=0) < most_cells:
        labels = finer
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    return [part.tolist() for part in np.split(order, starts)], frozenset(split)


def _is_of_hosts(relation: Relation) -> bool:
    """Whether a rule speaks of single nodes: for anti-affinity, and where there are many, they are counted together."""
    by_node = len(relation.nodes_of) == len(relation.domain_of)
    return by_node and (isinstance(relation, Apart) or len(relation.domain_of) > _MOST_HOSTS)


def _refined(labels: Ints, more: Ints) -> Ints:
    """Labels that tell apart what differs in any column of `more`, too; from 0 on."""
    _, found = np.unique(np.column_stack([labels, more]), axis=0, return_inverse=True)
    return found.reshape(-1).astype(np.int64)
