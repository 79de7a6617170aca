"""Gangs that can do without some of their pods, as PodGroups are: enough start together, more come if they fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from harness.facts import OPTIONS, node, packed, places, pod, snapshot
from stowage_scheduler.cluster import Gang, Pod, Snapshot, Unmodelled
from stowage_scheduler.gangs import GANG_GATE
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.packing import Reason
from stowage_scheduler.rules import RULES, Outcome
from stowage_scheduler.solve import engine

RING = "podgroups.scheduling.k8s.io/ring"


def ring(size: int, *, required: tuple[str, ...] = (), unknown: bool = False) -> Gang:
    return Gang(RING, size, required, elastic=True, unknown=unknown)


def waiting(count: int, size: int, cpu: int = 400, first: int = 0, **more: Any) -> list[Pod]:
    usual = {"gang": ring(size), "scheduling_group": True}
    return [pod(f"ring-{number}", cpu, **{**usual, **more}) for number in range(first, first + count)]


def running(number: int, size: int, on: str, cpu: int = 400, **more: Any) -> Pod:
    return pod(f"ring-r{number}", cpu, on=on, **{"gang": ring(size), "scheduling_group": True, **more})


@dataclass(frozen=True)
class Case:
    """A cluster, how many of the group's waiting pods get a place, and why the others do not."""

    cluster: Snapshot
    placed: int
    reasons: set[Reason] = field(default_factory=set)
    stays: tuple[str, ...] = ()
    options: PackOptions = OPTIONS


