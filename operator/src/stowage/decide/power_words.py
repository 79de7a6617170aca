"""What a policy with tail LeastPower has to say while no node tells what it draws."""

from __future__ import annotations

from collections.abc import Iterable

from stowage.api.packing_policy import PackingPolicy, Tail
from stowage_scheduler.cluster import Node
from stowage_scheduler.power import IDLE_WATTS, PEAK_WATTS, has_figures


def without_figures(policy: PackingPolicy, nodes: Iterable[Node]) -> str:
    """Why the policy acts as with tail Consolidate; empty where it does not.

    Args:
        policy: any.
        nodes: those that it may use, as far as they are known.
    """
    if policy.spec.objective.tail is not Tail.LEAST_POWER or has_figures(nodes):
        return ""
    return (
        f"objective.tail: LeastPower acts as Consolidate: no node has the labels {IDLE_WATTS} and {PEAK_WATTS} with "
        "watts, the peak not below idle"
    )
