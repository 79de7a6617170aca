"""`stowage demo`: the whole story on a cluster of simulated nodes, in about a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stowage.cli.errors import ClusterError


def demo(
    *,
    openb: Annotated[
        bool, typer.Option("--openb", help="Run a 64-node cut of the openb GPU trace instead of the random workload.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster and its processes' results up.")] = False,
    nodes: Annotated[int, typer.Option("--nodes", min=2, max=200, help="Nodes of the random workload.")] = 32,
    pods_per_node: Annotated[int, typer.Option("--pods-per-node", min=1, max=100, help="On average.")] = 8,
    usage: Annotated[
        int, typer.Option("--usage", min=50, max=120, help="Share of CPU and memory that the pods ask for, in %.")
    ] = 95,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random workload.")] = 7,
    folder: Annotated[
        Path, typer.Option("--folder", help="Where pictures, logs and result.json go.", metavar="FOLDER")
    ] = Path("demo"),
) -> None:
    """Fill a local cluster, let kube-scheduler leave pods pending, and watch Stowage place them.

    Exit code 0 when every pod that the plan placed runs at the end, else 1.
    """
    from stowage.demo.local_cluster import LocalClusterError
    from stowage.demo.openb import openb_scenario
    from stowage.demo.processes import ProcessError
    from stowage.demo.run import run_demo
    from stowage.demo.watching import DemoError
    from stowage.demo.workload import priority_matters

    scenario = (
        openb_scenario()
        if openb
        else priority_matters(node_count=nodes, pods_per_node=pods_per_node, usage_percent=usage, seed=seed)
    )
    try:
        code = run_demo(scenario, folder=folder, keep=keep)
    except (DemoError, LocalClusterError, ProcessError) as error:
        raise ClusterError(str(error)) from error
    raise typer.Exit(code)
