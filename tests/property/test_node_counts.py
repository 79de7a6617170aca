"""Counts of nodes: each node is counted once, by a rule that closes it."""

from __future__ import annotations

from hypothesis import given, settings

from harness.crowded import crowded_clusters, table_of, waiting_pod
from harness.facts import OPTIONS
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.explain import Explainer
from stowage_scheduler.packing import Reason


@settings(max_examples=300, deadline=None)
@given(crowded_clusters())
def test_each_node_is_counted_once(cluster: Snapshot) -> None:
    table = table_of(cluster, OPTIONS)
    said = Explainer(cluster, cluster.nodes, table.situation.outcome.residents).explain(waiting_pod(cluster))
    lacks = (table.lacking > 0).any(axis=0)  # every rule, one by one
    assert sum(said.excluded.values()) == lacks.sum(), said
    assert (said.reason is Reason.LOWER_PRIORITY) == (not lacks.all())
    assert all(Reason(name) for name in said.excluded)
