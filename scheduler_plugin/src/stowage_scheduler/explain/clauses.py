"""The rules that a conflict is made of, at the grain that people name them."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class ClauseKind(StrEnum):
    """What a rule is about. Closed, and never renamed: scripts may rely on it."""

    # what the pod asks of a node
    NODE_READY = "NodeReady"
    NODE_SELECTOR = "NodeSelector"
    NODE_AFFINITY = "NodeAffinity"
    NODE_FEATURES = "NodeFeatures"
    TAINT = "Taint"
    VOLUMES = "Volumes"
    READABLE_PODS = "ReadablePods"  # a node with a pod that nobody could read takes nothing new
    RESOURCE = "Resource"
    GPU_DEVICES = "GpuDevices"  # a share of a GPU is had on one device, and whole ones are had alone
    HOST_PORT = "HostPort"
    POD_AFFINITY = "PodAffinity"
    POD_ANTI_AFFINITY = "PodAntiAffinity"
    ANTI_AFFINITY_OF_OTHERS = "AntiAffinityOfOthers"
    TOPOLOGY_SPREAD = "TopologySpread"
    GANG_TOPOLOGY = "GangTopology"
    # what keeps those who are in the way
    GANG = "Gang"  # the other pods of its own gang start with it
    PRIORITY = "Priority"  # pods of its priority or higher keep their places
    NO_ROOM_ELSEWHERE = "NoRoomElsewhere"
    POD_DISRUPTION_BUDGET = "PodDisruptionBudget"
    NEVER_MOVES = "NeverMoves"
    TERMINATING = "Terminating"  # who leaves holds its room until it is gone
    NOMINATED = "Nominated"  # kube-scheduler keeps room for another pod
    EVICTIONS_OFF = "EvictionsOff"
    MOVE_LIMIT = "MoveLimit"
    NEVER_PREEMPTS = "NeverPreempts"

    @property
    def keeps_others(self) -> bool:
        """Whether it is about pods that are in the way, and not about the node."""
        return self in _KEEPS_OTHERS


_KEEPS_OTHERS = frozenset(
    {
        ClauseKind.GANG,
        ClauseKind.PRIORITY,
        ClauseKind.NO_ROOM_ELSEWHERE,
        ClauseKind.POD_DISRUPTION_BUDGET,
        ClauseKind.NEVER_MOVES,
        ClauseKind.TERMINATING,
        ClauseKind.NOMINATED,
        ClauseKind.EVICTIONS_OFF,
        ClauseKind.MOVE_LIMIT,
        ClauseKind.NEVER_PREEMPTS,
    }
)


class Clause(Struct, frozen=True, order=True, gc=False):
    """One rule.

    `subject` tells rules of one kind apart: a resource, a label `key=value`, a taint, a port, a topology key,
    `namespace/name` of a budget, the name of a reason why pods never move (`Immovable`), the name of a gang.
    """

    kind: ClauseKind
    subject: str = ""


PRIORITY = Clause(ClauseKind.PRIORITY)
NO_ROOM_ELSEWHERE = Clause(ClauseKind.NO_ROOM_ELSEWHERE)
TERMINATING = Clause(ClauseKind.TERMINATING)
NOMINATED = Clause(ClauseKind.NOMINATED)
EVICTIONS_OFF = Clause(ClauseKind.EVICTIONS_OFF)
MOVE_LIMIT = Clause(ClauseKind.MOVE_LIMIT)
NEVER_PREEMPTS = Clause(ClauseKind.NEVER_PREEMPTS)
