"""What is done about evidence of failures, and why."""

from __future__ import annotations

import pytest
from msgspec import structs

from stowage.api.training_words import Action, Domain, Event, JobPhase
from stowage.decide.training.facts import Evidence, History, JobFacts, RuleFacts, SeatFacts
from stowage.decide.training.recovery import SETTLE_MANY_SECONDS, SETTLE_SECONDS
from stowage.decide.training.recovery_reasons import RecoveryReason
from unit.builders import NOW
from unit.training_cases import (
    EPOCH,
    EPOCH_AT,
    SEEN_AT,
    after,
    cluster,
    decided,
    exited,
    job,
    lost_node,
    of_node,
    saw,
    seat,
    spare,
)

SILENT = job(seat(1, connected=False))


@pytest.mark.parametrize(
    ("evidence", "action", "domain"),
    [
        pytest.param(exited(), Action.RESTART_PROCESSES, Domain.UNKNOWN, id="a rank crashes"),
        pytest.param(
            exited(error_type="ValueError"),
            Action.RESTART_PROCESSES,
            Domain.WORKLOAD,
            id="an exception for the first time",
        ),
        pytest.param(
            exited(error_type="RuntimeError", error_message="CUDA error: uncorrectable ECC error encountered"),
            Action.RESTART_PROCESSES,
            Domain.INFRASTRUCTURE,
            id="a device that is at fault, told by the driver",
        ),
        pytest.param(saw(Event.OUT_OF_MEMORY, 1), Action.RESTART_CONTAINER, Domain.WORKLOAD, id="out of memory"),
        pytest.param(saw(Event.CONTAINER_EXITED, 1), Action.RESTART_CONTAINER, Domain.UNKNOWN, id="the container ends"),
        pytest.param(saw(Event.HANG), Action.RESTART_PROCESSES, Domain.UNKNOWN, id="a hang"),
        pytest.param(saw(Event.NON_FINITE), Action.RESTART_PROCESSES, Domain.UNKNOWN, id="a loss that is no number"),
        pytest.param(lost_node("n1"), Action.REPLACE_NODE, Domain.INFRASTRUCTURE, id="a node is lost"),
        pytest.param(
            of_node(Event.NODE_CONDITION, "SysLogsXIDError", "n1"),
            Action.REPLACE_NODE,
            Domain.INFRASTRUCTURE,
            id="a condition of NVSentinel",
        ),
        pytest.param(
            of_node(Event.NODE_CONDITION, "ReadonlyFilesystem", "n1"),
            Action.REPLACE_NODE,
            Domain.INFRASTRUCTURE,
            id="a condition of node-problem-detector",
        ),
        pytest.param(
            of_node(Event.NODE_CONDITION, "MemoryPressure", "n1"), Action.IGNORE, Domain.UNKNOWN, id="memory pressure"
        ),
        pytest.param(
            of_node(Event.NODE_TAINT, "nvidia.com/gpu-xid-error", "n1"),
            Action.REPLACE_NODE,
            Domain.INFRASTRUCTURE,
            id="a taint of a fault",
        ),
        pytest.param(
            of_node(Event.NODE_TAINT, "team/ours", "n1"), Action.IGNORE, Domain.UNKNOWN, id="a taint of somebody's own"
        ),
        pytest.param(
            saw(Event.DEVICE_UNHEALTHY, 1), Action.REPLACE_NODE, Domain.INFRASTRUCTURE, id="a device is unhealthy"
        ),
        pytest.param(saw(Event.DISRUPTION, 1), Action.REPLACE_NODE, Domain.INFRASTRUCTURE, id="an eviction"),
        pytest.param(saw(Event.POD_DELETED, 1), Action.REPLACE_NODE, Domain.UNKNOWN, id="a pod is deleted"),
        pytest.param(
            saw(Event.IMAGE_UNAVAILABLE, 1, name="ErrImagePull"),
            Action.REPLACE_NODE,
            Domain.WORKLOAD,
            id="no image here",
        ),
        pytest.param(
            saw(Event.IMAGE_UNAVAILABLE, 1, name="InvalidImageName"),
            Action.FAIL,
            Domain.WORKLOAD,
            id="no image anywhere",
        ),
        pytest.param(saw(Event.START_TIMEOUT, 2), Action.RESTART_CONTAINER, Domain.UNKNOWN, id="a seat does not start"),
        pytest.param(
            saw(Event.START_TIMEOUT, 1), Action.REPLACE_NODE, Domain.UNKNOWN, id="a seat that nobody can reach"
        ),
        pytest.param(saw(Event.COORDINATOR_LOST), Action.IGNORE, Domain.UNKNOWN, id="the coordinator is silent"),
        pytest.param(saw(Event.PROMQL, name="loss-spike"), Action.IGNORE, Domain.UNKNOWN, id="a query without a rule"),
        pytest.param(saw(Event.LOG, 1, name="oops"), Action.IGNORE, Domain.UNKNOWN, id="a line without a rule"),
    ],
)
def test_by_default_the_cheapest_action_that_can_work_is_taken(
    evidence: Evidence, action: Action, domain: Domain
) -> None:
    decision = decided(evidence, job_facts=SILENT)
    assert (decision.action, decision.domain) == (action, domain)


