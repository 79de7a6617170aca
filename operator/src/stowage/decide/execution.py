"""What to do next for a plan: one pure function from the plan, the cluster and the time to the next status.

Nothing is kept between calls. The caller writes the returned status first, then asks for the returned
evictions, so that an intent is always on record before its effect. Called again with what it returned and
the same facts, nothing new comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field, structs

from stowage.api.packing_plan import Approval
from stowage.api.packing_plan_status import PlanPhase, SlotState, StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage.decide.budget_gate import BudgetGate
from stowage.decide.landing import given_up, kept_back, slot_states
from stowage.decide.plan_facts import Attempt, PlanFacts, PolicyFacts, SlotStatus, StepStatus
from stowage.decide.plan_validity import Invalid, invalid_proposal, invalid_targets, refused_arrival, room_now
from stowage.decide.refusals import REFUSED
from stowage.decide.slot_balance import PodFacts
from stowage.decide.standstill import mood, said, stuck
from stowage.decide.step_progress import Progress, ended
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.packing import Action, Step
from stowage_scheduler.slots import SlotClass

HANDSHAKE_SECONDS = 5.0
HANDSHAKE_POLL_SECONDS = 0.5
EVICTIONS_AT_ONCE = 20
RUNNING_POLL_SECONDS = 5.0  # events ring sooner; this is for what makes no event


class Advance(Struct, frozen=True):
    """The next status of a plan, and what to do once it is written.

    `write` is false when somebody else leads: then nothing may be written or done. `evict` are steps whose
    eviction is to be asked for after the write. `wake` says that kube-scheduler put pods aside that may take a
    slot now.
    """

    phase: PlanPhase
    reason: PlanReason
    message: str = ""
    epoch: int = 0
    step_status: Mapping[str, StepStatus] = field(default_factory=dict)
    slot_status: Mapping[str, SlotStatus] = field(default_factory=dict)
    approved_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    evict: tuple[Step, ...] = ()
    wake: bool = False
    requeue_after_seconds: float | None = None
    write: bool = True


class Situation(Struct, frozen=True):
    """Everything that an advance depends on beside the plan itself.

    `epoch` is the one of the leader that asks. `policy` is None when it was deleted. `leader` is the identity in
    the scheduler's lease, None when there is no such lease. `attempts` are the evictions that this process
    asked for, by step: they only save requests, losing them is harmless.
    """

    snapshot: Snapshot
    policy: PolicyFacts | None
    now: float
    epoch: int
    leader: str | None = None
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    rival: str = ""  # another plan that runs for the same policy or on the same nodes


def extender_ready(plan: PlanFacts, leader: str | None) -> bool:
    """Whether the extender beside the leading scheduler knows the plan.

    kube-scheduler writes its host name, `_` and a random part into its lease; without a lease any extender will do.
    """
    return any(leader in (None, holder) or str(leader).startswith(holder + "_") for holder in plan.observed_by)


def advance(plan: PlanFacts, situation: Situation) -> Advance:
    """Decide what becomes of a plan now."""
    if plan.epoch > situation.epoch or plan.ended:
        return _as_it_is(plan, write=False)
    progress = Progress(plan, PodFacts(situation.snapshot), situation.now)
    stopped = _stopped(plan, situation)
    if stopped is not None:
        return _end(progress, situation, *stopped)
    if plan.approval is not Approval.APPROVED and plan.phase in {None, PlanPhase.PROPOSED}:
        return _propose(progress, situation)
    if plan.phase is not PlanPhase.RUNNING:
        return _shake_hands(progress, situation)
    return _run(progress, situation)


def _as_it_is(plan: PlanFacts, *, write: bool) -> Advance:
    return Advance(
        phase=plan.phase or PlanPhase.APPROVED,
        reason=plan.reason or PlanReason.EXECUTING,
        message=plan.message,
        epoch=plan.epoch,
        step_status=plan.step_status,
        slot_status=plan.slot_status,
        approved_at=plan.approved_at,
        started_at=plan.started_at,
        write=write,
    )


def _stopped(plan: PlanFacts, situation: Situation) -> tuple[PlanPhase, PlanReason, str] | None:
    """Whether somebody or the time put an end to the plan."""
    policy = situation.policy
    if plan.approval is Approval.ABORTED:
        return PlanPhase.ABORTED, PlanReason.ABORTED_BY_USER, "spec.approval is Aborted"
    if policy is None or (plan.policy_uid and policy.uid != plan.policy_uid):
        return PlanPhase.ABORTED, PlanReason.POLICY_GONE, f"policy {plan.policy} was deleted"
    since = plan.started_at if plan.started_at is not None else plan.approved_at
    if since is not None and situation.now - since >= policy.plan_timeout_seconds:
        words = f"not finished {policy.plan_timeout_seconds:g} s after its start"
        return PlanPhase.ABORTED, PlanReason.TIMED_OUT, words
    return None


def _end(progress: Progress, situation: Situation, phase: PlanPhase, reason: PlanReason, message: str) -> Advance:
    plan = progress.plan
    return structs.replace(
        _as_it_is(plan, write=True),
        phase=phase,
        reason=reason,
        message=message,
        epoch=situation.epoch,
        step_status=ended(progress),
        slot_status=given_up(progress),
        finished_at=situation.now,
    )


def _propose(progress: Progress, situation: Situation) -> Advance:
    """A plan that waits for a person: told apart from one that the cluster has left behind."""
    policy = situation.policy
    if policy is not None and policy.enforce:
        words = f"policy {policy.name} enforces now; the next plan needs no approval"
        return _end(progress, situation, PlanPhase.SUPERSEDED, PlanReason.POLICY_CHANGED, words)
    invalid = invalid_proposal(progress.plan, progress.facts)
    if invalid is not None:
        return _supersede(progress, situation, invalid)
    return structs.replace(
        _as_it_is(progress.plan, write=True),
        phase=PlanPhase.PROPOSED,
        reason=PlanReason.AWAITING_APPROVAL,
        message="set spec.approval to Approved or Aborted",
        epoch=situation.epoch,
        step_status=progress.steps,
        slot_status=slot_states(progress),
    )


def _shake_hands(progress: Progress, situation: Situation) -> Advance:
    """Wait until the extender keeps the slots; only then may a pod be evicted."""
    plan, now = progress.plan, situation.now
    invalid = _invalid(progress, situation)
    if invalid is not None:
        return _supersede(progress, situation, invalid)
    if situation.rival:
        words = f"plan {situation.rival} runs for the same policy or on the same nodes"
        return _supersede(progress, situation, Invalid(PlanReason.NEWER_PLAN, words))
    paused = situation.policy is not None and situation.policy.paused
    if plan.phase is PlanPhase.APPROVED and not paused and extender_ready(plan, situation.leader):
        return _run(progress, situation)
    approved_at = plan.approved_at if plan.approved_at is not None else now
    if now - approved_at >= HANDSHAKE_SECONDS and not paused:
        words = f"no extender beside the leading scheduler took up this plan within {HANDSHAKE_SECONDS:g} s"
        return _end(progress, situation, PlanPhase.ABORTED, PlanReason.EXTENDER_UNAVAILABLE, words)
    return structs.replace(
        _as_it_is(plan, write=True),
        phase=PlanPhase.APPROVED,
        reason=PlanReason.POLICY_PAUSED if paused else PlanReason.AWAITING_EXTENDER,
        message="",
        epoch=situation.epoch,
        step_status=progress.steps,
        slot_status=kept_back(progress),
        approved_at=approved_at,
        requeue_after_seconds=RUNNING_POLL_SECONDS if paused else HANDSHAKE_POLL_SECONDS,
    )


def _run(progress: Progress, situation: Situation) -> Advance:
    """One pass over a running plan."""
    _note_refusals(progress, situation.attempts)
    if not progress.unsettled and not progress.failed:
        return _complete(progress, situation)
    invalid = _invalid(progress, situation)
    if invalid is not None:
        return _supersede(progress, situation, invalid)
    paused = situation.policy is not None and situation.policy.paused
    evict = () if paused else _evictions(progress, situation)
    if progress.failed:
        return _supersede(progress, situation, _failure(progress, situation))
    hopeless = None if paused or evict else stuck(progress)
    if hopeless is not None:
        return _supersede(progress, situation, hopeless)
    _explain_waiting(progress, evict, paused=paused)
    reason, message = mood(progress, situation.attempts, paused=paused)
    return structs.replace(
        _as_it_is(progress.plan, write=True),
        phase=PlanPhase.RUNNING,
        reason=reason,
        message=message,
        epoch=situation.epoch,
        step_status=progress.steps,
        slot_status=slot_states(progress),
        started_at=progress.plan.started_at if progress.plan.started_at is not None else situation.now,
        evict=evict,
        wake=_someone_sleeps(progress),
        requeue_after_seconds=RUNNING_POLL_SECONDS,
    )


def _someone_sleeps(progress: Progress) -> bool:
    """Whether a pod that the extender refused has a slot to go to by now: a plan's progress is no event to it."""
    status = slot_states(progress)
    return any(
        pod.node is None and REFUSED in pod.unschedulable_message and not pod.terminating
        for slot in progress.open_slots
        if status[slot.id].state is SlotState.OPEN
        for pod in progress.facts.by_class.get(slot.slot_class, ())
    )


