"""Gangs of pods: who belongs to one, and whether it can be placed whole.

A gang is the pods of one namespace with the same gang name (label `stowage.dev/gang`). It starts when all of it
has a place, so those of its pods that wait are planned for together or not at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from msgspec import Struct

from stowage_scheduler.cluster import Gang, Pod
from stowage_scheduler.immovable import Immovable

GANG_GATE = "stowage.dev/gang"

GangKey = tuple[str, str]
"""Namespace and name of a gang."""


class GangState(Struct, frozen=True):
    """One gang at one instant.

    `members` are its pods that exist: neither finished nor on their way out. Each of them either has a node
    (`running`) or has none (`waiting`), both in the order of their names. `size` is how many it needs at least,
    0 when its pods do not agree or nobody can read it. `required` and `preferred` are keys of node labels: all of it
    stands in one domain of each.

    `why` is what keeps the waiting pods from being planned for, as far as the gang itself tells: whether a
    policy covers them all and whether their rules are modelled is another question.
    """

    key: GangKey
    size: int
    running: tuple[Pod, ...]
    waiting: tuple[Pod, ...]
    why: Immovable | None = None
    required: tuple[str, ...] = ()
    preferred: tuple[str, ...] = ()

    @property
    def members(self) -> tuple[Pod, ...]:
        """All pods that exist."""
        return (*self.running, *self.waiting)

    @property
    def ready(self) -> bool:
        """Whether pods wait, and could be placed together."""
        return bool(self.waiting) and self.why is None


def gang_key(pod: Pod) -> GangKey | None:
    """The gang of a pod, None when it belongs to none."""
    return None if pod.gang is None else (pod.namespace, pod.gang.name)


def gangs(pods: Iterable[Pod]) -> Mapping[GangKey, GangState]:
    """Every gang with a pod that exists. The order of `pods` changes nothing."""
    found: dict[GangKey, list[Pod]] = defaultdict(list)
    for pod in pods:
        key = gang_key(pod)
        if key is not None and not pod.finished and not pod.leaving:
            found[key].append(pod)
    return {key: _state(key, found[key]) for key in sorted(found)}


def _state(key: GangKey, members: list[Pod]) -> GangState:
    members = sorted(members, key=lambda pod: (pod.name, pod.uid))
    said = {pod.gang for pod in members if pod.gang is not None}
    gang = said.pop() if len(said) == 1 else Gang(key[1], 0)
    return GangState(
        key=key,
        size=gang.size,
        running=tuple(pod for pod in members if pod.node is not None),
        waiting=tuple(pod for pod in members if pod.node is None),
        why=_why_not(gang.size, members),
        required=gang.required,
        preferred=gang.preferred,
    )


def _why_not(size: int, members: list[Pod]) -> Immovable | None:
    waiting = [pod for pod in members if pod.node is None]
    if size < 1:
        return Immovable.GANG_SIZE_UNREADABLE
    if len(members) < size:
        return Immovable.GANG_INCOMPLETE
    if any(foreign_gates(pod) for pod in waiting):
        return Immovable.GANG_GATED
    if any(pod.nominated_node is not None for pod in waiting):
        return Immovable.GANG_NOMINATED
    return None


def foreign_gates(pod: Pod) -> tuple[str, ...]:
    """Gates that somebody else has to take away before the pod can be planned for."""
    return tuple(gate for gate in pod.gates if gate != GANG_GATE or pod.gang is None)
