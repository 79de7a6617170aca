"""Nodes that are lost together, one after the other, or told of twice: no fault of the seats that stood on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from stowage.api.training_words import Action, Domain, Event, JobPhase
from stowage.decide.training.facts import Evidence as Told
from stowage.decide.training.facts import History, Recovery
from stowage.decide.training.job_status import Seen
from stowage_scheduler.cluster import Pod
from stowage_scheduler.health import NodeCondition
from stowage_worker.messages import Evidence
from unit.builders import NOW, node, snapshot
from unit.test_training_job_status import Life
from unit.training_cases import cluster, decided, job, lost_node, of_node, saw, seat, tried

KNOWN_AFTER_SECONDS = 40.0
"""Kubernetes tells so late that a node is lost."""
SILENT = job(seat(1, connected=False), seat(2, connected=False))
NAMES = tuple(f"n{number}" for number in range(5))


class Cluster(Life):
    """A job on five nodes, of which some die; pods bind to the first that looks well and that they may use."""

    def __init__(self, **spec: Any) -> None:
        super().__init__(**spec)
        self.dead: dict[str, float] = {}

    def seen(self) -> Seen:
        nodes = {}
        for name in NAMES:
            since = self.dead.get(name, self.now) + KNOWN_AFTER_SECONDS
            gone = self.now >= since
            nodes[name] = node(
                name, ready=not gone, conditions=(NodeCondition("Ready", "Unknown", since=since),) if gone else ()
            )
        snap = snapshot(*nodes.values(), *self.pods.values(), now=self.now)
        return structs.replace(super().seen(), nodes=nodes, snapshot=snap)

    def make(self, *, place: bool = True) -> list[str]:
        wanted = self.work().create
        names = super().make(place=False)
        for one, name in zip(wanted, names, strict=True):
            free = (each for each in NAMES if each not in self._taken() and each not in one.avoid)
            usable = (each for each in free if self.seen().nodes[each].ready)
            self.pods[name] = structs.replace(self.pods[name], node=next(usable), phase="Running", ready=True)
        return names if place else []

    def _taken(self) -> set[str | None]:
        """Nodes of the pods that count, of those that were just made too."""

        def counts(pod: Pod) -> bool:
            return f"tiny-{pod.labels['stowage.dev/seat']}-{pod.name.rpartition('-')[2]}" in standing

        standing = {f"tiny-{one.seat}-{one.attempt}" for one in self.status.seats}
        return {pod.node for pod in self.pods.values() if counts(pod)}

    def dies(self, *names: str) -> None:
        self.dead |= dict.fromkeys(names, self.now)

    def is_told(self) -> None:
        """The coordinator tells of the supervisors that it hears no more, or that all ranks run."""
        silent = [one.seat for one in self.status.seats if one.node in self.dead]
        words = tuple(Evidence("SupervisorLost", self.status.epoch, self.now, seat=one) for one in silent)
        self.tell("Failed" if silent else "Running", words, started_at=self.now)
        assert self.report is not None
        seats = tuple(replace(one, connected=one.seat not in silent) for one in self.report.seats)
        self.report = replace(self.report, seats=seats)

    def passes(self, seconds: int) -> None:
        """Time goes by, with a look at the job every second."""
        for _ in range(seconds):
            self.now += 1.0
            self.step()
            self.make()
            self.step()


@pytest.mark.parametrize("together", [True, False], ids=["in one decision", "one epoch after the other"])
def test_two_nodes_that_stop_at_once_cost_no_more_than_other_nodes(together: bool) -> None:
    life = Cluster()
    life.run()
    stood = {one.node for one in life.status.seats}
    first, second = sorted(stood)
    life.dies(first, *([second] if together else []))
    life.is_told()
    life.passes(4)
    if not together:
        life.dies(second)
        life.is_told()
        life.passes(4)
    assert {one.node for one in life.status.avoided_nodes} == stood
    assert not stood & {one.node for one in life.status.seats}
    life.is_told()
    life.passes(60)
    assert (life.status.phase, life.status.epoch) == (JobPhase.RUNNING, 2 if together else 3)


def losses(*nodes: str, event: Event = Event.SUPERVISOR_LOST, domain: Domain = Domain.INFRASTRUCTURE) -> History:
    """A seat s1 that lost its place on each of these nodes, a minute apart, the last a minute ago."""
    epochs = range(7 - len(nodes), 7)
    told = zip(epochs, nodes, strict=True)
    return History(tuple(tried(Action.REPLACE_NODE, epoch=e, node=n, event=event, domain=domain) for e, n in told))


def gone(name: str) -> Told:
    return of_node(Event.NODE_LOST, "Gone", name, at=NOW - 5)


@pytest.mark.parametrize(
    ("evidence", "before", "action"),
    [
        pytest.param(saw(Event.SUPERVISOR_LOST, 1), losses("n7", "n8", "n9"), Action.REPLACE_NODE, id="silence"),
        pytest.param(gone("n1"), losses("n7", "n8", "n9"), Action.REPLACE_NODE, id="the cluster says so"),
        pytest.param(gone("n1"), losses("n7", "n8", event=Event.NODE_LOST), Action.REPLACE_NODE, id="nodes deleted"),
        pytest.param(saw(Event.POD_DELETED, 1), losses("n7", "n8"), Action.REPLACE_NODE, id="a pod after two nodes"),
        pytest.param(saw(Event.SUPERVISOR_LOST, 1), losses("n1", "n1"), Action.SHRINK, id="the same node again"),
        pytest.param(
            saw(Event.POD_DELETED, 1),
            losses("n7", "n8", event=Event.POD_DELETED, domain=Domain.UNKNOWN),
            Action.SHRINK,
            id="nobody knows why, wherever it is",
        ),
    ],
)
def test_a_seat_is_not_to_blame_for_the_nodes_that_it_loses(evidence: Told, before: History, action: Action) -> None:
    assert decided(evidence, job_facts=SILENT, history=before, snapshot=cluster(gone=("n1",))).action is action


def test_a_seat_that_loses_nodes_for_ever_is_stopped_by_the_budget() -> None:
    many = losses(*(f"n{number}" for number in range(3, 8)))
    facts = structs.replace(SILENT, budget=structs.replace(SILENT.budget, restarts=5))
    decision = decided(saw(Event.SUPERVISOR_LOST, 1), job_facts=facts, history=many)
    assert (decision.action, decision.reason) == (Action.PAUSE, "BudgetExhausted")


@pytest.mark.parametrize(
    ("seconds", "action"),
    [
        pytest.param(45.0, Action.REPLACE_NODE, id="Kubernetes tells late"),
        pytest.param(1200.0, Action.SHRINK, id="it was lost twice before"),
    ],
)
def test_a_node_that_was_given_up_and_is_told_of_again_was_lost_once(seconds: float, action: Action) -> None:
    past: tuple[Recovery, ...] = tuple(
        structs.replace(one, at=NOW - seconds - number)
        for number, one in enumerate(losses("n1", "n1").recoveries, start=1)
    )
    decision = decided(
        lost_node("n1", at=NOW - 0.5), job_facts=SILENT, history=History(past), snapshot=cluster(lost=("n1",))
    )
    assert decision.action is action


def test_all_nodes_that_fail_in_one_decision_are_kept_away_from() -> None:
    both = (saw(Event.SUPERVISOR_LOST, 1), saw(Event.SUPERVISOR_LOST, 2))
    few = cluster(names=NAMES)
    decision = decided(*both, job_facts=SILENT, snapshot=few)
    assert (set(decision.avoid), decision.cordon) == ({"n1", "n2"}, {})
    broken = decided(saw(Event.DEVICE_UNHEALTHY, 1), saw(Event.DEVICE_UNHEALTHY, 2), snapshot=few)
    assert (set(broken.avoid), len(broken.cordon)) == ({"n1", "n2"}, 1), "for others only a bounded share is closed"
