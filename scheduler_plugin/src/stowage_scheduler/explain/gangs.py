"""Why a gang finds no place in one domain, although it would find one in the whole cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from stowage_scheduler.cluster import Node, Pod, Snapshot
from stowage_scheduler.explain.explainer import Explainer, Explanation, more_nodes
from stowage_scheduler.gangs import GangState
from stowage_scheduler.packing import Reason


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
        return _explain_topology(snapshot, explainer.nodes, residents, gang)
    return explainer.explain_gang(gang.key[1], gang.waiting, limited=limited)


def _explain_topology(
    snapshot: Snapshot, nodes: Iterable[Node], residents: Mapping[str, Iterable[Pod]], gang: GangState
) -> Explanation:
    """What the best domain lacks."""
    by_key = {key: _domains(nodes, key) for key in gang.required}
    key = max(by_key, key=lambda one: len(by_key[one]))  # the narrowest
    running = {pod.node for pod in gang.running}
    best: tuple[int, str, list[Pod]] | None = None
    for value, inside in sorted(by_key[key].items()):
        if not running <= {node.name for node in inside}:
            continue
        homeless, _ = Explainer(snapshot, inside, residents).homeless(gang.waiting)
        if best is None or len(homeless) < best[0]:
            best = len(homeless), value, homeless
    if best is None:
        return Explanation(Reason.GANG_TOPOLOGY, f"gang {gang.key[1]} runs in more than one {key} already", {})
    missing, value, homeless = best
    fitting = len(gang.waiting) - missing
    start = f"gang {gang.key[1]} starts as a whole in one {key}"
    if not missing:
        return Explanation(Reason.LOWER_PRIORITY, f"{start}, and {value} has room: plan again with more time", {})
    words = f"{start}, and in the best, {value}, {fitting} of its {len(gang.waiting)} waiting pods would fit"
    return Explanation(Reason.GANG_TOPOLOGY, f"{words}: it needs {more_nodes(homeless)} there", {})


def _domains(nodes: Iterable[Node], key: str) -> Mapping[str, list[Node]]:
    found: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        if key in node.labels:
            found[node.labels[key]].append(node)
    return found
