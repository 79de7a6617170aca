"""What the last packings and the plans that have not ended show as metrics, over all policies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from msgspec import Struct

from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_plan_status import PlanPhase, StepState
from stowage.run.catalogue import Packed, SolverFailure
from stowage.run.metrics import Metrics
from stowage.run.solver import SolverDied, SolverError, SolverTimeout
from stowage_scheduler.cluster import Pod
from stowage_scheduler.packing import Packing

_OPEN = frozenset({StepState.WAITING, StepState.INTENDED})


class _Shown(Struct, frozen=True):
    """What the last packing of one policy came to."""

    pending: Counter[str]
    gap: int


class PolicyMetrics:
    """Numbers of the policies.

    Args:
        metrics: of the process.
        leads: whether this process leads; a standby shows nought, for what it knew is old.
    """

    def __init__(self, metrics: Metrics, leads: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._leads = leads
        self._policies: dict[str, _Shown] = {}
        self._pending: Counter[str] = Counter()
        self._planned: Counter[PlanPhase] = Counter()
        metrics.gap_pods.set_function(lambda: self._shown(sum(one.gap for one in self._policies.values())))
        for phase in PlanPhase:
            if not phase.ended:
                self._follow_phase(phase)

    def packed(self, policy: str, packing: Packing) -> None:
        """A packing gave an answer."""
        outcome = Packed.CERTIFIED if packing.certified else Packed.UNCERTIFIED
        self._metrics.packings.labels(outcome.value).inc()
        if packing.faults:
            self._metrics.packer_faults.inc()
        self._metrics.solve_seconds.labels("total").observe(packing.seconds)
        for stage, seconds in packing.stages.items():
            self._metrics.solve_seconds.labels(stage).observe(seconds)
        pending = Counter(entry.reason.value for entry in packing.unplaced)
        gap = max((packing.bound[tier] - packing.placed.get(tier, 0) for tier in packing.bound), default=0)
        self._policies[policy] = _Shown(pending, max(0, gap))
        self._show()

    def failed(self, error: SolverError) -> None:
        """A packing gave none."""
        self._metrics.packings.labels(Packed.FAILED.value).inc()
        match error:
            case SolverTimeout():
                why = SolverFailure.OVERRAN
            case SolverDied():
                why = SolverFailure.DIED
            case _:
                why = SolverFailure.RAISED
        self._metrics.solver_failures.labels(why.value).inc()

    def planned(self, pods: Sequence[Pod], packing: Packing, now: float) -> None:
        """A plan was made; of `pods` those count that it places, and that were never packed for before."""
        placed = {step.pod.uid for step in packing.steps if step.action.arrives}
        waited = [_since(pod) for pod in pods if pod.uid in placed]
        if waited:
            self._metrics.event_to_plan_seconds.observe(max(0.0, now - min(waited)))

    def rests(self, policy: str) -> None:
        """No pod of a policy waits, or the policy is gone."""
        if self._policies.pop(policy, None) is not None:
            self._show()

    def under_way(self, plans: Sequence[PackingPlan]) -> None:
        """Count the pods that wait for their place in a plan; `plans` are those of all policies."""
        self._planned = Counter()
        for plan in plans:
            phase = plan.status.phase or PlanPhase.PROPOSED
            if not phase.ended:
                settled = {step.id for step in plan.status.steps if step.state not in _OPEN}
                waiting = [step for step in plan.spec.steps if step.action.arrives and step.id not in settled]
                self._planned[phase] += len(waiting)

    def _shown(self, number: int) -> float:
        return float(number) if self._leads() else 0.0

    def _follow_phase(self, phase: PlanPhase) -> None:
        self._metrics.planned_pods.labels(phase.value).set_function(lambda: self._shown(self._planned[phase]))

    def _show(self) -> None:
        """Follow each reason that was ever seen; one that is gone stays, at nought."""
        total: Counter[str] = sum((one.pending for one in self._policies.values()), Counter())
        for reason in total.keys() - self._pending.keys():
            self._follow_reason(reason)
        self._pending = Counter({reason: total[reason] for reason in {*self._pending, *total}})

    def _follow_reason(self, reason: str) -> None:
        self._metrics.pending_pods.labels(reason).set_function(lambda: self._shown(self._pending[reason]))


def _since(pod: Pod) -> float:
    return pod.unschedulable_since if pod.unschedulable_since is not None else pod.created_at
