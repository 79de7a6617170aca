"""Facts about a cluster at one instant, as frozen values with integer quantities.

Everything that decides works on these values alone. They are built from Kubernetes objects by
`stowage_scheduler.kube`; nothing here knows about API servers.

Units: CPU in milli-CPU, memory and other byte-sized resources in bytes, everything else (pods,
extended resources) in whole units. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from stowage_scheduler.health import NodeCondition, PodHealth

Resources = Mapping[str, int]

CPU = "cpu"
MEMORY = "memory"
EPHEMERAL_STORAGE = "ephemeral-storage"
PODS = "pods"
ATTACHMENTS = "attachable-volumes-csi-"
"""Begins the resource that counts what a CSI driver attaches, as Kubernetes named it (`GetCSIAttachLimitKey`)."""

FREE_VOLUMES = "free-volumes-of-"
"""Begins the resource that counts volumes that nobody has yet, by StorageClass."""

GPU_MILLI = "stowage.dev/gpu-milli"
"""Thousandths of GPUs: the annotation of a pod that takes part of one, and what is counted for it."""

OF_VOLUMES = (ATTACHMENTS, FREE_VOLUMES)
"""How resources begin that no pod asks for itself: they are looked up for it."""


class Effect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Taint(Struct, frozen=True, gc=False):
    """A node taint."""

    key: str
    effect: Effect
    value: str = ""


class Toleration(Struct, frozen=True, gc=False):
    """A pod toleration; an empty key with operator Exists tolerates every taint."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class Requirement(Struct, frozen=True, gc=False):
    """One expression of a selector: key, operator (In, NotIn, Exists, DoesNotExist, Gt, Lt), values."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class NodeSelectorTerm(Struct, frozen=True, gc=False):
    """A term of required node affinity: all expressions and all fields must match; empty matches nothing."""

    expressions: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()


class PreferredNodes(Struct, frozen=True, gc=False):
    """A term of preferred node affinity: nodes that match count `weight` (1 to 100) more."""

    weight: int
    term: NodeSelectorTerm


class LabelSelector(Struct, frozen=True, gc=False):
    """A label selector; without labels and expressions it selects everything."""

    labels: tuple[tuple[str, str], ...] = ()
    expressions: tuple[Requirement, ...] = ()


class PodAffinityTerm(Struct, frozen=True, gc=False):
    """A required pod (anti-)affinity term, with its namespaces resolved as far as the pod itself tells.

    `namespaces` are names; `namespace_selector` selects further namespaces by their labels (None: none).
    A `selector` of None selects no pods.
    """

    topology_key: str
    selector: LabelSelector | None
    namespaces: tuple[str, ...] = ()
    namespace_selector: LabelSelector | None = None


class WeightedPodTerm(Struct, frozen=True, gc=False):
    """A preferred pod affinity term (weight 1 to 100) or anti-affinity term (-100 to -1)."""

    weight: int
    term: PodAffinityTerm


class SpreadConstraint(Struct, frozen=True, gc=False):
    """A topology spread constraint. It must hold (`DoNotSchedule`), or it is wished for (`ScheduleAnyway`).

    `selector` has the labels of `matchLabelKeys` merged in; None selects no pods. Domains and pods are counted on
    nodes that have the keys of all constraints of the pod, that its node affinity admits (`honors_affinity`) and
    whose taints it tolerates (`honors_taints`).
    """

    topology_key: str
    max_skew: int
    selector: LabelSelector | None
    min_domains: int = 1
    honors_affinity: bool = True
    honors_taints: bool = False


class HostPort(Struct, frozen=True, order=True, gc=False):
    """A port that a pod takes on its node."""

    protocol: str
    ip: str
    port: int


class ClaimUse(Struct, frozen=True, order=True, gc=False):
    """A PersistentVolumeClaim that a pod mounts, in its own namespace.

    `ephemeral`: a generic ephemeral volume, whose claim is made for this pod and goes with it.
    """

    name: str
    ephemeral: bool = False


class VolumeNeeds(Struct, frozen=True, gc=False):
    """What the volumes of a pod ask of its node.

    `terms`: of each volume, terms of which one must match (plugin VolumeBinding). `zones`: label keys with the values
    that a node may have there, for nodes that tell their zone or region at all (plugin VolumeZone).
    """

    terms: tuple[tuple[NodeSelectorTerm, ...], ...] = ()
    zones: tuple[tuple[str, tuple[str, ...]], ...] = ()


NO_VOLUME_NEEDS = VolumeNeeds()


class QuotaMarks(Struct, frozen=True, gc=False):
    """What ResourceQuotas look at in a pod besides its requests.

    `limits` are the resources for which it has a limit. `unset` are those of cpu and memory, requests and limits,
    that a container of it leaves open: a quota on them refuses such a pod.
    """

    best_effort: bool = False
    deadline: bool = False  # has activeDeadlineSeconds
    priority_class: str = ""
    limits: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()


NO_QUOTA_MARKS = QuotaMarks()


class OwnerRef(Struct, frozen=True, gc=False):
    """The controller that owns an object."""

    kind: str
    name: str
    uid: str


class Unmodelled(StrEnum):
    """Rules of a pod that the packer does not model yet: such a pod is neither moved nor planned for."""

    VOLUMES = "Volumes"
    RESOURCE_CLAIMS = "ResourceClaims"
    SCHEDULING_GROUP = "SchedulingGroup"


class Node(Struct, frozen=True, gc=False):
    """A node: what it offers and who may use it."""

    name: str
    allocatable: Resources
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    ready: bool = True
    uid: str = ""
    created_at: float = 0.0
    features: tuple[str, ...] = ()  # that its kubelet declares
    images: bytes = b""  # with sizes, as `images.image_list`; the kubelet tells the largest
    conditions: tuple[NodeCondition, ...] = ()


class Gang(Struct, frozen=True, gc=False):
    """What a pod says of its gang: it and at least `size` pods of this name in its namespace run together, or none.

    All of it stands in one domain of each node label of `required`, and if possible of those of `preferred`. Without
    `elastic` pods beyond the size wait for a place like all others; with it they may stay behind, as those of a
    PodGroup may. The name of a PodGroup is told with its resource, `podgroups.scheduling.k8s.io/NAME`; `unknown` says
    that nobody has looked it up, or that it is not there: `stowage_scheduler.kube.pod_group_resolution`.
    """

    name: str
    size: int  # 0: nobody can read it, so the gang is never planned for
    required: tuple[str, ...] = ()
    preferred: tuple[str, ...] = ()
    elastic: bool = False
    unknown: bool = False


class GpuShare(Struct, frozen=True, gc=False):
    """Part of one GPU that a pod takes beside others: how much in each measure, and where it stands.

    `amounts` are sorted by measure: thousandths of a device (`GPU_MILLI`), or units of a resource of which the devices
    of a node have equal parts. `device` is its index on the pod's node, None while nobody tells.
    """

    amounts: tuple[tuple[str, int], ...]
    device: int | None = None


class Pod(Struct, frozen=True, gc=False):
    """A pod: what it asks for, where it runs and what is known about moving it.

    `requests` follow kube-scheduler: sum of containers, init and sidecar formula, overhead, pod-level
    resources, in-place resize (maximum of spec and status), plus `pods: 1`. In a snapshot they hold what
    its volumes take as well (`OF_VOLUMES`), and its claims are looked up: see
    `stowage_scheduler.kube.volume_resolution`.
    """

    namespace: str
    name: str
    uid: str
    requests: Resources
    node: str | None = None
    priority: int = 0
    preemption_policy: str = "PreemptLowerPriority"
    scheduler_name: str = "default-scheduler"
    phase: str = "Pending"
    ready: bool = False
    terminating: bool = False
    created_at: float = 0.0
    bound_at: float | None = None  # when condition PodScheduled became True
    unready_since: float | None = None  # when condition Ready became something else than True
    unschedulable_since: float | None = None  # when PodScheduled became False with reason Unschedulable
    unschedulable_message: str = ""
    nominated_node: str | None = None
    gates: tuple[str, ...] = ()  # names of scheduling gates
    gang: Gang | None = None
    gpu_share: GpuShare | None = None
    scheduling_group: bool = False  # kube-scheduler places it together with others, so nobody else may bind it
    disruption_target: bool = False
    owner: OwnerRef | None = None
    template_hash: str = ""  # label pod-template-hash or controller-revision-hash
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)  # only those that Stowage reads
    node_selector: Mapping[str, str] = field(default_factory=dict)
    node_affinity: tuple[NodeSelectorTerm, ...] | None = None  # terms are ORed; None: no rule
    preferred_nodes: tuple[PreferredNodes, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    host_ports: tuple[HostPort, ...] = ()
    affinity_terms: tuple[PodAffinityTerm, ...] = ()
    anti_affinity_terms: tuple[PodAffinityTerm, ...] = ()
    spread: tuple[SpreadConstraint, ...] = ()
    preferred_pods: tuple[WeightedPodTerm, ...] = ()
    preferred_spread: tuple[SpreadConstraint, ...] = ()
    images: tuple[int, ...] = ()  # of each container, by a digest of its name
    unmodelled: tuple[Unmodelled, ...] = ()
    mirror: bool = False  # static pod, shown by its mirror
    host_path: bool = False
    local_volume: bool = False
    empty_dir: bool = False
    claims: tuple[ClaimUse, ...] = ()
    volume_needs: VolumeNeeds = NO_VOLUME_NEEDS
    needed_features: tuple[str, ...] = ()  # that its node has to declare
    volume_obstacle: str = ""  # why no node can have its volumes now, for people
    shared_volume: bool = False  # one that a single node may attach, and another pod uses it too
    unbound_volume: bool = False  # kube-scheduler chooses a volume together with the node
    quota_marks: QuotaMarks = NO_QUOTA_MARKS
    health: PodHealth | None = None  # of seats and of services

    @property
    def key(self) -> str:
        """`namespace/name`, the name users know a pod by."""
        return f"{self.namespace}/{self.name}"

    @property
    def topology_keys(self) -> tuple[str, ...]:
        """Labels that a node must have for the pod's required affinity, its spread constraints and its gang."""
        keys = {term.topology_key for term in self.affinity_terms} | {one.topology_key for one in self.spread}
        return tuple(sorted(keys.union(self.gang.required if self.gang is not None else ())))

    @property
    def gated(self) -> bool:
        """Whether a scheduling gate keeps the pod away from every scheduler."""
        return bool(self.gates)

    @property
    def leaving(self) -> bool:
        """Whether the pod is on its way out: it holds its room until gone, and counts as running no more."""
        return self.terminating or self.disruption_target

    @property
    def finished(self) -> bool:
        """Whether the pod has ended and holds no resources any more."""
        return self.phase in {"Succeeded", "Failed"}


