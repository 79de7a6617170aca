"""What a plan improves last, once it is known who gets a place and who moves."""

from __future__ import annotations

from stowage_scheduler.build import Build
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.options import Tail
from stowage_scheduler.placement import Placement
from stowage_scheduler.power import power_of
from stowage_scheduler.soft_rules import soft_rules
from stowage_scheduler.solve.arrange import arranged, arriving


def suited(built: Build, snapshot: Snapshot, placement: Placement, tail: Tail) -> Placement:
    """The placement, or one with the same score whose arrivals suit soft rules and the tail better."""
    coming = arriving(placement)
    if not coming:
        return placement
    power = power_of(built, snapshot) if tail is Tail.LEAST_POWER else None
    return arranged(placement, tail, soft_rules(built, snapshot, coming), power)
