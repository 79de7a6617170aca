"""Kubernetes objects as the API server writes them, with only the fields that Stowage reads.

Unknown fields are skipped, known ones are strict about their types, `null` means absent. Encoding a
struct again gives the object without everything that Stowage does not read.
"""

from __future__ import annotations

from msgspec import field

from stowage_scheduler.kube.health_objects import ContainerState, ResourceHealth
from stowage_scheduler.kube.parts import Part, Time

Quantity = str | int | float
ResourceList = dict[str, Quantity]
Labels = dict[str, str]


class Present(Part, frozen=True):
    """Something of which only the presence matters."""


class OwnerReference(Part, frozen=True):
    """metadata.ownerReferences[]."""

    kind: str
    name: str
    uid: str | None = None
    controller: bool | None = None


class ObjectMeta(Part, frozen=True):
    """metadata."""

    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    generation: int | None = None
    labels: Labels | None = None
    annotations: Labels | None = None
    owner_references: tuple[OwnerReference, ...] | None = None
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    deletion_grace_period_seconds: int | None = None


class Condition(Part, frozen=True):
    """status.conditions[] of any kind."""

    type: str
    status: str
    reason: str | None = None
    message: str | None = None
    last_transition_time: Time | None = None
    last_heartbeat_time: Time | None = None


class LabelExpression(Part, frozen=True):
    """An expression of a label or node selector."""

    key: str
    operator: str
    values: tuple[str, ...] | None = None


class LabelSelector(Part, frozen=True):
    """metav1.LabelSelector."""

    match_labels: Labels | None = None
    match_expressions: tuple[LabelExpression, ...] | None = None


class NodeSelectorTerm(Part, frozen=True):
    """A term of required node affinity."""

    match_expressions: tuple[LabelExpression, ...] | None = None
    match_fields: tuple[LabelExpression, ...] | None = None


class NodeSelector(Part, frozen=True):
    """Required node affinity: terms that are ORed."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] | None = None


class PreferredSchedulingTerm(Part, frozen=True):
    """A term of preferred node affinity."""

    weight: int
    preference: NodeSelectorTerm


class NodeAffinity(Part, frozen=True):
    """spec.affinity.nodeAffinity."""

    required: NodeSelector | None = field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")
    preferred: tuple[PreferredSchedulingTerm, ...] | None = field(
        default=None, name="preferredDuringSchedulingIgnoredDuringExecution"
    )


class PodAffinityTerm(Part, frozen=True):
    """A pod affinity or anti-affinity term."""

    topology_key: str
    label_selector: LabelSelector | None = None
    namespaces: tuple[str, ...] | None = None
    namespace_selector: LabelSelector | None = None
    match_label_keys: tuple[str, ...] | None = None
    mismatch_label_keys: tuple[str, ...] | None = None


class WeightedPodAffinityTerm(Part, frozen=True):
    """A preferred pod affinity or anti-affinity term."""

    weight: int
    pod_affinity_term: PodAffinityTerm


class PodAffinity(Part, frozen=True):
    """spec.affinity.podAffinity and podAntiAffinity."""

    required: tuple[PodAffinityTerm, ...] | None = field(
        default=None, name="requiredDuringSchedulingIgnoredDuringExecution"
    )
    preferred: tuple[WeightedPodAffinityTerm, ...] | None = field(
        default=None, name="preferredDuringSchedulingIgnoredDuringExecution"
    )


class Affinity(Part, frozen=True):
    """spec.affinity."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class Toleration(Part, frozen=True):
    """spec.tolerations[] of a pod."""

    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None


class TopologySpreadConstraint(Part, frozen=True):
    """spec.topologySpreadConstraints[]."""

    topology_key: str
    when_unsatisfiable: str
    max_skew: int | None = None
    label_selector: LabelSelector | None = None
    min_domains: int | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None
    match_label_keys: tuple[str, ...] | None = None


class ResourceRequirements(Part, frozen=True):
    """resources of a container or a pod."""

    requests: ResourceList | None = None
    limits: ResourceList | None = None


class ContainerPort(Part, frozen=True):
    """ports[] of a container."""

    container_port: int
    host_port: int | None = None
    host_ip: str | None = field(default=None, name="hostIP")
    protocol: str | None = None


class RestartRule(Part, frozen=True):
    """restartPolicyRules[] of a container."""

    action: str | None = None


class Container(Part, frozen=True):
    """spec.containers[] and spec.initContainers[]."""

    name: str | None = None
    image: str | None = None
    image_hash: str | None = None  # in place of `image` in dumps
    resources: ResourceRequirements | None = None
    ports: tuple[ContainerPort, ...] | None = None
    restart_policy: str | None = None
    restart_policy_rules: tuple[RestartRule, ...] | None = None


