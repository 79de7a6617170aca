"""Which nodes new pods keep away from after failures, and which of them nobody should use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from stowage.api.training_words import Domain, Event
from stowage.decide.training.causes import Cause
from stowage.decide.training.facts import History
from stowage.decide.training.node_memory import offenders, within_share
from stowage_scheduler.cluster import Snapshot

_OF_PODS: Final = frozenset({Event.DISRUPTION, Event.POD_DELETED})
"""What somebody did to a pod says nothing of its node."""


def kept_away(
    causes: Iterable[Cause], history: History, snapshot: Snapshot, now: float
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Nodes to avoid and those of them to cordon, each with its reason, within the bounded share of the cluster.

    First the nodes of these causes, those that are about to be taken away too, then repeat offenders, worst first.
    Nodes that fail in this very decision are all avoided, more than the share too: Kubernetes may not know yet that
    they are dead, and binds pods to them.
    Cordoned are only nodes with an unhealthy device that no other system speaks for, and repeat offenders of several
    jobs: a condition or taint has an owner already, and a node belongs to one.
    """
    reasons: dict[str, str] = {}
    broken = set()
    failed = set()
    for cause in causes:
        node = cause.node or cause.evidence.node
        if node is None or cause.evidence.event in _OF_PODS:
            continue
        reasons.setdefault(node, _words(cause))
        if cause.evidence.event is Event.DEVICE_UNHEALTHY:
            broken.add(node)
        if cause.domain is Domain.INFRASTRUCTURE:
            failed.add(node)
    repeated = offenders(history.nodes, now)
    merged = {node: f"{words}; {repeated[node]}" if node in repeated else words for node, words in reasons.items()}
    share = within_share(
        {**merged, **{node: words for node, words in repeated.items() if node not in merged}}, snapshot.nodes
    )
    proven = {node for node, record in history.nodes.items() if record.is_proven}
    cordon = {node: words for node, words in share.items() if node in broken | proven}
    if len(snapshot.nodes) <= 1:
        return share, cordon
    present = failed & {node.name for node in snapshot.nodes}
    return {**{node: merged[node] for node in sorted(present)}, **share}, cordon


def _words(cause: Cause) -> str:
    one = cause.evidence
    return f"{one.event} ({one.name})" if one.name else str(one.event)
