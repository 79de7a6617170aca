"""Which nodes fail again and again, over all jobs; never more than a bounded share of the cluster is kept away from.

A few bad nodes make many failures: where Meta took "lemon" nodes out, failures of large jobs fell from 14 % to 4 %
(arXiv:2410.21680). A bounded share, so that a fault of something else can not talk the whole cluster out of use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from stowage.api.names import UNHEALTHY_TAINT
from stowage.api.training_words import Action, Domain, Event
from stowage.decide.training.facts import NodeRecord, Recovery
from stowage_scheduler.cluster import Node

MEMORY_SECONDS: Final = 24 * 3600.0
REPEATS: Final = 3
"""So many failures within the memory make a repeat offender."""
REPEATS_OVER_JOBS: Final = 2
"""So many do when they are of different jobs: one program alone can not be the reason."""
SEEN_BY_CLUSTER: Final = frozenset({Event.NODE_LOST, Event.DEVICE_UNHEALTHY, Event.NODE_CONDITION, Event.NODE_TAINT})
LARGEST_SHARE_PERCENT: Final = 10
MAX_FAILURES: Final = 16


def records_of(histories: Mapping[str, Iterable[Recovery]], now: float) -> Mapping[str, NodeRecord]:
    """By node, the failures within the memory that were put down to it; `histories` are by job, from their status.

    Disruptions and failures of the workload are no fault of a node. What was restarted without a known fault counts
    only if a node was replaced for it.
    """
    since = now - MEMORY_SECONDS
    found: dict[str, list[tuple[str, Recovery]]] = {}
    for job, recoveries in histories.items():
        for one in recoveries:
            if one.node is not None and one.at > since and _is_of_node(one):
                found.setdefault(one.node, []).append((job, one))
    return {node: _record(found[node]) for node in sorted(found)}


def _record(failures: list[tuple[str, Recovery]]) -> NodeRecord:
    times = sorted({one.at for _, one in failures})
    jobs = frozenset(job for job, _ in failures)
    return NodeRecord(tuple(times[-MAX_FAILURES:]), jobs, _is_proven(failures))


def _is_proven(failures: list[tuple[str, Recovery]]) -> bool:
    """Whether a node is at fault beyond what its users may have made up, or done by the same mistake.

    What the cluster itself saw counts. What a coordinator told counts where jobs of two namespaces say the same: who
    reads a job's Secret speaks for its coordinator.
    """
    faults = [(job, one) for job, one in failures if one.domain is Domain.INFRASTRUCTURE]
    if len({job.partition("/")[0] for job, _ in faults}) < REPEATS_OVER_JOBS:
        faults = [(job, one) for job, one in faults if one.event in SEEN_BY_CLUSTER]
    return len({one.at for _, one in faults}) >= REPEATS and len({job for job, _ in faults}) >= REPEATS_OVER_JOBS


def _is_of_node(one: Recovery) -> bool:
    if one.blameless or one.domain is Domain.WORKLOAD:
        return False
    return one.domain is Domain.INFRASTRUCTURE or one.action in {Action.REPLACE_NODE, Action.SHRINK}


def offenders(records: Mapping[str, NodeRecord], now: float) -> Mapping[str, str]:
    """Repeat offenders with their reasons, worst first."""
    since = now - MEMORY_SECONDS
    found = []
    for node, record in records.items():
        if len(record.failures) < REPEATS_OVER_JOBS:
            continue
        failures = sum(1 for at in record.failures if at > since)
        if failures >= REPEATS or (failures >= REPEATS_OVER_JOBS and len(record.jobs) >= REPEATS_OVER_JOBS):
            words = f"{failures} failures of {_jobs(len(record.jobs))} within {MEMORY_SECONDS / 3600:.0f} h"
            found.append((-len(record.jobs), -failures, node, words))
    return {node: words for _, _, node, words in sorted(found)}


def within_share(reasons: Mapping[str, str], nodes: Iterable[Node]) -> Mapping[str, str]:
    """The first of `reasons` (nodes with words, most urgent first) that the bounded share leaves room for.

    The share is a tenth of the cluster's nodes, at least one, none where there is but one node. Nodes that carry the
    taint of unhealthy nodes already are counted in it and always pass.
    """
    known = {
        node.name: bool(node.taints) and any(taint.key == UNHEALTHY_TAINT for taint in node.taints) for node in nodes
    }
    room = largest_share(len(known)) - sum(known.values())
    chosen = {}
    for node, words in reasons.items():
        if known.get(node, False):
            chosen[node] = words
        elif node in known and room > 0:
            chosen[node] = words
            room -= 1
    return chosen


def may_be_cordoned(node: str, nodes: Iterable[Node]) -> bool:
    """Whether the bounded share leaves room for one more, as the nodes are now; one that is tainted stays so."""
    return node in within_share({node: ""}, nodes)


def largest_share(nodes: int) -> int:
    """How many of so many nodes may be kept away from: a tenth, at least one, none where there is but one node."""
    return 0 if nodes <= 1 else max(1, nodes * LARGEST_SHARE_PERCENT // 100)


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"
