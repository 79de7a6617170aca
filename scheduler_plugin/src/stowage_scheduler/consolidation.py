"""Which nodes can be emptied by moving their pods to the others: a drain that nobody asked for.

Candidates come in two orders: by how little they are used, and by how few moves they take. In each, the longest row
that can be emptied together is found by halving, as Karpenter does for several nodes at once; then single ones behind
it are tried. The order that frees more nodes is taken, then the one with fewer moves. Each try is a packing of a
voluntary drain, so rules, order and checks are those of every plan.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from msgspec import structs

from stowage_scheduler.cluster import PODS, Node, Pod, Snapshot
from stowage_scheduler.emptying import Candidate, Consolidation
from stowage_scheduler.immovable import Immovable
from stowage_scheduler.movability import Movability
from stowage_scheduler.options import Budget, Drain, PackOptions
from stowage_scheduler.pack import pack
from stowage_scheduler.packing import Packing
from stowage_scheduler.solve.crew import Crew

_SINGLES = 8  # nodes behind the row that are tried one by one
_TRIES = 32  # by which a budget of time is shared
_STAYS = frozenset({Immovable.DAEMON_SET, Immovable.STATIC})
_PARTS = 1_000_000


def consolidate(
    snapshot: Snapshot,
    options: PackOptions,
    budget: Budget,
    seed: int,
    clock: Callable[[], float],
    crew: Crew | None = None,
) -> Consolidation:
    """Find the nodes that can be emptied: as many as are found, by as few moves.

    Args:
        snapshot: the facts of one instant.
        options: what may move, as for any plan; its `max_moves` bounds all moves together.
        budget: of all packings together when it is wall time, else of each.
        seed: of every random choice.
        clock: monotonic seconds.
        crew: warm workers for the search.
    """
    waiting = _waiting(snapshot, options)
    if waiting:
        return Consolidation(waiting=waiting)
    found = candidates(snapshot, options)
    share = structs.replace(budget, seconds=budget.seconds / _TRIES, certify_seconds=budget.certify_seconds / _TRIES)
    until = clock() + budget.seconds
    ready = sum(node.ready and not node.unschedulable for node in snapshot.nodes)

    tried: dict[frozenset[str], Packing | None] = {}

    def emptied(chosen: Sequence[Candidate]) -> Packing | None:
        nodes = frozenset(one.node for one in chosen)
        if nodes not in tried:
            tried[nodes] = attempt(nodes, chosen)
        return tried[nodes]

    def attempt(nodes: frozenset[str], chosen: Sequence[Candidate]) -> Packing | None:
        if len(chosen) >= ready:
            return None  # one always stays
        if options.max_moves is not None and sum(one.moves for one in chosen) > options.max_moves:
            return None
        if budget.deterministic_units is None and clock() > until:
            return None
        drain = Drain(nodes, voluntary=True)
        packing = pack(snapshot, structs.replace(options, drain=drain, max_moves=0), share, seed, clock, crew)
        return None if packing.unplaced else packing

    by_moves = sorted(found, key=lambda one: (one.moves, one.used, one.node))
    row, best = max((_row(order, emptied) for order in (found, by_moves)), key=_gain)
    return Consolidation(tuple(one.node for one in row), best, found)


def candidates(snapshot: Snapshot, options: PackOptions) -> tuple[Candidate, ...]:
    """Nodes of the plan that could be emptied as far as their own pods are concerned, the least used ones first."""
    movability = Movability(snapshot, options)
    on_node: dict[str, list[Pod]] = defaultdict(list)
    for pod in snapshot.pods:
        if pod.node is not None and not pod.finished:
            on_node[pod.node].append(pod)
    unread = {one.node for one in snapshot.rejected}
    found = []
    for node in movability.nodes.values():
        if not node.ready or node.unschedulable or node.name in unread:
            continue
        pods = [pod for pod in on_node[node.name] if movability.immovable(pod) not in _STAYS]
        if all(movability.immovable(pod) is None for pod in pods):
            found.append(Candidate(node.name, len(pods), _used(node, pods)))
    found.sort(key=lambda one: (one.used, one.moves, one.node))
    return tuple(found)


def _row(
    order: Sequence[Candidate], emptied: Callable[[Sequence[Candidate]], Packing | None]
) -> tuple[list[Candidate], Packing | None]:
    """The longest row from the start of an order, and those few behind it that can go as well."""
    row, best = _longest(order, emptied)
    for one in order[len(row) + 1 : len(row) + 1 + _SINGLES]:
        more = emptied([*row, one])
        if more is not None:
            row, best = [*row, one], more
    return row, best


def _gain(made: tuple[Sequence[Candidate], Packing | None]) -> tuple[int, int]:
    """What tells one row from another: more nodes, then fewer moves."""
    return len(made[0]), -sum(one.moves for one in made[0])


def _used(node: Node, pods: Sequence[Pod]) -> int:
    """The largest share of a node's room that pods take, in any resource but their number."""
    shares = [
        sum(pod.requests.get(name, 0) for pod in pods) * _PARTS // amount
        for name, amount in node.allocatable.items()
        if amount and name != PODS
    ]
    return max(shares, default=0)


def _longest(
    found: Sequence[Candidate], emptied: Callable[[Sequence[Candidate]], Packing | None]
) -> tuple[list[Candidate], Packing | None]:
    """The longest row from the start that can be emptied, found by halving."""
    least, most = 0, len(found)
    best: Packing | None = None
    while least < most:
        middle = (least + most + 1) // 2
        packing = emptied(found[:middle])
        if packing is None:
            most = middle - 1
        else:
            least, best = middle, packing
    return list(found[:least]), best


def _waiting(snapshot: Snapshot, options: PackOptions) -> int:
    """Pods in scope that wait for a place."""
    movability = Movability(snapshot, options)
    return sum(
        pod.node is None and not pod.finished and not pod.terminating and movability.unplannable(pod) is None
        for pod in snapshot.pods
    )
