"""What to do next for a plan: one pure function from the plan, the cluster and the time to the next status.

Nothing is kept between calls. The caller writes the returned status first, then asks for the returned
evictions, so that an intent is always on record before its effect. Called again with what it returned and
the same facts, nothing new comes out.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field, structs

from stowage.api.packing_plan import Approval, PlanSteering
from stowage.api.packing_plan_status import PlanPhase, SlotState, StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage.decide.bindings import Binding, Promises, promises
from stowage.decide.detours import names
from stowage.decide.evictions import evictions
from stowage.decide.landing import given_up, kept_back, slot_states
from stowage.decide.plan_facts import Attempt, PlanFacts, SlotStatus, StepStatus
from stowage.decide.plan_validity import Invalid, invalid_proposal, invalid_targets, refused_arrival
from stowage.decide.refusals import REFUSED
from stowage.decide.reservation import Reservation, reservation, without_reservations
from stowage.decide.situation import Situation, extender_ready
from stowage.decide.slot_balance import PodFacts
from stowage.decide.standstill import mood, said, stuck
from stowage.decide.step_progress import Progress, ended
from stowage.decide.stop_rule import departed, unready
from stowage.decide.ungating import WHOLE_WITHIN_SECONDS, give_up_half_gangs, restarts, ungatings
from stowage_scheduler.counted import counted
from stowage_scheduler.packing import Action, PodRef, Step

HANDSHAKE_SECONDS = 5.0
HANDSHAKE_POLL_SECONDS = 0.5
RESERVE_SECONDS = 15.0
RUNNING_POLL_SECONDS = 5.0  # events ring sooner; this is for what makes no event


class Advance(Struct, frozen=True):
    """The next status of a plan, and what to do once it is written.

    `write` is false when somebody else leads: then nothing may be written or done. `evict` are steps whose
    eviction is to be asked for after the write, `restart` those whose pods have to start again with their gang,
    `bind` the bindings and `ungate` the gates to take away. `reserve` are nodes to be tainted, also over the taints
    of the plans of `reserve_over`, for `timeout_seconds`. `names` are the pods in temporary places, by the step that
    evicts them from there. `wake` says that kube-scheduler put pods aside that may
    take a slot now.
    """

    phase: PlanPhase
    reason: PlanReason
    message: str = ""
    epoch: int = 0
    step_status: Mapping[str, StepStatus] = field(default_factory=dict)
    slot_status: Mapping[str, SlotStatus] = field(default_factory=dict)
    names: Mapping[str, PodRef] = field(default_factory=dict)
    approved_at: float | None = None
    started_at: float | None = None
    unready_at_start: int | None = None
    finished_at: float | None = None
    evict: tuple[Step, ...] = ()
    restart: tuple[Step, ...] = ()
    bind: tuple[Binding, ...] = ()
    ungate: tuple[Step, ...] = ()
    reserve: frozenset[str] = frozenset()
    reserve_over: frozenset[str] = frozenset()
    timeout_seconds: float = 0.0
    wake: bool = False
    requeue_after_seconds: float | None = None
    write: bool = True


def advance(plan: PlanFacts, situation: Situation) -> Advance:
    """Decide what becomes of a plan now."""
    if plan.epoch > situation.epoch or plan.ended:
        return _as_it_is(plan, write=False)
    progress = Progress(plan, PodFacts(without_reservations(situation.snapshot, plan.uid)), situation.now)
    stopped = _stopped(progress, situation)
    if stopped is not None:
        return _end(progress, situation, *stopped)
    if plan.approval is not Approval.APPROVED and plan.phase in {None, PlanPhase.PROPOSED}:
        return _propose(progress, situation)
    if plan.phase is not PlanPhase.RUNNING:
        return _prepare(progress, situation)
    return _run(progress, situation)


def _as_it_is(plan: PlanFacts, *, write: bool) -> Advance:
    return Advance(
        phase=plan.phase or PlanPhase.APPROVED,
        reason=plan.reason or PlanReason.EXECUTING,
        message=plan.message,
        epoch=plan.epoch,
        step_status=plan.step_status,
        slot_status=plan.slot_status,
        names=names(plan),
        approved_at=plan.approved_at,
        started_at=plan.started_at,
        unready_at_start=plan.unready_at_start,
        write=write,
    )


def _stopped(progress: Progress, situation: Situation) -> tuple[PlanPhase, PlanReason, str] | None:
    """Whether somebody or the time put an end to the plan."""
    plan, policy = progress.plan, situation.policy
    if plan.approval is Approval.ABORTED:
        return PlanPhase.ABORTED, PlanReason.ABORTED_BY_USER, "spec.approval is Aborted"
    if policy is None or (plan.policy_uid and policy.uid != plan.policy_uid):
        return PlanPhase.ABORTED, PlanReason.POLICY_GONE, f"policy {plan.policy} was deleted"
    complete = plan.phase is PlanPhase.RUNNING and not progress.unsettled and not progress.failed
    if situation.overtaken is not None and not complete:
        return PlanPhase.SUPERSEDED, *situation.overtaken
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


def _prepare(progress: Progress, situation: Situation) -> Advance:
    """Make sure that the slots are kept; only then may a pod be evicted."""
    plan, now = progress.plan, situation.now
    invalid = _invalid(progress, situation)
    if invalid is not None:
        return _supersede(progress, situation, invalid)
    if situation.rival:
        words = f"plan {situation.rival} runs for the same policy or on the same nodes"
        return _supersede(progress, situation, Invalid(PlanReason.NEWER_PLAN, words))
    paused = situation.policy is not None and situation.policy.paused
    binds = plan.steering is PlanSteering.BIND
    kept = situation.reserved if binds else extender_ready(plan, situation)
    if plan.phase is PlanPhase.APPROVED and not paused and kept:
        return _run(progress, situation)
    approved_at = plan.approved_at if plan.approved_at is not None else now
    found = reservation(plan, situation.snapshot.nodes) if binds else None
    if now - approved_at >= (RESERVE_SECONDS if binds else HANDSHAKE_SECONDS) and not paused:
        return _end(progress, situation, PlanPhase.ABORTED, *_not_kept(found))
    abandoned = frozenset(found.taken.values()) - situation.keepers if found is not None else frozenset()
    wanted: frozenset[str] = frozenset()
    if found is not None and not paused:
        wanted = found.free | {node for node, holder in found.taken.items() if holder in abandoned}
    waits_for = PlanReason.RESERVING if binds else PlanReason.AWAITING_EXTENDER
    return structs.replace(
        _as_it_is(plan, write=True),
        phase=PlanPhase.APPROVED,
        reason=PlanReason.POLICY_PAUSED if paused else waits_for,
        message="",
        epoch=situation.epoch,
        step_status=progress.steps,
        slot_status=kept_back(progress),
        approved_at=approved_at,
        reserve=wanted,
        reserve_over=abandoned,
        timeout_seconds=situation.policy.plan_timeout_seconds if situation.policy is not None else 0.0,
        requeue_after_seconds=RUNNING_POLL_SECONDS if paused else HANDSHAKE_POLL_SECONDS,
    )


def _not_kept(found: Reservation | None) -> tuple[PlanReason, str]:
    """Why nobody keeps the slots of a plan."""
    if found is None:
        words = f"no extender beside the leading scheduler took up this plan within {HANDSHAKE_SECONDS:g} s"
        return PlanReason.EXTENDER_UNAVAILABLE, words
    node = min(found.taken or found.free, default="")
    why = f"is kept by the plan of UID {found.taken[node]}" if found.taken else "does not carry the plan's taint"
    words = f"node {node} {why}" if node else "the scheduler's answers to the taints were not seen"
    return PlanReason.RESERVATION_FAILED, f"{words}, {RESERVE_SECONDS:g} s after the approval"


def _run(progress: Progress, situation: Situation) -> Advance:
    """One pass over a running plan."""
    _note_refusals(progress, situation.attempts)
    paused = situation.policy is not None and situation.policy.paused
    give_up_half_gangs(progress, at_once=False)
    invalid = _invalid(progress, situation)
    if invalid is not None:
        give_up_half_gangs(progress, at_once=True)
    restart, restarting = restarts(progress, situation)
    if not restarting:
        if not progress.unsettled and not progress.failed:
            return _complete(progress, situation)
        if invalid is not None:
            return _supersede(progress, situation, invalid)
    # nobody else is evicted or let go for a plan that is given up
    evict = () if paused or restarting else evictions(progress, situation)
    ungate = () if restarting else ungatings(progress, situation, paused=paused)
    if progress.failed and not restarting:
        return _supersede(progress, situation, _failure(progress, situation))
    hopeless = None if paused or evict or ungate or restarting else stuck(progress)
    if hopeless is not None:
        return _supersede(progress, situation, hopeless)
    slots = slot_states(progress)
    granted = Promises(slots, ())
    if progress.plan.steering is PlanSteering.BIND and not restarting:
        granted = promises(progress, slots, situation)
        _note_promises(progress, granted)
    _explain_waiting(progress, evict, situation.attempts, paused=paused)
    reason, message = mood(progress, situation.attempts, paused=paused)
    started_at = progress.plan.started_at if progress.plan.started_at is not None else situation.now
    if restarting and invalid is not None:
        reason, message = PlanReason.GANG_INCOMPLETE, invalid.message
    return structs.replace(
        _as_it_is(progress.plan, write=True),
        phase=PlanPhase.RUNNING,
        reason=reason,
        message=message,
        epoch=situation.epoch,
        step_status=progress.steps,
        slot_status=granted.slots,
        started_at=started_at,
        unready_at_start=_unready_at_start(progress, started_at),
        evict=evict,
        bind=granted.bind,
        ungate=ungate,
        restart=restart,
        wake=progress.plan.steering is PlanSteering.EXTENDER and _someone_sleeps(progress),
        requeue_after_seconds=RUNNING_POLL_SECONDS,
    )


def _unready_at_start(progress: Progress, started_at: float) -> int:
    known = progress.plan.unready_at_start
    return len(unready(progress, started_at)) if known is None else known


def _note_promises(progress: Progress, granted: Promises) -> None:
    """A step whose slot is promised is begun: the intent is on record before the binding is asked for."""
    for step in progress.unsettled:
        slot = granted.slots.get(step.slot or "")
        promised = slot is not None and slot.state is SlotState.OPEN and slot.pod is not None
        if step.action is Action.BIND and promised and progress.steps[step.id].state is StepState.WAITING:
            progress.set(step, StepState.INTENDED)


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
    words = f"{done} of {counted(len(progress.plan.steps), 'step')} done" + (f", {len(void)} void" if void else "")
    end = _end(progress, situation, PlanPhase.DONE, reason, words)
    # a plan may be found complete in the pass that would have started it
    started_at = progress.plan.started_at if progress.plan.started_at is not None else situation.now
    return structs.replace(end, started_at=started_at)


def _supersede(progress: Progress, situation: Situation, invalid: Invalid) -> Advance:
    return _end(progress, situation, invalid.phase, invalid.reason, invalid.message)


def _invalid(progress: Progress, situation: Situation) -> Invalid | None:
    if progress.failed:
        return _failure(progress, situation)
    lost = _lost_reservation(progress, situation)
    since = progress.plan.started_at
    refused = refused_arrival(progress.open_slots, since, progress.facts) if since is not None else None
    leaving = [step for step in progress.unsettled if step.action is Action.EVICT]
    stopped = departed(progress, situation.policy)
    passing = progress.temporary.values()
    return lost or refused or stopped or invalid_targets(progress.open_slots, leaving, progress.facts, passing)


def _lost_reservation(progress: Progress, situation: Situation) -> Invalid | None:
    """Whether somebody took a taint away that this plan relies on: it is not put back, for nobody wins such a fight."""
    plan = progress.plan
    if plan.steering is not PlanSteering.BIND or plan.phase is not PlanPhase.RUNNING:
        return None
    found = reservation(plan, situation.snapshot.nodes)
    lost = sorted({*found.free, *found.taken} & {slot.node for slot in progress.open_slots})
    if not lost:
        return None
    return Invalid(PlanReason.RESERVATION_LOST, f"node {lost[0]} does not carry the plan's taint any more")


def _failure(progress: Progress, situation: Situation) -> Invalid:
    step = progress.failed[0]
    reason = progress.steps[step.id].reason
    if reason is StepReason.GANG_INCOMPLETE:
        words = f"step {step.id}: gang {step.gang} was not bound whole within {WHOLE_WITHIN_SECONDS:g} s"
        known = progress.plan.reason is PlanReason.GANG_INCOMPLETE  # it may have been given up for another reason
        return Invalid(PlanReason.GANG_INCOMPLETE, progress.plan.message if known else words)
    if reason is StepReason.DO_NOT_DISRUPT:
        words = f"step {step.id}: an annotation forbids to disrupt {step.pod.key}"
    elif reason is StepReason.BINDING_REFUSED:
        words = f"step {step.id}: the API server does not let {step.pod.key} go to its node"
    else:
        words = f"step {step.id}: the eviction of {step.pod.key} is refused for good"
    words += said(situation.attempts, step, reason) if reason is not None else ""
    return Invalid(PlanReason.STEP_FAILED, words)


_FINAL = frozenset({StepReason.EVICTION_REFUSED, StepReason.BINDING_REFUSED})


def _note_refusals(progress: Progress, attempts: Mapping[str, Attempt]) -> None:
    """Record what the server said to the last requests, as long as they are still wanted."""
    for step in progress.unsettled:
        attempt = attempts.get(step.id) or attempts.get(f"slot/{step.slot}")
        if attempt is None or attempt.reason is None or progress.steps[step.id].state is not StepState.INTENDED:
            continue
        binding = attempt.reason in {StepReason.BINDING_FAILED, StepReason.BINDING_REFUSED}
        if _still_waits(progress, step) if binding else progress.still_stands(step):
            state = StepState.FAILED if attempt.reason in _FINAL else StepState.INTENDED
            progress.set(step, state, attempt.reason)


def _still_waits(progress: Progress, step: Step) -> bool:
    """Whether the pod that the slot of a step was promised to is there and not bound; also when nobody is known."""
    promised = progress.plan.slot_status.get(step.slot or "")
    if promised is None or promised.pod is None:
        return True
    pod = progress.facts.standing(promised.pod.uid)
    return pod is not None and pod.node is None


def _awaited(progress: Progress, step: Step, attempts: Mapping[str, Attempt]) -> StepReason:
    """What the replacement of an evicted pod waits for.

    That the pod is on its way out is a reason of its own, so that the time of the next one tells when it was gone,
    however long its grace period is. A binding that failed last stays told while it is tried again.
    """
    if not progress.gone(step):
        return StepReason.POD_TERMINATING
    attempt = attempts.get(f"slot/{step.slot}")
    fails = attempt is not None and attempt.reason is StepReason.BINDING_FAILED and _still_waits(progress, step)
    return StepReason.BINDING_FAILED if fails else StepReason.REPLACEMENT_PENDING


def _explain_waiting(
    progress: Progress, evict: tuple[Step, ...], attempts: Mapping[str, Attempt], *, paused: bool
) -> None:
    chosen = {step.id for step in evict}
    for step in progress.unsettled:
        status = progress.steps[step.id]
        if step.action is not Action.EVICT or step.id in chosen:
            continue
        if not progress.still_stands(step):
            progress.set(step, status.state, _awaited(progress, step, attempts) if step.slot else status.reason)
        elif paused and status.state is StepState.WAITING:
            progress.set(step, StepState.WAITING, StepReason.POLICY_PAUSED)
