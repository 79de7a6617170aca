"""One run of the grid: a start state in, a checked plan out, and what it is worth in the paper's terms.

Runs are lines of JSON in a file, so that a bench that was cut off goes on where it ended. Those of another packer (its
sources have another digest) or of another budget are left alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from pathlib import Path

import msgspec

import stowage_scheduler
from harness.instances import Instance, PaperPod, dump
from harness.plan_checker import problems
from harness.priority_grid import Cell, start
from stowage.cli.plan import document
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.pack import pack

FOLDER = Path(__file__).parents[2] / "build" / "bench" / "packing"
SEED = 1
WORKERS = 2

clock = time.perf_counter


class Outcome(StrEnum):
    """What a call came to, in the words of arXiv:2511.08373; "proven" speaks of the pods placed."""

    FAILURE = "failure"
    NO_CALL = "no call"
    BETTER = "better"
    BETTER_AND_PROVEN = "better, proven optimal"
    KEPT_AND_PROVEN = "default proven optimal"
    KEPT = "default kept, no proof"


CALLED = tuple(one for one in Outcome if one is not Outcome.NO_CALL)
PROVEN = (Outcome.BETTER_AND_PROVEN, Outcome.KEPT_AND_PROVEN)
BETTER_OR_PROVEN = (Outcome.BETTER, *PROVEN)


class Run(msgspec.Struct, frozen=True):
    """One run. Tuples by tier go from the highest priority down and count pods of that priority or higher.

    `budget` reads `1s` (wall seconds) or `2u` (deterministic units). `load` is the machine's, of the last minute.
    """

    packer: str
    cell: Cell
    seed: int
    budget: str
    outcome: Outcome
    pods: tuple[int, ...]
    before: tuple[int, ...]
    placed: tuple[int, ...]
    bound: tuple[int, ...]
    moves: int
    evictions: int
    seconds: float
    cpu_seconds: float
    load: float
    stages: dict[str, float]
    move_cost: int = 0
    move_cost_bound: int | None = None
    faults: tuple[str, ...] = ()

    @property
    def gap_pods(self) -> int:
        """Pods between plan and bound, in the tier where it is largest."""
        return max((b - p for b, p in zip(self.bound, self.placed, strict=True)), default=0)

    @property
    def gap_percent(self) -> float:
        """The same in percent of the tier's pods."""
        tiers = zip(self.bound, self.placed, self.pods, strict=True)
        return max((100 * (bound - placed) / pods for bound, placed, pods in tiers), default=0.0)

    @property
    def moves_near_bound(self) -> bool:
        """Whether moves cost at most a tenth more than their bound."""
        return self.move_cost == 0 or self.move_cost <= 1.1 * (self.move_cost_bound or 0)

    @property
    def moves_percent(self) -> float:
        """Pods that move, of all pods."""
        return 100 * self.moves / self.pods[-1]

    @property
    def evictions_percent(self) -> float:
        """Pods that lose their place, of all pods."""
        return 100 * self.evictions / self.pods[-1]


@cache
def packer() -> str:
    """A digest of the packer's sources."""
    folder = Path(stowage_scheduler.__file__).parent
    sources = b"".join(file.read_bytes() for file in sorted(folder.rglob("*.py")))
    return hashlib.sha256(sources).hexdigest()[:12]


def budget(text: str) -> Budget:
    """`1s`: wall seconds, as `stowage plan --budget` takes them; `2u`: deterministic units."""
    amount = float(text[:-1])
    if text.endswith("u"):
        return Budget(deterministic_units=amount, workers=WORKERS)
    return Budget(seconds=amount, certify_seconds=min(Budget().certify_seconds, amount / 5), workers=WORKERS)


def run(cell: Cell, seed: int, budget_text: str) -> Run:
    """Pack one start state; whatever goes wrong is an outcome, too."""
    instance = start(cell, seed)
    pods = by_tier(instance, instance.pods)
    before = by_tier(instance, [pod for pod in instance.pods if pod.node])
    nothing = Run(
        packer=packer(), cell=cell, seed=seed, budget=budget_text, outcome=Outcome.NO_CALL, pods=pods, before=before,
        placed=before, bound=pods, moves=0, evictions=0, seconds=0.0, cpu_seconds=0.0, load=os.getloadavg()[0],
        stages={},
    )  # fmt: skip
    if not instance.pending:
        return nothing
    facts = dump(instance)
    snapshot = read_dump(json.dumps(facts).encode()).snapshot
    began, cpu = clock(), time.process_time()
    try:
        packing = pack(snapshot, PackOptions(), budget(budget_text), SEED, clock)
    except Exception as error:  # noqa: BLE001 - a failure is what the grid counts
        return msgspec.structs.replace(nothing, outcome=Outcome.FAILURE, faults=(repr(error),))
    seconds, cpu_seconds = clock() - began, time.process_time() - cpu
    placed = tuple(count for _, count in sorted(packing.placed.items(), reverse=True))
    faults = (*packing.faults, *problems(facts, document(packing)))
    if placed < before:
        faults += ("worse than the start",)
    return msgspec.structs.replace(
        nothing,
        outcome=_outcome(faults, better=placed > before, proven=packing.certified),
        placed=placed,
        bound=tuple(count for _, count in sorted(packing.bound.items(), reverse=True)),
        moves=len(packing.moves),
        evictions=len(packing.evictions),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        stages=dict(packing.stages),
        move_cost=packing.move_cost,
        move_cost_bound=packing.move_cost_bound,
        faults=faults,
    )


def _outcome(faults: Iterable[str], *, better: bool, proven: bool) -> Outcome:
    if any(faults):
        return Outcome.FAILURE
    if better:
        return Outcome.BETTER_AND_PROVEN if proven else Outcome.BETTER
    return Outcome.KEPT_AND_PROVEN if proven else Outcome.KEPT


def by_tier(instance: Instance, pods: Iterable[PaperPod]) -> tuple[int, ...]:
    """Pods of each priority of the instance or higher, from the highest."""
    counts = Counter(pod.priority for pod in pods)
    tiers = sorted({pod.priority for pod in instance.pods}, reverse=True)
    return tuple(sum(count for priority, count in counts.items() if priority >= tier) for tier in tiers)


class RunFile:
    """Runs on disk, one line each."""

    def __init__(self, file: Path) -> None:
        """Read what this packer has done before."""
        self.file = file
        lines = file.read_bytes().splitlines() if file.is_file() else []
        known = [msgspec.json.decode(line, type=Run) for line in lines]
        self.runs = {(one.cell, one.seed, one.budget): one for one in known if one.packer == packer()}

    def ensure(self, cell: Cell, seed: int, budget_text: str) -> Run:
        """The run of this start state and budget, from the file or made now."""
        key = cell, seed, budget_text
        if key not in self.runs:
            self.runs[key] = run(*key)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab") as out:
                out.write(msgspec.json.encode(self.runs[key]) + b"\n")
        return self.runs[key]