class Workload(Struct, frozen=True, gc=False):
    """A controller of pods: ReplicaSet, Deployment, StatefulSet, Job and the like."""

    kind: str
    namespace: str
    name: str
    uid: str
    owner: OwnerRef | None = None
    replicas: int | None = None  # desired
    rolling_out: bool = False  # a Deployment or StatefulSet whose newest template is not everywhere yet
    newest: bool = True  # a ReplicaSet that carries its Deployment's newest template
    replicas_changed_at: float | None = None  # last seen change of `replicas`; creation does not count
    ignores_disruption: bool = False  # a Job whose podFailurePolicy ignores DisruptionTarget
    revision: int | None = None  # of a Deployment or ReplicaSet: which template, counted in roll-outs


class DisruptionBudget(Struct, frozen=True, gc=False):
    """A PodDisruptionBudget; not `fresh` while its status does not describe its newest spec."""

    namespace: str
    name: str
    uid: str
    selector: LabelSelector | None
    disruptions_allowed: int = 0
    fresh: bool = True


class ResourceQuota(Struct, frozen=True, gc=False):
    """A ResourceQuota, as far as it can refuse pods.

    `scopes` must all match, as if the pod's scopes were labels. `tracked` are the names that it limits, `exceeded`
    those of which more is used than it allows: a pod that counts in one of them is refused, whatever else goes.
    """

    namespace: str
    name: str
    scopes: tuple[Requirement, ...] = ()
    tracked: tuple[str, ...] = ()
    exceeded: tuple[str, ...] = ()


class PriorityClass(Struct, frozen=True, gc=False):
    """A PriorityClass."""

    name: str
    value: int
    preemption_policy: str = "PreemptLowerPriority"
    is_default: bool = False


class Rejected(Struct, frozen=True, order=True, gc=False):
    """An object left out of a snapshot, and why: `rule` says what it should have been and what to do.

    `node` is where a pod that was left out stands, if that can be told: with room unknown, it takes nothing new.
    """

    kind: str
    name: str
    field: str
    value: str
    rule: str
    node: str = ""


class Snapshot(Struct, frozen=True, gc=False):
    """The cluster at one instant. Order of the tuples carries no meaning."""

    now: float
    nodes: tuple[Node, ...] = ()
    pods: tuple[Pod, ...] = ()
    workloads: tuple[Workload, ...] = ()
    budgets: tuple[DisruptionBudget, ...] = ()
    priority_classes: tuple[PriorityClass, ...] = ()
    namespace_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    rejected: tuple[Rejected, ...] = ()
    quotas: tuple[ResourceQuota, ...] = ()
