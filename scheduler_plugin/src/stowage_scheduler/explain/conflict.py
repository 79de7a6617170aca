"""A minimal set of rules that cannot hold together while a pod waits.

The set is found by deletion: each rule in turn is given up for good if the pod still finds no place without it. What is
left is minimal: without any one of its rules, and with all others than these given up, the pod could have a place. That
needs as many questions as there are rules, and each is a few sums (`table.py`). The answer is that of a solver's
unsatisfiable core made minimal (J. Chinneck, E. Dravnieks, "Locating Minimal Infeasible Constraint Sets in Linear
Programs", 1991: the deletion filter), without a solver.
"""

from __future__ import annotations

from stowage_scheduler.explain.clauses import EVICTIONS_OFF, NO_ROOM_ELSEWHERE, PRIORITY, Clause
from stowage_scheduler.explain.table import Table

_GENERAL = (PRIORITY, NO_ROOM_ELSEWHERE, EVICTIONS_OFF)


def conflict(table: Table) -> tuple[Clause, ...] | None:
    """The set, rules of the pod first; None when a node is open with all rules in force.

    Rules about pods in the way are given up first, those that hold for all pods before those that name some; then rules
    that close few nodes. So the set that is left is short and speaks of what closes most of the cluster.
    """
    enforced = set(table.clauses)
    if table.open(enforced).any():
        return None
    closes: dict[Clause, int] = dict.fromkeys(enforced, 0)
    for clause, nodes in zip(table.rows, table.unmet(enforced).sum(axis=1), strict=True):
        closes[clause] += int(nodes)

    def rank(clause: Clause) -> tuple[bool, int, int, Clause]:
        general = _GENERAL.index(clause) if clause in _GENERAL else len(_GENERAL)
        return not clause.kind.keeps_others, general, closes[clause], clause

    for clause in sorted(enforced, key=rank):
        if not table.open(enforced - {clause}).any():
            enforced.remove(clause)
    return tuple(sorted(enforced, key=lambda one: (one.kind.keeps_others, -closes[one], one)))
