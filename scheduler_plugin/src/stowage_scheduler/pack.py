"""Snapshot in, checked plan out: the one entry to the packer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from stowage_scheduler.assign import Change, changes
from stowage_scheduler.build import Build, build
from stowage_scheduler.cluster import Pod, Snapshot
from stowage_scheduler.devices.limits import with_gpu_milli
from stowage_scheduler.draining import whole
from stowage_scheduler.explain.unplaced import unplaced
from stowage_scheduler.fairness import by_priority
from stowage_scheduler.last_wish import suited
from stowage_scheduler.moves import UnorderableError, order
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.packing import Assignment, Eviction, Move, Packing, PodRef, Reason, Step
from stowage_scheduler.placement import Placement
from stowage_scheduler.rank_order import in_rank_order
from stowage_scheduler.rules import RULES, Outcome
from stowage_scheduler.salvage import salvaged
from stowage_scheduler.slots import Slot
from stowage_scheduler.solve.crew import Crew
from stowage_scheduler.solve.engine import solve
from stowage_scheduler.unavailable import at_once


class _Candidate(Struct, frozen=True):
    """A placement that passed every check, with its order."""

    placement: Placement
    changes: tuple[Change, ...]
    steps: tuple[Step, ...]
    slots: tuple[Slot, ...]
    outcome: Outcome


class PlanRejectedError(Exception):
    """Even doing nothing broke a rule: a mistake in the packer, never in the cluster."""


def pack(
    snapshot: Snapshot,
    options: PackOptions,
    budget: Budget,
    seed: int,
    clock: Callable[[], float],
    crew: Crew | None = None,
) -> Packing:
    """Place as many pending pods as possible with the least disruption (design section 3).

    Args:
        snapshot: the facts of one instant.
        options: what the plan may cover and disturb.
        budget: wall seconds or deterministic units.
        seed: of every random choice.
        clock: monotonic seconds.
        crew: warm workers for the search; None: threads of this process.

    Returns:
        A plan that every rule's own check accepts; when the search's answer does not pass, the greedy
        answer (which moves nothing), and as the last resort the start.
    """
    began = clock()
    snapshot = with_gpu_milli(snapshot)
    built = build(snapshot, options)
    seconds_to_build = clock() - began
    solution = solve(built.problem, budget, seed, clock, began, crew)
    before_tail = clock()
    best = suited(built, snapshot, solution.placement, options.tail)
    before_checks = clock()
    faults: list[str] = []
    start = Placement(built.problem)
    chosen = _first_valid(built, snapshot, options, (best, solution.placement, solution.greedy, start), faults)
    stages = {
        "build": seconds_to_build,
        **solution.stages,
        "tail": before_checks - before_tail,
        "check": clock() - before_checks,
    }
    placed = chosen.placement.placed_by_priority()
    bound = solution.bounds.raised(chosen.placement).by_priority
    told = by_priority if options.is_fair else dict[int, int]
    packing = Packing(
        assignments=_assignments(built, chosen.outcome),
        moves=tuple(sorted(_moves(built, chosen.changes))),
        evictions=tuple(sorted(_evictions(built, chosen))),
        unplaced=unplaced(built, chosen.outcome, limited=_limited(options, chosen)),
        slots=chosen.slots,
        steps=chosen.steps,
        before=told(start.placed_by_priority()),
        placed=told(placed),
        bound=told(bound),
        certified=placed == bound,
        seconds=clock() - began,
        stages=stages,
        rejected=snapshot.rejected,
        move_cost=chosen.placement.disruption()[1],
        move_cost_bound=solution.moves_bound_of(chosen.placement),
        faults=tuple(faults),
    )
    return packing if options.drain is None else whole(packing, built, snapshot)


def _first_valid(
    built: Build, snapshot: Snapshot, options: PackOptions, placements: Sequence[Placement], faults: list[str]
) -> _Candidate:
    """The best placement that has a safe order and passes every check; the last resort, what runs now, is the last.

    Of one that has no safe order as much is tried as has one, unless a simpler placement is better than that.
    """
    limits = at_once(snapshot, options.max_unavailable_per_owner)
    waiting = list({id(placement): placement for placement in placements}.values())
    while waiting:
        placement = waiting.pop(0)
        made = in_rank_order(built, changes(built, placement))
        try:
            steps, slots = order(built, made, limits)
        except UnorderableError as error:
            faults.append(str(error))
            rest = salvaged(built.problem, made, error.changes)
            if rest is not None:
                waiting = sorted([rest, *waiting], key=Placement.score, reverse=True)
            continue
        outcome = Outcome(snapshot, options, _after(built, made))
        violations = [violation for rule in RULES for violation in rule.check(outcome)]
        if not violations:
            return _Candidate(placement, made, steps, slots, outcome)
        faults += [f"{v.rule}: {v.subject}: {v.detail}" for v in violations]
    raise PlanRejectedError("; ".join(faults[:5]))


def _after(built: Build, made: tuple[Change, ...]) -> Mapping[str, str]:
    """Where each pod that runs or shall run stands at the end, by UID."""
    after = {
        uid: pod.node
        for uid, pod in built.pods.items()
        if pod.node is not None and not pod.finished and not pod.leaving
    }
    for pod in built.for_good:
        del after[pod.uid]
    for change in made:
        if change.target is None:
            after.pop(change.uid, None)
        else:
            after[change.uid] = built.problem.nodes[change.target]
    return after


def _limited(options: PackOptions, chosen: _Candidate) -> bool:
    return options.max_moves is not None and chosen.placement.disrupted() >= options.max_moves


def _ref(pod: Pod) -> PodRef:
    return PodRef(pod.namespace, pod.name, pod.uid)


def _assignments(built: Build, outcome: Outcome) -> tuple[Assignment, ...]:
    return tuple(sorted(Assignment(_ref(built.pods[uid]), node) for uid, node in outcome.after.items()))


def _moves(built: Build, made: tuple[Change, ...]) -> list[Move]:
    names = built.problem.nodes
    return [
        Move(_ref(built.pods[c.uid]), names[c.source], names[c.target])
        for c in made
        if c.source is not None and c.target is not None
    ]


def _evictions(built: Build, chosen: _Candidate) -> list[Eviction]:
    arriving = [built.pods[c.uid].priority for c in chosen.changes if c.source is None]
    highest = max(arriving, default=0)
    found = []
    for change in chosen.changes:
        if change.target is None and change.source is not None:
            pod = built.pods[change.uid]
            higher = pod.priority < highest
            reason = Reason.EVICTED_FOR_HIGHER_PRIORITY if higher else Reason.EVICTED_FOR_MORE_PODS
            found.append(Eviction(_ref(pod), built.problem.nodes[change.source], reason))
    return found
