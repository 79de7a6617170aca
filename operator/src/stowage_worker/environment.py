"""What a rank finds in its environment, for each framework. Pure: the inherited environment is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stowage_worker.messages import Go

FRAMEWORKS = ("Torch", "Jax", "Plain")
SUPERVISED = "STOWAGE_SUPERVISED"
"""Marks all processes below one supervisor, so that none is left behind however it was started."""
OF_THE_SUPERVISOR = ("STOWAGE_TOKEN", "STOWAGE_TOKEN_FILE", "STOWAGE_COORDINATOR", "STOWAGE_SUPERVISION")
"""Not handed on: programs have no business with the coordinator."""


@dataclass(frozen=True)
class Place:
    """Where on this machine one epoch keeps its files."""

    directory: Path

    @property
    def world(self) -> Path:
        """Layout, batch, data position, seats in order of ranks."""
        return self.directory / "world.json"

    @property
    def yield_request(self) -> Path:
        """There when the processes are asked to checkpoint and end."""
        return self.directory / "yield"

    @property
    def checkpoint_plan(self) -> Path:
        """The interval between checkpoints, and the step at which the next one is due; changes while ranks run."""
        return self.directory / "checkpoint.json"

    def of_rank(self, rank: int) -> Path:
        """The folder of one rank."""
        return self.directory / f"rank-{rank}"

    def progress(self, rank: int) -> Path:
        """What `report` writes."""
        return self.of_rank(rank) / "progress.json"

    def error(self, rank: int) -> Path:
        """The exception that ended a rank."""
        return self.of_rank(rank) / "error.json"

    def torch_error(self, rank: int) -> Path:
        """The same as torch.distributed.elastic writes it."""
        return self.of_rank(rank) / "torch-error.json"


def rank_of(go: Go, local_rank: int) -> int:
    """The rank in the whole job: ranks of one node are neighbours."""
    return go.node_rank * go.processes_per_node + local_rank


def rank_environment(
    go: Go, local_rank: int, place: Place, inherited: Mapping[str, str], own: Mapping[str, str]
) -> dict[str, str]:
    """The environment of one rank.

    Args:
        go: the epoch's command.
        local_rank: from 0 to `go.processes_per_node` - 1.
        place: the epoch's files.
        inherited: the supervisor's own environment.
        own: what the supervisor adds for all ranks: job, seat, framework, package folder.

    Later ones win: inherited, own, the job's (`go.environment`), the framework's, Stowage's.
    """
    base = {name: value for name, value in inherited.items() if name not in OF_THE_SUPERVISOR}
    base.update(own)
    base.update(go.environment)
    framework = base.get("STOWAGE_FRAMEWORK", "Plain")
    rank = rank_of(go, local_rank)
    world_size = go.nodes * go.processes_per_node
    stowage = {
        "STOWAGE_EPOCH": str(go.epoch),
        "STOWAGE_ATTEMPT": str(go.attempt),
        "STOWAGE_FRAMEWORK": framework,
        "STOWAGE_RANK": str(rank),
        "STOWAGE_WORLD_SIZE": str(world_size),
        "STOWAGE_LOCAL_RANK": str(local_rank),
        "STOWAGE_LOCAL_WORLD_SIZE": str(go.processes_per_node),
        "STOWAGE_NODE_RANK": str(go.node_rank),
        "STOWAGE_NODES": str(go.nodes),
        "STOWAGE_MASTER_ADDRESS": go.master_address,
        "STOWAGE_MASTER_PORT": str(go.master_port),
        "STOWAGE_WORLD_FILE": str(place.world),
        "STOWAGE_PROGRESS_FILE": str(place.progress(rank)),
        "STOWAGE_ERROR_FILE": str(place.error(rank)),
        "STOWAGE_YIELD_FILE": str(place.yield_request),
        "STOWAGE_CHECKPOINT_PLAN_FILE": str(place.checkpoint_plan),
        "STOWAGE_CHECKPOINT_SECONDS": f"{go.checkpoint_seconds:g}",
        "TORCHELASTIC_ERROR_FILE": str(place.torch_error(rank)),
    }
    return {**base, "PYTHONUNBUFFERED": "1", **_of_framework(framework, go, local_rank, base), **stowage}


def _of_framework(framework: str, go: Go, local_rank: int, base: Mapping[str, str]) -> dict[str, str]:
    rank = rank_of(go, local_rank)
    world_size = go.nodes * go.processes_per_node
    if framework == "Jax":
        return {
            "JAX_COORDINATOR_ADDRESS": f"{_bracketed(go.master_address)}:{go.master_port}",
            "JAX_NUM_PROCESSES": str(world_size),
            "JAX_PROCESS_ID": str(rank),
        }
    if framework != "Torch":
        return {}
    torch = {
        "MASTER_ADDR": go.master_address,
        "MASTER_PORT": str(go.master_port),
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(go.processes_per_node),
        "GROUP_RANK": str(go.node_rank),
    }
    if go.processes_per_node == 1:  # the program may be torchrun, which starts this node's ranks itself
        torch.update(
            PET_NNODES=str(go.nodes),
            PET_NODE_RANK=str(go.node_rank),
            PET_MASTER_ADDR=go.master_address,
            PET_MASTER_PORT=str(go.master_port),
            PET_MAX_RESTARTS=base.get("PET_MAX_RESTARTS", "0"),  # who restarts is Stowage, with all nodes at once
        )
    return torch


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
