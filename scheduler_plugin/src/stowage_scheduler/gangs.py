"""Gangs of pods: who belongs to one, and whether it can be placed whole.

A gang is the pods of one namespace with the same gang name: of label `stowage.dev/gang`, or of a PodGroup. It starts
when all of it has a place, so those of its pods that wait are planned for together or not at all. Of a PodGroup
(`Gang.elastic`) at least as many start together as it asks for; pods beyond those come as they find room.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from msgspec import Struct

from stowage_scheduler.cluster import Gang, Node, Pod
from stowage_scheduler.counted import counted
from stowage_scheduler.immovable import Immovable

GANG_GATE = "stowage.dev/gang"

RANK_ORDER = "stowage.dev/rank-order"
"""Annotation, or label, of a pod: a whole number, its place in the order of its gang."""

_LARGEST_RANK = 2**31 - 1

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
    elastic: bool = False

    @property
    def members(self) -> tuple[Pod, ...]:
        """All pods that exist."""
        return (*self.running, *self.waiting)

    @property
    def ready(self) -> bool:
        """Whether pods wait, and could be placed together."""
        return bool(self.waiting) and self.why is None

    @property
    def need(self) -> int:
        """How many of the pods that wait get a place together, at least."""
        return max(0, self.size - len(self.running)) if self.elastic else len(self.waiting)

    @property
    def beginning(self) -> str:
        """How it begins, for people."""
        return f"starts with {counted(self.size, 'pod')} or more" if self.elastic else "starts as a whole"

    @property
    def is_loose(self) -> bool:
        """Whether each pod that waits may come alone, for enough of the gang run already."""
        return self.elastic and self.need <= 1


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
        why=_why_not(gang, members),
        required=gang.required,
        preferred=gang.preferred,
        elastic=gang.elastic,
    )


def _why_not(gang: Gang, members: list[Pod]) -> Immovable | None:
    if gang.unknown:
        return Immovable.POD_GROUP_MISSING
    if gang.size < 1:
        return Immovable.GANG_SIZE_UNREADABLE
    if len(members) < gang.size:
        return Immovable.GANG_INCOMPLETE
    waiting = [pod for pod in members if pod.node is None]
    held = [pod for pod in waiting if foreign_gates(pod)]
    nominated = [pod for pod in waiting if pod.nominated_node is not None]
    if gang.elastic:  # those that are held are left out, unless too few are left without them
        left = {pod.uid for pod in members} - {pod.uid for pod in (*held, *nominated)}
        if len(left) >= gang.size:
            return None
    if held:
        return Immovable.GANG_GATED
    return Immovable.GANG_NOMINATED if nominated else None


def scattered(gang: GangState, nodes: Mapping[str, Node]) -> Pod | None:
    """A running pod of a gang that keeps all of it from standing in one domain of each label that it needs.

    It stands on a node without such a label, on one that is not there any more, or apart from a pod before it.
    """
    for key in gang.required:
        values: set[str] = set()
        for pod in gang.running:
            node = nodes.get(pod.node or "")
            value = node.labels.get(key) if node is not None else None
            if value is None or not values <= {value}:
                return pod
            values.add(value)
    return None


def foreign_gates(pod: Pod) -> tuple[str, ...]:
    """Gates that somebody else has to take away before the pod can be planned for."""
    return tuple(gate for gate in pod.gates if gate != GANG_GATE or pod.gang is None)


def rank_of(pod: Pod) -> int | None:
    """The rank that a pod says it has; None when it says nothing that can be read."""
    text = pod.annotations.get(RANK_ORDER, pod.labels.get(RANK_ORDER, ""))
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(_LARGEST_RANK))):
        return None
    return int(text) if int(digits) <= _LARGEST_RANK else None
