"""Which gangs can be planned for: complete, of one size, and held by nobody else."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from harness.facts import pod
from stowage_scheduler.cluster import Gang, Pod
from stowage_scheduler.gangs import GANG_GATE, GangState, foreign_gates, gangs
from stowage_scheduler.immovable import Immovable


def member(number: int, on: str | None = None, size: int = 3, **more: object) -> Pod:
    """A pod of gang `ring`: gated while it waits."""
    usual: dict[str, object] = {"gang": Gang("ring", size), "gates": () if on else (GANG_GATE,)}
    return pod(f"ring-{number}", on=on, **{**usual, **more})


def three(**last: object) -> list[Pod]:
    return [member(1), member(2), member(3, **last)]  # type: ignore[arg-type]


CASES = {
    "all of it waits behind its gate": (three(), None),
    "some were let in already": ([member(1, on="a"), member(2, gates=()), member(3)], None),
    "more pods than it needs": ([*three(), member(4)], None),
    "one pod is missing": (three()[:2], Immovable.GANG_INCOMPLETE),
    "a finished pod is missing": (
        [replace(member(1, on="a"), phase="Succeeded"), member(2), member(3)],
        Immovable.GANG_INCOMPLETE,
    ),
    "a terminating pod is missing": (three(terminating=True), Immovable.GANG_INCOMPLETE),
    "a pod that is being disrupted is missing": (
        [member(1, on="a", disruption_target=True), member(2), member(3)],
        Immovable.GANG_INCOMPLETE,
    ),
    "another gate holds one pod": (three(gates=("example.com/quota", GANG_GATE)), Immovable.GANG_GATED),
    "one pod is nominated": (three(gates=(), nominated_node="a"), Immovable.GANG_NOMINATED),
    "two sizes": (three(size=4), Immovable.GANG_SIZE_UNREADABLE),
    "no size that anybody can read": ([member(n, size=0) for n in (1, 2, 3)], Immovable.GANG_SIZE_UNREADABLE),
}


@pytest.mark.parametrize(("pods", "why"), CASES.values(), ids=CASES.keys())
def test_what_keeps_a_gang_waiting(pods: list[Pod], why: Immovable | None) -> None:
    (state,) = gangs(pods).values()
    assert state.why is why
    assert state.ready is (why is None)


def test_a_gang_is_a_name_within_a_namespace() -> None:
    found = gangs([*three(), *(replace(one, namespace="other") for one in three()), pod("web-1")])
    assert list(found) == [("default", "ring"), ("other", "ring")]
    assert all(state.ready for state in found.values())


def test_who_runs_and_who_waits() -> None:
    pods = [member(3), member(2, on="a"), member(1)]
    (state,) = gangs(pods).values()
    assert state == GangState(("default", "ring"), 3, (pods[1],), (pods[2], pods[0]))
    assert state.members == (pods[1], pods[2], pods[0])


def test_a_gang_that_runs_waits_for_nothing() -> None:
    (state,) = gangs([member(n, on="a") for n in (1, 2, 3)]).values()
    assert state.why is None
    assert not state.ready


def test_the_gate_of_gangs_is_foreign_to_a_pod_of_none() -> None:
    assert foreign_gates(member(1)) == ()
    assert foreign_gates(replace(member(1), gang=None)) == (GANG_GATE,)
    assert foreign_gates(replace(member(1), gates=("example.com/quota", GANG_GATE))) == ("example.com/quota",)
