"""Data-parallel JAX on CPUs (gloo): one device in each process, the same for each number of processes.

Each process records the samples that it took. Losses and samples of all steps are part of each checkpoint, so the
history at the end is the one that was committed. Process 0 writes it to FILE.

    python jax_spmd.py FILE STEPS [--every 5] [--pause 0.02] [--die-before-commit STEP]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather, sync_global_devices
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stowage_worker import checkpoint_path, commit_checkpoint, newest_checkpoint, report

BATCH = 12
FEATURES = 8
Parameters = dict[str, np.ndarray]


def dataset(steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets, and the order in which samples are taken."""
    generator = np.random.default_rng(7)
    inputs = generator.normal(size=(steps * BATCH, FEATURES))
    return inputs, np.sin(inputs).sum(axis=1), generator.permutation(steps * BATCH)


def loss_of(parameters: Parameters, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    hidden = jnp.tanh(inputs @ parameters["first"])
    return jnp.mean((hidden @ parameters["second"] - targets) ** 2)


@partial(jax.jit, donate_argnums=(0, 1))
def take_step(
    parameters: Parameters, momentum: Parameters, inputs: jax.Array, targets: jax.Array
) -> tuple[Parameters, Parameters, jax.Array]:
    loss, gradients = jax.value_and_grad(loss_of)(parameters, inputs, targets)
    momentum = jax.tree.map(lambda before, now: 0.9 * before + now, momentum, gradients)
    return jax.tree.map(lambda value, change: value - 0.01 * change, parameters, momentum), momentum, loss


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0.02)
    parser.add_argument("--die-before-commit", type=int, default=-1)
    options = parser.parse_args()
    report(phase="Initializing")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        num_processes=int(os.environ["JAX_NUM_PROCESSES"]), process_id=int(os.environ["JAX_PROCESS_ID"])
    )
    rank, world_size = jax.process_index(), jax.process_count()
    with options.file.with_name("started").open("a") as log:
        log.write(f"{os.environ['STOWAGE_EPOCH']} {rank} {world_size} {os.getpid()}\n")
    mesh = Mesh(np.array(jax.devices()), ("data",))
    shared, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    inputs, targets, order = dataset(options.steps)
    generator = np.random.default_rng(0)
    parameters = {"first": generator.normal(size=(FEATURES, 16)), "second": generator.normal(size=16)}
    momentum = {name: np.zeros_like(value) for name, value in parameters.items()}
    losses, taken, begin = np.full(options.steps, np.nan), np.full((options.steps, BATCH), -1), 0
    origin = newest_checkpoint()
    if origin:
        report(phase="Restoring")
        with np.load(origin.path / "state.npz") as saved:
            parameters = {name: saved[f"parameter-{name}"] for name in parameters}
            momentum = {name: saved[f"momentum-{name}"] for name in parameters}
            losses, taken, begin = saved["losses"], saved["taken"], origin.step + 1
    device_parameters, device_momentum = jax.device_put((parameters, momentum), shared)
    report(phase="Compiling")
    for step in range(begin, options.steps):
        own = order[step * BATCH : (step + 1) * BATCH].reshape(world_size, -1)[rank]
        batch = (jax.make_array_from_process_local_data(split, part[own]) for part in (inputs, targets))
        device_parameters, device_momentum, loss = take_step(device_parameters, device_momentum, *batch)
        losses[step] = float(loss)
        taken[step] = process_allgather(own).ravel()
        report(step=step, tokens=(step + 1) * len(own), loss=losses[step], phase="Training")
        if (step + 1) % options.every == 0:
            if rank == 0:
                save(step, options, device_parameters, device_momentum, losses, taken)
            sync_global_devices(f"saved {step}")
        time.sleep(options.pause)
    report(phase="Saving")  # no further step is expected: leaving takes JAX some seconds
    if rank == 0:
        history = [[step, taken[step].tolist(), losses[step].item()] for step in range(options.steps)]
        options.file.write_text(json.dumps(history))
    sync_global_devices("done")
    jax.distributed.shutdown()


def save(
    step: int,
    options: argparse.Namespace,
    parameters: dict[str, jax.Array],
    momentum: dict[str, jax.Array],
    losses: np.ndarray,
    taken: np.ndarray,
) -> None:
    report(phase="Saving")
    path = checkpoint_path(step)
    state = {f"parameter-{name}": np.asarray(value) for name, value in parameters.items()}
    state |= {f"momentum-{name}": np.asarray(value) for name, value in momentum.items()}
    np.savez(path / "state.npz", losses=losses, taken=taken, **state)
    marker = options.file.with_name("died")
    if step == options.die_before_commit and not marker.exists():
        marker.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    commit_checkpoint(path, is_durable=False)
    report(checkpoint_step=step, phase="Training")


if __name__ == "__main__":
    main()
