"""Host ports (plugin NodePorts): the address 0.0.0.0 stands for every address."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

from stowage_scheduler.kube.matching import port_conflict
from stowage_scheduler.rules.rule import Outcome, Rule, Violation

if TYPE_CHECKING:
    from stowage_scheduler.solve.model import CountModel


class HostPorts(Rule):
    """No two pods on a node take the same host port."""

    name = "HostPorts"

    def constrain(self, model: CountModel) -> None:
        """Pairs of classes that clash share one place per node; ports of fixed pods are closed."""
        problem = model.problem
        for node in model.nodes:
            here = [(c, v) for c, v in model.on_node(node) if problem.classes[c].ports]
            taken = problem.ports[node] if problem.ports else frozenset()
            for index, variable in here:
                ports = problem.classes[index].ports
                if port_conflict(ports, taken):
                    model.at_most([(1, variable)], problem.classes[index].running.get(node, 0))
            for (a, left), (b, right) in combinations(here, 2):
                if port_conflict(problem.classes[a].ports, problem.classes[b].ports):
                    model.at_most([(1, left), (1, right)], 1)

    def check(self, outcome: Outcome) -> Iterator[Violation]:
        """Nodes that receive a pod whose port another resident has."""
        for pod, node in outcome.arrivals:
            if node is None or not pod.host_ports:
                continue
            for other in outcome.residents[node.name]:
                if other.uid == pod.uid:
                    continue
                port = port_conflict(pod.host_ports, other.host_ports)
                if port is not None:
                    yield Violation(self.name, pod.key, f"port {port.port} is taken on {node.name} by {other.key}")
