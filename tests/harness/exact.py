"""The best possible answer for a small instance, written apart from the product's own models.

With one Boolean per pod and node, tier by tier: the textbook model of "Priority Matters" (arXiv:2511.08373).
And by trying everything, for a handful of pods with gangs among them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from ortools.sat.python import cp_model

from harness.instances import Instance
from stowage_scheduler.cluster import Pod, Snapshot


def best_counts(instance: Instance, seconds: float) -> list[int] | None:
    """Most pods placed by priority or higher, from the highest; None when time runs out before the proof."""
    model = cp_model.CpModel()
    on = {(p, n): model.new_bool_var("") for p in range(len(instance.pods)) for n in range(len(instance.nodes))}
    for p in range(len(instance.pods)):
        model.add_at_most_one(on[p, n] for n in range(len(instance.nodes)))
    for n in range(len(instance.nodes)):
        pods = list(enumerate(instance.pods))
        model.add(sum(pod.cpu_milli * on[p, n] for p, pod in pods) <= instance.cpu_milli)
        model.add(sum(pod.memory_bytes * on[p, n] for p, pod in pods) <= instance.memory_bytes)
    counts: list[int] = []
    for priority in sorted({pod.priority for pod in instance.pods}, reverse=True):
        tier = [variable for (p, _), variable in on.items() if instance.pods[p].priority >= priority]
        model.maximize(sum(tier))
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 2
        solver.parameters.max_time_in_seconds = seconds
        if solver.solve(model) != cp_model.OPTIMAL:
            return None
        counts.append(round(solver.objective_value))
        model.add(sum(tier) >= counts[-1])
    return counts


def best_by_trying(cluster: Snapshot, priorities: Sequence[int]) -> list[int]:
    """Most pods placed of each priority or higher, lexicographically, over every possible placement.

    Knows room, node selectors and gangs; every running pod may move or lose its place, but for those of gangs.
    """
    stays = [pod for pod in cluster.pods if pod.node is not None and pod.gang is not None]
    free = [pod for pod in cluster.pods if pod not in stays]
    room = {node.name: Counter(node.allocatable) for node in cluster.nodes}
    for pod in stays:
        room[pod.node or ""].subtract(pod.requests)
    best = max(_counts([*stays, *placed], priorities) for placed in _ways(cluster, free, room, []))
    return list(best)


def _ways(cluster: Snapshot, left: list[Pod], room: dict[str, Counter[str]], placed: list[Pod]) -> Iterator[list[Pod]]:
    """Every set of pods that fits somewhere together, and has gangs whole."""
    if not left:
        if _gangs_are_whole(cluster, placed):
            yield placed
        return
    pod, rest = left[0], left[1:]
    yield from _ways(cluster, rest, room, placed)
    for node in cluster.nodes:
        matches = all(node.labels.get(key) == value for key, value in pod.node_selector.items())
        if matches and all(room[node.name][name] >= amount for name, amount in pod.requests.items()):
            room[node.name].subtract(pod.requests)
            yield from _ways(cluster, rest, room, [*placed, pod])
            room[node.name].update(pod.requests)


def _gangs_are_whole(cluster: Snapshot, placed: list[Pod]) -> bool:
    members: dict[str, list[Pod]] = defaultdict(list)
    for pod in cluster.pods:
        if pod.gang is not None:
            members[pod.gang.name].append(pod)
    for pods in members.values():
        waiting = [pod for pod in pods if pod.node is None]
        come = [pod for pod in waiting if pod in placed]
        sizes = [pod.gang.size for pod in pods if pod.gang is not None]
        elastic = all(pod.gang is not None and pod.gang.elastic for pod in pods)
        if come and not elastic and come != waiting:
            return False
        if come and len(pods) - len(waiting) + len(come) < max(sizes):
            return False
    return True


def _counts(pods: list[Pod], priorities: Sequence[int]) -> tuple[int, ...]:
    return tuple(sum(pod.priority >= priority for pod in pods) for priority in priorities)
