"""The best possible answer for a small instance: one Boolean per pod and node, tier by tier.

The textbook model of "Priority Matters" (arXiv:2511.08373), written apart from the product's own.
"""

from __future__ import annotations

from ortools.sat.python import cp_model

from harness.instances import Instance


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
