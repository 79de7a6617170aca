"""Limits of controllers in the order of moves: not more of a controller's pods are on their way at once.

In the sequence such a limit is one more budget, which only moves of that controller's pods need: so a swap is not
chosen when its controller has nobody to spare. Among the steps the moves of a controller follow each other in as many
chains as it may have pods away; a swap takes one of them, for its pod is away for long.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from msgspec import structs

from stowage_scheduler.cluster import Pod
from stowage_scheduler.problem import BudgetLimit, Problem
from stowage_scheduler.sequence import Part, Start, Transfer


def owner_of(pod: Pod) -> str:
    """UID of a pod's controller; empty when it has none."""
    return pod.owner.uid if pod.owner is not None else ""


def binding(parts: Sequence[Part], pods: Mapping[str, Pod], at_once: Mapping[str, int]) -> dict[str, int]:
    """The limits, by UID of the controller, that are lower than the number of its pods that move."""
    if not at_once:
        return {}
    moves = Counter(owner_of(pods[part.uid]) for part in parts if isinstance(part, Transfer))
    return {owner: at_once[owner] for owner, count in sorted(moves.items()) if count > at_once.get(owner, count)}


def with_owners(
    problem: Problem, parts: Sequence[Part], pods: Mapping[str, Pod], limits: Mapping[str, int]
) -> tuple[Problem, list[Part]]:
    """The problem with a budget for each of these controllers, and the parts with those that their moves need."""
    if not limits:
        return problem, list(parts)
    numbers = {owner: len(problem.budgets) + number for number, owner in enumerate(limits)}
    budgets = (*problem.budgets, *(BudgetLimit(owner, allowed) for owner, allowed in limits.items()))

    def needing(part: Part) -> Part:
        number = numbers.get(owner_of(pods[part.uid]))
        if number is None or not isinstance(part, Transfer):
            return part
        own = part.pod_class
        return structs.replace(part, pod_class=structs.replace(own, budgets=(*own.budgets, number)))

    return structs.replace(problem, budgets=budgets), [needing(part) for part in parts]


def chains(starts: Sequence[Start], pods: Mapping[str, Pod], limits: Mapping[str, int]) -> dict[int, int]:
    """By step of a move, the earlier move of the same controller that it follows."""
    moves: dict[str, list[int]] = defaultdict(list)
    swaps: Counter[str] = Counter()
    for number, start in enumerate(starts):
        owner = owner_of(pods[start.part.uid])
        if not isinstance(start.part, Transfer) or owner not in limits:
            continue
        if start.swap:
            swaps[owner] += 1
        else:
            moves[owner].append(number)
    return {
        step: numbers[position - apart]
        for owner, numbers in moves.items()
        for apart in [max(1, limits[owner] - swaps[owner])]
        for position, step in enumerate(numbers)
        if position >= apart
    }
