"""When a running plan ends instead of evicting on; and how many pods of a controller may be down at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec import structs

from stowage.api.packing_plan_status import PlanPhase, StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage.decide.execution import Advance
from stowage.decide.plan_facts import PolicyFacts, StepStatus, StopRule
from stowage_scheduler.cluster import Node, Pod, Workload
from stowage_scheduler.unavailable import MaxUnavailable
from unit.builders import NOW, POLICY, bound, evict, node, place, plan, pod, replica_set, slot, snapshot
from unit.one_move import RUNNING, after, run, states

NODES = tuple(node(f"n{number}", 20) for number in range(1, 6))
PODS = tuple(pod(f"web-{number}", "n1", cpu=2) for number in range(4))
STAYS = tuple(pod(f"web-{number}", "n5", cpu=2) for number in range(4, 8))
STEPS = tuple(evict(number + 1, one, f"k00{number + 1}") for number, one in enumerate(PODS))
SLOTS = tuple(slot(number + 1, one, "n2") for number, one in enumerate(PODS))
OWNER = replica_set("web", 8)
STOP = structs.replace(POLICY, stop=StopRule(landed_elsewhere=2, newly_unready=2, ready_within_seconds=60.0))
STARTED = NOW - 100.0


def fresh(number: int, on: str | None = None, **fields: Any) -> Pod:
    """A replacement, made after the start."""
    made = pod(f"new-{number}", cpu=2, created_at=NOW - 90)
    return made if on is None else bound(made, on, **fields)


def unready(one: Pod) -> Pod:
    return structs.replace(one, ready=False)


def advanced(
    *pods: Pod,
    status: Mapping[str, StepStatus] | None = None,
    policy: PolicyFacts = STOP,
    owner: Workload = OWNER,
    nodes: tuple[Node, ...] = NODES,
    **fields: Any,
) -> Advance:
    usual = {**RUNNING, "started_at": STARTED, "unready_at_start": 0, "step_status": status or {}}
    facts = plan(*STEPS, *SLOTS, **{**usual, **fields})
    return run(facts, snapshot(*nodes, owner, *pods), policy=policy)


def begun(*numbers: int, at: float = NOW - 90, reason: StepReason | None = None) -> dict[str, StepStatus]:
    return {f"s00{number}": StepStatus(StepState.INTENDED, reason, at) for number in numbers}


GONE = StepReason.REPLACEMENT_PENDING


@dataclass(frozen=True)
class Case:
    """Pods as they are, and why the plan ends, if it does."""

    pods: tuple[Pod, ...]
    reason: PlanReason | None
    status: Mapping[str, StepStatus] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    policy: PolicyFacts = STOP


TABLE = {
    "all as planned": Case((*PODS, *STAYS), None),
    "one replacement elsewhere may happen": Case((*PODS[1:], *STAYS, fresh(1, "n3")), None, begun(1)),
    "two replacements elsewhere end it": Case(
        (*PODS[2:], *STAYS, fresh(1, "n3"), fresh(2, "n4")), PlanReason.LANDED_ELSEWHERE, begun(1, 2)
    ),
    "those of another scheduler go where it likes": Case(
        (*PODS[2:], *STAYS, fresh(1, "n3"), fresh(2, "n4")),
        None,
        begun(1, 2),
        policy=structs.replace(STOP, scheduler_names=("other",)),
    ),
    "pods of a larger owner are no replacements": Case((*PODS, *STAYS, fresh(1, "n3"), fresh(2, "n4")), None),
    "a replacement that just came may start": Case(
        (*PODS[1:], *STAYS, fresh(1, "n2", ready=False, bound_at=NOW - 59)), None, begun(1)
    ),
    "a replacement that is not Ready in time ends it": Case(
        (*PODS[1:], *STAYS, fresh(1, "n2", ready=False, bound_at=NOW - 60)),
        PlanReason.REPLACEMENT_NOT_READY,
        begun(1),
    ),
    "a replacement that was Ready until now may be so again": Case(
        (*PODS[1:], *STAYS, fresh(1, "n2", ready=False, bound_at=NOW - 80, unready_since=NOW - 59)), None, begun(1)
    ),
    "a replacement that is Ready no more for so long ends it": Case(
        (*PODS[1:], *STAYS, fresh(1, "n2", ready=False, bound_at=NOW - 80, unready_since=NOW - 60)),
        PlanReason.REPLACEMENT_NOT_READY,
        begun(1),
    ),
    "a replacement that is not bound yet may wait": Case(
        (*PODS[1:], *STAYS, fresh(1)), None, begun(1, at=NOW - 59, reason=GONE)
    ),
    "a replacement that is not bound in time ends it": Case(
        (*PODS[1:], *STAYS, fresh(1)), PlanReason.REPLACEMENT_NOT_READY, begun(1, at=NOW - 60, reason=GONE)
    ),
    "the time of a grace period is the old pod's": Case(
        (*PODS[1:], *STAYS, fresh(1)), None, begun(1, reason=StepReason.POD_TERMINATING)
    ),
    "the time for which a budget refused is nobody's": Case(
        (*PODS[1:], *STAYS, fresh(1)), None, begun(1, reason=StepReason.DISRUPTION_BUDGET)
    ),
    "one more unready pod may happen": Case((*PODS, unready(STAYS[0]), *STAYS[1:]), None),
    "two more unready pods end it": Case((*PODS, *map(unready, STAYS[:2]), *STAYS[2:]), PlanReason.OWNERS_UNREADY),
    "who was unready before does not count": Case(
        (*PODS, *map(unready, STAYS[:2]), *STAYS[2:]), None, fields={"unready_at_start": 1}
    ),
    "pods that wait for the scheduler are not down by it": Case(
        (*PODS, *STAYS[2:], pod("w-1", cpu=2, created_at=NOW - 600), pod("w-2", cpu=2, created_at=NOW - 600)), None
    ),
    "a plan of an older operator goes on without the count": Case(
        (*PODS, *map(unready, STAYS)), None, fields={"unready_at_start": None}
    ),
    "without a rule nothing ends it": Case(
        (*PODS, *map(unready, STAYS)), None, policy=structs.replace(STOP, stop=None)
    ),
}


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_when_reality_departs_from_the_plan(case: Case) -> None:
    step = advanced(*case.pods, status=case.status, policy=case.policy, **case.fields)
    if case.reason is None:
        assert step.phase is PlanPhase.RUNNING, step
        return
    assert (step.phase, step.reason) == (PlanPhase.ABORTED, case.reason)
    assert step.message
    assert step.evict == ()


def test_a_replacement_has_its_time_from_when_the_old_pod_is_gone() -> None:
    facts = plan(STEPS[0], SLOTS[0], **{**RUNNING, "started_at": NOW, "unready_at_start": 0})
    stays, ending = PODS[1:], structs.replace(PODS[0], terminating=True)
    told = []
    for seconds, pods in ((0, PODS), (5, (ending, *stays)), (80, (ending, *stays)), (85, stays), (144, stays)):
        step = run(facts, snapshot(*NODES, OWNER, *pods, *STAYS), policy=STOP, now=NOW + seconds)
        told.append((step.phase, step.step_status["s001"].reason))
        facts = after(facts, step)
    going, gone = (PlanPhase.RUNNING, StepReason.POD_TERMINATING), (PlanPhase.RUNNING, GONE)
    assert told == [(PlanPhase.RUNNING, None), going, going, gone, gone]
    step = run(facts, snapshot(*NODES, OWNER, *stays, *STAYS), policy=STOP, now=NOW + 145)
    assert (step.phase, step.reason) == (PlanPhase.ABORTED, PlanReason.REPLACEMENT_NOT_READY)


def test_a_swap_has_its_time_from_when_its_room_is_there() -> None:
    other = pod("api-1", "n2", app="api", cpu=18)
    swap, makes_room = evict(1, PODS[0], "k001", swap=True), evict(5, other, None, "s001")
    to_n2 = structs.replace(SLOTS[0], after=("s005",))
    since = StepStatus(StepState.INTENDED, GONE, NOW - 90)
    owners = (OWNER, replica_set("api", 1))
    facts = plan(
        swap,
        makes_room,
        to_n2,
        **{**RUNNING, "started_at": STARTED, "unready_at_start": 0, "step_status": {"s001": since}},
    )
    step = run(facts, snapshot(*NODES, *owners, *PODS[1:], *STAYS, fresh(1), other), policy=STOP)
    assert [one.id for one in step.evict] == ["s005"]
    for seconds, phase in ((5, PlanPhase.RUNNING), (64, PlanPhase.RUNNING), (65, PlanPhase.ABORTED)):
        facts = after(facts, step)
        step = run(facts, snapshot(*NODES, *owners, *PODS[1:], *STAYS, fresh(1)), policy=STOP, now=NOW + seconds)
        assert step.phase is phase, (seconds, step.reason, step.message)


def test_the_unready_pods_are_counted_once_at_the_start() -> None:
    facts = plan(*STEPS, *SLOTS, **{**RUNNING, "started_at": None})
    cluster = snapshot(*NODES, OWNER, *PODS, *map(unready, STAYS[:2]), *STAYS[2:])
    step = run(facts, cluster, policy=STOP)
    assert step.unready_at_start == 2
    worse = snapshot(*NODES, OWNER, *PODS, *map(unready, STAYS[:3]), STAYS[3])
    step = run(after(facts, step), worse, policy=STOP)
    assert (step.phase, step.unready_at_start) == (PlanPhase.RUNNING, 2)


LIMITS: dict[str, tuple[MaxUnavailable | None, int]] = {
    "no limit": (None, 4),
    "one at a time": (MaxUnavailable(pods=1), 1),
    "two at a time": (MaxUnavailable(pods=2), 2),
    "a quarter of eight": (MaxUnavailable(percent=25), 2),
    "a tenth of eight is still one": (MaxUnavailable(percent=10), 1),
    "more than move": (MaxUnavailable(pods=9), 4),
}


@pytest.mark.parametrize(("most", "evicted"), LIMITS.values(), ids=LIMITS.keys())
def test_not_more_pods_of_a_controller_leave_at_once(most: MaxUnavailable | None, evicted: int) -> None:
    step = advanced(*PODS, *STAYS, policy=structs.replace(POLICY, max_unavailable=most))
    assert len(step.evict) == evicted
    held = [one for one, state in states(step).items() if state == (StepState.WAITING, StepReason.OWNER_LIMIT)]
    assert len(held) == 4 - evicted


DONE = {"s001": StepStatus(StepState.DONE, StepReason.BOUND, NOW - 5)}
GOING: dict[str, tuple[tuple[Pod, ...], Mapping[str, StepStatus], int]] = {
    "one on its way out counts": ((structs.replace(PODS[0], terminating=True), *PODS[1:]), begun(1), 1),
    "one whose replacement waits counts": ((fresh(1), *PODS[1:]), begun(1), 1),
    "one whose replacement starts counts": ((fresh(1, "n2", ready=False), *PODS[1:]), DONE, 1),
    "one whose replacement is Ready does not": ((fresh(1, "n2"), *PODS[1:]), DONE, 2),
    "one that crashes for reasons of its own does not": (
        (fresh(1, "n2"), *PODS[1:], unready(STAYS[0])),
        DONE,
        2,
    ),
}


@pytest.mark.parametrize(("pods", "status", "evicted"), GOING.values(), ids=GOING.keys())
def test_who_counts_as_down(pods: tuple[Pod, ...], status: Mapping[str, StepStatus], evicted: int) -> None:
    policy = structs.replace(POLICY, max_unavailable=MaxUnavailable(pods=2))
    assert len(advanced(*pods, *STAYS[1:], status=status, policy=policy).evict) == evicted


@pytest.mark.parametrize("ready", [True, False])
def test_a_replacement_in_the_place_of_a_pod_that_has_yet_to_leave_is_back_all_the_same(ready: bool) -> None:
    apart = tuple(slot(number + 1, one, f"n{number + 2}") for number, one in enumerate(PODS[:3]))
    facts = plan(*STEPS[:3], *apart, **{**RUNNING, "started_at": STARTED, "step_status": begun(1, reason=GONE)})
    # nobody steered it while the extender was down: it came to n3, where the replacement of web-1 shall go
    seen = snapshot(*NODES, OWNER, fresh(1, "n3", ready=ready), *PODS[1:], *STAYS)
    step = run(facts, seen, policy=structs.replace(POLICY, max_unavailable=MaxUnavailable(pods=1)))
    assert [one.id for one in step.evict] == (["s002"] if ready else [])


LEAVES = structs.replace(PODS[0], terminating=True)


@pytest.mark.parametrize(
    ("leaves", "more"),
    [
        pytest.param((LEAVES,), (), id="its-replacement-is-to-be-made"),
        pytest.param((LEAVES,), (pod("web-9", cpu=2),), id="its-replacement-waits"),
        pytest.param((PODS[0],), (), id="it-has-yet-to-leave"),
    ],
)
def test_one_more_replica_is_nobodys_replacement(leaves: tuple[Pod, ...], more: tuple[Pod, ...]) -> None:
    apart = tuple(slot(number + 1, one, f"n{number + 2}") for number, one in enumerate(PODS[:3]))
    facts = plan(*STEPS[:3], *apart, **{**RUNNING, "started_at": STARTED, "step_status": begun(1)})
    seen = snapshot(*NODES, replica_set("web", 9), *leaves, fresh(1, "n3"), *more, *PODS[1:], *STAYS)
    step = run(facts, seen, policy=structs.replace(POLICY, max_unavailable=MaxUnavailable(pods=1)))
    assert "s002" not in [one.id for one in step.evict]


WAITED = pod("web-9", cpu=2)
CAME = {**DONE, "s009": StepStatus(StepState.DONE, StepReason.BOUND, NOW - 50)}
HERE = bound(WAITED, "n2", ready=False, bound_at=NOW - 70)
BESIDE: dict[str, tuple[str, tuple[Pod, ...], int, PlanPhase]] = {
    "it counts for nothing, where nobody moves to": (
        "n3",
        (bound(WAITED, "n3", ready=False), fresh(1, "n2")),
        1,
        PlanPhase.RUNNING,
    ),
    "nor where others move to": ("n2", (HERE, fresh(1, "n2")), 1, PlanPhase.RUNNING),
    "nor does its time end the plan": ("n2", (HERE, *PODS[:1]), 1, PlanPhase.RUNNING),
    "the replacement beside it counts": ("n2", (HERE, fresh(1, "n2", ready=False)), 0, PlanPhase.RUNNING),
    "and so does its time": ("n2", (HERE, fresh(1, "n2", ready=False, bound_at=NOW - 60)), 0, PlanPhase.ABORTED),
}


@pytest.mark.parametrize(("to", "pods", "evicted", "phase"), BESIDE.values(), ids=BESIDE.keys())
def test_a_pod_that_only_waited_and_does_not_start(
    to: str, pods: tuple[Pod, ...], evicted: int, phase: PlanPhase
) -> None:
    # its slot comes before or after those of the moves by name: pods fill slots of one place in any order
    for number in (0, 9):
        there = slot(number, WAITED, to)
        status = CAME if PODS[0] not in pods else {"s009": CAME["s009"]}
        usual = {**RUNNING, "started_at": STARTED, "unready_at_start": 0, "step_status": status}
        facts = plan(*STEPS, place(9, WAITED, there), *SLOTS, there, **usual)
        seen = snapshot(*NODES, replica_set("web", 9), *pods, *PODS[1:], *STAYS)
        step = run(facts, seen, policy=structs.replace(STOP, max_unavailable=MaxUnavailable(pods=1)))
        assert (len(step.evict), step.phase) == (evicted, phase), (number, step.reason, step.message)


def test_controllers_do_not_wait_for_each_other() -> None:
    other = pod("api-1", "n1", app="api", cpu=2)
    facts = plan(
        *STEPS[:2], evict(5, other, "k005"), *SLOTS[:2], slot(5, other, "n3"), **{**RUNNING, "started_at": STARTED}
    )
    seen = snapshot(*NODES, OWNER, replica_set("api", 1), *PODS, *STAYS, other)
    step = run(facts, seen, policy=structs.replace(POLICY, max_unavailable=MaxUnavailable(pods=1)))
    assert [one.id for one in step.evict] == ["s001", "s005"]


def test_a_refused_eviction_is_asked_for_again() -> None:
    policy = structs.replace(POLICY, max_unavailable=MaxUnavailable(pods=1))
    step = advanced(*PODS, *STAYS, status=begun(1), policy=policy)
    assert [one.id for one in step.evict] == ["s001"]
