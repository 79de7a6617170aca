"""Why a pod is left as it is: the closed list of answers, in words for people."""

from __future__ import annotations

from enum import StrEnum


class Immovable(StrEnum):
    """Why a running pod stays where it is, or why a pending one is not planned for."""

    OUT_OF_SCOPE = "the policy does not cover it"
    NODE_OUT_OF_SCOPE = "the policy does not cover its node"
    TERMINATING = "it is terminating"
    STATIC = "static pods belong to their node"
    BARE = "nothing would recreate it"
    DAEMON_SET = "pods of a DaemonSet belong to their node"
    OTHER_CONTROLLER = "what its controller does after an eviction is not known"
    PROTECTED_NAMESPACE = "the policy protects its namespace"
    PROTECTED_PRIORITY = "the policy protects its priority"
    DO_NOT_DISRUPT = "an annotation forbids to disrupt it"
    LOCAL_STORAGE = "it keeps data on its node"
    EPHEMERAL_VOLUME = "it keeps data in a volume that goes with it"
    SHARED_VOLUME = "another pod uses its volume, which one node at a time can attach"
    VOLUME_UNAVAILABLE = "its volumes can not be had now"
    UNBOUND_VOLUME = "kube-scheduler has to choose its volume, so nobody else may bind it"
    QUOTA_EXHAUSTED = "a ResourceQuota would refuse its replacement"
    TWO_BUDGETS = "it is under two PodDisruptionBudgets, which the eviction API refuses"
    BUDGET_EXHAUSTED = "its PodDisruptionBudget allows no disruption now"
    BATCH_JOB = "evicting it counts against its Job's backoffLimit"
    OWNER_ROLLING_OUT = "its owner is rolling out"
    NOT_NEWEST = "it belongs to a ReplicaSet that is being replaced"
    OWNER_UNSETTLED = "its owner's replicas changed a moment ago"
    TOO_YOUNG = "it started a moment ago"
    NOT_MODELLED = "it has a rule that is not modelled yet"
    GANG = "it belongs to a gang, and moving one of its pods stops them all"
    GATED = "a scheduling gate keeps it from every scheduler"
    NOMINATED = "kube-scheduler is making room for it"
    GANG_SIZE_UNREADABLE = "the pods of its gang do not agree on a size, or on the topology that they need"
    GANG_INCOMPLETE = "pods of its gang are missing"
    GANG_GATED = "another gate holds a pod of its gang"
    GANG_NOMINATED = "kube-scheduler is making room for a pod of its gang"
    GANG_TOO_LARGE = "its gang is larger than a plan"
    GANG_MEMBER = "a pod of its gang can not be planned for"
