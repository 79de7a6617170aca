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
    operator_lease: Annotated[
        str | None,
        typer.Option(
            "--operator-lease",
            help="Leader lease of the operator. Default: stowage-system/stowage-operator.",
            metavar="NAMESPACE/NAME",
        ),
    ] = None,
    scheduler_lease: Annotated[
        str | None,
        typer.Option(
            "--scheduler-lease",
            help="Lease of the scheduler with the extender. Default: kube-system/stowage-scheduler.",
            metavar="NAMESPACE/NAME",
        ),
    ] = None,
    extender_url: Annotated[
        str | None,
        typer.Option(
            "--extender-url", help="Where the extender says that it is ready. Default: http://127.0.0.1:8901/readyz."
        ),
    ] = None,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix", help="Give back nodes kept for plans that do not run; let pods of jobs go that nobody counts."
        ),
    ] = False,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Check API server, version, custom resources, permissions, operator, scheduler, extender, leftovers, pods of jobs.

    Exit code 0 when no check failed, else 1.
    """
    from stowage.cli.checks import EXTENDER_URL, Places, lease_of, run_checks
    from stowage.cli.cluster import with_cluster
    from stowage.cli.leftovers import Result
    from stowage.run.settings import OperatorSettings

    settled = {name: field.default for name, field in OperatorSettings.model_fields.items()}
    operator_default = f"{settled['namespace']}/{settled['lease_name']}"
    scheduler_default = f"{settled['scheduler_lease_namespace']}/{settled['scheduler_lease_name']}"
    places = Places(
        operator_lease=lease_of(operator_lease or operator_default, "--operator-lease"),
        scheduler_lease=lease_of(scheduler_lease or scheduler_default, "--scheduler-lease"),
        extender_url=extender_url or EXTENDER_URL,
        extender_url_given=extender_url is not None,
    )
    with progress("checking"):
        checks = with_cluster(kubeconfig, context, lambda api: run_checks(api, places, fix=fix))
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
