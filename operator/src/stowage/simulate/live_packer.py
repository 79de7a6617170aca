"""The packer that runs in clusters, asked in a replay as the operator asks it: when a job finds no room.

Jobs of one pod may move, at the price of a restart; gangs that run stay. The limits are those of a policy's defaults:
20 moves in a plan, 60 in an hour.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from stowage.simulate.gpu_cluster import Choice, GpuCluster
from stowage.simulate.jobs import Job
from stowage_scheduler.cluster import CPU, MEMORY, PODS, Gang, Node, OwnerRef, Pod, Snapshot
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.pack import pack

STOWAGE = "Stowage"
"""kube-scheduler's default profile, and this packer behind it."""
GPU = "nvidia.com/gpu"
RESTART_SECONDS = 300
MOST_MOVES_PER_PLAN = 20
MOST_MOVES_PER_HOUR = 60
MOST_PODS = 64
"""Waiting pods that one plan looks at, those of the jobs that have waited longest."""
_HOUR_SECONDS = 3600
_MIB = 1 << 20
_BUDGET = Budget(deterministic_units=0.5, workers=1)


class Room(Struct, frozen=True):
    """What a plan makes of a cluster: jobs that run move, by their number, and waiting ones start."""

    moves: tuple[tuple[int, int], ...]  # number of a running job and its new node
    starts: tuple[tuple[int, tuple[int, ...]], ...]  # index of a waiting job and the nodes of its pods


class LivePacker:
    """Asks `pack` for room, and keeps count of moves."""

    def __init__(self, seed: int) -> None:
        """`seed` is of every search."""
        self._seed = seed
        self._moved: deque[int] = deque()  # when

    def room(
        self,
        cluster: GpuCluster,
        running: Mapping[int, tuple[Job, Sequence[Choice]]],
        waiting: Iterable[Job],
        now_seconds: int,
    ) -> Room | None:
        """A plan that starts at least one waiting job; None where there is none.

        Shares of GPUs and GPU models are not asked for: no trace with such pods has jobs that wait.
        """
        while self._moved and self._moved[0] <= now_seconds - _HOUR_SECONDS:
            self._moved.popleft()
        most_moves = min(MOST_MOVES_PER_PLAN, MOST_MOVES_PER_HOUR - len(self._moved))
        if most_moves <= 0:
            return None
        nodes = {node.name: number for number, node in enumerate(cluster.nodes)}
        facts = [
            Node(n.name, {CPU: n.cpu_milli, MEMORY: n.memory_mib * _MIB, GPU: n.gpus, PODS: 110}) for n in cluster.nodes
        ]
        names = tuple(nodes)
        pods = [
            _pod(job, f"running-{number}", index, len(choices), names[choice.node])
            for number, (job, choices) in running.items()
            for index, choice in enumerate(choices)
        ]
        asked: list[Job] = []
        for job in waiting:
            if sum(one.pods for one in asked) + job.pods > MOST_PODS:
                break
            pods += [_pod(job, f"waiting-{len(asked)}", index, job.pods, None) for index in range(job.pods)]
            asked.append(job)
        options = PackOptions(max_moves=most_moves, owner_settled_seconds=0.0, evict_lower_priority=False)
        found = pack(Snapshot(float(now_seconds), tuple(facts), tuple(pods)), options, _BUDGET, self._seed, _no_clock)
        starts: dict[int, list[int]] = {}
        for place in found.assignments:
            kind, number, _ = place.pod.name.split("-")
            if kind == "waiting":
                starts.setdefault(int(number), []).append(nodes[place.node])
        if not starts:
            return None
        moves = tuple((int(move.pod.name.split("-")[1]), nodes[move.target]) for move in found.moves)
        self._moved.extend([now_seconds] * len(moves))
        return Room(moves, tuple((index, tuple(places)) for index, places in sorted(starts.items())))


def _pod(job: Job, name: str, index: int, pods: int, node: str | None) -> Pod:
    demand = job.demand
    kind = f"{demand.cpu_milli}-{demand.memory_mib}-{demand.gpu_count}"
    return Pod(
        namespace="jobs",
        name=f"{name}-{index}",
        uid=f"{name}-{index}",
        requests={CPU: demand.cpu_milli, MEMORY: demand.memory_mib * _MIB, GPU: demand.gpu_count, PODS: 1},
        node=node,
        phase="Pending" if node is None else "Running",
        ready=node is not None,
        owner=OwnerRef("ReplicaSet", kind, kind),  # of all jobs that ask alike: for the packer they are of one class
        gang=Gang(name, pods) if pods > 1 else None,
        gates=("stowage.dev/gang",) if pods > 1 and node is None else (),
    )


def _no_clock() -> float:
    """The budget is in deterministic units."""
    return 0.0
