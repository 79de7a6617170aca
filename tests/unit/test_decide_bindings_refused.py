"""Requests that the API server keeps refusing: the plan says so once, and its time is that of the change."""

from __future__ import annotations

import itertools

import pytest
from msgspec import structs

from stowage.api.names import RESERVED_TAINT
from stowage.api.packing_plan import PlanSteering
from stowage.api.packing_plan_status import PlanPhase, SlotState, StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage.decide.execution import advance
from stowage.decide.plan_facts import Attempt, PlanFacts, PolicyFacts, SlotStatus, StepStatus, StopRule
from stowage.decide.situation import Situation
from stowage_scheduler.cluster import Effect, Snapshot, Taint
from unit.builders import NOW, POLICY, budget, evict, node, plan, pod, ref, replica_set, slot, snapshot
from unit.one_move import MOVE, NODES, OTHER, OWNERS, RUNNING, TO_N2, after, run

KEPT = (Taint(RESERVED_TAINT, Effect.NO_SCHEDULE, "plan-uid"),)
GONE = {"s001": StepStatus(StepState.INTENDED, StepReason.REPLACEMENT_PENDING, NOW - 5)}
WAITS = pod("web-2", app="web", created_at=NOW - 5)
BINDS = plan(MOVE, TO_N2, steering=PlanSteering.BIND, **RUNNING, step_status=GONE)
BOUND_TO_FAIL = snapshot(*(node(one.name, taints=KEPT) for one in NODES), *OWNERS, OTHER, WAITS)


def passes(facts: PlanFacts, policy: PolicyFacts = POLICY, seen: Snapshot = BOUND_TO_FAIL) -> list[PlanFacts]:
    """The plan as written by one pass a second, while each binding fails."""
    written = [facts]
    attempts: dict[str, Attempt] = {}
    for second in range(60):
        now = NOW + second
        step = advance(facts, Situation(seen, policy, now, epoch=3, reserved=True, attempts=attempts))
        for binding in step.bind:
            attempts[binding.attempt_key] = Attempt(now, 5, StepReason.BINDING_FAILED, "etcd is away")
        facts = after(facts, step)
        written.append(facts)
        if facts.ended:
            break
    return written


def test_bindings_that_keep_failing_are_told_once() -> None:
    written = passes(BINDS)
    last = written[-1]
    assert last.step_status["s001"] == StepStatus(StepState.INTENDED, StepReason.BINDING_FAILED, NOW + 1)
    assert (last.phase, last.reason) == (PlanPhase.RUNNING, PlanReason.BINDING_FAILED)
    assert last.message == "step s001 (team/web-1): BindingFailed: etcd is away"
    assert sum(one != other for one, other in itertools.pairwise(written)) <= 4


def test_the_time_of_a_replacement_that_can_not_be_bound_runs_out() -> None:
    stops = PolicyFacts(name="default", uid="policy-uid", stop=StopRule(2, 2, ready_within_seconds=30.0))
    last = passes(BINDS, stops)[-1]
    assert (last.phase, last.reason) == (PlanPhase.ABORTED, PlanReason.REPLACEMENT_NOT_READY)


@pytest.mark.parametrize(
    ("attempt", "gone"),
    [
        pytest.param(Attempt(NOW - 1, 2), False, id="one-was-granted"),
        pytest.param(Attempt(NOW - 20, 5, StepReason.BINDING_FAILED, "etcd is away"), True, id="the-pod-went-away"),
        pytest.param(None, False, id="another-process-leads-and-has-not-tried"),
    ],
)
def test_a_binding_that_fails_no_more_is_not_told(attempt: Attempt | None, gone: bool) -> None:
    failed = {"s001": StepStatus(StepState.INTENDED, StepReason.BINDING_FAILED, NOW - 5)}
    promised = {"k001": SlotStatus(SlotState.OPEN, ref(WAITS))}
    facts = plan(MOVE, TO_N2, steering=PlanSteering.BIND, **RUNNING, step_status=failed, slot_status=promised)
    pods = tuple(one for one in BOUND_TO_FAIL.pods if not (gone and one.uid == WAITS.uid))
    attempts = {"slot/k001": attempt} if attempt is not None else {}
    seen = structs.replace(BOUND_TO_FAIL, pods=pods)
    step = advance(facts, Situation(seen, POLICY, NOW, epoch=3, reserved=True, attempts=attempts))
    assert step.step_status["s001"].reason is StepReason.REPLACEMENT_PENDING


@pytest.mark.parametrize("reason", [StepReason.EVICTION_FAILED, StepReason.DISRUPTION_BUDGET])
def test_an_eviction_that_was_refused_and_then_has_to_wait_is_told_once(reason: StepReason) -> None:
    second = pod("web-3", "n1", cpu=1)
    asked = {
        "s001": StepStatus(StepState.INTENDED, StepReason.REPLACEMENT_PENDING, NOW - 30),
        "s003": StepStatus(StepState.INTENDED, StepReason.PEER_NOT_READY, NOW - 30),
    }
    facts = plan(MOVE, evict(3, second, "k003"), TO_N2, slot(3, second, "n2"), **RUNNING, step_status=asked)
    seen = snapshot(*NODES, replica_set("web", 2), *OWNERS[1:], budget("web", allowed=1), OTHER, WAITS, second)
    step = run(facts, seen, attempts={"s003": Attempt(NOW - 20, 5, reason)})
    assert step.step_status["s003"] == asked["s003"]
