"""Snapshot in, checked plan out: the one entry to the packer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, structs

from stowage_scheduler.assign import Change, changes
from stowage_scheduler.build import Build, build
from stowage_scheduler.cluster import Pod, Snapshot
from stowage_scheduler.detours import cost_of_detours, most_detours
from stowage_scheduler.devices.limits import with_gpu_milli
from stowage_scheduler.draining import whole
from stowage_scheduler.explain.unplaced import unplaced
from stowage_scheduler.fairness import by_priority
from stowage_scheduler.last_wish import suited
from stowage_scheduler.moves import UnorderableError, order
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.packing import Assignment, Eviction, Move, Packing, PodRef, Reason, Step
from stowage_scheduler.patience import Patience
from stowage_scheduler.placement import Placement
from stowage_scheduler.rank_order import in_rank_order
from stowage_scheduler.refused import better, budget_again, refused, without
from stowage_scheduler.rules import RULES, Outcome
from stowage_scheduler.rules.temporary_places import broken_on_the_way
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


_MOST_AGAIN = 3  # answers without pods whose places the checks refuse
_MOST_SALVAGED = 16  # placements of which a part has no safe order; each is simpler than the one before
_KEPT_SHARE = 0.1  # of the budget, at most, for order and checks
_KEPT_FOR_EACH = 3  # seconds for order and checks, for each second that it took to state the problem


class _Found(Struct):
    """What ordering and checks found wrong; by UID, pods that are refused a place; whether there is time for more."""

    faults: list[str]
    refused: dict[str, str]
    in_time: Callable[[], bool]


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
        A plan that every rule's own check accepts; when the search's answer does not pass, an answer without the pods
        that it is about, or the greedy answer (which moves nothing), and as the last resort the start.
    """
    return _pack(snapshot, options, budget, seed, clock, crew, _MOST_AGAIN)


def _pack(
    snapshot: Snapshot,
    options: PackOptions,
    budget: Budget,
    seed: int,
    clock: Callable[[], float],
    crew: Crew | None,
    again: int,
) -> Packing:
    """What `pack` says, with at most so many answers without some pods."""
    began = clock()
    snapshot = with_gpu_milli(snapshot)
    built = build(snapshot, options)
    seconds_to_build = clock() - began
    kept = min(budget.seconds * _KEPT_SHARE, seconds_to_build * _KEPT_FOR_EACH)
    for_search = structs.replace(budget, seconds=budget.seconds - kept)
    solution = solve(built.problem, for_search, seed, clock, began, crew)
    before_tail = clock()
    best = suited(built, snapshot, solution.placement, options.tail)
    before_checks = clock()
    start = Placement(built.problem)
    found = _Found([], {}, lambda: budget.deterministic_units is not None or clock() - began <= budget.seconds)
    chosen = _first_valid(built, snapshot, options, (best, solution.placement, solution.greedy, start), found)
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
        move_cost=chosen.placement.disruption()[1] + cost_of_detours(built, chosen.steps),
        move_cost_bound=solution.moves_bound_of(chosen.placement),
        faults=tuple(found.faults),
    )
    if options.drain is not None:
        return whole(packing, built, snapshot)
    if found.refused and again:
        rest, more = without(snapshot, found.refused), budget_again(budget, budget.seconds - (clock() - began))
        other = _pack(rest, options, more, seed, clock, crew, again - 1)
        return better(packing, other, found.refused, built.pods)
    return packing


def _first_valid(
    built: Build, snapshot: Snapshot, options: PackOptions, placements: Sequence[Placement], found: _Found
) -> _Candidate:
    """The best placement that has a safe order and passes every check; the last resort, what runs now, is the last.

    Of one that has no safe order as much is tried as has one, unless a simpler placement is better than that.
    """
    limits = at_once(snapshot, options.max_unavailable_per_owner)
    waiting = list({id(placement): placement for placement in placements}.values())
    patience, salvages = Patience(in_time=lambda: not found.faults or found.in_time()), 0
    while waiting:
        placement = waiting.pop(0)
        made = in_rank_order(built, changes(built, placement))
        try:
            most = most_detours(options, placement, waiting)
            steps, slots = order(built, made, limits, most_detours=most, patience=patience)
        except UnorderableError as error:
            found.faults.append(str(error))
            more = salvages < _MOST_SALVAGED and found.in_time()
            rest = salvaged(built.problem, made, error.changes) if more else None
            if rest is not None and rest.counts == placement.counts:
                rest = salvaged(built.problem, made, error.changes, again=False)
            if rest is not None:
                salvages += 1
                waiting = sorted([rest, *waiting], key=Placement.score, reverse=True)
            continue
        outcome = Outcome(snapshot, options, _after(built, made))
        violations = [violation for rule in RULES for violation in rule.check(outcome)]
        violations += broken_on_the_way(RULES, outcome, steps, slots)
        if not violations:
            return _Candidate(placement, made, steps, slots, outcome)
        found.faults += [f"{v.rule}: {v.subject}: {v.detail}" for v in violations]
        found.refused.update(refused(violations, outcome))
    raise PlanRejectedError("; ".join(found.faults[:5]))


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
    further = sum(bool(step.replacement_of) for step in chosen.steps)
    return options.max_moves is not None and chosen.placement.disrupted() + further >= options.max_moves


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
