"""All that is known of one pod that waits: counts, a conflict, help. What `stowage why` tells."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence

from msgspec import Struct

from stowage_scheduler.cluster import Node, Pod
from stowage_scheduler.explain.advice import Advisor
from stowage_scheduler.explain.clauses import NO_ROOM_ELSEWHERE, ClauseKind
from stowage_scheduler.explain.conflict import conflict
from stowage_scheduler.explain.explainer import Explainer, Explanation
from stowage_scheduler.explain.gang_help import best_domain, more_nodes_for
from stowage_scheduler.explain.gangs import explain_gang, still_waiting
from stowage_scheduler.explain.help import Help, HelpKind
from stowage_scheduler.explain.situation import Situation
from stowage_scheduler.explain.table import Table
from stowage_scheduler.explain.telling import Told, tell
from stowage_scheduler.gangs import GangState
from stowage_scheduler.rules import Outcome

_MOST_CELLS = 4_000_000  # of a table; beyond that it would take longer than people wait
_MOST_HELP = 3
_WHERE_OTHERS_STAND = frozenset({ClauseKind.POD_AFFINITY, ClauseKind.TOPOLOGY_SPREAD})  # a plan may change that


class Findings(Struct, frozen=True):
    """What is known of one pod at one state of the cluster.

    `explanation` has the reason and the counts of nodes. `conflict` are rules that cannot hold together, none when
    the pod might be placed or nobody looked for them (`counts_only`). `help` has the cheapest first. `soon` is a way to
    place it at once, by moves and evictions that are allowed. `hopeless`: no plan places it, whatever it moves.
    """

    explanation: Explanation
    conflict: tuple[Told, ...] = ()
    help: tuple[Help, ...] = ()
    soon: Help | None = None
    hopeless: bool = False
    counts_only: bool = False
    lacking: tuple[str, ...] = ()  # names of nodes, those that lack least first


def findings(
    outcome: Outcome, nodes: Sequence[Node], pod: Pod, gang: GangState | None = None, *, limited: bool = False
) -> Findings:
    """Look at one pod.

    Args:
        outcome: the state to look at: what runs, or what a plan leads to.
        nodes: those that may be used at all.
        pod: it waits.
        gang: that it belongs to, if it has one.
        limited: the cap on moves was reached.
    """
    explainer = Explainer(outcome.snapshot, nodes, outcome.residents, outcome.standing)
    if gang is None or gang.is_loose:
        explanation = explainer.explain(pod, limited=limited)
        return _of_pod(Situation(outcome, nodes, limited=limited), pod, explanation)
    state = still_waiting(gang, pod, outcome.after)
    explanation = explain_gang(explainer, outcome.snapshot, outcome.residents, state, limited=limited)
    inside = best_domain(outcome, explainer, state)
    homeless, _ = inside.homeless(state.waiting)
    if not homeless:
        return Findings(explanation)
    first = pod if pod in homeless else homeless[0]
    peers = {uid: name for uid, name in inside.settled.items() if uid != first.uid}
    together = Outcome(outcome.snapshot, outcome.options, ChainMap(peers, dict(outcome.after)))
    situation = Situation(together, nodes, limited=limited, peers=frozenset(peers))
    domain = frozenset(situation.index[node.name] for node in inside.nodes) if state.required else None
    found = _of_pod(situation, first, explanation, domain, alone=False)
    more = more_nodes_for(outcome, inside, state)
    alone = [one for one in found.help if one.kind is not HelpKind.MORE_NODES] if len(homeless) == 1 else []
    help_for_all = sorted([*alone, *([more] if more is not None else [])], key=lambda one: one.cost)
    return Findings(
        explanation=explanation,
        conflict=found.conflict,
        help=tuple(help_for_all),
        hopeless=found.hopeless,
        counts_only=found.counts_only,
        lacking=found.lacking,
    )


def _of_pod(
    situation: Situation,
    pod: Pod,
    explanation: Explanation,
    domain: frozenset[int] | None = None,
    *,
    alone: bool = True,
) -> Findings:
    """Of one pod, or of the one of a gang that finds no room beside the others."""
    if not situation.nodes:
        return Findings(explanation, hopeless=True)
    standing = sum(map(len, situation.kept.values()))
    if standing * max(1, len(pod.anti_affinity_terms) + len(pod.spread)) > _MOST_CELLS:
        return Findings(explanation, counts_only=True)
    table = Table(situation, pod, domain)
    found = conflict(table)
    advisor = Advisor(table)
    soon = advisor.soon() if alone else None
    return Findings(
        explanation=explanation,
        conflict=tell(table, found) if found is not None else (),
        help=() if soon is not None else advisor.cheapest(_MOST_HELP),
        soon=soon,
        hopeless=is_hopeless(table),
        lacking=tuple(situation.nodes[number].name for number in advisor.nearest()),
    )


def is_hopeless(table: Table) -> bool:
    """Whether no plan places the pod: not even when all who may move were gone, wherever others stand."""
    others = {clause for clause in table.clauses if clause.kind in _WHERE_OTHERS_STAND}
    return not table.open(table.clauses - {NO_ROOM_ELSEWHERE} - others).any()
