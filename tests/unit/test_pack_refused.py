"""A place that the checks refuse costs nobody else theirs: the rest is planned once more, without that pod or gang."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from harness.facts import gang, node, packed, places, pod, snapshot
from stowage_scheduler import pack
from stowage_scheduler.cluster import Gang, Node, Pod
from stowage_scheduler.gangs import GANG_GATE
from stowage_scheduler.packing import Packing, Reason
from stowage_scheduler.rules import RULES, Outcome, Rule, Violation

# the gang takes node `c` alone; `new-0` has room only where `old-0` moves from
FACTS: list[Node | Pod] = [
    node("a", 1000, labels={"host": "a"}),
    node("b", 400),
    node("c", 600, labels={"host": "c"}),
    pod("old-0", 300, on="a"),
    pod("new-0", 900, node_selector={"host": "a"}),
]
RING = gang("ring", 2, 300, node_selector={"host": "c"})


class Refuses(Rule):
    """Finds fault with whatever gives these pods a place; a mistake of the packer would look like that."""

    name = "Refuses"

    def __init__(self, subjects: dict[str, str]) -> None:
        """By name of a pod, the subject of what is found wrong when it comes."""
        self.subjects = subjects

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        for arriving, _ in outcome.arrivals:
            if arriving.name in self.subjects:
                yield Violation(self.name, self.subjects[arriving.name], "that can not be")


def planned(monkeypatch: pytest.MonkeyPatch, subjects: dict[str, str], *facts: Node | Pod) -> Packing:
    monkeypatch.setattr(pack, "RULES", (*RULES, Refuses(subjects)))
    return packed(snapshot(*facts))


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param("default/ring", id="a-gang-by-its-name"),
        pytest.param("default/ring-1", id="a-gang-by-one-of-its-pods"),
        pytest.param("c", id="a-gang-by-its-node"),
    ],
)
def test_the_rest_is_planned_without_a_gang_that_is_refused(monkeypatch: pytest.MonkeyPatch, subject: str) -> None:
    packing = planned(monkeypatch, {"ring-1": subject}, *FACTS, *RING)
    assert {entry.pod.name: entry.target for entry in packing.moves} == {"old-0": "b"}
    assert places(packing)["new-0"] == "a"
    said = {entry.pod.name: entry for entry in packing.unplaced}
    assert {name: entry.reason for name, entry in said.items()} == dict.fromkeys(
        ("ring-0", "ring-1"), Reason.REFUSED_BY_CHECKS
    )
    assert all(f"Refuses: {subject}: that can not be" in entry.help for entry in said.values())
    assert packing.placed == {0: 2}
    assert packing.bound == {0: 4}, "a plan with the gang was not shown to be impossible"
    assert not packing.certified
    assert packing.move_cost_bound is None


def test_nobody_moves_for_a_pod_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packing = planned(monkeypatch, {"new-0": "default/new-0"}, *FACTS, *RING)
    assert packing.moves == ()
    assert {name: where for name, where in places(packing).items() if name != "old-0"} == {"ring-0": "c", "ring-1": "c"}
    assert [(entry.pod.name, entry.reason) for entry in packing.unplaced] == [("new-0", Reason.REFUSED_BY_CHECKS)]


def test_another_gang_may_be_refused_after_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """While `ring` is there `other` has no room; without it, it comes, and is refused, too."""
    other = [
        replace(one, name=f"other-{n}", uid=f"other-{n}", gang=Gang("other", 2), gates=(GANG_GATE,))
        for n, one in enumerate(RING)
    ]
    subjects = {"ring-0": "default/ring", "other-0": "default/other"}
    packing = planned(monkeypatch, subjects, *FACTS, *RING, *other)
    assert places(packing)["new-0"] == "a"
    assert {entry.reason for entry in packing.unplaced} == {Reason.REFUSED_BY_CHECKS}
    assert len(packing.unplaced) == 4
    assert len({fault for fault in packing.faults if "Refuses" in fault}) == 2


def test_it_is_tried_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[int] = []
    solve = pack.solve

    def counting(*arguments: object, **more: object) -> object:
        solved.append(1)
        return solve(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(pack, "solve", counting)
    names = [f"x{number}-0" for number in range(8)]
    packing = planned(
        monkeypatch, {name: f"default/{name}" for name in names}, node("a", 100), *(pod(name) for name in names)
    )
    assert len(solved) == 4
    assert packing.steps == ()


def test_who_is_not_named_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    packing = planned(monkeypatch, {"new-0": "plan"}, *FACTS, *RING)
    assert Reason.REFUSED_BY_CHECKS not in {entry.reason for entry in packing.unplaced}
    assert places(packing).get("new-0") is None
    assert any("Refuses: plan" in fault for fault in packing.faults)


def test_stages_that_took_no_time_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands still here."""
    packing = planned(monkeypatch, {"new-0": "default/new-0"}, *FACTS, *RING)
    assert {entry.reason for entry in packing.unplaced} >= {Reason.REFUSED_BY_CHECKS}
    assert packing.stages.keys() >= {"build", "tail", "check"}
