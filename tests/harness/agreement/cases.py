"""Generated states of a cluster, and the pods that are asked about in each: rules alone, in pairs, and more at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

from harness.agreement.amounts import ask_for_resources
from harness.agreement.draws import Draws
from harness.agreement.nodes import node
from harness.agreement.residents import Resident, meet_anti_affinity, pod_document, resident
from harness.agreement.rules_of_nodes import ask_for_nodes, take_ports, tolerate
from harness.agreement.rules_of_pods import spread, stay_away, stay_near
from harness.agreement.vocabulary import Document
from harness.agreement.volumes import Object, storage, use_claims

FAMILIES: Mapping[str, Callable[[Draws, Document], None]] = MappingProxyType(
    {
        "resources": ask_for_resources,
        "node affinity": ask_for_nodes,
        "taints": tolerate,
        "host ports": take_ports,
        "pod affinity": stay_near,
        "anti-affinity": stay_away,
        "anti-affinity of others": meet_anti_affinity,
        "spread": spread,
        "volumes": use_claims,
    }
)
"""Families of rules, and what gives a pod rules of that family."""

PAIRS = tuple(combinations(FAMILIES, 2))
CASES_IN_A_STATE = 100
_ALONE, _IN_PAIRS = 40, 45
_TOLERANT = 75  # percent


@dataclass(frozen=True)
class Case:
    """A pod that is asked about; its name tells its state and its place there."""

    families: tuple[str, ...]
    document: Document

    @property
    def name(self) -> str:
        """The name of the pod, which no other case has."""
        return str(self.document["metadata"]["name"])


@dataclass(frozen=True)
class State:
    """A cluster that stands still, and the pods to ask about."""

    number: int
    nodes: tuple[Document, ...]
    storage: tuple[Object, ...]
    residents: tuple[Resident, ...]
    cases: tuple[Case, ...]


def state(number: int, seed: str = "1") -> State:
    """One state. It depends on its number and the seed alone."""
    draws = Draws(f"{seed}/{number}")
    nodes = tuple(node(draws.within(f"node-{index}"), index) for index in range(draws.between(8, 14)))
    standing = tuple(
        resident(draws.within(f"resident-{index}"), index, len(nodes)) for index in range(draws.between(12, 36))
    )
    cases = tuple(
        _case(draws.within(f"case-{index}"), f"s{number:03}-{index:03}", _families(draws, number, index))
        for index in range(CASES_IN_A_STATE)
    )
    return State(number, nodes, storage(draws.within("storage"), len(nodes)), standing, cases)


def _families(draws: Draws, number: int, index: int) -> tuple[str, ...]:
    """Each family and each pair in turn, so that none is short; three and more by chance."""
    if index < _ALONE:
        return (tuple(FAMILIES)[(number * _ALONE + index) % len(FAMILIES)],)
    if index < _ALONE + _IN_PAIRS:
        return PAIRS[(number * _IN_PAIRS + index - _ALONE) % len(PAIRS)]
    chosen = draws.within(f"families-{index}").some(tuple(FAMILIES), least=3, most=4)
    return tuple(family for family in FAMILIES if family in chosen)


def _case(draws: Draws, name: str, families: tuple[str, ...]) -> Case:
    pod = pod_document(draws.within("pod"), name)
    if "taints" not in families and draws.chance(_TOLERANT):  # taints shall not hide what other rules do
        pod["spec"]["tolerations"] = [{"operator": "Exists"}]
    for family in families:
        FAMILIES[family](draws.within(family), pod)
    return Case(families, pod)


def coverage(cases: Iterable[Case]) -> Counter[tuple[str, ...]]:
    """How many cases have each family, and each pair of families, alone or with others."""
    found: Counter[tuple[str, ...]] = Counter()
    for case in cases:
        found.update((family,) for family in case.families)
        found.update(combinations(case.families, 2))
    return found
