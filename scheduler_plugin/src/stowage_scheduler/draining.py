"""Draining nodes: who keeps a node from being empty, and the steps of those who leave it without a place.

The packer plans a place for every other pod of these nodes as if it waited for one (`build.py`). Either all of them
find one, or nothing is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct, structs

from stowage_scheduler.build import Build
from stowage_scheduler.cluster import DisruptionBudget, Pod, Snapshot
from stowage_scheduler.immovable import Immovable
from stowage_scheduler.kube.budgets import Budgets
from stowage_scheduler.movability import Movability
from stowage_scheduler.options import PackOptions
from stowage_scheduler.packing import Action, Assignment, Eviction, Packing, PodRef, Reason, Step

_NO_OBSTACLES = frozenset({Immovable.TERMINATING, Immovable.STATIC, Immovable.SERVICE_GROUP})
_FORCE = "--force: it is evicted, and nobody promises a replacement"
_LOCAL_DATA = "--delete-emptydir-data: what it keeps there is deleted with it"
_HELP = {
    Immovable.BARE: "--force: it is evicted, and nothing makes it again",
    Immovable.RETURNS: "--force: it is evicted, and the drain ends with a no if it comes back",
    Immovable.OTHER_CONTROLLER: _FORCE,
    Immovable.NOT_MODELLED: _FORCE,
    Immovable.GANG: "--force: its gang stops, and waits until all of it has a place again",
    Immovable.DAEMON_SET: "--ignore-daemonsets: it stays",
    Immovable.LOCAL_STORAGE: _LOCAL_DATA,
    Immovable.EPHEMERAL_VOLUME: _LOCAL_DATA,
    Immovable.DO_NOT_DISRUPT: "whoever set the annotation has to remove it",
    Immovable.TWO_BUDGETS: "one PodDisruptionBudget for it instead of two",
    Immovable.SHARED_VOLUME: "the other pod has to stop first",
    Immovable.QUOTA_EXHAUSTED: "room in that ResourceQuota",
}


class Obstacle(Struct, frozen=True, order=True):
    """A pod that keeps its node from being drained: why (a word and a sentence), and what would help."""

    node: str
    pod: PodRef
    reason: str
    words: str
    help: str


def obstacles(snapshot: Snapshot, options: PackOptions) -> tuple[Obstacle, ...]:
    """The pods that can not leave the nodes of `options.drain`, by node and name; none without a drain.

    Pods that stay by their nature (static ones; of a DaemonSet, if told so), are on their way out, or leave a cordoned
    node by themselves, are no obstacles.
    """
    drain = options.drain
    if drain is None:
        return ()
    movability = Movability(snapshot, options)
    harmless = _NO_OBSTACLES | ({Immovable.DAEMON_SET} if drain.ignore_daemon_sets else set())
    concerned = [pod for pod in snapshot.pods if pod.node in drain.nodes and not pod.finished]
    found, leaving = [], []
    for pod in sorted(concerned, key=lambda one: one.key):
        why = movability.immovable(pod)
        if why is None:
            leaving.append(pod)
        elif why not in harmless:
            found.append(_obstacle(pod, why, movability))
    found += [_obstacle(pod, Immovable.BUDGET_EXHAUSTED, movability) for pod in _beyond_budgets(leaving, movability)]
    return tuple(sorted(found))


def _beyond_budgets(leaving: Sequence[Pod], movability: Movability) -> list[Pod]:
    """Pods that would leave for good when their budget has nothing left; one disruption is kept for pods that move."""
    moved = {budget.uid for pod in leaving if not movability.leaves_for_good(pod) for budget in movability.budgets(pod)}
    lost: Counter[str] = Counter()
    beyond = []
    for pod in leaving:
        if not movability.leaves_for_good(pod):
            continue
        for budget in movability.budgets(pod):
            lost[budget.uid] += 1
            if lost[budget.uid] > budget.disruptions_allowed - (budget.uid in moved):
                beyond.append(pod)
    return beyond


def _obstacle(pod: Pod, why: Immovable, movability: Movability) -> Obstacle:
    word = "".join(part.capitalize() for part in why.name.split("_"))
    ref = PodRef(pod.namespace, pod.name, pod.uid)
    return Obstacle(pod.node or "", ref, word, str(why), _help(pod, why, movability.budgets(pod)))


def _help(pod: Pod, why: Immovable, budgets: Sequence[DisruptionBudget]) -> str:
    if why is Immovable.BUDGET_EXHAUSTED:
        names = ", ".join(f"{budget.namespace}/{budget.name}" for budget in budgets)
        return f"PodDisruptionBudget {names} has to allow a disruption"
    if why is Immovable.VOLUME_UNAVAILABLE:
        return f"its volumes: {pod.volume_obstacle}"
    return _HELP.get(why, "a policy that lets it move")


def whole(packing: Packing, built: Build, snapshot: Snapshot) -> Packing:
    """The plan of a drain: with those that leave for good when everybody else has a place, else with nothing to do.

    Args:
        packing: places for the pods that have to leave, as many as were found.
        built: with the pods that leave.
        snapshot: with the budgets.
    """
    before = dict(packing.before)
    gone = [*(built.pods[uid] for uid in built.displaced), *built.for_good]
    for priority in before:
        before[priority] += sum(pod.priority >= priority for pod in gone)
    if packing.unplaced:
        proven = packing.certified or _not_all(packing, built)
        running = (pod for pod in built.pods.values() if not pod.finished and not pod.leaving)
        there = sorted(Assignment(_ref(pod), pod.node) for pod in running if pod.node is not None)
        return structs.replace(
            packing,
            assignments=tuple(there),
            moves=(),
            evictions=(),
            slots=(),
            steps=(),
            before=before,
            placed=before,
            # where it is proven that not all find a place, nothing is better than to do nothing
            bound=before if proven else _highest(before, packing.bound),
            certified=proven,
            move_cost=0,
            move_cost_bound=None,
        )
    return structs.replace(
        packing,
        evictions=tuple(Eviction(_ref(pod), pod.node or "", Reason.DRAINED) for pod in built.for_good),
        steps=(*packing.steps, *_last_steps(packing, built, Budgets(snapshot.budgets))),
        before=before,
    )


def _not_all(packing: Packing, built: Build) -> bool:
    """Whether it is proven that some of those who have to leave find no place, however many of them do at best.

    A plan with a place for all of them would reach all there is in every tier, so each of the bounds holds for it.
    """
    leaving = [built.pods[uid].priority for uid in built.displaced]
    return any(
        bound < packing.before[priority] + sum(own >= priority for own in leaving)
        for priority, bound in packing.bound.items()
    )


def _highest(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    return {priority: max(count, one[priority]) for priority, count in other.items()}


def _last_steps(packing: Packing, built: Build, budgets: Budgets) -> list[Step]:
    """Evictions of those that get no place: after the moves that need the same budget, for they never give it back."""
    first = len(packing.steps) + 1
    found = []
    for number, pod in enumerate(built.for_good):
        own = {budget.uid for budget in budgets.of(pod)}
        after = tuple(
            step.id
            for step in packing.steps
            if own and not own.isdisjoint(budget.uid for budget in budgets.of(built.pods[step.pod.uid]))
        )
        found.append(Step(f"s{first + number:03d}", Action.EVICT, _ref(pod), pod.node or "", after=after))
    return found


def _ref(pod: Pod) -> PodRef:
    return PodRef(pod.namespace, pod.name, pod.uid)
