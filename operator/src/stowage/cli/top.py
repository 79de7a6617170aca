"""`stowage top`: how full the nodes are, how usable what is free is, and how training jobs and model services do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from stowage.cli.options import ContextOption, FileOption, KubeconfigOption, NowOption, Output, OutputOption
from stowage.cli.printing import console, print_document

if TYPE_CHECKING:
    from stowage_scheduler.cluster import Snapshot

GPU = "nvidia.com/gpu"
_GIBIBYTE = 1024**3


class NodeUse(Struct, frozen=True):
    """Requested and allocatable amounts of a node: CPU in milli-CPU, memory in bytes, GPUs in devices."""

    name: str
    pods: int
    cpu_requested_milli: int
    cpu_allocatable_milli: int
    memory_requested_bytes: int
    memory_allocatable_bytes: int
    gpu_requested: int
    gpu_allocatable: int
    gpu_unusable: float = 0.0  # of the free ones, by a typical pod with GPUs
    gpu_shared_milli: int = 0  # thousandths of devices that shares hold
    gpu_empty: int | None = None  # devices that nobody has a part of, where there are shares

    @property
    def gpu_free(self) -> int:
        """GPUs that no pod asks for, or has a share of."""
        free = max(0, self.gpu_allocatable - self.gpu_requested)
        return free if self.gpu_empty is None else min(free, self.gpu_empty)

    @property
    def gpu_in_use(self) -> bool:
        """Whether pods hold GPUs or parts of them."""
        return bool(self.gpu_requested or self.gpu_shared_milli)


def top(
    *,
    file: FileOption = None,
    now: NowOption = None,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show requested and allocatable CPU, memory and GPUs by node, the largest free GPU block, jobs and services."""
    from stowage.cli import job_rows, service_rows
    from stowage.cli.facts import load

    facts = load(file, now, kubeconfig, context)
    snapshot, jobs = facts.snapshot, job_rows.job_rows(facts.jobs)
    services = service_rows.service_rows(facts.services)
    uses = node_uses(snapshot)
    pending = sum(1 for pod in snapshot.pods if pod.node is None and not pod.finished)
    if output is Output.TABLE:
        _print_table(uses, pending)
        job_rows.show(jobs)
        service_rows.show(services)
    else:
        own = {"trainingJobs": job_rows.document(jobs), "modelServices": service_rows.document(services)}
        print_document({**document(uses, pending), **own}, output)


def node_uses(snapshot: Snapshot) -> list[NodeUse]:
    """What pods ask for on each node, by node name; pods that have finished hold nothing."""
    from stowage.decide.gpu_use import shared_gpus, unusable_gpus

    unusable, shared = unusable_gpus(snapshot), shared_gpus(snapshot)
    requested: Mapping[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for pod in snapshot.pods:
        if pod.node is not None and not pod.finished:
            for resource, amount in {**pod.requests, "pods": 1}.items():
                requested[pod.node][resource] += amount
    return [
        NodeUse(
            name=node.name,
            pods=requested[node.name]["pods"],
            cpu_requested_milli=requested[node.name]["cpu"],
            cpu_allocatable_milli=node.allocatable.get("cpu", 0),
            memory_requested_bytes=requested[node.name]["memory"],
            memory_allocatable_bytes=node.allocatable.get("memory", 0),
            gpu_requested=requested[node.name][GPU],
            gpu_allocatable=node.allocatable.get(GPU, 0),
            gpu_unusable=unusable[node.name],
            gpu_shared_milli=shared.get(node.name, (0, None))[0],
            gpu_empty=shared.get(node.name, (0, None))[1],
        )
        for node in sorted(snapshot.nodes, key=lambda node: node.name)
    ]


def fragmentation(uses: list[NodeUse]) -> float:
    """Share of the free GPUs that lie on nodes where other pods hold GPUs: useless to a pod that needs a whole node.

    0 when no GPU is free.
    """
    free = sum(use.gpu_free for use in uses)
    return sum(use.gpu_free for use in uses if use.gpu_in_use) / free if free else 0.0


def document(uses: list[NodeUse], pending: int) -> dict[str, Any]:
    """The answer as JSON values."""
    return {
        "nodes": [
            {
                "name": use.name,
                "pods": use.pods,
                "cpuMilli": {"requested": use.cpu_requested_milli, "allocatable": use.cpu_allocatable_milli},
                "memoryBytes": {"requested": use.memory_requested_bytes, "allocatable": use.memory_allocatable_bytes},
                "gpus": {
                    "requested": use.gpu_requested,
                    "allocatable": use.gpu_allocatable,
                    "unusable": use.gpu_unusable,
                    **({"sharedMilli": use.gpu_shared_milli} if use.gpu_shared_milli else {}),
                },
            }
            for use in uses
        ],
        "pendingPods": pending,
        "gpus": {
            "requested": sum(use.gpu_requested for use in uses),
            "allocatable": sum(use.gpu_allocatable for use in uses),
            "largestFreeBlock": max((use.gpu_free for use in uses), default=0),
            "fragmentation": round(fragmentation(uses), 4),
            "unusable": round(sum(use.gpu_unusable for use in uses), 3),
            **({"sharedMilli": shared} if (shared := sum(use.gpu_shared_milli for use in uses)) else {}),
        },
    }


def _print_table(uses: list[NodeUse], pending: int) -> None:
    from rich.table import Table

    from stowage_scheduler.counted import counted

    gpus = any(use.gpu_allocatable for use in uses)
    table = Table("node", box=None)
    for head in ("pods", "cpu", "memory", *(("gpu",) if gpus else ())):
        table.add_column(head, justify="right")
    for use in uses:
        cells = [
            str(use.pods),
            share(use.cpu_requested_milli, use.cpu_allocatable_milli, 1000, " cores"),
            share(use.memory_requested_bytes, use.memory_allocatable_bytes, _GIBIBYTE, " GiB"),
        ]
        table.add_row(use.name, *cells, *([_gpus(use)] if gpus else []))
    out = console()
    out.print(table)
    out.print()
    cpu = share(sum(u.cpu_requested_milli for u in uses), sum(u.cpu_allocatable_milli for u in uses), 1000, " cores")
    out.print(f"{counted(len(uses), 'node')}, {cpu} requested, {counted(pending, 'pod')} pending")
    if gpus:
        shared = sum(use.gpu_shared_milli for use in uses)
        in_shares = f", {shared / 1000:.1f} held in shares" if shared else ""
        held, offered = sum(use.gpu_requested for use in uses), sum(use.gpu_allocatable for use in uses)
        largest = max(use.gpu_free for use in uses)
        free = f"{offered - held - shared / 1000:.1f}" if shared else str(offered - held)
        out.print(
            f"GPUs: {held} of {offered} requested{in_shares}; largest free block on one node {largest}; "
            f"{100 * fragmentation(uses):.0f} % of the free ones are on nodes that are partly in use; "
            f"a typical GPU pod could not use {sum(use.gpu_unusable for use in uses):.1f} of {free}"
        )


def _gpus(use: NodeUse) -> str:
    shared = f" + {use.gpu_shared_milli / 1000:.1f} in shares" if use.gpu_shared_milli else ""
    return f"{use.gpu_requested} of {use.gpu_allocatable}{shared}"


def share(requested: int, allocatable: int, unit: int, name: str) -> str:
    """How much of what a node offers is asked for, counted in `unit`; `name` follows the numbers."""
    percent = f"{100 * requested / allocatable:.0f} %" if allocatable else "-"
    return f"{requested / unit:.1f} of {allocatable / unit:.1f}{name} ({percent})"