def _complete(progress: Progress, situation: Situation) -> Advance:
    void = [step for step in progress.plan.steps if progress.steps[step.id].state is StepState.VOID]
    reason = PlanReason.COMPLETED_WITH_VOID_STEPS if void else PlanReason.COMPLETED
    done = len(progress.plan.steps) - len(void)
    words = f"{done} of {len(progress.plan.steps)} steps done" + (f", {len(void)} void" if void else "")
    end = _end(progress, situation, PlanPhase.DONE, reason, words)
    # a plan may be found complete in the pass that would have started it
    started_at = progress.plan.started_at if progress.plan.started_at is not None else situation.now
    return structs.replace(end, started_at=started_at)


def _supersede(progress: Progress, situation: Situation, invalid: Invalid) -> Advance:
    return _end(progress, situation, PlanPhase.SUPERSEDED, invalid.reason, invalid.message)


def _invalid(progress: Progress, situation: Situation) -> Invalid | None:
    if progress.failed:
        return _failure(progress, situation)
    since = progress.plan.started_at
    refused = refused_arrival(progress.open_slots, since, progress.facts) if since is not None else None
    leaving = [step for step in progress.unsettled if step.action is Action.EVICT]
    return refused or invalid_targets(progress.open_slots, leaving, progress.facts)