class PersistentVolumeClaimSource(Part, frozen=True):
    """A volume that is a claim of the pod's namespace."""

    claim_name: str


class Volume(Part, frozen=True):
    """spec.volumes[]: the sources that bind a pod to a place or count against a node."""

    name: str | None = None
    empty_dir: Present | None = None
    host_path: Present | None = None
    persistent_volume_claim: PersistentVolumeClaimSource | None = None
    ephemeral: Present | None = None
    aws_elastic_block_store: Present | None = field(default=None, name="awsElasticBlockStore")
    azure_disk: Present | None = None
    cinder: Present | None = None
    fc: Present | None = None
    flex_volume: Present | None = None
    gce_persistent_disk: Present | None = None
    iscsi: Present | None = None
    portworx_volume: Present | None = None
    rbd: Present | None = None
    vsphere_volume: Present | None = None


class SchedulingGate(Part, frozen=True):
    """spec.schedulingGates[]."""

    name: str | None = None


class SchedulingGroup(Part, frozen=True):
    """spec.schedulingGroup of a pod."""

    pod_group_name: str | None = None


class PodSpec(Part, frozen=True):
    """spec of a pod."""

    containers: tuple[Container, ...] | None = None
    init_containers: tuple[Container, ...] | None = None
    overhead: ResourceList | None = None
    resources: ResourceRequirements | None = None
    node_name: str | None = None
    scheduler_name: str | None = None
    priority: int | None = None
    priority_class_name: str | None = None
    preemption_policy: str | None = None
    active_deadline_seconds: int | None = None
    host_network: bool | None = None
    node_selector: Labels | None = None
    affinity: Affinity | None = None
    tolerations: tuple[Toleration, ...] | None = None
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] | None = None
    volumes: tuple[Volume, ...] | None = None
    scheduling_gates: tuple[SchedulingGate, ...] | None = None
    resource_claims: tuple[Present, ...] | None = None
    scheduling_group: SchedulingGroup | None = None
    workload_ref: Present | None = None


class ContainerStatus(Part, frozen=True):
    """status.containerStatuses[] and status.initContainerStatuses[]."""

    name: str | None = None
    state: ContainerState | None = None
    last_state: ContainerState | None = None
    restart_count: int | None = None
    allocated_resources_status: tuple[ResourceHealth, ...] | None = None
    resources: ResourceRequirements | None = None
    allocated_resources: ResourceList | None = None


class PodStatus(Part, frozen=True):
    """status of a pod."""

    phase: str | None = None
    reason: str | None = None
    conditions: tuple[Condition, ...] | None = None
    nominated_node_name: str | None = None
    start_time: Time | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None
    init_container_statuses: tuple[ContainerStatus, ...] | None = None
    resources: ResourceRequirements | None = None
    allocated_resources: ResourceList | None = None
    extended_resource_claim_status: Present | None = None


class Pod(Part, frozen=True):
    """v1 Pod."""

    metadata: ObjectMeta
    spec: PodSpec
    status: PodStatus | None = None


class Taint(Part, frozen=True):
    """spec.taints[] of a node."""

    key: str
    effect: str
    value: str | None = None


class NodeSpec(Part, frozen=True):
    """spec of a node."""

    taints: tuple[Taint, ...] | None = None
    unschedulable: bool | None = None


class ContainerImage(Part, frozen=True):
    """status.images[] of a node."""

    names: tuple[str, ...] | None = None
    name_hashes: tuple[str, ...] | None = None  # in place of `names` in dumps
    size_bytes: int | None = None


class NodeStatus(Part, frozen=True):
    """status of a node."""

    allocatable: ResourceList | None = None
    capacity: ResourceList | None = None
    conditions: tuple[Condition, ...] | None = None
    declared_features: tuple[str, ...] | None = None
    images: tuple[ContainerImage, ...] | None = None


class Node(Part, frozen=True):
    """v1 Node."""

    metadata: ObjectMeta
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


class Namespace(Part, frozen=True):
    """v1 Namespace."""

    metadata: ObjectMeta


class PriorityClass(Part, frozen=True):
    """scheduling.k8s.io/v1 PriorityClass."""

    metadata: ObjectMeta
    value: int
    global_default: bool | None = None
    preemption_policy: str | None = None


class BudgetSpec(Part, frozen=True):
    """spec of a PodDisruptionBudget."""

    selector: LabelSelector | None = None


class BudgetStatus(Part, frozen=True):
    """status of a PodDisruptionBudget."""

    disruptions_allowed: int | None = None
    observed_generation: int | None = None


class PodDisruptionBudget(Part, frozen=True):
    """policy/v1 PodDisruptionBudget."""

    metadata: ObjectMeta
    spec: BudgetSpec | None = None
    status: BudgetStatus | None = None
