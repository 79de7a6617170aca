"""Shared GPUs: pods placed and moved in deterministic units, by how many shares tell their device.

The clusters are three quarters full, and as many pods wait as there are nodes: shares, whole devices and two at once.
"""

from __future__ import annotations

import json
import time

import pytest

from harness.facts import packed
from harness.gpu_instances import gpu_dump
from harness.measurements import Record, at_least
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.options import Budget, PackOptions

BENCH = "gpu shares"
DEVICES = 8
UNITS = 3.0
SEEDS = (5, 6, 7)

clock = time.process_time


@pytest.mark.parametrize("told", [1.0, 0.5, 0.0], ids=["all devices known", "half known", "none known"])
def test_waiting_pods_find_devices(told: float, record: Record) -> None:
    nodes = 50
    waiting = placed = moves = proven = 0
    began = clock()
    for seed in SEEDS:
        facts = read_dump(json.dumps(gpu_dump(nodes, DEVICES, seed, told=told)).encode()).snapshot
        packing = packed(facts, PackOptions(owner_settled_seconds=0.0), Budget(deterministic_units=UNITS))
        assert packing.faults == ()
        waiting += sum(pod.node is None for pod in facts.pods)
        placed += max(packing.placed.values()) - max(packing.before.values())
        moves += len(packing.moves)
        proven += packing.certified
    name = f"{nodes} nodes of {DEVICES}, {100 * told:.0f} % told"
    record(BENCH, f"{name}: placed of those that wait", 100 * placed / waiting, "%", target=at_least(100))
    record(BENCH, f"{name}: certified", 100 * proven / len(SEEDS), "%")
    record(BENCH, f"{name}: moves for one placed", moves / max(1, placed))
    record(BENCH, f"{name}: CPU for one plan", (clock() - began) / len(SEEDS), "s")
