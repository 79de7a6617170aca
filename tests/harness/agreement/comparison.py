"""One pod, two opinions: where kube-scheduler and Stowage differ, and whether a known difference explains it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations

from harness.agreement.cases import Case, State
from harness.agreement.own_answers import obstacle, packed, packers_choice
from harness.agreement.readings import NOT_READY, READINGS, World, world
from stowage_scheduler.feasibility import feasible_nodes
from stowage_scheduler.kube.facts import KubernetesObject

PACKED_EVERY = 10  # a whole packing takes ten times as long as all else

_EXPLANATIONS = tuple(chain.from_iterable(combinations(READINGS, size) for size in range(1, len(READINGS) + 1)))


@dataclass(frozen=True)
class Observation:
    """A state as it stood in the cluster.

    Attributes:
        state: what was generated.
        raws: what Stowage read of it, all objects of all kinds that it follows.
        passed: by name of a pod that waits, the nodes that pass all filters of kube-scheduler.
    """

    state: State
    raws: tuple[KubernetesObject, ...]
    passed: dict[str, frozenset[str]]


@dataclass(frozen=True)
class Verdict:
    """What came of one case.

    Attributes:
        case: the pod.
        feasible: how many nodes kube-scheduler would choose from.
        nodes: how many there are.
        skipped: why Stowage does not plan for the pod at all; then nothing was compared.
        explained: the known differences that were met.
        findings: differences that nothing explains.
    """

    case: Case
    feasible: int
    nodes: int
    skipped: str = ""
    explained: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


def verdicts(observation: Observation) -> Iterator[Verdict]:
    """Compare all cases of a state."""
    for number, case in enumerate(observation.state.cases):
        look = partial(world, observation.raws, case.name)
        yield verdict(case, look, observation.passed[case.name], whole=number % PACKED_EVERY == 0)


def verdict(case: Case, look: Callable[[Collection[str]], World], passed: frozenset[str], *, whole: bool) -> Verdict:
    """Compare one case.

    Args:
        case: what was generated.
        look: what Stowage sees with some of `READINGS` taken.
        passed: the nodes that pass all filters of kube-scheduler.
        whole: let a whole packing choose a node too.
    """
    plain = look(())
    nodes = len(plain.snapshot.nodes)
    why = obstacle(plain.snapshot, plain.pod)
    if why:
        return Verdict(case, len(passed), nodes, skipped=why)
    expected = passed & {node.name for node in plain.snapshot.nodes if node.ready}
    explained = (NOT_READY,) if expected != passed else ()
    findings = tuple(differences(plain, expected, whole=whole))
    if findings:
        for readings in _EXPLANATIONS:
            if not any(differences(look(readings), expected, whole=whole)):
                return Verdict(case, len(passed), nodes, explained=(*explained, *readings))
    return Verdict(case, len(passed), nodes, explained=explained, findings=findings)


def differences(seen: World, expected: frozenset[str], *, whole: bool) -> Iterator[str]:
    """What Stowage says otherwise, in words."""
    snapshot, pod = seen.snapshot, seen.pod
    by_rules = feasible_nodes(snapshot, pod)
    if by_rules < expected and expected - by_rules <= seen.attached:
        expected = by_rules
    if by_rules != expected:
        yield f"rules: {_difference(by_rules, expected)}"
    by_packer = frozenset(node.name for node in snapshot.nodes if packers_choice(snapshot, pod, [node.name]))
    if by_packer != expected:
        yield f"packer, node by node: {_difference(by_packer, expected)}"
    choices = {"packer": packers_choice(snapshot, pod)}
    if whole:
        choices["whole packing"] = packed(snapshot, pod)
    for who, choice in choices.items():
        if choice is None if expected else choice is not None:
            yield f"{who} chooses {choice} of {sorted(expected)}"
        elif choice is not None and choice not in expected:
            yield f"{who} chooses {choice}, which is none of {sorted(expected)}"


def _difference(found: frozenset[str], expected: frozenset[str]) -> str:
    return f"too many {sorted(found - expected)}, missing {sorted(expected - found)}, agreed {sorted(found & expected)}"
