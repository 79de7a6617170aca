"""What is checked while pods stand in temporary places: their whole stay, the cap on moves, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from msgspec import structs

from harness.facts import OPTIONS, node, pod, snapshot
from stowage_scheduler.cluster import DisruptionBudget, HostPort, LabelSelector, PodAffinityTerm, Snapshot
from stowage_scheduler.options import PackOptions
from stowage_scheduler.packing import Action, PodRef, Step
from stowage_scheduler.rules import RULES, Outcome, Rule, Violation
from stowage_scheduler.rules.temporary_places import broken_on_the_way
from stowage_scheduler.slots import Slot

RED = LabelSelector((("app", "red"),))
PORT = HostPort("TCP", "0.0.0.0", 80)
END = {"uid-a-0": "n1", "uid-b-0": "n0", "uid-w-0": "n2"}


def cluster(spare: int = 20, **waits: object) -> Snapshot:
    """`a` and `b` change places over `n2`, where `w` shall stand at the end."""
    labels = {"app": "red"}
    return snapshot(
        *(node(f"n{number}", size, labels={"host": f"n{number}"}) for number, size in enumerate((7, 6, spare))),
        pod("a-0", 6, on="n0", labels=labels, host_ports=(PORT,)),
        pod("b-0", 5, on="n1", labels=labels),
        pod("w-0", 7, **waits),
        budgets=(DisruptionBudget("default", "web", "web", RED, 1),),
    )


def step(number: int, name: str, source: str, target: str, after: Sequence[str] = (), first: str = "") -> Step:
    return Step(
        id=f"s{number}", action=Action.EVICT if source else Action.PLACE, pod=PodRef("default", name, f"uid-{name}"),
        node=source or target, slot=f"k{number}", after=tuple(after), replacement_of=first,
    )  # fmt: skip


STEPS = {
    "there": step(1, "a-0", "n0", "n2"),
    "other": step(2, "b-0", "n1", "n0", ["s1"]),
    "on": step(3, "a-0", "n2", "n1", ["s2"], first="s1"),
    "waits": step(4, "w-0", "", "n2", ["s3"]),
}
SLOTS = tuple(Slot(f"k{number}", "c", where) for number, where in enumerate(("n2", "n0", "n1", "n2"), 1))


def found(facts: Snapshot, order: Sequence[str], options: PackOptions = OPTIONS) -> list[str]:
    outcome = Outcome(facts, options, END)
    assert [one for rule in RULES for one in rule.check(outcome)] == [], "nothing is wrong at the end"
    steps = [STEPS[name] for name in order]
    return [f"{one.rule} {one.subject} {one.detail}" for one in broken_on_the_way(RULES, outcome, steps, SLOTS)]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(cluster(), "", id="side-by-side"),
        pytest.param(cluster(12), "Resources n2 after step s4: 13 of cpu", id="no-room-for-both"),
        pytest.param(cluster(host_ports=(PORT,)), "HostPorts default/w-0 after step s4: port 80", id="one-port"),
        pytest.param(
            cluster(anti_affinity_terms=(PodAffinityTerm("host", RED, ("default",)),)),
            "PodAntiAffinity default/w-0 after step s4: ",
            id="it-stays-away-from-such-pods",
        ),
    ],
)
def test_who_comes_during_the_stay_is_looked_at(facts: Snapshot, expected: str) -> None:
    early = found(facts, ["there", "waits", "other", "on"])
    assert [words.startswith(expected) for words in early] == [True] * bool(expected)
    assert found(facts, ["there", "other", "on", "waits"]) == []


def test_who_goes_on_too_early_is_found() -> None:
    assert "TemporaryPlace default/a-0 step s3 comes before s1" in found(cluster(), ["on", "there", "other", "waits"])


@pytest.mark.parametrize(
    ("most", "expected"), [(3, []), (2, ["MoveLimit plan 2 moves and evictions and 1 further one"])]
)
def test_a_further_move_counts_towards_the_cap(most: int, expected: list[str]) -> None:
    words = found(cluster(), ["there", "other", "on", "waits"], structs.replace(OPTIONS, max_moves=most))
    assert [one.partition(",")[0] for one in words] == expected


class _Counting(Rule):
    def __init__(self, *, of_places: bool) -> None:
        self.name = "Counting"
        self.of_places = of_places
        self.seen: list[list[str]] = []

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        self.seen.append([one.name for one, _ in outcome.arrivals])
        yield from ()


def test_rules_are_asked_about_one_pod_at_a_time_and_only_those_of_places() -> None:
    """Each asked anew about the whole plan for each temporary place takes a while where there are many."""
    places, whole = _Counting(of_places=True), _Counting(of_places=False)
    outcome = Outcome(cluster(), OPTIONS, END)
    assert list(broken_on_the_way([places, whole], outcome, list(STEPS.values()), SLOTS)) == []
    assert (places.seen, whole.seen) == ([["a-0"]], [])
