"""What a packing may do: the part of a policy that the packer reads, and its time budget."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from stowage_scheduler.cluster import LabelSelector
from stowage_scheduler.teams import Team
from stowage_scheduler.unavailable import MaxUnavailable


class BatchJobs(StrEnum):
    """Whether pods of a batch Job may be moved; each eviction counts against `backoffLimit`."""

    NEVER = "Never"
    IF_POD_FAILURE_POLICY_IGNORES = "IfPodFailurePolicyIgnores"
    ALWAYS = "Always"


class Tail(StrEnum):
    """What a plan improves last, after pods placed and disruption."""

    LEAST_FRAGMENTATION = "LeastFragmentation"
    CONSOLIDATE = "Consolidate"
    SPREAD = "Spread"
    LEAST_POWER = "LeastPower"  # Consolidate where no node tells what it draws


class Drain(Struct, frozen=True):
    """Nodes that are to become empty: they take nobody, and all their pods that can leave get a place elsewhere.

    What limits moves of other pods (age, scheduler, protected namespaces, caps) does not hold for these, unless
    `voluntary`: then nobody asked for it, and a pod that a plan would not move keeps its node.
    """

    nodes: frozenset[str]  # names
    force: bool = False  # pods whose replacement nobody promises, or may come back, leave, too
    delete_local_data: bool = False  # pods leave that lose data with their emptyDir or ephemeral volume
    ignore_daemon_sets: bool = True  # their pods stay; otherwise such a pod is an obstacle
    voluntary: bool = False


class PackOptions(Struct, frozen=True):
    """Scope and limits of one packing. The defaults are those of `stowage plan` without a policy."""

    scheduler_names: tuple[str, ...] | None = None  # whose pods are planned for and moved; None: everyone's
    pod_selector: LabelSelector | None = None  # None: every pod
    namespace_selector: LabelSelector | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    nodes: frozenset[str] | None = None  # names of those that it may use; None: all that are selected
    max_moves: int | None = None  # moves and evictions together; None: no limit
    max_gang_pods: int | None = None  # waiting pods of one gang that one plan can place; None: no limit
    min_pod_age_seconds: float = 0.0
    owner_settled_seconds: float = 60.0
    protected_namespaces: tuple[str, ...] = ("kube-system",)
    protected_priority_at_least: int = 1_000_000_000
    evict_lower_priority: bool = True
    max_unavailable_per_owner: MaxUnavailable | None = None  # pods of one controller that move at once
    batch_jobs: BatchJobs = BatchJobs.NEVER
    protect_empty_dir: bool = False
    tail: Tail = Tail.LEAST_FRAGMENTATION
    teams: tuple[Team, ...] = ()  # that share the nodes by weighted dominant resource fairness; none: no matter whose
    drain: Drain | None = None  # set: plan for the pods that must leave these nodes, and for no others that wait
    binds: bool = False  # pods are bound without kube-scheduler, which alone can choose volumes for them

    @property
    def is_fair(self) -> bool:
        """Whether teams share the nodes; a drain is about others than those that wait."""
        return bool(self.teams) and self.drain is None


class Budget(Struct, frozen=True):
    """How long a packing may take: wall seconds, or deterministic units (same input, same plan)."""

    seconds: float = 10.0
    deterministic_units: float | None = None  # set: `seconds` is ignored
    certify_seconds: float = 2.0  # share of `seconds` kept for proving the answer optimal
    workers: int = 2  # solver threads; part of what makes a deterministic answer repeatable
