"""What a drain would do, or why not: computed from facts, and shown."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from stowage.cli.options import Output
from stowage.cli.printing import console, print_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stowage_scheduler.cluster import Snapshot
    from stowage_scheduler.draining import Obstacle
    from stowage_scheduler.options import Budget, PackOptions
    from stowage_scheduler.packing import Packing


class DrainAnswer(Struct, frozen=True):
    """Which pods keep their nodes from being drained, or the plan of the others; no plan beside obstacles."""

    nodes: tuple[str, ...]
    obstacles: tuple[Obstacle, ...] = ()
    packing: Packing | None = None

    @property
    def possible(self) -> bool:
        """Whether all pods that have to leave can, and have a place to go to."""
        return self.packing is not None and not self.packing.unplaced

    @property
    def leaving(self) -> int:
        """How many pods leave the nodes."""
        if self.packing is None:
            return 0
        return sum(one.source in self.nodes for one in self.packing.moves) + len(self.packing.evictions)


class PlanEnd(Struct, frozen=True):
    """A PackingPlan that was written for a drain, and how it stands."""

    name: str
    phase: str
    reason: str = ""


def answer(snapshot: Snapshot, options: PackOptions, budget: Budget, seed: int) -> DrainAnswer:
    """Look for obstacles first, and only then for places.

    Args:
        snapshot: the cluster.
        options: with the drain.
        budget: of the search.
        seed: of the search.
    """
    from stowage_scheduler.draining import obstacles
    from stowage_scheduler.pack import pack

    nodes = tuple(sorted(options.drain.nodes)) if options.drain is not None else ()
    found = obstacles(snapshot, options)
    if found:
        return DrainAnswer(nodes, found)
    return DrainAnswer(nodes, packing=pack(snapshot, options, budget, seed, time.monotonic))  # noqa: TID251 - the clock


def show(given: DrainAnswer, output: Output, plans: Sequence[PlanEnd] = (), *, drained: bool | None = None) -> None:
    """Print an answer.

    Args:
        given: the plan, or why there is none.
        output: table, JSON or YAML.
        plans: what was written to the cluster.
        drained: whether the nodes are empty now; None: nothing was done.
    """
    if output is not Output.TABLE:
        print_document(document(given, plans, drained=drained), output)
    elif drained is None:
        _tables(given)
    elif drained:
        print(f"{_names(given.nodes)} drained")


def document(given: DrainAnswer, plans: Sequence[PlanEnd], *, drained: bool | None) -> dict[str, Any]:
    """The JSON form of an answer."""
    from stowage.cli import plan

    return {
        "nodes": [*given.nodes],
        "possible": given.possible,
        "obstacles": [
            {"pod": one.pod.key, "node": one.node, "reason": one.reason, "message": one.words, "help": one.help}
            for one in given.obstacles
        ],
        "plan": plan.document(given.packing) if given.packing is not None else None,
        **({} if drained is None else {"drained": drained, "plans": [structs.asdict(one) for one in plans]}),
    }


def sentence(given: DrainAnswer) -> str:
    """The answer in one line."""
    names, packing = _names(given.nodes), given.packing
    if packing is None:
        return f"{names} can not be drained: {_pods(len(given.obstacles))} can not leave"
    if packing.unplaced:
        if not packing.certified:
            found = f"no place was found in {packing.seconds:.1f} s for {_pods(len(packing.unplaced))}"
            return f"{names} not drained: {found}; a longer --budget may find one"
        return f"{names} can not be drained: {_pods(len(packing.unplaced))} would find no place elsewhere"
    if not packing.steps:
        return f"{names}: no pod has to leave"
    others = len(packing.moves) + len(packing.evictions) - given.leaving
    words = f"{names}: {_pods(given.leaving)} can leave"
    words += f", {len(packing.evictions)} of them without a place elsewhere" if packing.evictions else ""
    return words + (f"; {_pods(others)} elsewhere would move to make room" if others else "")


def _tables(given: DrainAnswer) -> None:
    from stowage.cli.plan import print_rows

    out = console()
    out.print(sentence(given))
    kept = [(one.pod.key, one.node, one.reason, one.words, one.help) for one in given.obstacles]
    print_rows(out, ("can not leave", "node", "reason", "why", "would help"), kept)
    if given.packing is None:
        return
    homeless = [(one.pod.key, str(one.reason), one.help) for one in given.packing.unplaced]
    print_rows(out, ("no place for", "reason", "would help"), homeless)
    print_rows(out, ("move", "from", "to"), [(one.pod.key, one.source, one.target) for one in given.packing.moves])
    print_rows(out, ("evict", "from", "reason"), [(o.pod.key, o.node, str(o.reason)) for o in given.packing.evictions])


def _names(nodes: Sequence[str]) -> str:
    return f"node{'s' if len(nodes) > 1 else ''} {', '.join(nodes)}"


def _pods(count: int) -> str:
    from stowage_scheduler.counted import counted

    return counted(count, "pod")
