"""The command behind `make up` and `make down`: python -m stowage.demo.cluster_command up|down."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from stowage.demo import local_cluster
from stowage.demo.processes import ProcessError
from stowage.demo.simulated_nodes import NodeFileError

app = typer.Typer(add_completion=False, help="Start and end local clusters.", no_args_is_help=True)

Name = Annotated[str, typer.Option(envvar="STOWAGE_CLUSTER", help="name of the cluster")]


@app.command()
def up(
    name: Name = "stowage",
    nodes: Annotated[Path, typer.Option(help="file that declares the nodes")] = local_cluster.DEFAULT_NODES_FILE,
    extender_port: Annotated[
        int, typer.Option(envvar="STOWAGE_EXTENDER_PORT", help="port of 127.0.0.1 where `stowage extender` listens")
    ] = local_cluster.DEFAULT_EXTENDER_PORT,
) -> None:
    """Start a cluster with the scheduler `stowage`; print the path of its kubeconfig file."""
    typer.echo(f"starting cluster {name}", err=True)
    cluster = local_cluster.up(nodes, name=name)
    if not cluster.is_running(local_cluster.SCHEDULER_PROCESS):
        local_cluster.start_scheduler(cluster, extender_port)
    typer.echo(f"cluster {name} is up; the scheduler `stowage` expects its extender on port {extender_port}", err=True)
    typer.echo(cluster.kubeconfig)


@app.command()
def down(
    name: Name = "stowage",
    *,
    every: Annotated[bool, typer.Option("--all", help="all clusters of the folder STOWAGE_CLUSTERS")] = False,
) -> None:
    """End a cluster and the processes beside it."""
    for target in local_cluster.names() if every else [name]:
        local_cluster.down(target)
        typer.echo(f"cluster {target} is down", err=True)


if __name__ == "__main__":
    try:
        app()
    except (local_cluster.LocalClusterError, NodeFileError, ProcessError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(3)
