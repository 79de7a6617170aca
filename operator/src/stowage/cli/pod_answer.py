"""The answer of `stowage why pod/NAME`: what is looked at, in which order, and how long.

First the cluster as it is: what closes each node, whether a few allowed moves would do, whether no plan can help at
all. That takes a fraction of a second in clusters of a thousand nodes. Only when it leaves the question open is a plan
searched for: among all nodes of a small cluster, among those that lack least of a large one, or with the time that the
user gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

if TYPE_CHECKING:
    from stowage.api.packing_policy import PackingPolicy
    from stowage.cli.facts import Chosen
    from stowage_scheduler.cluster import Node, Pod, Snapshot
    from stowage_scheduler.explain.findings import Findings
    from stowage_scheduler.gangs import GangState
    from stowage_scheduler.movability import Movability
    from stowage_scheduler.options import Budget, PackOptions
    from stowage_scheduler.packing import Packing

_SMALL = 200  # nodes: a plan for all of them takes no longer than people wait
_NEAREST = 64  # nodes of a large cluster among which a plan is searched for
_SECONDS = 0.5
_SECONDS_NEAR = 0.3


class HelpLine(Struct, frozen=True):
    """One thing that would help: `kind` for scripts, `text` for people."""

    kind: str
    text: str


class RuleLine(Struct, frozen=True):
    """One of the rules that cannot hold together; `rule` and `subject` for scripts."""

    rule: str
    subject: str
    text: str


class Answer(Struct, frozen=True):
    """What is to be said of a pod; `excluded` counts nodes by the reason that rules them out."""

    pod: str
    state: str  # Running, Finished, Placeable (a plan would place it) or Pending
    node: str | None = None
    moves: int = 0  # moves and evictions of the plan that would place it
    reason: str | None = None
    help: str = ""
    excluded: Mapping[str, int] = {}
    nodes: int = 0
    scheduler_says: str = ""
    plan: str | None = None  # a PackingPlan that says so
    conflict: tuple[RuleLine, ...] = ()
    helps: tuple[HelpLine, ...] = ()
    note: str = ""

    @property
    def positive(self) -> bool:
        """Whether the pod runs, has run, or can be placed."""
        return self.state != "Pending"


def explain(snapshot: Snapshot, pod: Pod, chosen: Chosen, seconds: float | None) -> Answer:
    """Look for a place for a pod, and explain it when there is none.

    Args:
        snapshot: the facts.
        pod: of the snapshot.
        chosen: the policy that the answer is given for.
        seconds: for a search among all nodes; None: a short one, where it is needed.
    """
    if pod.finished:
        return Answer(pod=pod.key, state="Finished", node=pod.node)
    if pod.node is not None:
        return Answer(pod=pod.key, state="Running", node=pod.node)
    answer = _Question(snapshot, pod, chosen).answer(seconds)
    return structs.replace(answer, scheduler_says=pod.unschedulable_message)


class _Question:
    """One pod that waits, with all that is looked up for it."""

    def __init__(self, snapshot: Snapshot, pod: Pod, chosen: Chosen) -> None:
        from stowage.cli.plan import options_for
        from stowage_scheduler.devices.limits import with_gpu_milli
        from stowage_scheduler.movability import Movability

        self.snapshot: Snapshot = with_gpu_milli(snapshot)
        self.pod = next(one for one in self.snapshot.pods if one.uid == pod.uid)
        self.chosen = chosen
        options = options_for(chosen.policy)
        if chosen.held_by_others:
            nodes = frozenset(node.name for node in snapshot.nodes) - chosen.held_by_others
            options = structs.replace(options, nodes=nodes)
        self.options: PackOptions = options
        self.movability: Movability = Movability(self.snapshot, options)
        self.nodes: list[Node] = list(self.movability.nodes.values())

    def answer(self, seconds: float | None) -> Answer:
        held = self._held_back()
        if held is not None:
            return held
        found = self._look(self._standing())
        small = len(self.nodes) <= _SMALL
        if found.hopeless:
            return self._pending(found)
        if found.soon is not None and not (small and self._others_wait()):
            moves = len(found.soon.gone) + len(found.soon.moved)
            return Answer(pod=self.pod.key, state="Placeable", node=found.soon.node, moves=moves, note=self._rivals())
        if seconds is not None or small:
            return self._planned(self.snapshot, self.options, seconds or _SECONDS, found)
        near = self._near(found)
        return self._planned(self._alone(near.nodes or frozenset()), near, _SECONDS_NEAR, found)

    def _held_back(self) -> Answer | None:
        """Why nobody looks for a place, if that is so."""
        from stowage_scheduler.explain.held_back import held_back
        from stowage_scheduler.immovable import Immovable

        why = self.movability.unplannable(self.pod)
        if why is None and not self.pod.terminating:
            return None
        if why is None or why is Immovable.OUT_OF_SCOPE:
            return self._negative("OutOfScope", scope_help(self.pod, self.chosen.policy))
        gang = self._gang()
        mates = gang.waiting if gang is not None else ()
        left_out = {one.uid: its for one in mates if (its := self.movability.unplannable(one)) is not None}
        reason, advice = held_back(self.pod, why, gang, left_out)
        return self._negative(str(reason), advice)

    def _negative(self, reason: str, advice: str) -> Answer:
        return Answer(pod=self.pod.key, state="Pending", reason=reason, help=advice, nodes=len(self.nodes))

    def _gang(self) -> GangState | None:
        from stowage_scheduler.gangs import gang_key

        key = gang_key(self.pod)
        return None if key is None else self.movability.gangs.get(key)

    def _look(self, after: Mapping[str, str], *, limited: bool = False) -> Findings:
        from stowage_scheduler.explain.findings import findings
        from stowage_scheduler.rules import Outcome

        outcome = Outcome(self.snapshot, self.options, after)
        return findings(outcome, self.nodes, self.pod, self._gang(), limited=limited)

    def _standing(self) -> dict[str, str]:
        return {
            pod.uid: pod.node
            for pod in self.snapshot.pods
            if pod.node is not None and not pod.finished and not pod.leaving
        }

    def _waiting(self) -> list[Pod]:
        """Other pods that wait and are planned for."""
        from stowage_scheduler.gangs import gang_key

        own = gang_key(self.pod)
        return [
            pod
            for pod in self.snapshot.pods
            if pod.node is None
            and not pod.finished
            and pod.uid != self.pod.uid
            and (own is None or gang_key(pod) != own)
            and self.movability.unplannable(pod) is None
        ]

    def _others_wait(self) -> bool:
        return bool(self._waiting())

    def _rivals(self) -> str:
        """Who else may take the room."""
        from stowage_scheduler.counted import counted

        waiting = self._waiting()
        higher = sum(pod.priority > self.pod.priority for pod in waiting)
        if higher:
            first = "of higher priority"
            return counted(higher, f"pod {first} waits too, and goes first", f"pods {first} wait too, and go first")
        if not waiting:
            return ""
        others = counted(len(waiting), "other pod waits too", "other pods wait too")
        return f"{others}; the next plan may place {'it' if len(waiting) == 1 else 'them'} instead"

    def _alone(self, nodes: frozenset[str]) -> Snapshot:
        """Without the pods of its priority or lower that wait too; of these nodes alone, if no rule looks further."""
        gone = {pod.uid for pod in self._waiting() if pod.priority <= self.pod.priority}
        left = [pod for pod in self.snapshot.pods if pod.uid not in gone]
        mates = self._gang()
        spread_out = mates is not None and mates.running
        if spread_out or any(pod.affinity_terms or pod.anti_affinity_terms or pod.spread for pod in left):
            return structs.replace(self.snapshot, pods=tuple(left))
        return structs.replace(
            self.snapshot,
            nodes=tuple(node for node in self.snapshot.nodes if node.name in nodes),
            pods=tuple(pod for pod in left if pod.node is None or pod.node in nodes),
        )

    def _near(self, found: Findings) -> PackOptions:
        """The nodes that lack least, and those with most room for who moves."""
        mates = self._gang()
        count = max(_NEAREST, 4 * len(mates.waiting) if mates is not None else 0)
        nearest = found.lacking[: count // 2]
        used: Counter[str] = Counter()
        for pod in self.snapshot.pods:
            if pod.node is not None and not pod.finished:
                used[pod.node] += pod.requests.get("cpu", 0)
        roomy = sorted(self.nodes, key=lambda node: (used[node.name] - node.allocatable.get("cpu", 0), node.name))
        chosen = list(dict.fromkeys((*nearest, *(node.name for node in roomy))))
        return structs.replace(self.options, nodes=frozenset(chosen[:count]))

    def _planned(self, snapshot: Snapshot, options: PackOptions, seconds: float, found: Findings) -> Answer:
        """The answer of a search."""
        from stowage_scheduler.counted import counted

        packing = _pack(snapshot, options, seconds)
        after = {one.pod.uid: one.node for one in packing.assignments}
        moves = len(packing.moves) + len(packing.evictions)
        if self.pod.uid in after:
            return Answer(pod=self.pod.key, state="Placeable", node=after[self.pod.uid], moves=moves)
        if options is not self.options:  # the plan is for a few nodes, and for this pod alone
            few = f"{len(options.nodes or ())} of {counted(len(self.nodes), 'node')}"
            note = f"a plan was looked for among {few}; with --budget among all"
            return structs.replace(self._pending(found), note=note)
        limited = self.options.max_moves is not None and moves >= self.options.max_moves
        told = next((one for one in packing.unplaced if one.pod.uid == self.pod.uid), None)
        then = self._look(after, limited=limited)
        return self._pending(then) if told is None else self._pending(then, told.reason, told.help)

    def _pending(self, found: Findings, reason: str | None = None, advice: str | None = None) -> Answer:
        said = found.explanation
        helps = tuple(HelpLine(str(one.kind), one.text) for one in found.help)
        best = f"{said.because}{helps[0].text}" if helps else advice or said.help
        return Answer(
            pod=self.pod.key,
            state="Pending",
            reason=str(reason or said.reason),
            help=best,
            excluded={str(one): count for one, count in said.excluded.items() if count},
            nodes=len(self.nodes),
            conflict=tuple(RuleLine(str(one.clause.kind), one.clause.subject, one.text) for one in found.conflict),
            helps=helps,
            note="the cluster is too large to look for rules that cannot hold together" if found.counts_only else "",
        )


def _pack(snapshot: Snapshot, options: PackOptions, seconds: float) -> Packing:
    import time

    from stowage_scheduler.options import Budget
    from stowage_scheduler.pack import pack

    budget: Budget = Budget(seconds=seconds, certify_seconds=seconds / 5)
    return pack(snapshot, options, budget, 0, time.monotonic)  # noqa: TID251 - the clock


def scope_help(pod: Pod, policy: PackingPolicy | None) -> str:
    """Why a policy does not plan for a pod, and what to change."""
    if pod.gated:
        return "it has scheduling gates: whoever set them has to remove them first"
    if pod.terminating:
        return "it is being deleted"
    if policy is not None and pod.scheduler_name not in policy.spec.scheduler_names:
        names = ", ".join(policy.spec.scheduler_names)
        return f"policy {policy.name} covers pods of scheduler {names}; this one asks for {pod.scheduler_name}"
    return "no policy covers it: look at podSelector, namespaceSelector and protect of the policy"


def document(answer: Answer) -> dict[str, Any]:
    """The answer as JSON values."""
    return {
        "pod": answer.pod,
        "state": answer.state,
        "node": answer.node,
        "disruptions": answer.moves,
        "reason": answer.reason,
        "help": answer.help,
        "helps": [{"kind": one.kind, "text": one.text} for one in answer.helps],
        "conflict": [{"rule": one.rule, "subject": one.subject, "text": one.text} for one in answer.conflict],
        "excludedNodes": dict(answer.excluded),
        "nodes": answer.nodes,
        "schedulerMessage": answer.scheduler_says,
        "plan": answer.plan,
        "note": answer.note,
    }
