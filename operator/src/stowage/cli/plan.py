"""`stowage plan`: what Stowage would do, computed without touching the cluster."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import structs

from stowage.cli.errors import ExitCode
from stowage.cli.options import (
    BudgetOption,
    ContextOption,
    DeterministicBudgetOption,
    FileOption,
    KubeconfigOption,
    NowOption,
    Output,
    OutputOption,
    PolicyOption,
    SeedOption,
    refuse_no_picture,
)
from stowage.cli.printing import console, print_document, progress, remark
from stowage.cli.times import budget_given

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stowage.api.packing_policy import PackingPolicy
    from stowage.cli.facts import Chosen
    from stowage_scheduler.cluster import Snapshot
    from stowage_scheduler.options import Budget, PackOptions
    from stowage_scheduler.packing import Packing

_ROWS_SHOWN = 40


def plan(
    *,
    file: FileOption = None,
    policy: PolicyOption = None,
    budget: BudgetOption = None,
    deterministic_budget: DeterministicBudgetOption = None,
    seed: SeedOption = 0,
    now: NowOption = None,
    consolidate: Annotated[
        bool, typer.Option("--consolidate", help="Show which nodes can be emptied instead.")
    ] = False,
    output: OutputOption = Output.TABLE,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Also draw the nodes after the plan.", metavar="FILE.png")
    ] = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Compute a packing plan and print it; nothing is changed.

    Exit code 0 when every pod has a place and none is evicted (with --consolidate: when a node can be emptied), else 1.
    """
    from stowage.cli.facts import choose, load

    seconds, units = budget_given(budget, deterministic_budget)
    refuse_no_picture(plot)
    facts = load(file, now, kubeconfig, context)
    chosen = choose(policy, facts)
    if consolidate:
        from stowage.cli.consolidation import consolidated, show

        with progress("looking for nodes that can be emptied"):
            found = consolidated(
                facts.snapshot, options_in(chosen, facts.snapshot), budget_for(chosen.policy, seconds, units), seed
            )
        show(found, output)
        if not found.nodes:
            raise typer.Exit(ExitCode.NEGATIVE)
        return
    with progress("packing"):
        packing = compute(facts.snapshot, chosen, budget_for(chosen.policy, seconds, units), seed)
    if plot is not None:
        draw_plan(facts.snapshot, packing, plot)
    if output is Output.TABLE:
        print_tables(packing)
        if chosen.policy is not None:
            from stowage.cli.team_rows import HEADS, team_rows

            print_rows(console(), HEADS, team_rows(chosen.policy, facts.snapshot, packing))
    else:
        print_document(document(packing), output)
    if packing.unplaced or packing.evictions:
        raise typer.Exit(ExitCode.NEGATIVE)


def compute(snapshot: Snapshot, chosen: Chosen, budget: Budget, seed: int) -> Packing:
    """Packs a snapshot under a policy, or under the defaults of design §6 without one."""
    from stowage_scheduler.pack import pack

    options = options_in(chosen, snapshot)
    if chosen.policy is not None:
        from stowage.decide.power_words import without_figures

        unknown = without_figures(chosen.policy, snapshot.nodes)
        if unknown:
            remark(f"policy {chosen.policy.name}: {unknown}")
    packing = pack(snapshot, options, budget, seed, time.monotonic)  # noqa: TID251 - the clock
    if packing.faults:
        remark(f"a simpler plan: the checks refused the search's answer ({packing.faults[0]})")
    return packing


def options_in(chosen: Chosen, snapshot: Snapshot) -> PackOptions:
    """What a packing may do under a policy beside others."""
    options = options_for(chosen.policy)
    if not chosen.held_by_others:
        return options
    return structs.replace(options, nodes=frozenset(node.name for node in snapshot.nodes) - chosen.held_by_others)


def options_for(policy: PackingPolicy | None) -> PackOptions:
    """What a packing may do under a policy; without one: everything that never harms."""
    from stowage_scheduler.options import PackOptions

    if policy is None:
        return PackOptions()
    from stowage.api.packing_policy import Steering
    from stowage.decide.scope import options

    # what earlier plans spent of maxMovesPerHour limits the operator, not a question
    binds = policy.spec.steering is Steering.BIND
    return options(policy, moves_left=policy.spec.disruption.max_moves_per_hour, binds=binds)


def budget_for(policy: PackingPolicy | None, seconds: float | None, units: float | None) -> Budget:
    """The budget of a packing: what was asked for (wall seconds or deterministic units), else the policy's."""
    from stowage.run.settings import cpu_limit
    from stowage_scheduler.options import Budget

    if units is not None:
        return Budget(deterministic_units=units)  # its number of workers is fixed: any machine gives the same plan
    budget = Budget(workers=cpu_limit())
    if policy is not None:
        given = policy.spec.budget
        budget = structs.replace(budget, seconds=given.time.seconds, certify_seconds=given.certify_within.seconds)
    if seconds is not None:
        budget = structs.replace(budget, seconds=seconds, certify_seconds=min(budget.certify_seconds, seconds / 5))
    return budget


