"""Hard rules, one file each: what refuses a node, what constrains the model, what checks a finished plan.

The three parts of a rule share no code: `check` works on the snapshot's facts, so a mistake in the model
is caught before anybody sees the plan.
"""

from stowage_scheduler.rules import (
    budgets,
    evictions,
    host_ports,
    move_limit,
    never_moves,
    node_affinity,
    readiness,
    resources,
    taints,
)
from stowage_scheduler.rules.rule import Outcome, Rule, Violation

RULES: tuple[Rule, ...] = (
    readiness.Readiness(),
    node_affinity.NodeAffinity(),
    taints.Taints(),
    resources.Resources(),
    host_ports.HostPorts(),
    never_moves.NeverMoves(),
    evictions.Evictions(),
    budgets.Budgets(),
    move_limit.MoveLimit(),
)

__all__ = ["RULES", "Outcome", "Rule", "Violation"]
