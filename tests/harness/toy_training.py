"""A deterministic training program of nothing but the standard library, for tests of what Stowage does around it.

Ranks reduce over sockets at MASTER_ADDR:MASTER_PORT; samples are shared out by rank, and sums run in order of samples,
so each loss is the same for every number of ranks. Rank 0 commits a checkpoint of weight and history at an interval,
and writes the history (step, samples, loss) to FILE at the end. Beside it lie `started` (epoch, rank, ranks, process,
time of each rank's start) and `steps` (epoch, step, time); times in milliseconds. Mischief is chosen by arguments and
done once per marker file, so that a run goes wrong as often as the test says; the marker holds the time. With
`--every 0` Stowage says when a checkpoint is due, and each rank notes it in `due` (epoch, rank, step). With `--held`
no rank does the last step before the file `go` lies beside FILE: a test that is late finds the run as it was.

    python toy_training.py FILE STEPS [--every 5] [--pause 0.01] [--mischief KIND:RANK:STEP:TIMES] [--held]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from stowage_worker import checkpoint_due, checkpoint_path, commit_checkpoint, newest_checkpoint, report, should_yield

BATCH = 12
RANK, WORLD_SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


class DataError(Exception):
    pass


class Ring:
    """All-gather through rank 0."""

    def __init__(self) -> None:
        address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        self.files: dict[int, Any] = {}
        if RANK == 0:
            with socket.create_server(address) as server:
                while len(self.files) < WORLD_SIZE - 1:
                    connection, _ = server.accept()
                    stream = connection.makefile("rw")
                    self.files[int(stream.readline())] = stream
            return
        deadline = time.perf_counter() + 30
        while True:
            try:
                connection = socket.create_connection(address, timeout=30)
                connection.settimeout(None)
                stream = connection.makefile("rw")
                break
            except OSError:
                if time.perf_counter() > deadline:
                    raise
                time.sleep(0.01)
        self.files[0] = stream
        self.say(stream, RANK)

    def say(self, stream: Any, value: object) -> None:
        stream.write(json.dumps(value) + "\n")
        stream.flush()

    def hear(self, stream: Any) -> Any:
        line = stream.readline()
        if not line:
            raise ConnectionResetError("a rank is gone")
        return json.loads(line)

    def gather(self, own: dict[str, float]) -> dict[str, float]:
        if RANK != 0:
            self.say(self.files[0], own)
            return dict(self.hear(self.files[0]))
        whole = dict(own)
        for stream in self.files.values():
            whole.update(self.hear(stream))
        for stream in self.files.values():
            self.say(stream, whole)
        return whole


def milliseconds() -> int:
    return time.time_ns() // 10**6


def do_mischief(text: str, folder: Path, step: int) -> None:
    kind, rank, at, times = text.split(":")
    if int(rank) != RANK or step != int(at):
        return
    done = len(list(folder.glob("mischief-*")))
    if done >= int(times):
        return
    (folder / f"mischief-{done}").write_text(str(milliseconds()))
    if kind == "raise":
        raise DataError(f"sample {step} is broken")
    if kind == "exit":
        os._exit(42)
    if kind in {"KILL", "TERM", "STOP"}:
        os.kill(os.getpid(), getattr(signal, f"SIG{kind}"))
        time.sleep(60)
    if kind == "memory":
        eaten = []
        while True:
            eaten.append(b"x" * (1 << 20))
    if kind == "hang":
        time.sleep(3600)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0.01)
    parser.add_argument("--mischief", default="none:-1:-1:0")
    parser.add_argument("--held", action="store_true")
    options = parser.parse_args()
    started = options.file.with_name("started")
    with started.open("a") as log:
        log.write(f"{os.environ['STOWAGE_EPOCH']} {RANK} {WORLD_SIZE} {os.getpid()} {milliseconds()}\n")
    steps = options.file.with_name("steps").open("a") if RANK == 0 else None
    ring = Ring()
    origin = newest_checkpoint()
    state = json.loads((origin.path / "state.json").read_text()) if origin else {"weight": 0.0, "history": []}
    weight, history = state["weight"], state["history"]
    for step in range(len(history), options.steps):
        do_mischief(options.mischief, options.file.parent, step)
        while options.held and step == options.steps - 1 and not options.file.with_name("go").exists():
            time.sleep(0.01)
        samples = range(step * BATCH, (step + 1) * BATCH)
        own = {str(sample): gradient(weight, sample) for sample in samples if sample % WORLD_SIZE == RANK}
        whole = ring.gather(own)
        total = 0.0
        for sample in samples:
            total += whole[str(sample)]
        weight -= 0.05 * total / BATCH
        history.append([step, [samples[0], samples[-1]], total * total])
        if steps:
            print(os.environ["STOWAGE_EPOCH"], step, milliseconds(), file=steps, flush=True)
        report(step=step, tokens=(step + 1) * BATCH, loss=total * total, phase="Training")
        is_due = checkpoint_due(step) if options.every == 0 else (step + 1) % options.every == 0
        if is_due:
            with options.file.with_name("due").open("a") as log:
                log.write(f"{os.environ['STOWAGE_EPOCH']} {RANK} {step}\n")
        if RANK == 0 and is_due:
            path = checkpoint_path(step)
            (path / "state.json").write_text(json.dumps({"weight": weight, "history": history}))
            commit_checkpoint(path, is_durable=False)
            report(checkpoint_step=step)
        if options.every == 0 and should_yield(step):
            sys.exit(0)
        time.sleep(options.pause)
    if RANK == 0:
        options.file.write_text(json.dumps(history))
    ring.gather({})


def gradient(weight: float, sample: int) -> float:
    feature = (sample * 37 % 101) / 101 + 0.1
    return feature * (feature * weight - 3.0 * feature)


if __name__ == "__main__":
    main()
    sys.exit(0)
