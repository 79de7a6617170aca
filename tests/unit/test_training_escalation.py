"""What escalates, what a budget allows, whose error stops a job, and which nodes are kept away from."""

from __future__ import annotations

import pytest
from msgspec import structs

from stowage.api.training_words import Action, Domain, Event
from stowage.decide.training.facts import Budget, Evidence, History, NodeRecord, Recovery
from stowage.decide.training.node_memory import records_of
from stowage.decide.training.recovery_reasons import RecoveryReason
from unit.builders import NOW
from unit.training_cases import ALL_NODES, cluster, decided, exited, job, of_node, saw, tried

RESTARTED = tuple(tried(Action.RESTART_PROCESSES, epoch=number) for number in (4, 5))
IN_PLACE = (*RESTARTED, tried(Action.RESTART_CONTAINER, epoch=6))
LOOKED_AT = tried(Action.PAUSE, epoch=6, seat=None, node=None)
MOVED = (*IN_PLACE, *(tried(Action.REPLACE_NODE, epoch=number) for number in (2, 3)))
SHRUNK = (*MOVED, tried(Action.SHRINK, epoch=1))


@pytest.mark.parametrize(
    ("history", "action"),
    [
        pytest.param(RESTARTED[:1], Action.RESTART_PROCESSES, id="once more"),
        pytest.param(RESTARTED, Action.RESTART_CONTAINER, id="then the container"),
        pytest.param(IN_PLACE, Action.REPLACE_NODE, id="then another node"),
        pytest.param(MOVED, Action.SHRINK, id="then a smaller job"),
        pytest.param(SHRUNK, Action.PAUSE, id="then somebody has to look"),
        pytest.param(
            tuple(structs.replace(one, at=NOW - 3600) for one in SHRUNK), Action.RESTART_PROCESSES, id="long ago"
        ),
        pytest.param(
            tuple(structs.replace(one, seat="s2") for one in SHRUNK), Action.RESTART_PROCESSES, id="elsewhere"
        ),
        pytest.param((*SHRUNK, LOOKED_AT), Action.RESTART_PROCESSES, id="somebody has looked"),
        pytest.param((LOOKED_AT, *SHRUNK), Action.PAUSE, id="and nothing has become better"),
        pytest.param(
            tuple(structs.replace(one, event=Event.DISRUPTION) for one in SHRUNK),
            Action.RESTART_PROCESSES,
            id="evictions",
        ),
    ],
)
def test_what_failed_again_at_the_same_seat_escalates(history: tuple[Recovery, ...], action: Action) -> None:
    decision = decided(exited(), history=History(history))
    assert decision.action is action
    assert (decision.size == 2) is (action is Action.SHRINK)
    assert (decision.vacate == ("s1",)) is (action in {Action.REPLACE_NODE, Action.SHRINK})


def test_a_failure_of_the_program_costs_no_node() -> None:
    assert decided(exited(error_type="KeyError"), history=History(SHRUNK)).action is Action.RESTART_CONTAINER


def test_without_a_smaller_size_the_job_is_paused() -> None:
    decision = decided(exited(), job_facts=job(sizes=(4, 8)), history=History(MOVED))
    assert (decision.action, decision.reason) == (Action.PAUSE, RecoveryReason.NO_SMALLER_SIZE)


ERROR = exited(error_type="ValueError", error_message="bad shard 7", error_hash="h1", step=120)


