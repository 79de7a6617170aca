"""Every name that Stowage puts on or reads from Kubernetes objects: groups, labels, annotations, taints, gates."""

from __future__ import annotations

from typing import Final

GROUP: Final = "stowage.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "stowage.dev/v1alpha1"
CATEGORY: Final = "stowage"

SCHEDULER_NAME: Final = "stowage"
"""`spec.schedulerName` of the pods that Stowage's own kube-scheduler serves, and the default of a policy."""

# field managers
OPERATOR_MANAGER: Final = "stowage-operator"
EXTENDER_MANAGER: Final = "stowage-extender"
CLI_MANAGER: Final = "stowage-cli"

# on leases of extenders, and on pods that Stowage makes beside replicas
COMPONENT_LABEL: Final = f"{GROUP}/component"

# on plans
POLICY_LABEL: Final = f"{GROUP}/policy"
"""Label of a PackingPlan: the name of its policy."""

DRAINS_ANNOTATION: Final = f"{GROUP}/drains"
"""Of a PackingPlan that `stowage drain` wrote: the names of the nodes, with commas between them."""

# on plans and events
TRACE_ANNOTATION: Final = f"{GROUP}/trace-id"
"""The decision that an object comes from; log records of the same decision have it as `trace_id`."""

# on plain pods
GANG_LABEL: Final = f"{GROUP}/gang"
GANG_SIZE_LABEL: Final = f"{GROUP}/gang-size"
DO_NOT_DISRUPT_ANNOTATION: Final = f"{GROUP}/do-not-disrupt"
"""`"true"`: the pod never moves."""
MOVE_COST_SECONDS_ANNOTATION: Final = f"{GROUP}/move-cost-seconds"
GPU_MILLI_ANNOTATION: Final = f"{GROUP}/gpu-milli"
PLAN_ANNOTATION: Final = f"{GROUP}/plan"
SLOT_ANNOTATION: Final = f"{GROUP}/slot"

# on the pods of a TrainingJob
JOB_LABEL: Final = f"{GROUP}/job"
SEAT_LABEL: Final = f"{GROUP}/seat"
EPOCH_LABEL: Final = f"{GROUP}/epoch"
ATTEMPT_LABEL: Final = f"{GROUP}/attempt"
RANK_ORDER_ANNOTATION: Final = f"{GROUP}/rank-order"
TRACKING_FINALIZER: Final = f"{GROUP}/tracking"
GANG_GATE: Final = f"{GROUP}/gang"
"""Scheduling gate of pods that wait for their whole gang."""

# on the pods of a ModelService
SERVICE_LABEL: Final = f"{GROUP}/service"
ROLE_LABEL: Final = f"{GROUP}/role"
VARIANT_LABEL: Final = f"{GROUP}/variant"
TAKES_REQUESTS_LABEL: Final = f"{GROUP}/takes-requests"
"""`"true"`: Services send requests to the pod; `"false"` while it drains, or is a spare."""
SPARE_LABEL: Final = f"{GROUP}/spare"
"""`"true"`: the pod is kept warm, and takes requests once it is needed."""
PREFETCH_LABEL: Final = f"{GROUP}/prefetch"
"""Of a pod that only brings image and weights to its node: the role that it does so for."""
GROUP_ORDINAL_LABEL: Final = f"{GROUP}/group"
"""Of a pod of a replica that has several: the replica's number within its variant."""
GROUP_INDEX_LABEL: Final = f"{GROUP}/group-index"
"""Of such a pod: its number within the replica; 0 is the one that takes requests."""
TEMPLATE_HASH_LABEL: Final = f"{GROUP}/template-hash"
"""Of such a pod: what it was made from."""
ACTIVATOR_COMPONENT: Final = "activator"
DELETION_COST_ANNOTATION: Final = "controller.kubernetes.io/pod-deletion-cost"
"""A ReplicaSet that shrinks deletes pods of lower cost first (KEP-2255)."""

# on namespaces
SCHEDULER_LABEL: Final = f"{GROUP}/scheduler"
SCHEDULER_ENABLED: Final = "enabled"

# on nodes
RELEASED_ANNOTATION: Final = f"{GROUP}/released"
"""Set to the name of a plan that ended: a change of a node wakes the pods that kube-scheduler has put aside."""
RESERVED_TAINT: Final = f"{GROUP}/reserved"
"""Value: UID of the plan that a node is kept for, while it runs in steering Bind."""
RESERVED_UNTIL_ANNOTATION: Final = f"{GROUP}/reserved-until"
"""When the plan behind the taint ends at the latest: a later taint is a leftover, whoever finds it."""
UNHEALTHY_TAINT: Final = f"{GROUP}/unhealthy"
"""Training failed there, and nobody should use the node: put on by the operator, taken off by admins."""
UNHEALTHY_REASON_ANNOTATION: Final = f"{GROUP}/unhealthy-reason"
"""Why, in words."""
UNHEALTHY_SINCE_ANNOTATION: Final = f"{GROUP}/unhealthy-since"
"""For which failure the taint was put on; it stays when the taint goes, so that it does not come again for that one."""

# annotations of others that say "leave this pod where it is"
SAFE_TO_EVICT_ANNOTATION: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict"
KARPENTER_DO_NOT_DISRUPT_ANNOTATION: Final = "karpenter.sh/do-not-disrupt"

MAX_LABEL_VALUE: Final = 63
PLAN_SUFFIX_LENGTH: Final = len("-20260101-101500-7f2k")
MAX_POLICY_NAME: Final = MAX_LABEL_VALUE - PLAN_SUFFIX_LENGTH
"""A policy's name is a label of its plans and the head of their names, and those shall fit into a label too."""

MAX_STEPS: Final = 256
"""Steps of one plan; more moves run as plans that follow each other."""

COORDINATOR_SUFFIX: Final = "-coordinator"
MAX_JOB_NAME: Final = MAX_LABEL_VALUE - len(COORDINATOR_SUFFIX)
"""A job's name is a label of its pods, the name of its Service and the head of all names of its pods."""
MAX_JOB_NODES: Final = 1024
"""Nodes of one TrainingJob: as many supervisors as one coordinator is known to carry."""

MAX_ROLE_NAME: Final = 15
MAX_SERVICE_NAME: Final = MAX_LABEL_VALUE - len("-") - MAX_ROLE_NAME
"""A ModelService's name, with that of a role behind it, is the name of a Service."""
