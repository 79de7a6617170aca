"""DistributedDataParallel on CPUs (gloo) with torch.distributed.checkpoint, the same for each number of ranks.

Each rank records the samples that it took. Losses and samples of all steps are part of each checkpoint, so the history
at the end is the one that was committed. Rank 0 writes it to FILE.

    python torch_ddp.py FILE STEPS [--every 5] [--pause 0.02] [--die-before-commit STEP]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.nn.parallel import DistributedDataParallel

from stowage_worker import checkpoint_path, commit_checkpoint, newest_checkpoint, report

BATCH = 12
FEATURES = 8


def dataset(steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs, targets, and the order in which samples are taken."""
    generator = torch.Generator().manual_seed(7)
    count = steps * BATCH
    inputs = torch.randn(count, FEATURES, generator=generator, dtype=torch.float64)
    targets = inputs.sin().sum(dim=1, keepdim=True)
    return inputs, targets, torch.randperm(count, generator=generator)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0.02)
    parser.add_argument("--die-before-commit", type=int, default=-1)
    options = parser.parse_args()
    report(phase="Initializing")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    with options.file.with_name("started").open("a") as log:
        log.write(f"{os.environ['STOWAGE_EPOCH']} {rank} {world_size} {os.getpid()}\n")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(FEATURES, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()
    model = DistributedDataParallel(network)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    inputs, targets, order = dataset(options.steps)
    losses = torch.full((options.steps,), float("nan"), dtype=torch.float64)
    taken = torch.full((options.steps, BATCH), -1, dtype=torch.int64)
    begin = 0
    origin = newest_checkpoint()
    if origin:
        report(phase="Restoring")
        weights, moments = get_state_dict(model, optimizer)
        dcp.load({"model": weights, "optimizer": moments, "losses": losses, "taken": taken}, checkpoint_id=origin.path)
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)
        begin = origin.step + 1
    for step in range(begin, options.steps):
        own = order[step * BATCH + rank : (step + 1) * BATCH : world_size]
        loss = torch.nn.functional.mse_loss(model(inputs[own]), targets[own])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        losses[step] = total / world_size
        parts = [torch.empty_like(own) for _ in range(world_size)]
        dist.all_gather(parts, own)
        taken[step] = torch.stack(parts, dim=1).flatten()
        report(step=step, tokens=(step + 1) * len(own), loss=losses[step].item(), phase="Training")
        if (step + 1) % options.every == 0:
            report(phase="Saving")
            path = checkpoint_path(step)
            weights, moments = get_state_dict(model, optimizer)
            state = {"model": weights, "optimizer": moments, "losses": losses, "taken": taken}
            dcp.save(state, checkpoint_id=path)  # ends on all ranks when all have written
            marker = options.file.with_name("died")
            if rank == 0:
                if step == options.die_before_commit and not marker.exists():
                    marker.write_text("")
                    os.kill(os.getpid(), signal.SIGKILL)
                commit_checkpoint(path, is_durable=False)
                report(checkpoint_step=step)
        time.sleep(options.pause)
    report(phase="Saving")
    if rank == 0:
        history = [[step, taken[step].tolist(), losses[step].item()] for step in range(options.steps)]
        options.file.write_text(json.dumps(history))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
