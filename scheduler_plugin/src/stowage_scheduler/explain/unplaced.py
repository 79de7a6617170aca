"""The pending pods that a plan leaves without a place, each with the reason and with what would help."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from stowage_scheduler.build import Build
from stowage_scheduler.cluster import Pod
from stowage_scheduler.explain.advice import advice
from stowage_scheduler.explain.explainer import Explainer, Explanation
from stowage_scheduler.explain.gangs import explain_gang, still_waiting
from stowage_scheduler.explain.held_back import held_back
from stowage_scheduler.explain.situation import Situation
from stowage_scheduler.explain.table import Table
from stowage_scheduler.gangs import GangKey, gang_key
from stowage_scheduler.packing import PodRef, Unplaced
from stowage_scheduler.rules import Outcome
from stowage_scheduler.slots import slot_class

# plans keep to their time: help is tried out for a few kinds of pods, and not in large clusters; `stowage why` tries it
# out for any pod
_MOST_STANDING = 2_000
_MOST_KINDS = 8


def unplaced(built: Build, outcome: Outcome, *, limited: bool) -> tuple[Unplaced, ...]:
    """Every pending pod in scope that `outcome` has no place for; `limited`: the cap on moves was reached."""
    # who has to leave a node that is drained stands there still
    nowhere = (uid for c in built.problem.classes for uid in c.pending_uids)
    waiting = [uid for uid in nowhere if outcome.after.get(uid) in {None, built.pods[uid].node}]
    found = [*_left_out(built)]
    if waiting:
        drain = outcome.options.drain
        open_nodes = [node for node in built.node_facts if drain is None or node.name not in drain.nodes]
        explainer = Explainer(outcome.snapshot, open_nodes, outcome.residents, outcome.standing)
        situation = Situation(outcome, open_nodes, limited=limited)
        few = sum(map(len, outcome.residents.values())) <= _MOST_STANDING
        said: dict[object, Explanation] = {}
        for uid in waiting:
            pod = built.pods[uid]
            gang = gang_key(pod)
            kind = gang if gang is not None and not built.gangs[gang].elastic else (gang, slot_class(pod))
            if kind not in said:  # once for all replicas
                said[kind] = _explanation(explainer, built, outcome, pod, gang, limited=limited)
                if few and gang is None and len(said) <= _MOST_KINDS:
                    said[kind] = with_advice(said[kind], situation, pod)
            found.append(_entry(pod, said[kind]))
    return tuple(sorted(found))


def with_advice(said: Explanation, situation: Situation, pod: Pod) -> Explanation:
    """The explanation with the cheapest help that is known to be true, if any is found."""
    found = advice(Table(situation, pod), most=1)
    if not found:
        return said
    return replace(said, help=said.because + found[0].text + (f", or {said.short}" if said.short else ""))


def _explanation(
    explainer: Explainer, built: Build, outcome: Outcome, pod: Pod, gang: GangKey | None, *, limited: bool
) -> Explanation:
    if gang is None:
        return explainer.explain(pod, limited=limited)
    state = still_waiting(built.gangs[gang], pod, outcome.after)
    return explain_gang(explainer, outcome.snapshot, outcome.residents, state, limited=limited)


def _left_out(built: Build) -> Iterator[Unplaced]:
    for uid, why in built.left_out.items():
        pod = built.pods[uid]
        gang = gang_key(pod)
        reason, advice = held_back(pod, why, None if gang is None else built.gangs.get(gang), built.left_out)
        yield _entry(pod, Explanation(reason, advice, {}))


def _entry(pod: Pod, said: Explanation) -> Unplaced:
    return Unplaced(PodRef(pod.namespace, pod.name, pod.uid), said.reason, said.help)
