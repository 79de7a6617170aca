"""`stowage doctor`: is everything there that Stowage needs, and was anything left behind?"""

from __future__ import annotations

from typing import Annotated

import typer

from stowage.cli.errors import ExitCode
from stowage.cli.options import ContextOption, KubeconfigOption, Output, OutputOption
from stowage.cli.printing import console, print_document, progress


def doctor(
    *,
    output: OutputOption = Output.TABLE,
    lease: Annotated[
        str, typer.Option("--scheduler-lease", help="Lease of the scheduler with the extender, as NAMESPACE/NAME.")
    ] = "kube-system/stowage-scheduler",
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Check API server, version, custom resources, permissions, scheduler and extender, and leftovers.

    Exit code 0 when no check failed, else 1.
    """
    from stowage.cli.checks import Result, run_checks
    from stowage.cli.cluster import with_cluster

    with progress("checking"):
        checks = with_cluster(kubeconfig, context, lambda api: run_checks(api, lease))
    if output is Output.TABLE:
        from rich.table import Table

        table = Table("check", "result", "what was found", box=None)
        for check in checks:
            table.add_row(check.name, str(check.result), check.found)
        console().print(table)
    else:
        found = [{"name": one.name, "result": str(one.result), "found": one.found} for one in checks]
        print_document({"checks": found}, output)
    if any(check.result is Result.FAILED for check in checks):
        raise typer.Exit(ExitCode.NEGATIVE)
