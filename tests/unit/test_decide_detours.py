"""Moves over temporary places: whom the second eviction is for, when it starts, and when nobody will ever come."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from stowage.api.packing_plan import Approval, PackingPlan, PlanSlot, PlanStep
from stowage.api.packing_plan_status import PackingPlanStatus, PlanPhase, SlotState, StepState
from stowage.api.reasons import PlanReason, StepReason
from stowage.api.resource import InvalidObjectError
from stowage.decide.announcements import announcements, departures
from stowage.decide.document import stale_for, within_limit
from stowage.decide.execution import Advance
from stowage.decide.plan_facts import PlanFacts, PolicyFacts, StepStatus
from stowage.decide.plan_status import next_status, plan_facts
from stowage.decide.plan_validity import invalid_proposal
from stowage.decide.slot_balance import PodFacts
from stowage_scheduler.cluster import Pod, Snapshot
from stowage_scheduler.packing import Action, Packing, PodRef, Step
from unit.builders import NOW, bound, budget, evict, node, plan, plan_resource, pod, ref, replica_set, slot, snapshot
from unit.one_move import RUNNING, after, run, states

# a-1 on n1 and b-1 on n2 change places, and a-1 goes over n3; each node holds one of them
A, B = pod("a-1", "n1", cpu=8, app="a"), pod("b-1", "n2", cpu=8, app="b")
A2, A3 = pod("a-2", cpu=8, app="a"), pod("a-3", cpu=8, app="a")
B2 = pod("b-2", cpu=8, app="b")
NODES = (node("n1"), node("n2"), node("n3"))
OWNERS = (replica_set("a", 1), replica_set("b", 1))
SLOTS = (slot(1, A, "n3"), slot(2, B, "n1"), slot(3, A, "n2"))
ONWARD = Step("s003", Action.EVICT, ref(A), "n3", "k003", ("s001", "s002"), replacement_of="s001")
STEPS = (evict(1, A, "k001"), evict(2, B, "k002", "s001"), ONWARD)
PLAN = plan(*STEPS, *SLOTS, **RUNNING)
INTENDED, DONE = StepStatus(StepState.INTENDED, None, NOW - 3), StepStatus(StepState.DONE, StepReason.BOUND, NOW - 3)
WAITING = StepStatus(StepState.WAITING, StepReason.DEPENDENCY_PENDING, NOW - 3)
AT_REST = structs.replace(PLAN, step_status={"s001": DONE, "s002": DONE, "s003": WAITING})


def cluster(*facts: Any, owners: tuple[Any, ...] = OWNERS) -> Snapshot:
    return snapshot(*NODES, *owners, *facts)


def slots(step: Advance) -> list[str]:
    return [status.state.value for status in step.slot_status.values()]


def with_names(facts: PlanFacts, step: Advance) -> PlanFacts:
    begun = {one: ref.uid for one, ref in step.names.items() if step.step_status[one].state is not StepState.WAITING}
    return structs.replace(after(facts, step), named=begun)


def test_the_whole_way() -> None:
    first = run(PLAN, cluster(A, B))
    assert ([one.id for one in first.evict], slots(first)) == (["s001"], ["Open", "Waiting", "Waiting"])
    assert states(first)["s003"] == (StepState.WAITING, StepReason.DEPENDENCY_PENDING)

    second = run(after(PLAN, first), cluster(bound(A2, "n3"), B))
    assert [one.pod.name for one in second.evict] == ["b-1"]
    assert slots(second) == ["Filled", "Open", "Waiting"]

    third = run(after(PLAN, second), cluster(bound(A2, "n3"), bound(B2, "n1")))
    assert [(one.id, one.pod) for one in third.evict] == [("s003", ref(A2))]
    assert slots(third) == ["Void", "Filled", "Open"]
    assert third.step_status["s001"].state is StepState.DONE

    last = run(with_names(PLAN, third), cluster(bound(A3, "n2"), bound(B2, "n1")))
    assert (last.phase, last.reason) == (PlanPhase.DONE, PlanReason.COMPLETED)


@pytest.mark.parametrize(
    ("there", "asked", "reason"),
    [
        pytest.param(
            (bound(A2, "n3", ready=False), budget("a", 0)), [], StepReason.DISRUPTION_BUDGET, id="not-ready-yet"
        ),
        pytest.param((bound(A2, "n3", ready=False), budget("a")), [], StepReason.PEER_NOT_READY, id="itself-not-ready"),
        pytest.param((bound(A2, "n3"), budget("a")), ["s003"], None, id="ready"),
        pytest.param((bound(A2, "n3", terminating=True),), [], StepReason.DEPENDENCY_PENDING, id="on-its-way-out"),
        pytest.param((A2,), [], StepReason.DEPENDENCY_PENDING, id="another-one-waits"),
        pytest.param((), [], StepReason.DEPENDENCY_PENDING, id="not-made-again-yet"),
    ],
)
def test_when_a_replacement_is_sent_on(there: tuple[Any, ...], asked: list[str], reason: StepReason | None) -> None:
    step = run(AT_REST, cluster(bound(B2, "n1"), *there))
    assert [one.id for one in step.evict] == asked
    assert states(step)["s003"][1] is reason
    assert step.phase is PlanPhase.RUNNING


SUGGESTS = PolicyFacts(name="default", uid="policy-uid", enforce=False)


@pytest.mark.parametrize(
    ("seen", "phase", "reason"),
    [
        pytest.param((A, B), PlanPhase.PROPOSED, PlanReason.AWAITING_APPROVAL, id="all-there"),
        pytest.param((B,), PlanPhase.SUPERSEDED, PlanReason.STALE_SNAPSHOT, id="who-was-to-go-over-it-is-gone"),
    ],
)
def test_a_plan_that_waits_for_a_person(seen: tuple[Pod, ...], phase: PlanPhase, reason: PlanReason) -> None:
    proposed = plan(*STEPS, *SLOTS, approval=Approval.PENDING)
    step = run(proposed, cluster(*seen), SUGGESTS)
    assert (step.phase, step.reason) == (phase, reason)
    again = run(structs.replace(after(proposed, step), approval=Approval.PENDING), cluster(*seen), SUGGESTS)
    assert again.phase is phase


def test_a_temporary_place_opens_again_when_the_pod_there_is_lost() -> None:
    step = run(AT_REST, cluster(A3, bound(B2, "n1")))
    assert slots(step) == ["Open", "Filled", "Waiting"]
    again = run(after(AT_REST, step), cluster(bound(A3, "n3"), bound(B2, "n1")))
    assert [one.pod for one in again.evict] == [ref(A3)]


# two replicas of `a`, from n1 and n4, go over n3 one after the other, to n2 and n5
NEXT = pod("a-9", "n4", cpu=8, app="a")
QUEUE = plan(
    *(evict(1, A, "k001"), Step("s002", Action.EVICT, ref(A), "n3", "k002", ("s001",), replacement_of="s001")),
    *(
        evict(3, NEXT, "k003", "s002"),
        Step("s004", Action.EVICT, ref(NEXT), "n3", "k004", ("s003",), replacement_of="s003"),
    ),
    *(slot(1, A, "n3"), slot(2, A, "n2"), slot(3, NEXT, "n3"), slot(4, NEXT, "n5")),
    **RUNNING,
)


@pytest.mark.parametrize(
    ("status", "seen", "states_are", "slots_are"),
    [
        pytest.param(
            (INTENDED, WAITING), (A3, NEXT), ["Done", "Intended", "Waiting", "Waiting"],
            ["Void", "Open", "Waiting", "Waiting"], id="who-was-there-is-on-its-way-on",
        ),
        pytest.param(
            (DONE, INTENDED), (bound(A3, "n2"), pod("a-4", cpu=8, app="a")), ["Done", "Done", "Intended", "Waiting"],
            ["Void", "Filled", "Open", "Waiting"], id="the-next-one-is-on-its-way-there",
        ),
        pytest.param(
            (DONE, INTENDED), (bound(A3, "n2"), bound(pod("a-4", cpu=8, app="a"), "n3", ready=False)),
            ["Done", "Done", "Done", "Waiting"], ["Void", "Filled", "Filled", "Waiting"], id="the-next-one-is-there",
        ),
    ],
)  # fmt: skip
def test_a_temporary_place_serves_one_after_the_other(
    status: tuple[StepStatus, StepStatus], seen: tuple[Pod, ...], states_are: list[str], slots_are: list[str]
) -> None:
    known = dict(zip([step.id for step in QUEUE.steps], (DONE, *status, WAITING), strict=True))
    nodes = (node("n4"), node("n5"), budget("a", 0), replica_set("a", 2))
    begun = structs.replace(QUEUE, step_status=known, named={"s002": A2.uid})
    step = run(begun, cluster(*nodes, *seen, owners=()))
    assert [one.state.value for one in step.step_status.values()] == states_are
    assert slots(step) == slots_are


ON_RECORD = structs.replace(AT_REST, step_status={"s001": DONE, "s002": DONE, "s003": INTENDED}, named={"s003": A2.uid})


@pytest.mark.parametrize(
    ("there", "asked", "slots_are"),
    [
        pytest.param((bound(A2, "n3"),), [A2], ["Void", "Filled", "Open"], id="died-before-the-request"),
        pytest.param((bound(A2, "n3", terminating=True),), [], ["Void", "Filled", "Open"], id="died-after-the-request"),
        pytest.param((A3,), [], ["Void", "Filled", "Open"], id="gone-and-the-next-one-waits"),
        pytest.param((bound(A3, "n3"),), [], ["Void", "Filled", "Void"], id="the-next-one-went-there-by-itself"),
    ],
)
def test_a_new_leader_goes_on_with_the_pod_on_record(
    there: tuple[Pod, ...], asked: list[Pod], slots_are: list[str]
) -> None:
    step = run(ON_RECORD, cluster(bound(B2, "n1"), *there))
    assert [one.pod for one in step.evict] == [ref(one) for one in asked]
    assert slots(step) == slots_are


def test_who_was_seen_there_before_the_intent_is_not_waited_for() -> None:
    seen_before = structs.replace(ON_RECORD, step_status=AT_REST.step_status)
    step = run(seen_before, cluster(bound(A3, "n3"), bound(B2, "n1")))
    assert [one.pod for one in step.evict] == [ref(A3)]


def test_the_intent_names_the_pod_that_came() -> None:
    resource = plan_resource("default-x", slots=SLOTS).model_copy(deep=True)
    spec = resource.spec.model_copy(update={"steps": tuple(map(PlanStep.of, STEPS))})
    resource = resource.model_copy(update={"spec": spec})
    facts = structs.replace(plan_facts(resource), **RUNNING, step_status=AT_REST.step_status, policy_uid="policy-uid")
    written = next_status(resource, run(facts, cluster(bound(A2, "n3"), bound(B2, "n1"))), NOW)
    assert [entry.pod_uid for entry in written.steps] == [A.uid, B.uid, A2.uid]
    read = plan_facts(resource.model_copy(update={"status": written}))
    assert (read.named, read.steps[2]) == ({"s003": A2.uid}, ONWARD)
    waiting = next_status(resource, run(facts, cluster(A2, bound(B2, "n1"))), NOW)
    assert [entry.pod_uid for entry in waiting.steps] == [A.uid, B.uid, None]


@pytest.mark.parametrize(
    ("status", "seen", "reason"),
    [
        pytest.param(
            {"s001": INTENDED}, cluster(B, owners=(replica_set("a", 0), replica_set("b", 1))),
            StepReason.OWNER_SCALED_DOWN, id="scaled-down-on-the-way",
        ),
        pytest.param(
            {"s001": INTENDED}, cluster(bound(A2, "n4"), B), StepReason.OWNER_SCALED_DOWN, id="landed-elsewhere"
        ),
        pytest.param({"s001": INTENDED}, cluster(B, owners=OWNERS[1:]), StepReason.OWNER_GONE, id="owner-gone"),
        pytest.param(
            {"s001": DONE, "s002": DONE},
            cluster(bound(B2, "n1"), owners=(replica_set("a", 0), replica_set("b", 1))),
            StepReason.OWNER_SCALED_DOWN, id="scaled-down-in-the-temporary-place",
        ),
    ],
)  # fmt: skip
def test_nobody_is_waited_for_who_never_comes(
    status: dict[str, StepStatus], seen: Snapshot, reason: StepReason
) -> None:
    step = run(structs.replace(PLAN, step_status=status), seen)
    assert states(step)["s003"] == (StepState.VOID, reason)
    assert states(step)["s001"][1] in {reason, StepReason.BOUND}
    assert (slots(step)[0], slots(step)[2]) == ("Void", "Void")


def test_others_may_come_to_the_node_of_a_temporary_place_afterwards() -> None:
    """The slots of one node add up to more than it holds, for one of them is over before the other opens."""
    late = pod("late-1", cpu=8, app="late")
    wide = plan(*STEPS, *SLOTS, slot(4, late, "n3"), Step("s004", Action.PLACE, ref(late), "n3", "k004", ("s003",)))
    seen = cluster(A, B, late, owners=(*OWNERS, replica_set("late", 1)))
    assert invalid_proposal(wide, PodFacts(seen)) is None
    assert [one.id for one in run(structs.replace(wide, **RUNNING), seen).evict] == ["s001"]


def test_a_part_of_a_plan_has_both_ways_or_none() -> None:
    more = [evict(number, pod(f"x-{number}", "n1"), f"k{number:03d}") for number in range(4, 8)]
    assert {step.id for step in within_limit((*STEPS, *more), (), 3)} in (
        {"s001", "s002", "s003"},
        {"s004", "s005", "s006"},
    )
    for most in range(1, 7):
        kept = {step.id for step in within_limit((*STEPS, *more), (), most)}
        assert ("s001" in kept) == ("s003" in kept)


def test_a_plan_is_not_stale_for_a_pod_that_is_yet_to_come() -> None:
    packing = Packing((), (), (), (), SLOTS, STEPS, {}, {}, {}, certified=False, seconds=0.0, stages={})
    assert stale_for(packing, {one.uid: one for one in (A, B)}) is None


def test_events_tell_that_a_place_is_for_a_while() -> None:
    [first, last] = departures(AT_REST, (STEPS[0], structs.replace(ONWARD, pod=ref(A2))))
    assert first.note.endswith("goes to node n3 for a while")
    assert (last.pod, last.note.endswith("goes to node n2")) == (ref(A2), True)
    held = run(AT_REST, cluster(bound(A2, "n3"), bound(B2, "n1"), budget("a", 0)))
    assert [(one.pod, one.reason) for one in announcements(AT_REST, held)] == [(ref(A2), "EvictionWaits")]


def document(*steps: Step) -> dict[str, Any]:
    made = plan_resource("default-x", slots=SLOTS)
    raw = made.model_dump(mode="json", by_alias=True, exclude_none=True)
    parts = [PlanStep.of(step).model_dump(mode="json", by_alias=True, exclude_none=True) for step in steps]
    kept = [PlanSlot.of(one).model_dump(mode="json", by_alias=True, exclude_none=True) for one in SLOTS]
    return {**raw, "spec": {**raw["spec"], "steps": parts, "slots": kept}, "status": PackingPlanStatus().model_dump()}


def test_a_way_on_is_part_of_the_resource() -> None:
    read = PackingPlan.parse(document(*STEPS))
    assert plan_facts(read).steps == STEPS


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        pytest.param({"node": "n2"}, "does not evict that pod to come to node n2", id="from-elsewhere"),
        pytest.param({"pod": ref(B)}, "does not evict that pod", id="another-pod"),
        pytest.param({"replacement_of": "s002"}, "does not evict that pod", id="another-step"),
        pytest.param({"after": ()}, "replacementOf needs", id="not-after-it"),
        pytest.param({"slot": None}, "replacementOf needs", id="without-a-place"),
        pytest.param({"swap": True}, "replacementOf needs", id="a-swap"),
        pytest.param({"replacement_of": "s009", "after": ("s009",)}, "not one of spec.steps", id="no-such-step"),
    ],
)
def test_a_way_on_from_nowhere_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises((InvalidObjectError, ValueError), match=words):
        PackingPlan.parse(document(*STEPS[:2], structs.replace(ONWARD, **wrong)))


def test_two_ways_on_from_one_place_are_refused() -> None:
    with pytest.raises((InvalidObjectError, ValueError), match="as step s003 does already"):
        PackingPlan.parse(document(*STEPS, structs.replace(ONWARD, id="s004", slot="k002")))


def test_names_come_from_the_cluster() -> None:
    step = run(AT_REST, cluster(bound(A2, "n3"), bound(B2, "n1")))
    assert step.names == {"s003": PodRef("team", "a-2", A2.uid)}
    assert step.slot_status["k003"].state is SlotState.OPEN
