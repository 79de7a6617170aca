"""The answer of a packing, as values."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from stowage_scheduler.cluster import Rejected
from stowage_scheduler.slots import Slot


class Action(StrEnum):
    """What a step does.

    `Place` waits until kube-scheduler has put a pod where the plan says, `Bind` binds it there, `Ungate` pins a
    gated pod to its node and takes the gate away. The packer answers `Evict`, `Place` and `Ungate`; who executes
    the plan turns `Place` into `Bind` where no extender steers.
    """

    EVICT = "Evict"
    PLACE = "Place"
    BIND = "Bind"
    UNGATE = "Ungate"

    @property
    def arrives(self) -> bool:
        """Whether the step gives a pending pod its place."""
        return self is not Action.EVICT


class Reason(StrEnum):
    """Why a pod stays pending, or why it loses its place. Closed: users, metrics and docs rely on it."""

    INSUFFICIENT_CPU = "InsufficientCpu"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    INSUFFICIENT_GPU = "InsufficientGpu"
    GPU_FRAGMENTED = "GpuFragmented"  # enough is free on a node, but not on one device
    INSUFFICIENT_PODS = "InsufficientPods"
    INSUFFICIENT_RESOURCE = "InsufficientResource"
    NO_MATCHING_NODE = "NoMatchingNode"
    TAINTS_NOT_TOLERATED = "TaintsNotTolerated"
    UNREADABLE_POD = "UnreadablePod"  # a pod on the node makes no sense, so nobody knows what room is left
    HOST_PORT_TAKEN = "HostPortTaken"
    POD_AFFINITY = "PodAffinity"  # no domain has the pods that it wants to be with
    POD_ANTI_AFFINITY = "PodAntiAffinity"  # its own, or that of a pod that stands there
    TOPOLOGY_SPREAD = "TopologySpread"
    NODE_FEATURES = "NodeFeatures"  # its kubelet is not known to have a feature that the pod needs
    VOLUME_NODE_AFFINITY = "VolumeNodeAffinity"  # its volumes are bound to other nodes or zones
    VOLUME_LIMIT = "VolumeLimit"  # a CSI driver attaches no more to a node
    VOLUME_UNAVAILABLE = "VolumeUnavailable"  # a claim is missing, lost, going, not bound yet, or for one pod alone
    UNBOUND_VOLUME = "UnboundVolume"  # in steering Bind: kube-scheduler has to choose the volume
    NO_READY_NODE = "NoReadyNode"
    NOT_MODELLED = "NotModelled"
    OUT_OF_SCOPE = "OutOfScope"
    GATED = "Gated"  # a scheduling gate that is not ours
    NOMINATED = "Nominated"  # kube-scheduler is preempting pods for it
    POD_GROUP_MISSING = "PodGroupMissing"  # its pod names a PodGroup that is not there
    SCHEDULING_GROUP = "SchedulingGroup"  # in steering Bind: kube-scheduler has to place the group
    GANG_INCOMPLETE = "GangIncomplete"  # fewer pods exist than the gang needs
    GANG_SIZE_UNREADABLE = "GangSizeUnreadable"
    GANG_GATED = "GangGated"  # another pod of its gang is behind a gate that is not ours
    GANG_TOO_LARGE = "GangTooLarge"  # it would start with one plan, and does not fit into one
    GANG_TOPOLOGY = "GangTopology"  # no single domain that it may use has room for all of it
    GANG_HELD_BACK = "GangHeldBack"  # another pod of its gang can not be planned for
    REFUSED_BY_CHECKS = "RefusedByChecks"  # a place was found, and the checks of the finished plan refuse it
    LOWER_PRIORITY = "LowerPriority"  # it would fit, but pods of higher or equal priority need the room
    MOVE_LIMIT = "MoveLimit"
    EVICTED_FOR_HIGHER_PRIORITY = "EvictedForHigherPriority"
    EVICTED_FOR_MORE_PODS = "EvictedForMorePods"
    DRAINED = "Drained"  # its node is drained, and nobody promises a replacement

    @property
    def about_nodes(self) -> bool:
        """Whether a pod stays pending for what nodes offer, and not because nobody looks for a place for it."""
        return self not in _NOT_ABOUT_NODES


_NOT_ABOUT_NODES = frozenset(
    {
        Reason.OUT_OF_SCOPE,
        Reason.GATED,
        Reason.NOMINATED,
        Reason.VOLUME_UNAVAILABLE,
        Reason.UNBOUND_VOLUME,
        Reason.POD_GROUP_MISSING,
        Reason.SCHEDULING_GROUP,
        Reason.GANG_INCOMPLETE,
        Reason.GANG_SIZE_UNREADABLE,
        Reason.GANG_GATED,
        Reason.GANG_TOO_LARGE,
        Reason.GANG_HELD_BACK,
        Reason.REFUSED_BY_CHECKS,
    }
)


class PodRef(Struct, frozen=True, order=True):
    """One pod, by the name users know and the UID that makes it unique in time."""

    namespace: str
    name: str
    uid: str

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


class Assignment(Struct, frozen=True, order=True):
    """A pod that runs or shall run, and where."""

    pod: PodRef
    node: str


class Move(Struct, frozen=True, order=True):
    """A running pod that ends on another node."""

    pod: PodRef
    source: str
    target: str


class Eviction(Struct, frozen=True, order=True):
    """A running pod that ends without a place."""

    pod: PodRef
    node: str
    reason: Reason


class Unplaced(Struct, frozen=True, order=True):
    """A pending pod that stays pending: why, and the cheapest thing found that would help."""

    pod: PodRef
    reason: Reason
    help: str


class Step(Struct, frozen=True):
    """One step of a plan; it may start when every step of `after` is done.

    `Evict`: `node` is where the pod runs; `slot` is where its replacement shall land (None: it loses its
    place). `Place`: `node` is where the pending pod shall land. `swap` marks an eviction that breaks a
    cycle: its slot becomes free only later, so the replacement waits without a place until then. `gang` names
    the gang of an arriving pod within its namespace; the arrivals of one gang have the same `after`.
    `replacement_of` marks the eviction of the pod that came for that of an earlier step, from its temporary place
    on `node`: nobody knows its name when the plan is made, so `pod` is the one of that step.
    """

    id: str
    action: Action
    pod: PodRef
    node: str
    slot: str | None = None
    after: tuple[str, ...] = ()
    swap: bool = False
    gang: str = ""
    replacement_of: str = ""


class Packing(Struct, frozen=True):
    """A checked plan for one snapshot.

    `before`, `placed` and `bound` map a priority to the number of pods of that priority or higher that
    run before, after, and in no best plan more than. `certified`: `placed` equals `bound` everywhere.
    `seconds` is the whole packing, `stages` the seconds by stage. `move_cost`: what all moves cost, in restart seconds;
    no plan that places as many pods in each tier and takes no more places away costs less than `move_cost_bound`,
    None where that is not known.
    """

    assignments: tuple[Assignment, ...]
    moves: tuple[Move, ...]
    evictions: tuple[Eviction, ...]
    unplaced: tuple[Unplaced, ...]
    slots: tuple[Slot, ...]
    steps: tuple[Step, ...]
    before: Mapping[int, int]
    placed: Mapping[int, int]
    bound: Mapping[int, int]
    certified: bool
    seconds: float
    stages: Mapping[str, float]
    rejected: tuple[Rejected, ...] = ()
    move_cost: int = 0
    move_cost_bound: int | None = None
    faults: tuple[str, ...] = ()  # what the checks found wrong with the search's answer; then this is a simpler one

    @property
    def changes_anything(self) -> bool:
        """Whether executing the plan would do anything at all."""
        return bool(self.steps)
