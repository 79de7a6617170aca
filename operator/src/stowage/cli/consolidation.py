"""`stowage plan --consolidate`: which nodes can be emptied, and what that takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from stowage.cli.options import Output
from stowage.cli.printing import console, print_document

if TYPE_CHECKING:
    from stowage_scheduler.cluster import Snapshot
    from stowage_scheduler.emptying import Consolidation
    from stowage_scheduler.options import Budget, PackOptions


def consolidated(snapshot: Snapshot, options: PackOptions, budget: Budget, seed: int) -> Consolidation:
    """The nodes of a snapshot that can be emptied under these options."""
    from stowage_scheduler.consolidation import consolidate

    return consolidate(snapshot, options, budget, seed, time.monotonic)  # noqa: TID251 - the clock


def show(found: Consolidation, output: Output) -> None:
    """Print them with their plan."""
    if output is not Output.TABLE:
        print_document(document(found), output)
        return
    from stowage.cli.plan import print_rows

    out = console()
    out.print(sentence(found))
    used = {one.node: one for one in found.candidates}
    rows = [(name, str(used[name].moves), f"{used[name].used / 10_000:.1f} %") for name in found.nodes]
    print_rows(out, ("can be emptied", "pods", "used"), rows)
    if found.packing is not None:
        print_rows(out, ("move", "from", "to"), [(one.pod.key, one.source, one.target) for one in found.packing.moves])


def document(found: Consolidation) -> dict[str, Any]:
    """The JSON form: the document of the plan beside the nodes."""
    from stowage.cli import plan

    return {
        "emptied": [*found.nodes],
        "candidates": [
            {"node": one.node, "moves": one.moves, "usedPercent": one.used / 10_000} for one in found.candidates
        ],
        "waiting": found.waiting,
        "plan": plan.document(found.packing) if found.packing is not None else None,
    }


def sentence(found: Consolidation) -> str:
    """The answer in one line, with what to do next."""
    if found.waiting:
        return f"{_count(found.waiting, 'pod')} without a place: nothing is consolidated before all have one"
    if not found.nodes or found.packing is None:
        return f"no node can be emptied; looked at {len(found.candidates)}"
    moves = len(found.packing.moves)
    words = f"{_count(len(found.nodes), 'node')} can be emptied by {_count(moves, 'move')}"
    return words + (f": stowage drain {' '.join(found.nodes)}" if moves else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}" if number else f"no {what}"
