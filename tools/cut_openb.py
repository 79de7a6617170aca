"""Makes the cut of the openb trace that `stowage demo --openb` runs, from the origin's own files.

Usage: python tools/cut_openb.py NODES.csv PODS.csv FOLDER

Rows are copied as they are. Nodes are drawn so that each type keeps its share of the cluster. Pods are
drawn without replacement in random order, and a pod is left out when it would take the demand beyond the
given shares of the cut's GPUs or CPUs. The defaults are the cut in the repository.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections import defaultdict
from pathlib import Path

Row = dict[str, str]


def cut_nodes(nodes: list[Row], count: int, generator: random.Random) -> list[Row]:
    """A stratified sample: quotas by type, largest remainders first."""
    by_type: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in nodes:
        by_type[row["model"], row["gpu"], row["cpu_milli"], row["memory_mib"]].append(row)
    quotas = {key: len(rows) * count / len(nodes) for key, rows in by_type.items()}
    taken = {key: int(quota) for key, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda key: (taken[key] - quotas[key], key))
    for key in by_remainder[: count - sum(taken.values())]:
        taken[key] += 1
    return [row for key in sorted(by_type) for row in generator.sample(by_type[key], taken[key])]


def cut_pods(
    pods: list[Row], nodes: list[Row], gpu_percent: float, cpu_percent: float, generator: random.Random
) -> list[Row]:
    """Pods in random order up to the given demand; a share of a GPU counts as a whole one."""
    gpus_left = sum(int(row["gpu"]) for row in nodes) * gpu_percent / 100
    cpu_milli_left = sum(int(row["cpu_milli"]) for row in nodes) * cpu_percent / 100
    kept = []
    for row in generator.sample(pods, len(pods)):
        gpus, cpu_milli = int(row["num_gpu"]), int(row["cpu_milli"])
        if gpus <= gpus_left and cpu_milli <= cpu_milli_left:
            kept.append(row)
            gpus_left -= gpus
            cpu_milli_left -= cpu_milli
    return kept


def _read(path: Path) -> list[Row]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def _write(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{path}: {len(rows)} rows")


def main() -> None:
    """Reads the origin's files and writes nodes.csv and pods.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nodes", type=Path, help="openb_node_list_gpu_node.csv of the origin")
    parser.add_argument("pods", type=Path, help="openb_pod_list_default.csv of the origin")
    parser.add_argument("folder", type=Path, help="where nodes.csv and pods.csv go")
    parser.add_argument("--node-count", type=int, default=64)
    parser.add_argument("--gpu-percent", type=float, default=97.0)
    parser.add_argument("--cpu-percent", type=float, default=95.0)
    parser.add_argument("--seed", type=int, default=2)
    given = parser.parse_args()
    generator = random.Random(given.seed)  # noqa: S311 - a sample, not a secret
    nodes = cut_nodes(_read(given.nodes), given.node_count, generator)
    pods = cut_pods(_read(given.pods), nodes, given.gpu_percent, given.cpu_percent, generator)
    _write(given.folder / "nodes.csv", nodes)
    _write(given.folder / "pods.csv", pods)


if __name__ == "__main__":
    main()
