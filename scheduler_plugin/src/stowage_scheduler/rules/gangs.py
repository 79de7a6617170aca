"""Gangs: the pods that wait get their places together or not at all, in one domain if they ask for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.counted import counted
from stowage_scheduler.gangs import gangs
from stowage_scheduler.movability import is_of_training_job
from stowage_scheduler.options import Drain
from stowage_scheduler.packing import Reason
from stowage_scheduler.relations import Role, Within
from stowage_scheduler.rules.rule import Outcome, Rule, Violation
from stowage_scheduler.solve.domains import domains

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

    from stowage_scheduler.solve.model import CountModel


class Gangs(Rule):
    """All or nothing."""

    name = "Gangs"
    of_places = False

    def refuses(self, pod: Pod, node: Node) -> Reason | None:
        """GangTopology on a node without the label that tells its domain."""
        absent = pod.gang is not None and any(key not in node.labels for key in pod.gang.required)
        return Reason.GANG_TOPOLOGY if absent else None

    def constrain(self, model: CountModel) -> None:
        """One row per class of a gang: its pods here are those that have no place outside, or none.

        Where a gang needs fewer pods than wait, they are those or fewer, and one row counts all of the gang.
        """
        here: dict[int, list[cp_model.IntVar]] = defaultdict(list)
        for (index, _), variable in model.count.items():
            if model.problem.classes[index].gang is not None:
                here[index].append(variable)
        for number, whole in model.whole.items():
            gang = model.problem.gangs[number]
            for index in gang.classes:
                rest = model.problem.classes[index].total - model.outside(index)
                terms = [(1, variable) for variable in here[index]]
                model.at_most([*terms, (-rest, whole)], 0)
                if gang.need is None:
                    model.at_least([*terms, (-rest, whole)], 0)
            if gang.need is not None:
                missing = max(0, gang.need - sum(model.outside(index) for index in gang.classes))
                every = [(1, variable) for index in gang.classes for variable in here[index]]
                model.at_least([*every, (-missing, whole)], 0)
        for number, relation in model.relations:
            if isinstance(relation, Within):
                _keep_together(model, number)

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Gangs that end in part, that nobody may plan for, or that lose a pod that runs."""
        yield from self._bound_alone(outcome)
        for (namespace, name), gang in gangs(outcome.snapshot.pods).items():
            who = f"{namespace}/{name}"
            placed = [pod for pod in gang.waiting if pod.uid in outcome.after]
            gone = [pod for pod in gang.running if outcome.after.get(pod.uid) != pod.node]
            if not all(_is_let_go(pod, outcome.options.drain) for pod in gone):
                yield Violation(self.name, who, "a pod of it that runs leaves its node")
            if not placed:
                continue
            if gang.why is not None:
                yield Violation(self.name, who, f"it is not to be placed: {gang.why}")
            if len(placed) < len(gang.waiting) and not gang.elastic:
                yield Violation(self.name, who, f"{len(placed)} of the {len(gang.waiting)} pods that wait get a place")
            if len(gang.running) + len(placed) < gang.size:
                yield Violation(self.name, who, f"{len(gang.running) + len(placed)} of {gang.size} pods have a place")
            where = [outcome.nodes.get(outcome.after[pod.uid]) for pod in (*gang.running, *placed)]
            for key in gang.required:
                values = {node.labels.get(key) if node is not None else None for node in where}
                if len(values) > 1 or None in values:
                    yield Violation(self.name, who, f"it stands in {counted(len(values), 'domain')} of {key}")

    def _bound_alone(self, outcome: Outcome) -> Iterator[Violation]:
        """Pods of scheduling groups that Stowage would bind itself."""
        for pod, _ in outcome.arrivals if outcome.options.binds else ():
            if pod.scheduling_group and not pod.gates:
                yield Violation(self.name, pod.key, "kube-scheduler alone may bind it, with its scheduling group")


def _keep_together(model: CountModel, number: int) -> None:
    """All in one domain, be it one of the model's or one outside of it."""
    here = list(domains(model, number))
    decided = {domain.number for domain in here}
    elsewhere = any(any(t) for d, t in model.placement.tallies.of[number].items() if d not in decided)
    chosen = []
    for domain in here:
        chosen.append(model.cp.new_bool_var(""))
        model.at_most([*((1, variable) for variable in domain.of(*Role)), (-domain.most, chosen[-1])], 0)
        if any(domain.outside):
            model.cp.add(chosen[-1] == 1)
    if chosen:
        model.cp.add(sum(chosen) <= (0 if elsewhere else 1))


def _is_let_go(pod: Pod, drain: Drain | None) -> bool:
    """Whether a drain lets a pod of a gang go: by force its gang stops, and a training job saves first and goes on."""
    if drain is None or pod.node not in drain.nodes:
        return False
    return drain.force or (is_of_training_job(pod) and not drain.voluntary)
