"""One domain of a relation as a model sees it: what it decides, and what stands on nodes outside of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from stowage_scheduler.relations import NOBODY, OUTSIDE, Near, Role, Tally, counted

if TYPE_CHECKING:  # whoever only asks the rules, and solves nothing, is spared the solver: half a second and 60 MB
    from ortools.sat.python import cp_model

    from stowage_scheduler.solve.model import CountModel

    Variables = Mapping[Role, list[cp_model.IntVar]]


class Domain(Struct, frozen=True):
    """Pods of a relation in one domain, by role.

    `counts` and `stays` are variables of nodes in the model, `most` bounds their sum, and `leading` are those counts
    that others may come after (`Near.leading`). `outside` counts pods that the
    model does not decide on, `standing` those of them that no plan touches, and `arriving` those that have the rule
    and come to a node.
    """

    number: int
    counts: Variables
    stays: Variables
    leading: list[cp_model.IntVar]
    most: int
    outside: Tally
    standing: Tally
    arriving: Tally

    def of(self, *roles: Role) -> list[cp_model.IntVar]:
        """Count variables of some roles."""
        return [variable for role in roles for variable in self.counts[role]]

    def staying(self, *roles: Role) -> list[cp_model.IntVar]:
        """Variables of pods of some roles that stay where they run."""
        return [variable for role in roles for variable in self.stays[role]]


def domains(model: CountModel, number: int) -> Iterator[Domain]:
    """The domains of relation `number` that the model's nodes are in."""
    relation = model.problem.relations[number]
    by_domain: dict[int, list[int]] = {}
    for node in model.nodes:
        if relation.domain_of[node] != OUTSIDE:
            by_domain.setdefault(relation.domain_of[node], []).append(node)
    arrivals = model.placement.arrivals(relation)
    for domain, nodes in by_domain.items():
        yield _domain(model, number, domain, nodes, arrivals.get(domain, NOBODY))


def _domain(model: CountModel, number: int, domain: int, nodes: Iterable[int], arriving: Tally) -> Domain:
    relation, placement = model.problem.relations[number], model.placement
    counts: dict[Role, list[cp_model.IntVar]] = {role: [] for role in Role}
    stays: dict[Role, list[cp_model.IntVar]] = {role: [] for role in Role}
    outside = placement.tallies.of[number].get(domain, NOBODY)
    most = 0
    first = relation.leading if isinstance(relation, Near) else frozenset()
    leading: list[cp_model.IntVar] = []
    for node in nodes:
        for index in placement.on_node[node].keys() & relation.roles.keys():
            role, now = relation.roles[index], placement.on_node[node][index]
            outside = counted(outside, role, -now)
            if role.obeys:
                arriving = counted(arriving, role, -max(0, now - model.problem.classes[index].running.get(node, 0)))
        for index, variable in model.on_node(node):
            if index in relation.roles:
                role = relation.roles[index]
                counts[role].append(variable)
                if index in first:
                    leading.append(variable)
                most += model.problem.classes[index].total
                if (index, node) in model.stay:
                    stays[role].append(model.stay[index, node])
    return Domain(domain, counts, stays, leading, most, outside, relation.standing.get(domain, NOBODY), arriving)