@pytest.mark.parametrize("event", list(Event))
def test_every_event_has_an_answer(event: Event) -> None:
    assert decided(saw(event, 1, node="n1"), job_facts=SILENT).message


RULES = (
    RuleFacts(Action.FAIL, codes=frozenset({42}), message="data error"),
    RuleFacts(Action.REPLACE_NODE, frozenset({Event.NODE_CONDITION}), names=frozenset({"OurCheck"})),
    RuleFacts(Action.PAUSE, frozenset({Event.PROMQL}), names=frozenset({"loss-spike"})),
    RuleFacts(Action.IGNORE, frozenset({Event.HANG})),
    RuleFacts(Action.RESTART_CONTAINER, frozenset({Event.PROCESS_EXITED}), signals=frozenset({7})),
)


@pytest.mark.parametrize(
    ("evidence", "action"),
    [
        pytest.param((exited(code=42),), Action.FAIL, id="a code that means failure"),
        pytest.param((exited(code=41),), Action.RESTART_PROCESSES, id="another code is left to the defaults"),
        pytest.param((exited(code=1, at=SEEN_AT - 1), exited(2, 42)), Action.FAIL, id="though others crashed before"),
        pytest.param((lost_node("n3"), exited(2, 42)), Action.FAIL, id="though a node was lost as well"),
        pytest.param(
            (of_node(Event.NODE_CONDITION, "OurCheck", "n1"),), Action.REPLACE_NODE, id="a check of their own"
        ),
        pytest.param((saw(Event.PROMQL, name="loss-spike"),), Action.PAUSE, id="a query of Prometheus"),
        pytest.param((saw(Event.HANG),), Action.IGNORE, id="hangs are ignored"),
        pytest.param((saw(Event.HANG), exited()), Action.RESTART_PROCESSES, id="and hide nothing else"),
        pytest.param((exited(2, 0, signal=7),), Action.RESTART_CONTAINER, id="a signal"),
    ],
)
def test_rules_of_the_job_come_first(evidence: tuple[Evidence, ...], action: Action) -> None:
    decision = decided(*evidence, job_facts=structs.replace(SILENT, rules=RULES))
    assert decision.action is action


def test_the_words_of_a_rule_are_told() -> None:
    assert "data error" in decided(exited(code=42), job_facts=job(rules=RULES)).message


def test_a_lost_node_is_one_cause_of_all_that_it_took_down() -> None:
    twice = job(seat(1, connected=False), seat(2, node="n1", connected=False))
    evidence = (
        saw(Event.SUPERVISOR_LOST, 1, at=NOW),
        saw(Event.SUPERVISOR_LOST, 2, at=NOW),
        exited(3, error_type="ConnectionResetError"),
        saw(Event.DISRUPTION, 2, name="DeletionByTaintManager"),
        lost_node("n1"),
    )
    decision = decided(*evidence, job_facts=twice, snapshot=cluster(lost=("n1",)))
    assert (decision.action, decision.vacate, len(decision.recoveries)) == (Action.REPLACE_NODE, ("s1", "s2"), 1)
    assert decision.avoid == {"n1": "NodeLost (Ready)"}
    assert decision.evidence == tuple(sorted(decision.evidence, key=lambda one: one.at))


def test_two_nodes_that_are_lost_at_once_are_replaced_at_once() -> None:
    facts = job(seat(1, connected=False), seat(2, connected=False))
    decision = decided(lost_node("n1"), lost_node("n2"), job_facts=facts, snapshot=cluster(lost=("n1", "n2")))
    assert (decision.vacate, {one.node for one in decision.recoveries}) == (("s1", "s2"), {"n1", "n2"})


