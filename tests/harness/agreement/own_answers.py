"""What Stowage thinks: the rules' own checks, node by node, and the packer's model."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from stowage.observe.store import COLLECTIONS
from stowage.transport.api import Api
from stowage_scheduler.assign import changes
from stowage_scheduler.build import build
from stowage_scheduler.cluster import Pod, Snapshot
from stowage_scheduler.greedy import greedy
from stowage_scheduler.immovable import Immovable
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import KubernetesObject
from stowage_scheduler.movability import Movability
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.pack import pack

UNITS = Budget(deterministic_units=0.1)
NOWHERE = Immovable.VOLUME_UNAVAILABLE  # not planned for, since there is no node for it
NOTHING_MOVES = PackOptions(max_moves=0, evict_lower_priority=False)


class _List(msgspec.Struct):
    items: list[msgspec.Raw]


_LIST = msgspec.json.Decoder(_List)


async def read_objects(api: Api) -> tuple[KubernetesObject, ...]:
    """The cluster as the operator reads it: the same kinds, the same decoders."""
    return tuple(
        [
            decode_object(kind, raw)
            for kind, path, optional in COLLECTIONS
            if not optional  # this cluster has none of those
            for raw in _LIST.decode(await api.get_bytes(path)).items
        ]
    )


def obstacle(snapshot: Snapshot, pod: Pod) -> str:
    """Why the packer does not plan for a pod, empty where it does: rules that it does not know, by name."""
    if pod.unmodelled:
        return ", ".join(pod.unmodelled)
    why = Movability(snapshot, NOTHING_MOVES).unplannable(pod)
    return "" if why in {None, NOWHERE} else str(why)


def packers_choice(snapshot: Snapshot, pod: Pod, nodes: Iterable[str] | None = None) -> str | None:
    """The node that the packer's model and its greedy answer give a pod that waits alone; None: none of `nodes`."""
    options = NOTHING_MOVES if nodes is None else msgspec.structs.replace(NOTHING_MOVES, nodes=frozenset(nodes))
    built = build(snapshot, options)
    assert built.left_out.get(pod.uid) in {None, NOWHERE}, f"{pod.key} is not planned for: {built.left_out[pod.uid]}"
    made = changes(built, greedy(built.problem))
    targets = [built.problem.nodes[change.target] for change in made if change.target is not None]
    assert len(targets) == len(made) <= 1, f"more than {pod.key} moves: {made}"
    return targets[0] if targets else None


def packed(snapshot: Snapshot, pod: Pod) -> str | None:
    """The node that a whole packing gives the pod, search and checks included."""
    packing = pack(snapshot, NOTHING_MOVES, UNITS, seed=1, clock=lambda: 0.0)
    assert not packing.faults, packing.faults
    places = {entry.pod.uid: entry.node for entry in packing.assignments}
    return places.get(pod.uid)
