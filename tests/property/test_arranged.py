"""The last wish of a plan never costs anything that comes before it."""

from __future__ import annotations

from hypothesis import given, settings

from harness.facts import OPTIONS
from property.test_between_pods import clusters
from stowage_scheduler.build import build
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.greedy import greedy
from stowage_scheduler.options import Tail
from stowage_scheduler.solve.arrange import arranged


@settings(max_examples=60)
@given(cluster=clusters())
def test_nothing_else_gets_worse(cluster: Snapshot) -> None:
    start = greedy(build(cluster, OPTIONS).problem)
    for tail in Tail:
        end = arranged(start, tail)
        assert end.score() >= start.score()
        assert end.within_limits()
        assert all(left >= 0 for room in end.room for left in room)
