"""Whatever is seen together gives one decision, and decisions made one after another come to an end."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from stowage.api.training_words import Action, Domain, Event, JobPhase
from stowage.decide.training.escalation import LADDER, TRIES, remembered
from stowage.decide.training.facts import Budget, Decision, Evidence, History, JobFacts, NodeRecord, Recovery, RuleFacts
from stowage.decide.training.node_memory import LARGEST_SHARE_PERCENT, records_of
from stowage.decide.training.recovery import decide_recovery
from stowage_scheduler.cluster import Snapshot
from unit.builders import NOW
from unit.training_cases import ALL_NODES, EPOCH, after, cluster, exited, job, saw, seat, spare

NUMBERS = st.integers(0, 5)
NAMES = st.sampled_from(["", "Ready", "SysLogsXIDError", "CSPMaintenance", "MemoryPressure", "InvalidImageName", "odd"])

evidence = st.builds(
    Evidence,
    event=st.sampled_from(Event),
    at=st.floats(NOW - 700, NOW),
    source=st.just("test"),
    seat=st.none() | NUMBERS.map(lambda number: f"s{number}"),
    node=st.none() | NUMBERS.map(lambda number: f"n{number}"),
    rank=st.none() | NUMBERS,
    epoch=st.none() | st.integers(EPOCH - 1, EPOCH),
    code=st.none() | st.sampled_from([1, 42, 137]),
    signal=st.none() | st.sampled_from([6, 9, 11]),
    error_type=st.sampled_from(["", "ValueError", "DistBackendError", "RuntimeError"]),
    error_hash=st.sampled_from(["", "h1", "h2"]),
    step=st.none() | st.integers(0, 2),
    name=NAMES,
    pod=st.none() | NUMBERS.map(lambda number: f"uid-of-s{number}"),
)
rules = st.builds(
    RuleFacts,
    action=st.sampled_from(Action),
    events=st.frozensets(st.sampled_from(Event), max_size=3),
    codes=st.frozensets(st.sampled_from([1, 42]), max_size=1),
    names=st.frozensets(NAMES, max_size=1),
)
jobs = st.builds(
    lambda connected, on, restarts, sizes, many, stateful, force: job(
        *(seat(number, connected=connected[number], node=f"n{on[number]}") for number in range(4)),
        spare(4, connected=connected[4]),
        spare(5, connected=connected[5]),
        rules=tuple(many),
        sizes=sizes,
        budget=Budget(restarts, 3600.0),
        stateful_storage=stateful,
        force_delete=force,
    ),
    st.lists(st.booleans(), min_size=6, max_size=6),
    st.lists(NUMBERS, min_size=4, max_size=4),
    st.integers(0, 5),
    st.sampled_from([(4,), (1, 2, 4), (2, 4, 8)]),
    st.lists(rules, max_size=2),
    st.booleans(),
    st.booleans(),
)
clusters = st.builds(
    lambda lost, gone, count: cluster(lost=tuple(lost), gone=tuple(gone), names=ALL_NODES[:count]),
    st.lists(st.sampled_from(ALL_NODES[:6]), max_size=3),
    st.lists(st.sampled_from(ALL_NODES[:6]), max_size=2),
    st.integers(1, 20),
)
recoveries = st.lists(
    st.builds(
        Recovery,
        at=st.floats(NOW - 5000, NOW - 1),
        event=st.sampled_from(Event),
        action=st.sampled_from(Action),
        domain=st.sampled_from(Domain),
        epoch=st.integers(0, EPOCH - 1),
        seat=st.none() | NUMBERS.map(lambda number: f"s{number}"),
        node=st.none() | NUMBERS.map(lambda number: f"n{number}"),
        error_hash=st.sampled_from(["", "h1"]),
        step=st.none() | st.integers(0, 2),
    ),
    max_size=6,
)
records = st.dictionaries(
    st.sampled_from(ALL_NODES),
    st.builds(
        NodeRecord,
        failures=st.lists(st.floats(NOW - 90000, NOW), max_size=4).map(tuple),
        jobs=st.frozensets(st.sampled_from("abc")),
    ),
)
histories = st.builds(lambda past, nodes: History(tuple(past), nodes), recoveries, records)
seen = st.lists(evidence, max_size=6)


@settings(max_examples=60)
@given(jobs, seen, histories, clusters)
def test_every_set_of_evidence_gives_one_decision_that_can_be_carried_out(
    facts: JobFacts, seen: list[Evidence], history: History, nodes: Snapshot
) -> None:
    decision = decide_recovery(facts, seen, history, nodes, NOW)
    names = {one.seat for one in facts.seats}
    assert set(decision.force) <= set(decision.vacate) <= names
    assert not set(decision.restart) & set(decision.vacate)
    assert not set(decision.claimed_spares) & set(decision.vacate)
    assert {one.seat for one in facts.seats if one.spare} >= set(decision.claimed_spares)
    assert set(decision.cordon) <= set(decision.avoid) <= {one.name for one in nodes.nodes}
    assert (decision.action is Action.SHRINK) <= (decision.size in facts.sizes)
    assert decision.size is None or decision.size < facts.size
    assert decision.message
    assert (decision.action is Action.IGNORE) or decision.recoveries
    if facts.stateful_storage and not facts.force_delete:
        assert decision.force == ()


@settings(max_examples=60)
@given(jobs, seen, histories, clusters, st.randoms(use_true_random=False))
def test_the_order_in_which_evidence_comes_and_doubles_change_nothing(
    facts: JobFacts, seen: list[Evidence], history: History, nodes: Snapshot, random: object
) -> None:
    shuffled = [*seen, *seen[:2]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert decide_recovery(facts, shuffled, history, nodes, NOW) == decide_recovery(facts, seen, history, nodes, NOW)


@settings(max_examples=60)
@given(jobs, seen, histories, clusters)
def test_once_a_decision_is_in_the_status_the_same_evidence_asks_for_nothing(
    facts: JobFacts, seen: list[Evidence], history: History, nodes: Snapshot
) -> None:
    decision = decide_recovery(facts, seen, history, nodes, NOW)
    changed = structs.replace(history, recoveries=remembered(history.recoveries, decision.recoveries))
    again = decide_recovery(after(facts, decision, NOW), seen, changed, nodes, NOW)
    assert (again.action, again.vacate, again.recoveries) == (Action.IGNORE, (), ())


@settings(max_examples=40)
@given(jobs, seen, histories, clusters)
def test_nodes_that_are_kept_away_from_are_a_bounded_share(
    facts: JobFacts, seen: list[Evidence], history: History, nodes: Snapshot
) -> None:
    decision = decide_recovery(facts, seen, history, nodes, NOW)
    count = len(nodes.nodes)
    share = 0 if count <= 1 else max(1, count * LARGEST_SHARE_PERCENT // 100)
    own = {one.node for one in facts.seats} | {one.node for one in seen}
    assert len(decision.cordon) <= share
    assert len(decision.avoid) <= share or set(decision.avoid) - own == set()
    assert count > 1 or not decision.avoid


def lives(facts: JobFacts, failures: list[tuple[float, Evidence]]) -> list[tuple[float, Decision]]:
    """The decisions about failures that come one after another; seats that were given up stand on new nodes."""
    decisions, history, now, moved = [], History(), NOW, 6
    for seconds, one in failures:
        now += seconds
        seats = []
        for each in facts.seats:
            if each.pod_uid is None:
                seats.append(seat(int(each.seat[1:]), node=f"n{moved % 20}", pod_uid=f"new-{moved}", spare=each.spare))
                moved += 1
            else:
                seats.append(each)
        facts = structs.replace(facts, seats=tuple(seats))
        fresh = structs.replace(one, epoch=facts.epoch, at=now)
        now += 60
        decision = decide_recovery(facts, [fresh], history, cluster(), now)
        decisions.append((now, decision))
        facts = after(facts, decision, now)
        history = History(remembered(history.recoveries, decision.recoveries))
    return decisions


gaps = st.floats(1, 1500)
failures = st.lists(
    st.tuples(
        gaps,
        st.one_of(
            st.builds(exited, NUMBERS.map(lambda number: number % 4), step=st.integers(0, 3)),
            st.builds(saw, st.sampled_from([Event.OUT_OF_MEMORY, Event.HANG, Event.START_TIMEOUT]), st.integers(0, 3)),
            st.builds(saw, st.sampled_from([Event.DISRUPTION, Event.POD_DELETED]), st.integers(0, 3)),
        ),
    ),
    max_size=14,
)


@settings(max_examples=40)
@given(failures, st.integers(0, 4))
def test_the_budget_is_never_exceeded_in_any_window(history: list[tuple[float, Evidence]], restarts: int) -> None:
    decisions = lives(job(budget=Budget(restarts, 3600.0)), history)
    counted = [
        at
        for at, decision in decisions
        if decision.action in TRIES and any(not one.blameless for one in decision.recoveries)
    ]
    for first in counted:
        assert sum(first <= at < first + 3600.0 for at in counted) <= restarts


@settings(max_examples=25)
@given(
    st.lists(st.floats(1, 200), min_size=12, max_size=12), st.sampled_from([Event.PROCESS_EXITED, Event.POD_DELETED])
)
def test_what_fails_again_and_again_at_one_seat_climbs_and_ends(seconds: list[float], event: Event) -> None:
    facts = job(budget=Budget(50, 36000.0), sizes=(2, 4))
    actions = [one.action for _, one in lives(facts, [(gap, saw(event, 1, code=1)) for gap in seconds])]
    until = next(number for number, action in enumerate(actions) if action is Action.PAUSE)
    assert all(LADDER.index(before) <= LADDER.index(later) for before, later in pairwise(actions[: until + 1]))
    assert set(actions[until + 1 :]) == {Action.IGNORE}


@settings(max_examples=25)
@given(st.lists(gaps, min_size=2, max_size=5), st.integers(0, 1000), NUMBERS.map(lambda number: number % 4))
def test_an_error_of_the_program_stops_it_at_the_second_time(seconds: list[float], step: int, at: int) -> None:
    error = exited(at, error_type="ValueError", error_message="bad", error_hash="h1", step=step)
    actions = [one.action for _, one in lives(job(), [(gap, error) for gap in seconds])]
    assert actions[:2] == [Action.RESTART_PROCESSES, Action.FAIL]


@given(st.sets(st.integers(0, 3), min_size=1), st.floats(0, 3600))
def test_nobody_is_evicted_for_slowness_alone(slow: set[int], wait: float) -> None:
    """Slow ranks are no evidence at all; a hang, the slowest that can be, starts processes again and moves nobody."""
    for number in slow:
        decision = decide_recovery(job(), [saw(Event.HANG, number, at=NOW - wait)], History(), cluster(), NOW)
        assert (decision.action, decision.vacate, decision.avoid) == (Action.RESTART_PROCESSES, (), {})


@given(st.lists(st.tuples(gaps, st.sampled_from([Event.DISRUPTION])), max_size=8))
def test_evictions_use_up_no_budget_and_blame_no_node(history: list[tuple[float, Event]]) -> None:
    decisions = lives(job(budget=Budget(0, 3600.0)), [(gap, saw(event, 1)) for gap, event in history])
    assert {decision.action for _, decision in decisions} <= {Action.REPLACE_NODE}
    assert records_of({"team/train": [one for _, d in decisions for one in d.recoveries]}, NOW + 20000) == {}


@given(recoveries, recoveries)
def test_the_history_is_bounded_and_ends_with_the_newest(old: list[Recovery], new: list[Recovery]) -> None:
    kept = remembered(old * 12, new)
    assert len(kept) <= 50
    assert not new or len({one.epoch for one in old}) > 0 or kept[-1] == new[-1]


def test_phases_in_which_nothing_runs_ask_for_nothing() -> None:
    for phase in (JobPhase.SUSPENDED, JobPhase.PAUSED, JobPhase.SUCCEEDED, JobPhase.FAILED):
        assert decide_recovery(job(phase=phase), [exited()], History(), cluster(), NOW).action is Action.IGNORE