def test_of_ranks_that_ended_together_the_first_that_did_not_lose_its_peers_is_the_cause() -> None:
    decision = decided(
        exited(0, error_type="DistBackendError", error_message="NCCL communicator was aborted", at=SEEN_AT - 2),
        exited(3, signal=6, code=-6, at=SEEN_AT - 1),
        exited(2, error_type="KeyError", error_message="'tokens'"),
    )
    assert [one.seat for one in decision.recoveries] == ["s2"]
    assert "KeyError" in decision.message


def test_an_end_for_lack_of_memory_explains_the_silence_of_its_seat() -> None:
    decision = decided(saw(Event.SUPERVISOR_LOST, 1, at=NOW), saw(Event.OUT_OF_MEMORY, 1), exited(2), job_facts=SILENT)
    assert (decision.action, decision.vacate, decision.restart) == (Action.RESTART_CONTAINER, (), ())


def test_a_container_that_has_to_be_ended_is_named() -> None:
    assert decided(saw(Event.START_TIMEOUT, 2)).restart == ("s2",)


def test_a_silent_seat_is_replaced_once_nobody_said_why() -> None:
    evidence = saw(Event.SUPERVISOR_LOST, 1, at=NOW)
    waits = decided(evidence, job_facts=SILENT)
    assert (waits.action, waits.reason, waits.again_at) == (
        Action.IGNORE,
        RecoveryReason.WAITS_FOR_CAUSE,
        NOW + SETTLE_SECONDS,
    )
    acts = decided(evidence, job_facts=SILENT, now=NOW + SETTLE_SECONDS)
    assert (acts.action, acts.vacate, acts.force) == (Action.REPLACE_NODE, ("s1",), ())


def test_a_supervisor_that_is_back_needs_no_other_node() -> None:
    decision = decided(saw(Event.SUPERVISOR_LOST, 1, at=NOW))
    assert (decision.action, decision.vacate) == (Action.RESTART_CONTAINER, ())


def test_when_most_seats_fall_silent_the_network_is_given_time() -> None:
    facts = job(*(seat(number, connected=False) for number in range(3)))
    evidence = tuple(saw(Event.SUPERVISOR_LOST, number, at=NOW) for number in range(3))
    assert decided(*evidence, job_facts=facts, now=NOW + SETTLE_SECONDS).again_at == NOW + SETTLE_MANY_SECONDS
    late = decided(*evidence, job_facts=facts, now=NOW + SETTLE_MANY_SECONDS)
    assert late.vacate == ("s0", "s1", "s2")


def test_a_node_whose_kubelet_is_gone_keeps_its_seat_while_its_supervisor_is_heard() -> None:
    assert decided(lost_node("n1"), snapshot=cluster(lost=("n1",))).reason == RecoveryReason.NOTHING_NEW
    assert decided(lost_node("n1"), snapshot=cluster(gone=("n1",))).action is Action.REPLACE_NODE


@pytest.mark.parametrize(
    ("facts", "evidence"),
    [
        pytest.param(job(), exited(epoch=EPOCH - 1), id="an older epoch"),
        pytest.param(job(), saw(Event.CONTAINER_EXITED, 1, epoch=None, at=EPOCH_AT), id="before this epoch"),
        pytest.param(job(), saw(Event.OUT_OF_MEMORY, 1, epoch=None, pod="uid-of-older"), id="an older pod"),
        pytest.param(
            job(seat(1, pod_uid=None, node=None)),
            saw(Event.OUT_OF_MEMORY, 1, epoch=None, pod="uid-of-s1"),
            id="given up",
        ),
        pytest.param(job(), lost_node("n9"), id="a node that no seat stands on"),
        pytest.param(job(), exited(9), id="a seat that is no more"),
        pytest.param(job(seat(1, finished=True)), saw(Event.POD_DELETED, 1), id="a seat that has finished"),
        pytest.param(job(phase=JobPhase.PAUSED), exited(), id="a paused job"),
        pytest.param(job(phase=JobPhase.SUCCEEDED), exited(), id="a job that has ended"),
    ],
)
def test_what_is_stale_asks_for_nothing(facts: JobFacts, evidence: Evidence) -> None:
    decision = decided(evidence, job_facts=facts)
    assert (decision.action, decision.vacate, decision.recoveries) == (Action.IGNORE, (), ())


