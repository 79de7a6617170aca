"""Who leaves when a variant shrinks, and when it may go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.serving_children import NOW, pod, starting, unplaced
from stowage.decide.serving.drain import GONE_COST, LEAVING_COST, Change, Fleet, Samples, change
from stowage.decide.serving.service_facts import PodFact
from stowage.decide.serving.victims import in_order_of_leaving

DEADLINE_SECONDS = 300.0


def samples(pods: list[PodFact], requests: list[int | None], at: float = NOW) -> Samples:
    known = {one.ref.name: count for one, count in zip(pods, requests, strict=True) if count is not None}
    return Samples(known, dict.fromkeys(known, at), 60.0)


def leaving(number: int, *, seconds: float, cost: int = LEAVING_COST, **facts: Any) -> PodFact:
    return pod(number, takes_requests=False, draining_since=NOW - seconds, deletion_cost=cost, **facts)


def changed(target: int, pods: list[PodFact], known: Samples, **facts: Any) -> Change:
    fleet = Fleet(**{"replicas": len(pods), "pods": pods, **facts})
    return change(target, fleet, known, deadline_seconds=DEADLINE_SECONDS, now=NOW)


ORDER = [
    pytest.param([pod(0), unplaced(1, seconds=5.0)], {}, 1, id="without a node before one that answers"),
    pytest.param([pod(0), starting(1)], {}, 1, id="not ready before ready"),
    pytest.param(
        [starting(0, created_at=NOW), starting(1, trouble="CrashLoopBackOff", created_at=NOW - 999)],
        {},
        1,
        id="who can not start before who starts",
    ),
    pytest.param([pod(0), leaving(1, seconds=9.0)], {"unified-default-1": 9}, 1, id="who drains already stays with it"),
    pytest.param(
        [pod(0), pod(1)], {"unified-default-0": 4, "unified-default-1": 1}, 1, id="fewest requests: the cheapest drain"
    ),
    pytest.param([pod(0), pod(1)], {"unified-default-1": 50}, 1, id="requests that are not known count as many"),
    pytest.param([pod(0), pod(7)], {"unified-default-0": 0, "unified-default-7": 0}, 7, id="the emptiest node"),
    pytest.param([pod(0), pod(1, created_at=NOW - 60.0)], {}, 1, id="the youngest"),
    pytest.param([pod(1), pod(0)], {}, 0, id="by name at last"),
]


@pytest.mark.parametrize(("pods", "requests", "first"), ORDER)
def test_who_leaves_first(pods: list[PodFact], requests: dict[str, int], first: int) -> None:
    found = in_order_of_leaving(pods, requests, {"n7": 6})
    assert found[0].ref.name == f"unified-default-{first}"


def test_a_replica_with_requests_is_asked_to_leave_before_it_goes() -> None:
    pods = [pod(0), pod(1)]
    found = changed(1, pods, samples(pods, [5, 2]))
    assert found.replicas == 2
    assert found.drain == (pods[1].ref,)
    assert found.cost == {pods[1].ref: LEAVING_COST}
    assert not found.undrain


DONE = [
    pytest.param(leaving(1, seconds=30.0), 0, NOW - 1.0, True, id="its last request has ended"),
    pytest.param(leaving(1, seconds=30.0), 3, NOW - 1.0, False, id="requests run"),
    pytest.param(leaving(1, seconds=30.0), 0, NOW - 31.0, False, id="the sample is older than the label"),
    pytest.param(leaving(1, seconds=6.0), 0, NOW - 3.0, False, id="proxies may not know yet when it was sampled"),
    pytest.param(leaving(1, seconds=300.0), 9, NOW - 1.0, True, id="the deadline is over"),
    pytest.param(leaving(1, seconds=299.0), None, NOW, False, id="without signals the deadline is waited for"),
    pytest.param(leaving(1, seconds=301.0), None, NOW, True, id="and no longer"),
    pytest.param(leaving(1, seconds=30.0, is_ready=False), 0, NOW - 40.0, True, id="it does not answer, and is empty"),
    pytest.param(
        leaving(1, seconds=30.0, is_ready=False, trouble="CrashLoopBackOff"), None, NOW, True, id="its engine is gone"
    ),
    pytest.param(leaving(1, seconds=30.0, is_ready=False), 2, NOW, False, id="it does not answer, but requests run"),
]


@pytest.mark.parametrize(("gone", "requests", "at", "is_done"), DONE)
def test_when_a_replica_may_go(gone: PodFact, requests: int | None, at: float, is_done: bool) -> None:
    pods = [pod(0), gone]
    found = changed(1, pods, samples(pods, [5, requests], at))
    assert found.replicas == 2, "not before the ReplicaSet controller can have seen the cost"
    assert found.cost == ({gone.ref: GONE_COST} if is_done else {})
    seen = replace(gone, deletion_cost=GONE_COST)
    pods = [pod(0), seen]
    assert changed(1, pods, samples(pods, [5, requests], at)).replicas == (1 if is_done else 2)


def test_without_times_of_samples_an_empty_one_counts_only_once_every_fresh_one_is_newer() -> None:
    for seconds, is_done in ((64.0, False), (66.0, True)):
        pods = [pod(0), leaving(1, seconds=seconds)]
        known = Samples({"unified-default-1": 0}, {}, 60.0)
        assert bool(changed(1, pods, known).cost) is is_done


def test_a_rise_takes_back_who_drains_before_it_asks_for_new_ones() -> None:
    pods = [pod(0), leaving(1, seconds=9.0), leaving(2, seconds=9.0)]
    found = changed(2, pods, samples(pods, [1, 4, 2]))
    assert found.replicas == 3
    assert found.undrain == (pods[1].ref,), "who has most requests comes back"
    assert found.cost == {pods[1].ref: 0}
    more = changed(5, pods, samples(pods, [1, 4, 2]))
    assert more.replicas == 5, "and new ones wait for nobody"
    assert set(more.undrain) == {pods[1].ref, pods[2].ref}


def test_replicas_that_were_never_made_go_at_once() -> None:
    pods = [pod(0), pod(1)]
    found = changed(2, pods, samples(pods, [1, 1]), replicas=5)
    assert found == Change(2, (), (), {})


def test_one_that_still_has_requests_keeps_the_place_of_nobody_else() -> None:
    """The controller removes the lowest cost: that one is empty, whatever the order of leaving says."""
    pods = [pod(0), leaving(1, seconds=30.0), leaving(2, seconds=30.0, cost=GONE_COST)]
    found = changed(1, pods, samples(pods, [9, 1, 0]))
    assert found.replicas == 2
    assert not found.cost


def test_in_the_middle_of_a_roll_out_nothing_is_removed() -> None:
    """The Deployment's controller takes replicas off old and new ReplicaSets then, whatever costs say."""
    pods = [pod(0), pod(1), pod(2)]
    found = changed(1, pods, samples(pods, [0, 0, 0]), may_shrink=False)
    assert found == Change(3, (), (), {})
    assert changed(5, pods, samples(pods, [0, 0, 0]), may_shrink=False).replicas == 5


def test_a_label_without_its_time_is_written_again() -> None:
    pods = [pod(0), pod(1, takes_requests=False)]
    found = changed(1, pods, samples(pods, [1, 1]))
    assert found.drain == (pods[1].ref,)


def test_one_that_answered_and_fails_its_probe_waits_while_nobody_knows_its_requests() -> None:
    for seconds, is_done in ((30.0, False), (301.0, True)):
        pods = [pod(0), leaving(1, seconds=seconds, is_ready=False)]
        assert bool(changed(1, pods, samples(pods, [5, None])).cost) is is_done
