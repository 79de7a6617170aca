"""Hard rules, one file each: what refuses a node, what constrains the model, what checks a finished plan.

`check` works on the snapshot's facts and knows nothing of the model's integers, so a mistake in building
or solving the model is caught before anybody sees the plan.
"""

from stowage_scheduler.rules import (
    affinity,
    anti_affinity,
    budgets,
    closed_nodes,
    drained_nodes,
    evictions,
    gangs,
    gpu_islands,
    gpu_shares,
    host_ports,
    move_limit,
    never_moves,
    node_affinity,
    node_features,
    readiness,
    resources,
    spread,
    taints,
    volumes,
)
from stowage_scheduler.rules.rule import Outcome, Rule, Violation

RESOURCES = resources.Resources()
RULES: tuple[Rule, ...] = (
    readiness.Readiness(),
    node_affinity.NodeAffinity(),
    node_features.NodeFeatures(),
    taints.Taints(),
    volumes.Volumes(),
    RESOURCES,
    gpu_shares.GpuShares(),
    gpu_islands.GpuIslands(),
    host_ports.HostPorts(),
    affinity.Affinity(),
    anti_affinity.AntiAffinity(),
    spread.TopologySpread(),
    closed_nodes.ClosedNodes(),
    drained_nodes.DrainedNodes(),
    never_moves.NeverMoves(),
    evictions.Evictions(),
    budgets.Budgets(),
    move_limit.MoveLimit(),
    gangs.Gangs(),
)

__all__ = ["RESOURCES", "RULES", "Outcome", "Rule", "Violation"]
