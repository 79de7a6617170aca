"""What an execution is told about the world, beside the plan itself."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from stowage.api.packing_plan_status import PlanPhase
from stowage.api.reasons import PlanReason
from stowage.decide.plan_facts import Attempt, PlanFacts, PolicyFacts
from stowage_scheduler.cluster import Snapshot


class Situation(Struct, frozen=True):
    """Everything that an advance depends on beside the plan itself.

    `epoch` is the one of the leader that asks. `policy` is None when it was deleted. `leader` is the identity in
    the scheduler's lease, None when there is no such lease. `extenders` are the holders whose extender lives,
    None when nobody looked. `reserved` says, in steering Bind, that the taints of the plan have been seen long
    enough for kube-scheduler to know them, and that every pod on those nodes is in the snapshot. `keepers` are UIDs
    of plans whose taints may stand; they are looked up before the start alone. `attempts` are the requests that this
    process sent, by step or by `slot/ID`: they only save requests, losing them is harmless. `overtaken` says why a plan
    that empties nodes is not wanted any more (`stowage.decide.consolidation`).
    """

    snapshot: Snapshot
    policy: PolicyFacts | None
    now: float
    epoch: int
    leader: str | None = None
    extenders: frozenset[str] | None = None
    reserved: bool = False
    keepers: frozenset[str] = frozenset()
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    overtaken: tuple[PlanReason, str] | None = None
    rival: str = ""  # another plan that runs for the same policy or on the same nodes


def extender_ready(plan: PlanFacts, situation: Situation) -> bool:
    """Whether the extender beside the leading scheduler knows the plan, and lives.

    kube-scheduler writes its host name, `_` and a random part into its lease; without a lease any extender will do.
    """
    leader, alive = situation.leader, situation.extenders
    if leader is None and alive is None and plan.phase is PlanPhase.RUNNING:
        return True  # it was ready at the start, and nobody has looked since
    return any(
        (leader in (None, holder) or str(leader).startswith(holder + "_")) and (alive is None or holder in alive)
        for holder in plan.observed_by
    )