@pytest.mark.parametrize(
    ("evidence", "past", "action"),
    [
        pytest.param(ERROR, {"error_hash": "h1", "step": 120}, Action.FAIL, id="the same error at the same step"),
        pytest.param(ERROR, {"error_hash": "h1", "step": 119}, Action.RESTART_PROCESSES, id="at another step"),
        pytest.param(ERROR, {"error_hash": "h2", "step": 120}, Action.RESTART_PROCESSES, id="another error"),
        pytest.param(
            structs.replace(ERROR, error_type="DistBackendError"),
            {"error_hash": "h1", "step": 120},
            Action.RESTART_PROCESSES,
            id="an error of lost peers",
        ),
        pytest.param(
            structs.replace(ERROR, error_hash=""),
            {"error_hash": "", "step": 120},
            Action.RESTART_PROCESSES,
            id="no error",
        ),
        pytest.param(
            saw(Event.NON_FINITE, step=50), {"event": Event.NON_FINITE, "step": 50}, Action.FAIL, id="no number twice"
        ),
    ],
)
def test_user_errors_stop_at_the_second_time(evidence: Evidence, past: dict[str, object], action: Action) -> None:
    before = structs.replace(tried(Action.RESTART_PROCESSES, epoch=6, at=NOW - 50000), **past)
    decision = decided(evidence, history=History((before,)))
    assert decision.action is action
    if action is Action.FAIL and evidence.error_message:
        assert "bad shard 7" in decision.message
        assert decision.domain is Domain.WORKLOAD


UNTOLD = structs.replace(ERROR, step=None)


@pytest.mark.parametrize(
    ("evidence", "past", "resumed_from", "action"),
    [
        pytest.param(UNTOLD, {"step": 120}, 120, Action.FAIL, id="it went on from the checkpoint right before"),
        pytest.param(UNTOLD, {"step": 120}, 121, Action.FAIL, id="one that is numbered by the next step"),
        pytest.param(UNTOLD, {"step": 120}, 100, Action.RESTART_PROCESSES, id="it went on from far before"),
        pytest.param(UNTOLD, {"step": 120}, 140, Action.RESTART_PROCESSES, id="it had come further since"),
        pytest.param(UNTOLD, {"step": 120}, None, Action.RESTART_PROCESSES, id="without a checkpoint"),
        pytest.param(
            UNTOLD, {"step": 120, "error_hash": "h2"}, 120, Action.RESTART_PROCESSES, id="another error there"
        ),
        pytest.param(UNTOLD, {"step": 120, "at": NOW - 50000}, 120, Action.RESTART_PROCESSES, id="yesterday"),
        pytest.param(ERROR, {"step": 119}, 119, Action.RESTART_PROCESSES, id="it told a later step"),
        pytest.param(
            structs.replace(UNTOLD, error_type="DistBackendError"),
            {"step": 120},
            120,
            Action.RESTART_PROCESSES,
            id="an error of lost peers",
        ),
    ],
)
def test_who_fails_before_its_first_step_fails_where_it_went_on(
    evidence: Evidence, past: dict[str, object], resumed_from: int | None, action: Action
) -> None:
    before = structs.replace(tried(Action.RESTART_PROCESSES, epoch=6), **{"error_hash": "h1", **past})
    facts = job(checkpoint_step=resumed_from)
    assert decided(evidence, job_facts=facts, history=History((before,))).action is action


TWO = job(budget=Budget(2, 3600.0))
SPENT = tuple(tried(Action.RESTART_PROCESSES, epoch=number, seat=f"s{number}", node=None) for number in (5, 6))


@pytest.mark.parametrize(
    ("evidence", "history", "action"),
    [
        pytest.param(exited(), SPENT[:1], Action.RESTART_PROCESSES, id="one is left"),
        pytest.param(exited(), SPENT, Action.FAIL, id="none is left"),
        pytest.param(saw(Event.DEVICE_UNHEALTHY, 1), SPENT, Action.PAUSE, id="for the cluster's fault it is paused"),
        pytest.param(saw(Event.DISRUPTION, 1), SPENT, Action.REPLACE_NODE, id="an eviction costs nothing"),
        pytest.param(
            exited(),
            tuple(structs.replace(one, blameless=True) for one in SPENT),
            Action.RESTART_PROCESSES,
            id="nor did those",
        ),
        pytest.param(
            exited(),
            (SPENT[0], structs.replace(SPENT[1], epoch=5)),
            Action.RESTART_PROCESSES,
            id="two lines of one decision",
        ),
        pytest.param(exited(), (*SPENT, LOOKED_AT), Action.RESTART_PROCESSES, id="somebody has looked since"),
        pytest.param(exited(), (LOOKED_AT, *SPENT), Action.FAIL, id="it was used up again"),
        pytest.param(
            exited(),
            tuple(structs.replace(one, at=NOW - 3600) for one in SPENT),
            Action.RESTART_PROCESSES,
            id="long ago",
        ),
    ],
)
def test_the_budget_holds_within_its_window(evidence: Evidence, history: tuple[Recovery, ...], action: Action) -> None:
    decision = decided(evidence, job_facts=TWO, history=History(history))
    assert decision.action is action
    assert (decision.reason == RecoveryReason.BUDGET_EXHAUSTED) is (action in {Action.FAIL, Action.PAUSE})


