"""Why a gang finds no place in one domain, although it would find one in the whole cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from stowage_scheduler.cluster import Node, Pod, Snapshot
from stowage_scheduler.counted import counted
from stowage_scheduler.explain.explainer import Explainer, Explanation, more_nodes
from stowage_scheduler.gangs import GangState
from stowage_scheduler.packing import Reason

MOST_DOMAINS = 32
"""Domains that are looked at exactly, those first of which a bound says that they have the most room."""


def explain_gang(
    explainer: Explainer,
    snapshot: Snapshot,
    residents: Mapping[str, Iterable[Pod]],
    gang: GangState,
    *,
    limited: bool = False,
) -> Explanation:
    """Why a gang that waits has no place: what its pods lack wherever they stand, or what no single domain has.

    Args:
        explainer: of the nodes that may be used.
        snapshot: for rules that look at the whole cluster.
        residents: by the name of a node the pods that stand there.
        gang: that waits.
        limited: the cap on moves was reached.
    """
    homeless, _ = explainer.homeless(gang.waiting)
    if gang.required and not homeless:
        return _explain_topology(snapshot, explainer, residents, gang)
    if gang.is_loose:
        return explainer.explain(gang.waiting[0], limited=limited)
    return explainer.explain_gang(gang.key[1], gang.waiting, gang.beginning, limited=limited)


def still_waiting(gang: GangState, pod: Pod, after: Mapping[str, str]) -> GangState:
    """The gang with the pods that a plan places as running, and with those to explain as waiting.

    These are all of them; of a gang that can do without some the fewest that it lacks, `pod` first, or `pod` alone.

    Args:
        gang: when the plan was made.
        pod: of the gang, left without a place.
        after: where the pods that run or shall run stand, by UID.
    """
    if not gang.elastic:
        return gang
    come = tuple(replace(one, node=after[one.uid]) for one in gang.waiting if one.uid in after)
    left = replace(gang, running=(*gang.running, *come))
    others = tuple(one for one in gang.waiting if one.uid not in after and one.uid != pod.uid)
    return replace(left, waiting=(pod, *others[: max(0, left.need - 1)]))


def _explain_topology(
    snapshot: Snapshot, explainer: Explainer, residents: Mapping[str, Iterable[Pod]], gang: GangState
) -> Explanation:
    """What the best domain lacks."""
    by_key = {key: _domains(explainer.nodes, key) for key in gang.required}
    key = max(by_key, key=lambda one: len(by_key[one]))  # the narrowest
    running = {pod.node for pod in gang.running}
    most = explainer.most(gang.waiting)
    domains = [
        (lacking(most, inside), value)
        for value, inside in by_key[key].items()
        if running <= {node.name for node in inside}
    ]
    best: tuple[int, str, list[Pod], Mapping[str, int]] | None = None
    for least, value in sorted(domains)[:MOST_DOMAINS]:
        if best is not None and least >= best[0]:
            break
        inside = by_key[key][value]
        homeless, alone = Explainer(snapshot, inside, residents, explainer.standing).homeless(gang.waiting)
        if best is None or len(homeless) < best[0]:
            closed: dict[str, int] = {Reason.GANG_TOPOLOGY: len(explainer.nodes) - len(inside)}
            best = len(homeless), value, homeless, {**closed, **(alone.excluded if alone is not None else {})}
    if best is None:
        return Explanation(Reason.GANG_TOPOLOGY, f"gang {gang.key[1]} runs in more than one {key} already", {})
    missing, value, homeless, excluded = best
    fitting = len(gang.waiting) - missing
    start = f"gang {gang.key[1]} {gang.beginning} in one {key}"
    if not missing:
        return Explanation(Reason.LOWER_PRIORITY, f"{start}, and {value} has room: plan again with more time", {})
    words = f"{start}, and in the best, {value}, {fitting} of its {counted(len(gang.waiting), 'waiting pod')} would fit"
    return Explanation(Reason.GANG_TOPOLOGY, f"{words}: it needs {more_nodes(homeless)} there", excluded)


def lacking(most: Iterable[tuple[int, Mapping[str, int]]], inside: Iterable[Node]) -> int:
    """How many pods of a gang find no room in a domain, at least.

    Args:
        most: `Explainer.most` of its pods.
        inside: the nodes of the domain.
    """
    names = [node.name for node in inside]
    return sum(max(0, count - sum(holds.get(name, 0) for name in names)) for count, holds in most)


def _domains(nodes: Iterable[Node], key: str) -> Mapping[str, list[Node]]:
    found: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        if key in node.labels:
            found[node.labels[key]].append(node)
    return found