def test_spares_that_could_begin_now_take_over() -> None:
    facts = job(
        seat(1, connected=False),
        spare(5, ready=False),
        spare(6, node="n1", connected=False),
        spare(10),
        spare(9),
        spare(8),
    )
    decision = decided(lost_node("n1"), job_facts=facts, snapshot=cluster(lost=("n1",), gone=("n8",)))
    assert (decision.vacate, decision.claimed_spares) == (("s1", "s6"), ("s9",))


def test_a_spare_that_is_lost_stops_nobody() -> None:
    facts = job(spare(5, connected=False))
    decision = decided(lost_node("n5"), job_facts=facts, snapshot=cluster(lost=("n5",)))
    assert (decision.action, decision.vacate, decision.reason) == (Action.IGNORE, ("s5",), RecoveryReason.SPARE_LOST)
    again = decided(
        lost_node("n5"), job_facts=after(facts, decision, NOW), history=History(decision.recoveries), now=NOW + 1
    )
    assert (again.vacate, again.recoveries) == ((), ())


@pytest.mark.parametrize(
    ("fields", "forced", "explained"),
    [
        pytest.param({}, True, False, id="checkpoints are fenced, so nothing can suffer"),
        pytest.param({"stateful_storage": True}, False, True, id="volumes may still be attached"),
        pytest.param({"stateful_storage": True, "force_delete": True}, True, False, id="the user allows it"),
    ],
)
def test_pods_on_dead_nodes_go_by_force_only_where_no_data_can_suffer(
    fields: dict[str, bool], forced: bool, explained: bool
) -> None:
    facts = job(seat(1, connected=False), **fields)
    decision = decided(lost_node("n1"), job_facts=facts, snapshot=cluster(lost=("n1",)))
    assert (decision.vacate, decision.force) == (("s1",), ("s1",) if forced else ())
    assert ("node.kubernetes.io/out-of-service" in decision.message) is explained


def test_a_pod_on_a_living_node_is_never_deleted_by_force() -> None:
    assert decided(saw(Event.DEVICE_UNHEALTHY, 1), job_facts=job(force_delete=True)).force == ()


def test_a_condition_that_a_rule_answers_in_place_is_answered_once() -> None:
    rules = (RuleFacts(Action.RESTART_PROCESSES, frozenset({Event.NODE_CONDITION}), names=frozenset({"Odd"})),)
    facts, odd = job(rules=rules), of_node(Event.NODE_CONDITION, "Odd", "n1", at=NOW - 3)
    decision = decided(odd, job_facts=facts)
    assert decision.action is Action.RESTART_PROCESSES
    now = after(facts, decision, NOW)
    history = History(decision.recoveries)
    assert decided(odd, job_facts=now, history=history, now=NOW + 1).action is Action.IGNORE
    again = structs.replace(odd, at=NOW + 60)
    assert decided(again, job_facts=now, history=history, now=NOW + 61).action is Action.RESTART_PROCESSES


@pytest.mark.parametrize(
    ("spares", "size"),
    [
        pytest.param((), 3, id="a member"),
        pytest.param((spare(4, node="n1"),), 3, id="a member and a spare beside it, which nobody counts"),
        pytest.param((seat(4, node="n1"),), 2, id="two members"),
    ],
)
def test_a_job_shrinks_by_the_members_that_it_lost(spares: tuple[SeatFacts, ...], size: int) -> None:
    rule = RuleFacts(Action.SHRINK, frozenset({Event.NODE_LOST}))
    facts = job(*spares, sizes=(1, 2, 3, 4), rules=(rule,))
    decision = decided(of_node(Event.NODE_LOST, "Gone", "n1"), job_facts=facts, snapshot=cluster(gone=("n1",)))
    assert (decision.action, decision.size) == (Action.SHRINK, size)


def test_spares_that_are_heard_say_that_the_network_is_well() -> None:
    silent = [seat(1, connected=False), *(spare(number, connected=False) for number in (4, 5))]
    evidence = [saw(Event.SUPERVISOR_LOST, number) for number in (1, 4, 5)]
    assert decided(*evidence, job_facts=job(*silent, spare(6))).action is Action.REPLACE_NODE
    assert decided(*evidence, job_facts=job(*silent, size=4)).action is Action.REPLACE_NODE, "three seats of six"
    more = [*silent, seat(2, connected=False)]
    again = decided(*evidence, saw(Event.SUPERVISOR_LOST, 2), job_facts=job(*more))
    assert again.reason == "WaitsForCause", "four seats of six"