def test_repeat_offenders_are_avoided_and_those_of_many_jobs_cordoned() -> None:
    times = (NOW - 3000, NOW - 2000, NOW - 1000)
    worst = NodeRecord(times, frozenset({"a/x", "b/y"}), is_proven=True)
    records = {"n7": worst, "n8": NodeRecord(times, frozenset({"a/x"}))}
    decision = decided(saw(Event.IMAGE_UNAVAILABLE, 1), history=History(nodes=records))
    assert set(decision.avoid) == {"n1", "n7"}, "two of twenty nodes at most: this one, then the worst"
    assert set(decision.cordon) == {"n7"}
    assert "2 jobs" in decision.avoid["n7"]


@pytest.mark.parametrize(
    ("event", "domain", "jobs", "proven"),
    [
        pytest.param(Event.SUPERVISOR_LOST, Domain.INFRASTRUCTURE, ("a/x", "b/y"), True, id="told by two namespaces"),
        pytest.param(
            Event.SUPERVISOR_LOST, Domain.INFRASTRUCTURE, ("a/x", "a/y"), False, id="one namespace could make it up"
        ),
        pytest.param(Event.NODE_LOST, Domain.INFRASTRUCTURE, ("a/x", "a/y"), True, id="the cluster saw it"),
        pytest.param(Event.NODE_LOST, Domain.INFRASTRUCTURE, ("a/x", "a/x"), False, id="one job alone"),
        pytest.param(Event.PROCESS_EXITED, Domain.UNKNOWN, ("a/x", "b/y"), False, id="the same bug in two jobs"),
    ],
)
def test_nobody_taints_nodes_for_others_by_mistakes_or_words(
    event: Event, domain: Domain, jobs: tuple[str, str], proven: bool
) -> None:
    first, second = jobs
    one = [tried(Action.REPLACE_NODE, epoch=number, event=event, domain=domain) for number in (1, 2)]
    two = [tried(Action.REPLACE_NODE, epoch=3, event=event, domain=domain)]
    histories = {first: [*one, *two]} if first == second else {first: one, second: two}
    record = records_of(histories, NOW)["n1"]
    assert (len(record.failures), record.is_proven) == (3, proven)


def test_a_node_that_is_taken_for_maintenance_is_not_to_blame() -> None:
    decision = decided(of_node(Event.NODE_CONDITION, "CSPMaintenance", "n1"), job_facts=job(budget=Budget(0, 3600.0)))
    assert (decision.action, decision.vacate, set(decision.avoid)) == (Action.REPLACE_NODE, ("s1",), {"n1"})


def test_small_clusters_keep_nodes_to_run_on() -> None:
    alone = cluster(names=("n1",))
    assert decided(saw(Event.IMAGE_UNAVAILABLE, 1), snapshot=alone).avoid == {}
    both = (saw(Event.IMAGE_UNAVAILABLE, 1), saw(Event.IMAGE_UNAVAILABLE, 2))
    few = decided(*both, snapshot=cluster(names=ALL_NODES[:4]))
    assert len(few.avoid) == 1