def _failure(progress: Progress, situation: Situation) -> Invalid:
    step = progress.failed[0]
    words = f"step {step.id}: the eviction of {step.pod.key} is refused for good"
    words += said(situation.attempts, step, StepReason.EVICTION_REFUSED)
    return Invalid(PlanReason.STEP_FAILED, words)


def _note_refusals(progress: Progress, attempts: Mapping[str, Attempt]) -> None:
    for step in progress.unsettled:
        attempt = attempts.get(step.id)
        if attempt is None or attempt.reason is None or progress.steps[step.id].state is not StepState.INTENDED:
            continue
        refused = attempt.reason is StepReason.EVICTION_REFUSED
        if progress.still_stands(step):
            progress.set(step, StepState.FAILED if refused else StepState.INTENDED, attempt.reason)


def _evictions(progress: Progress, situation: Situation) -> tuple[Step, ...]:
    """The evictions to ask for in this pass; each is marked as intended."""
    gate = BudgetGate(
        progress.facts, progress.plan.steps, progress.steps, progress.slots_by_id, progress.balance.pods.values()
    )
    chosen: list[Step] = []
    for step in progress.unsettled:
        pod = progress.facts.standing(step.pod.uid)
        if step.action is not Action.EVICT or pod is None or not _may_start(progress, step, situation):
            continue
        hold = gate.hold(step, pod)
        intended = progress.steps[step.id].state is StepState.INTENDED
        if hold is StepReason.EVICTION_REFUSED:
            progress.set(step, StepState.FAILED, hold)
        elif hold is not None:
            progress.set(step, StepState.INTENDED if intended else StepState.WAITING, hold)
        elif len(chosen) < EVICTIONS_AT_ONCE:
            gate.passed(step, pod)
            # asked once more, it waits for what it waited for: else each try would be two writes, and news
            progress.set(step, StepState.INTENDED, progress.steps[step.id].reason if intended else None)
            chosen.append(step)
    return tuple(chosen)


