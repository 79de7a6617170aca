"""`stowage drain`: empty nodes by a plan that has a new place for every pod before the first one is evicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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
)
from stowage.cli.printing import progress, remark
from stowage.cli.times import budget_given, duration_seconds

if TYPE_CHECKING:
    from stowage.cli.drain_answer import DrainAnswer
    from stowage.cli.drain_live import Request
    from stowage_scheduler.kube.dump import Dump


def drain(
    nodes: Annotated[list[str], typer.Argument(help="Nodes to empty.", metavar="NODE...")],
    *,
    file: FileOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan; change nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also evict pods whose replacement nobody promises, or may come back.")
    ] = False,
    delete_emptydir_data: Annotated[
        bool, typer.Option("--delete-emptydir-data", help="Also evict pods that lose data with an emptyDir volume.")
    ] = False,
    ignore_daemonsets: Annotated[
        bool,
        typer.Option("--ignore-daemonsets/--no-ignore-daemonsets", help="Leave pods of DaemonSets where they are."),
    ] = True,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until the nodes are empty; else until the plan is written.")
    ] = True,
    timeout: Annotated[
        str | None, typer.Option("--timeout", help="Give up after this time, like 10m, and stop the plan.")
    ] = None,
    policy: PolicyOption = None,
    budget: BudgetOption = None,
    deterministic_budget: DeterministicBudgetOption = None,
    seed: SeedOption = 0,
    now: NowOption = None,
    operator_lease: Annotated[
        str | None,
        typer.Option(
            "--operator-lease",
            help="Leader lease of the operator. Default: stowage-system/stowage-operator.",
            metavar="NAMESPACE/NAME",
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Cordon nodes and move their pods to places that are planned before the first of them is evicted.

    When a pod can not leave, or one would find no place elsewhere, nothing is cordoned and nobody evicted.

    Exit code 0 when the nodes are empty (with --dry-run or a file: can be emptied), else 1.
    """
    from stowage.cli.drain_live import Request
    from stowage.cli.facts import load
    from stowage.run.settings import OperatorSettings
    from stowage_scheduler.options import Drain

    seconds, units = budget_given(budget, deterministic_budget)
    request = Request(
        drain=Drain(
            nodes=frozenset(nodes),
            force=force,
            delete_local_data=delete_emptydir_data,
            ignore_daemon_sets=ignore_daemonsets,
        ),
        policy=policy,
        seconds=seconds,
        units=units,
        seed=seed,
        timeout_seconds=duration_seconds(timeout, "--timeout") if timeout is not None else None,
        wait=wait,
        operator_lease=operator_lease
        or "/".join(str(OperatorSettings.model_fields[name].default) for name in ("namespace", "lease_name")),
    )
    if file is not None or dry_run:
        _dry_run(request, load(file, now, kubeconfig, context), output)
    else:
        _live(request, kubeconfig, context, output)


def _dry_run(request: Request, facts: Dump, output: Output) -> None:
    from stowage.cli.drain_answer import answer, show
    from stowage.cli.drain_policy import chosen_for, outside_words, refuse_unknown
    from stowage.cli.plan import budget_for, options_in

    refuse_unknown(request.drain.nodes, facts.snapshot)
    chosen = chosen_for(request.policy, facts, request.drain.nodes)
    outside = outside_words(chosen.policy, facts, request.drain.nodes)
    if outside:
        remark(outside)
    options = structs.replace(options_in(chosen, facts.snapshot), drain=request.drain)
    with progress("planning"):
        given = answer(facts.snapshot, options, budget_for(chosen.policy, request.seconds, request.units), request.seed)
    show(given, output)
    if not given.possible:
        raise typer.Exit(ExitCode.NEGATIVE)


def _live(request: Request, kubeconfig: str | None, context: str | None, output: Output) -> None:
    from stowage.cli.cluster import with_cluster
    from stowage.cli.drain_answer import show
    from stowage.cli.drain_live import drain_live

    ended = with_cluster(kubeconfig, context, lambda api: drain_live(api, request, remark))
    _explain(ended.answer, output)
    show(ended.answer, output, ended.plans, drained=ended.drained)
    if not ended.drained and not ended.under_way:
        raise typer.Exit(ExitCode.NEGATIVE)


def _explain(given: DrainAnswer, output: Output) -> None:
    """A drain that could not begin, or go on, shows why as a dry run does."""
    from stowage.cli.drain_answer import show

    if output is Output.TABLE and not given.possible:
        show(given, output)