def document(packing: Packing) -> dict[str, Any]:
    """The stable JSON form of a plan (design §6)."""
    return {
        "assignments": [{"pod": one.pod.key, "node": one.node} for one in packing.assignments],
        "moves": [{"pod": one.pod.key, "from": one.source, "to": one.target} for one in packing.moves],
        "evictions": [{"pod": one.pod.key, "reason": str(one.reason)} for one in packing.evictions],
        "unplaced": [{"pod": one.pod.key, "reason": str(one.reason), "help": one.help} for one in packing.unplaced],
        "steps": [
            {"id": step.id, "action": str(step.action), "pod": step.pod.key, "node": step.node, "after": [*step.after]}
            | ({"replacementOf": step.replacement_of} if step.replacement_of else {})
            for step in packing.steps
        ],
        "placedByPriority": _by_priority(packing.placed),
        "bound": _by_priority(packing.bound),
        "certified": packing.certified,
        "moveCost": packing.move_cost,
        "moveCostBound": packing.move_cost_bound,
        "seconds": round(packing.seconds, 3),
        "rejectedObjects": [
            {"kind": one.kind, "name": one.name, "field": one.field, "value": one.value, "rule": one.rule}
            for one in packing.rejected
        ],
    }


def _by_priority(counts: Any) -> dict[str, int]:  # noqa: ANN401
    return {str(priority): counts[priority] for priority in sorted(counts, reverse=True)}


def print_tables(packing: Packing) -> None:
    """The plan for people: the answer first, then what it takes."""
    from rich.table import Table

    out = console()
    out.print(summary(packing))
    tiers = Table("priority and above", "runs now", "runs then", "at most", box=None)
    for priority in sorted(packing.placed, reverse=True):
        counts = (packing.before.get(priority, 0), packing.placed[priority], packing.bound.get(priority, "?"))
        tiers.add_row(str(priority), *map(str, counts))
    out.print(tiers)
    print_rows(out, ("move", "from", "to"), [(one.pod.key, one.source, one.target) for one in packing.moves])
    print_rows(out, ("evict", "from", "reason"), [(o.pod.key, o.node, str(o.reason)) for o in packing.evictions])
    print_rows(out, ("stays pending", "reason", "help"), [(o.pod.key, str(o.reason), o.help) for o in packing.unplaced])
    print_rows(
        out,
        ("left out", "field", "rule"),
        [(f"{one.kind} {one.name}", f"{one.field} = {one.value}", one.rule) for one in packing.rejected],
    )


def summary(packing: Packing) -> str:
    """One line: what the plan achieves and what it costs."""
    from stowage_scheduler.counted import counted

    placed = sum(1 for step in packing.steps if step.action.arrives)
    proof = "no plan can place more" if packing.certified else "a better plan may exist"
    found = (
        counted(placed, "pending pod gets a place", "pending pods get a place"),
        counted(len(packing.unplaced), "stays pending", "stay pending"),
        counted(len(packing.moves), "move"),
        counted(len(packing.evictions), "eviction"),
        *_temporary_places(packing),
        counted(len(packing.steps), "step"),
    )
    return f"{', '.join(found)}; {proof} ({packing.seconds:.2f} s)"


def _temporary_places(packing: Packing) -> tuple[str, ...]:
    """Pods that move twice, in words; nothing where there are none."""
    from stowage_scheduler.counted import counted

    count = sum(1 for step in packing.steps if step.replacement_of)
    return (counted(count, "temporary place"),) if count else ()


def print_rows(out: Any, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:  # noqa: ANN401
    """Print a table with its heads; nothing without rows, and not more than a person reads."""
    from rich.table import Table

    if not rows:
        return
    out.print()
    table = Table(*heads, box=None)
    for row in rows[:_ROWS_SHOWN]:
        table.add_row(*row)
    out.print(table)
    if len(rows) > _ROWS_SHOWN:
        out.print(f"… and {len(rows) - _ROWS_SHOWN} more (-o json shows all)")


def draw_plan(snapshot: Snapshot, packing: Packing, file: Path) -> None:
    """Draws the nodes as they would be after the plan.

    Raises:
        OSError: the file cannot be written.
    """
    from stowage.demo.pictures import draw, picture

    then = {one.pod.uid: one.node for one in packing.assignments}
    lost = {one.pod.uid for one in packing.evictions}
    pods = tuple(
        structs.replace(pod, node=None if pod.uid in lost else then.get(pod.uid, pod.node)) for pod in snapshot.pods
    )
    gpus = any(node.allocatable.get("nvidia.com/gpu") for node in snapshot.nodes)
    shown = picture(
        structs.replace(snapshot, pods=pods),
        title="After the plan",
        subtitle=summary(packing),
        resource="nvidia.com/gpu" if gpus else "cpu",
        earlier=snapshot,
    )
    with progress("drawing"):
        draw(shown, file)