def _may_start(progress: Progress, step: Step, situation: Situation) -> bool:
    """Whether an eviction is due, budgets apart: for the first time, or once more after a refusal or a restart."""
    if progress.steps[step.id].state is StepState.INTENDED:
        attempt = situation.attempts.get(step.id)
        return attempt is None or situation.now >= attempt.at + attempt.retry_after_seconds
    if not all(progress.released(other) for other in _before(progress, step)):
        progress.set(step, StepState.WAITING, StepReason.DEPENDENCY_PENDING)
        return False
    if situation.leader is not None and not extender_ready(progress.plan, situation.leader):
        # the scheduler has failed over: its replacement would go anywhere
        progress.set(step, StepState.WAITING, StepReason.AWAITING_EXTENDER)
        return False
    return step.swap or _target_is_free(progress, step)


def _before(progress: Progress, step: Step) -> Sequence[Step]:
    """The steps that have to be over before one starts.

    A swap sends a pod away to wait for its place: it comes last of all that can go without it, and so it never
    takes a disruption under a budget that moves before it need.
    """
    if step.swap:
        return progress.plan.steps[: progress.plan.steps.index(step)]
    return [progress.steps_by_id[other] for other in step.after]


def _target_is_free(progress: Progress, step: Step) -> bool:
    """Whether the replacement has room at once: nobody is sent away to wait for others."""
    slot = progress.slot_of(step)
    pod = progress.facts.standing(step.pod.uid)
    if slot is None or slot.id not in progress.balance.open or pod is None:
        return True
    room = room_now(slot.node, progress.facts, _expected(progress, slot.node))
    if room is None:
        return False
    free = all(amount <= room.get(resource, 0) for resource, amount in pod.requests.items() if amount)
    if not free:
        progress.set(step, StepState.WAITING, StepReason.DEPENDENCY_PENDING)
    return free


def _expected(progress: Progress, node: str) -> list[SlotClass]:
    """Classes of the pods that are on their way to a node: evicted, or pending with nothing left to wait for."""
    on_their_way: list[SlotClass] = []
    for step in progress.unsettled:
        slot = progress.slot_of(step)
        if slot is None or slot.node != node or slot.id not in progress.balance.open:
            continue
        if step.swap and not progress.offered(step):
            continue  # its replacement waits: the room is for others
        free = all(progress.released(progress.steps_by_id[other]) for other in step.after)
        pending = step.action is Action.PLACE and free
        if pending or progress.steps[step.id].state is StepState.INTENDED:
            on_their_way.append(slot.slot_class)
    return on_their_way


def _explain_waiting(progress: Progress, evict: tuple[Step, ...], *, paused: bool) -> None:
    chosen = {step.id for step in evict}
    for step in progress.unsettled:
        status = progress.steps[step.id]
        if step.action is Action.PLACE or step.id in chosen:
            continue
        if not progress.still_stands(step):
            progress.set(step, status.state, StepReason.REPLACEMENT_PENDING if step.slot else status.reason)
        elif paused and status.state is StepState.WAITING:
            progress.set(step, StepState.WAITING, StepReason.POLICY_PAUSED)
