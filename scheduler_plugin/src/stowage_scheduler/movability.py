"""What never moves, and what can not be planned for yet: one place for every such decision.

Order matters only for the reason that is told; each test stands alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from stowage_scheduler.cluster import DisruptionBudget, Node, Pod, Snapshot, Workload
from stowage_scheduler.gangs import GangKey, GangState, foreign_gates, gang_key, gangs, scattered
from stowage_scheduler.immovable import Immovable
from stowage_scheduler.kube.budgets import Budgets
from stowage_scheduler.kube.known_kinds import SERVICE_KIND
from stowage_scheduler.kube.matching import NAMESPACE_NAME_LABEL, UNSCHEDULABLE_TAINT, matches_selector, tolerates
from stowage_scheduler.kube.quotas import Quotas
from stowage_scheduler.options import BatchJobs, Drain, PackOptions

GROUP_INDEX_LABEL = "stowage.dev/group-index"
_ROLLING_KINDS = ("ReplicaSet", "StatefulSet", "Deployment")
_MOVED_KINDS = ("ReplicaSet", "StatefulSet", "ReplicationController", "Job")


def forbids_disruption(pod: Pod) -> bool:
    """Whether an annotation says that the pod is to be left alone; people set it at any time."""
    notes = pod.annotations
    return (
        notes.get("stowage.dev/do-not-disrupt") == "true"
        or notes.get("karpenter.sh/do-not-disrupt") == "true"
        or notes.get("cluster-autoscaler.kubernetes.io/safe-to-evict") == "false"
    )


def belongs_to_node(pod: Pod) -> bool:
    """Whether a pod goes with its node: static, or of a DaemonSet."""
    return pod.mirror or (pod.owner is not None and pod.owner.kind in {"DaemonSet", "Node"})


def is_of_training_job(pod: Pod) -> bool:
    """Whether a pod is a seat of a TrainingJob, or its coordinator: its job makes another, wherever there is room."""
    return pod.owner is not None and pod.owner.kind == "TrainingJob"


def leaves_by_itself(pod: Pod) -> bool:
    """Whether a cordon of its node is all that it takes: one of several pods of a replica of a ModelService.

    The service makes another replica first, and ends the requests of this one; budgets refuse evictions meanwhile.
    """
    is_of_group = pod.owner is not None and pod.owner.kind == SERVICE_KIND and GROUP_INDEX_LABEL in pod.labels
    return is_of_group and not any(tolerates(one, UNSCHEDULABLE_TAINT) for one in pod.tolerations)


class Movability:
    """Answers for one snapshot and one set of options; looks everything up once."""

    def __init__(self, snapshot: Snapshot, options: PackOptions) -> None:
        """Index owners, budgets and rules of other pods."""
        self.snapshot = snapshot
        self.options = options
        self.drained = options.drain.nodes if options.drain is not None else frozenset[str]()
        self.nodes: dict[str, Node] = {
            node.name: node
            for node in snapshot.nodes
            if node.name in self.drained
            or (
                all(node.labels.get(key) == value for key, value in options.node_selector.items())
                and (options.nodes is None or node.name in options.nodes)
            )
        }
        self._workloads: dict[str, Workload] = {workload.uid: workload for workload in snapshot.workloads}
        self.gangs: Mapping[GangKey, GangState] = gangs(snapshot.pods)
        self._gang_blocked: dict[GangKey, Immovable | None] = {}
        self._beyond_plan: set[str] = set()  # UIDs of pods that their gang can start without
        self._budgets = Budgets(snapshot.budgets)
        self._quotas = Quotas(snapshot.quotas)

    def in_scope(self, pod: Pod) -> bool:
        """Whether the options cover a pod at all: scheduler name, namespace and pod selector."""
        options = self.options
        if options.scheduler_names is not None and pod.scheduler_name not in options.scheduler_names:
            return False
        if options.pod_selector is not None and not matches_selector(options.pod_selector, pod.labels):
            return False
        if options.namespace_selector is None:
            return True
        labels = self.snapshot.namespace_labels.get(pod.namespace) or {NAMESPACE_NAME_LABEL: pod.namespace}
        return matches_selector(options.namespace_selector, labels)

    def budgets(self, pod: Pod) -> tuple[DisruptionBudget, ...]:
        """The PodDisruptionBudgets that cover a pod."""
        return self._budgets.of(pod)

    def unplannable(self, pod: Pod) -> Immovable | None:
        """Why a pending pod is not planned for; None when it is. A gang is planned for whole or not at all."""
        own = self._own_obstacle(pod)
        key = gang_key(pod)
        if own is not None or key is None:
            return own
        if key not in self._gang_blocked:
            self._gang_blocked[key] = self._gang_obstacle(self.gangs.get(key))
        return self._gang_blocked[key] or (Immovable.GANG_TOO_LARGE if pod.uid in self._beyond_plan else None)

    def _own_obstacle(self, pod: Pod) -> Immovable | None:
        if not self.in_scope(pod):
            return Immovable.OUT_OF_SCOPE
        alone = pod.gang is None or pod.gang.elastic  # it keeps back no other
        if alone and foreign_gates(pod):
            return Immovable.GATED
        if alone and pod.nominated_node is not None:
            return Immovable.NOMINATED
        if pod.gang is not None and pod.leaving:
            return Immovable.TERMINATING
        if pod.unmodelled:
            return Immovable.NOT_MODELLED
        if pod.scheduling_group and self.options.binds and not pod.gated:
            return Immovable.SCHEDULING_GROUP
        if pod.volume_obstacle:
            return Immovable.VOLUME_UNAVAILABLE
        return Immovable.UNBOUND_VOLUME if pod.unbound_volume and self.options.binds and not pod.gated else None

    def _gang_obstacle(self, gang: GangState | None) -> Immovable | None:
        if gang is None:  # all of its pods are on their way out
            return Immovable.GANG_INCOMPLETE
        if gang.why is not None:
            return gang.why
        if gang.required and scattered(gang, {node.name: node for node in self.snapshot.nodes}):
            return Immovable.GANG_SCATTERED
        most = self.options.max_gang_pods
        if most is not None and gang.need > most:
            return Immovable.GANG_TOO_LARGE
        free = [pod for pod in gang.waiting if self._own_obstacle(pod) is None]
        if len(free) < gang.need:
            return Immovable.GANG_MEMBER
        if most is not None and not gang.is_loose:
            self._beyond_plan.update(pod.uid for pod in free[most:])
        return None

    def immovable(self, pod: Pod) -> Immovable | None:
        """Why a running pod stays where it is; None when it may move."""
        drain = self.options.drain
        if drain is not None and not drain.voluntary and pod.node in drain.nodes:
            return self._by_drain(pod, drain)
        return self.immovable_at_any_age(pod) or self.too_young(pod)

    def immovable_at_any_age(self, pod: Pod) -> Immovable | None:
        """Why a running pod stays where it is, however long it has run there; drains apart."""
        return (
            (self._by_kind(pod) if belongs_to_node(pod) else None)  # whoever schedules it
            or self._by_scope(pod)
            or self._by_kind(pod)
            or self._by_protection(pod)
            or self._by_replacement(pod)
            or self._by_owner(pod)
            or self._by_budget(pod)
        )

    def obstacles(self, pod: Pod) -> tuple[Immovable, ...]:
        """All that keeps a running pod where it is, the first of each kind; nothing when it may move."""
        first = self.immovable(pod)
        if first is None:
            return ()
        kinds = (
            self._by_scope,
            self._by_kind,
            self._by_protection,
            self._by_replacement,
            self._by_owner,
            self._by_budget,
            self.too_young,
        )
        return tuple(dict.fromkeys([first, *(why for kind in kinds if (why := kind(pod)) is not None)]))

    def leaves_for_good(self, pod: Pod) -> bool:
        """Whether a pod that may leave a drained node gets no place: nobody promises one, or its job finds it."""
        drain = self.options.drain
        if drain is None or drain.voluntary or pod.node not in drain.nodes:
            return False
        return (drain.force or is_of_training_job(pod)) and self._has_no_promise(pod) is not None

    def _has_no_promise(self, pod: Pod) -> Immovable | None:
        """Why nobody knows whether, or where, a replacement could come."""
        return self._by_kind(pod) or (Immovable.NOT_MODELLED if pod.unmodelled else None)

    def _by_drain(self, pod: Pod, drain: Drain) -> Immovable | None:
        """Why a pod stays although its node is drained."""
        if pod.leaving:
            return Immovable.TERMINATING
        kind = self._by_kind(pod)
        if kind in {Immovable.STATIC, Immovable.DAEMON_SET}:
            return kind
        if forbids_disruption(pod):
            return Immovable.DO_NOT_DISRUPT
        if pod.empty_dir and not drain.delete_local_data:
            return Immovable.LOCAL_STORAGE
        if leaves_by_itself(pod):
            return Immovable.SERVICE_GROUP
        why = self._by_budget(pod)
        if why is not None:
            return why
        why = self._has_no_promise(pod)
        if why is not None and (drain.force or not is_of_training_job(pod)):
            return None if drain.force else why
        if not drain.force and self._may_return(pod):
            return Immovable.RETURNS
        if why is not None:
            return None
        why = self._by_replacement(pod)
        return None if why is Immovable.EPHEMERAL_VOLUME and drain.delete_local_data else why

    def _may_return(self, pod: Pod) -> bool:
        """Whether a cordon does not keep the replacement away, and no plan tells its scheduler where to put it."""
        names = self.options.scheduler_names
        steered = names is None or pod.scheduler_name in names
        return not steered and any(tolerates(one, UNSCHEDULABLE_TAINT) for one in pod.tolerations)

    def _by_scope(self, pod: Pod) -> Immovable | None:
        if not self.in_scope(pod):
            return Immovable.OUT_OF_SCOPE
        if pod.node not in self.nodes:
            return Immovable.NODE_OUT_OF_SCOPE
        if pod.leaving:
            return Immovable.TERMINATING
        if pod.scheduling_group and self.options.binds:
            return Immovable.SCHEDULING_GROUP
        return Immovable.NOT_MODELLED if pod.unmodelled else None

    def _by_kind(self, pod: Pod) -> Immovable | None:
        if pod.gang is not None:
            return Immovable.GANG
        if pod.mirror or (pod.owner is not None and pod.owner.kind == "Node"):
            return Immovable.STATIC
        if pod.owner is None:
            return Immovable.BARE
        if pod.owner.kind == "DaemonSet":
            return Immovable.DAEMON_SET
        return None if pod.owner.kind in _MOVED_KINDS else Immovable.OTHER_CONTROLLER

    def _by_protection(self, pod: Pod) -> Immovable | None:
        options = self.options
        if pod.namespace in options.protected_namespaces:
            return Immovable.PROTECTED_NAMESPACE
        if pod.priority >= options.protected_priority_at_least:
            return Immovable.PROTECTED_PRIORITY
        if forbids_disruption(pod):
            return Immovable.DO_NOT_DISRUPT
        if pod.host_path or pod.local_volume or (pod.empty_dir and options.protect_empty_dir):
            return Immovable.LOCAL_STORAGE
        return None

    def _by_replacement(self, pod: Pod) -> Immovable | None:
        """What would keep a replacement from starting, or from its data."""
        if any(claim.ephemeral for claim in pod.claims):
            return Immovable.EPHEMERAL_VOLUME
        if pod.shared_volume:
            return Immovable.SHARED_VOLUME
        if pod.volume_obstacle:
            return Immovable.VOLUME_UNAVAILABLE
        return None if self._quotas.refusing(pod) is None else Immovable.QUOTA_EXHAUSTED

    def _by_owner(self, pod: Pod) -> Immovable | None:
        owner = self._workloads.get(pod.owner.uid) if pod.owner else None
        if pod.owner and pod.owner.kind == "Job" and not self._job_may_move(owner):
            return Immovable.BATCH_JOB
        if owner is None:  # not in the file or not seen yet: counts as settled and newest
            return None
        chain = [owner]
        above = self._workloads.get(owner.owner.uid) if owner.owner else None
        if above is not None:
            chain.append(above)
        if any(workload.rolling_out for workload in chain if workload.kind in _ROLLING_KINDS):
            return Immovable.OWNER_ROLLING_OUT
        if not owner.newest:
            return Immovable.NOT_NEWEST
        settled = self.snapshot.now - self.options.owner_settled_seconds
        changes = (workload.replicas_changed_at for workload in chain)
        if any(changed is not None and changed > settled for changed in changes):
            return Immovable.OWNER_UNSETTLED
        return None

    def _job_may_move(self, job: Workload | None) -> bool:
        if self.options.batch_jobs is BatchJobs.ALWAYS:
            return True
        if self.options.batch_jobs is BatchJobs.NEVER:
            return False
        return job is not None and job.ignores_disruption

    def _by_budget(self, pod: Pod) -> Immovable | None:
        budgets = self.budgets(pod)
        if len(budgets) > 1:
            return Immovable.TWO_BUDGETS
        if any(budget.disruptions_allowed < 1 or not budget.fresh for budget in budgets):
            return Immovable.BUDGET_EXHAUSTED
        return None

    def too_young(self, pod: Pod) -> Immovable | None:
        """Whether a pod has not run long enough to be moved."""
        started = pod.bound_at if pod.bound_at is not None else pod.created_at
        young = self.snapshot.now - started < self.options.min_pod_age_seconds
        return Immovable.TOO_YOUNG if young else None