TABLE = {
    "all of it": Case(snapshot(node("a"), node("b"), *waiting(4, 2)), 4),
    "as many as fit, and enough": Case(snapshot(node("a"), node("b"), *waiting(6, 3)), 4, {Reason.INSUFFICIENT_CPU}),
    "exactly enough": Case(snapshot(node("a"), node("b"), *waiting(6, 4)), 4, {Reason.INSUFFICIENT_CPU}),
    "one too few": Case(snapshot(node("a"), node("b"), *waiting(6, 5)), 0, {Reason.INSUFFICIENT_CPU}),
    "those that run count": Case(
        snapshot(node("a"), node("b"), running(0, 4, "a"), *waiting(4, 4)), 3, {Reason.INSUFFICIENT_CPU}, ("ring-r0",)
    ),
    "too few with those that run": Case(
        snapshot(node("a"), running(0, 3, "a"), *waiting(4, 3)), 0, {Reason.INSUFFICIENT_CPU}, ("ring-r0",)
    ),
    "one more joins a group that runs": Case(
        snapshot(node("a"), running(0, 1, "a"), *waiting(4, 1)), 1, {Reason.INSUFFICIENT_CPU}, ("ring-r0",)
    ),
    "fewer pods than it needs": Case(snapshot(node("a"), *waiting(2, 3)), 0, {Reason.GANG_INCOMPLETE}),
    "nobody knows the group": Case(
        snapshot(node("a"), *waiting(2, 0, gang=ring(0, unknown=True))), 0, {Reason.POD_GROUP_MISSING}
    ),
    "pods behind another gate are left out": Case(
        snapshot(node("a"), *waiting(2, 2), *waiting(2, 2, first=2, gates=("x/quota",))), 2, {Reason.GATED}
    ),
    "too many are behind another gate": Case(
        snapshot(node("a"), *waiting(1, 2), *waiting(2, 2, first=2, gates=("x/quota",))),
        0,
        {Reason.GATED, Reason.GANG_GATED},
    ),
    "a pod that nobody can plan for is left out": Case(
        snapshot(node("a"), *waiting(2, 2), *waiting(1, 2, first=2, unmodelled=(Unmodelled.VOLUMES,))),
        2,
        {Reason.NOT_MODELLED},
    ),
    "too many can not be planned for": Case(
        snapshot(node("a"), *waiting(1, 2), *waiting(1, 2, first=2, unmodelled=(Unmodelled.VOLUMES,))),
        0,
        {Reason.NOT_MODELLED, Reason.GANG_HELD_BACK},
    ),
    "a plan takes as many as it can hold": Case(
        snapshot(node("a"), *waiting(4, 2, 100)), 3, {Reason.GANG_TOO_LARGE}, options=replace(OPTIONS, max_gang_pods=3)
    ),
    "it needs more than a plan can hold": Case(
        snapshot(node("a"), *waiting(4, 4, 100)), 0, {Reason.GANG_TOO_LARGE}, options=replace(OPTIONS, max_gang_pods=3)
    ),
    "others move to make room for enough of it": Case(
        snapshot(node("a"), node("b"), node("c", 500), pod("web-1", 500, on="a"), *waiting(3, 2, 600)),
        2,
        {Reason.INSUFFICIENT_CPU},
        ("web-1",),
    ),
    "pods that run never move": Case(
        snapshot(node("a"), node("b", 500), running(0, 1, "a"), pod("big-1", 900)),
        0,
        {Reason.INSUFFICIENT_CPU},
        ("ring-r0",),
    ),
    "a higher group evicts lower pods, and no more than it needs": Case(
        snapshot(
            node("a"), node("b"), *(pod(f"low-{n}", 900, on=n) for n in "ab"), *waiting(2, 2, 600, priority=5)
        ),
        2,
    ),
    "one rack has room for enough of it, another for more": Case(
        snapshot(
            *(node(f"a{n}", 450, labels={"rack": "a"}) for n in range(2)),
            *(node(f"b{n}", 450, labels={"rack": "b"}) for n in range(3)),
            *waiting(4, 2, gang=ring(2, required=("rack",))),
        ),
        3,
        {Reason.GANG_TOPOLOGY},
    ),
    "more of it join the rack where it runs": Case(
        snapshot(
            *(node(f"a{n}", 850, labels={"rack": "a"}) for n in range(2)),
            node("b0", 4000, labels={"rack": "b"}),
            running(0, 1, "a0", gang=ring(1, required=("rack",))),
            *waiting(4, 1, gang=ring(1, required=("rack",))),
        ),
        3,
        {Reason.GANG_TOPOLOGY},
        ("ring-r0",),
    ),
    "pods of one size make room for those of another": Case(
        snapshot(node("a"), *waiting(1, 3, 900), *waiting(3, 3, 300, first=1)), 3, {Reason.INSUFFICIENT_CPU}
    ),
    "Bind leaves it to kube-scheduler": Case(
        snapshot(node("a"), *waiting(2, 2)), 0, {Reason.SCHEDULING_GROUP}, (),
        replace(OPTIONS, binds=True),
    ),
    "Bind lets pods behind our gate go": Case(
        snapshot(node("a"), *waiting(2, 2, gates=(GANG_GATE,))), 2, options=replace(OPTIONS, binds=True)
    ),
}  # fmt: skip


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "search alone"])
@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_groups(case: Case, exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exact:
        monkeypatch.setattr(engine, "is_small", lambda _: False)
    packing = packed(case.cluster, case.options)
    assert packing.faults == ()
    got = places(packing)
    assert len([name for name in got if name.startswith("ring-") and not name.startswith("ring-r")]) == case.placed
    assert {one.reason for one in packing.unplaced} == case.reasons
    assert set(case.stays) <= set(got)


@pytest.mark.parametrize("seed", range(2))
def test_a_group_that_needs_more_nodes_than_a_neighbourhood_has(seed: int) -> None:
    """Twenty of forty nodes must be emptied for the fewest; those that there is no room for stay behind."""
    nodes = [node(f"n{number:02d}", 8000, extra={"nvidia.com/gpu": 8}) for number in range(40)]
    small = [
        pod(f"s{number % 20}-{number}", 500 + 10 * (number % 20), on=f"n{number:02d}", extra={"nvidia.com/gpu": 2})
        for number in range(40)
    ]
    cluster = snapshot(*nodes, *small, *waiting(36, 20, 100, extra={"nvidia.com/gpu": 8}, priority=1))
    packing = packed(cluster, replace(OPTIONS, evict_lower_priority=False), Budget(deterministic_units=10.0), seed=seed)
    assert packing.faults == ()
    placed = [name for name in places(packing) if name.startswith("ring")]
    assert len(placed) >= 20
    assert packing.evictions == ()


def test_pods_that_join_a_running_group_start_on_their_own() -> None:
    cluster = snapshot(node("a"), node("b"), running(0, 1, "a"), *waiting(2, 1, 300))
    assert [step.gang for step in packed(cluster).steps] == ["", ""]
    whole = snapshot(node("a"), *waiting(2, 2, 300))
    assert [step.gang for step in packed(whole).steps] == [RING, RING]


def test_what_would_help_counts_what_is_missing() -> None:
    (said,) = {one.help for one in packed(snapshot(node("a"), node("b"), *waiting(9, 5))).unplaced}
    assert f"gang {RING} starts with 5 pods or more, and 4 of its 5 waiting pods would fit" in said
    missing = snapshot(node("a"), *waiting(1, 0, gang=ring(0, unknown=True)))
    (said,) = {one.help for one in packed(missing).unplaced}
    assert said == "a PodGroup ring in namespace default (kubectl get podgroups.scheduling.k8s.io): none can be read"


PLANTED = {
    "too few of a group": (("ring-0", "a"),),
    "a running pod leaves": (("ring-r0", "b"), ("ring-0", "a"), ("ring-1", "a")),
    "two racks": (("ring-0", "a"), ("ring-1", "b")),
}


@pytest.mark.parametrize("wrong", PLANTED.values(), ids=PLANTED.keys())
def test_the_check_sees_planted_faults(wrong: tuple[tuple[str, str], ...]) -> None:
    gang = ring(3, required=("rack",))
    cluster = snapshot(
        node("a", labels={"rack": "a"}), node("b", labels={"rack": "b"}),
        running(0, 3, "a", 100, gang=gang), *waiting(3, 3, 100, gang=gang),
    )  # fmt: skip
    after = {"uid-ring-r0": "a", **{f"uid-{name}": on for name, on in wrong}}
    found = [one.rule for rule in RULES for one in rule.check(Outcome(cluster, OPTIONS, after))]
    assert "Gangs" in found
    right = {"uid-ring-r0": "a", "uid-ring-0": "a", "uid-ring-1": "a"}
    assert [one for rule in RULES for one in rule.check(Outcome(cluster, OPTIONS, right))] == []


def test_the_check_sees_a_binding_that_is_kube_schedulers() -> None:
    cluster = snapshot(node("a"), pod("lone-1", scheduling_group=True))
    for binds, count in ((True, 1), (False, 0)):
        outcome = Outcome(cluster, replace(OPTIONS, binds=binds), {"uid-lone-1": "a"})
        assert len([one for rule in RULES for one in rule.check(outcome) if one.rule == "Gangs"]) == count


def test_bind_moves_no_pod_of_a_scheduling_group() -> None:
    """Its replacement would be of the group too, and nobody but kube-scheduler may bind it."""
    cluster = snapshot(node("a"), node("b", 500), pod("web-1", 400, on="a", scheduling_group=True), pod("big-1", 900))
    assert places(packed(cluster))["big-1"] == "a"
    assert places(packed(cluster, replace(OPTIONS, binds=True))) == {"web-1": "a"}
