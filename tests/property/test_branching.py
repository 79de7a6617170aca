"""Plans divided by how many pods of a class they place: what is called out of reach is placed by no plan."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from property.test_bounds import best_tiers, limit, problem_of, problems
from stowage_scheduler.greedy import greedy
from stowage_scheduler.placement import Placement
from stowage_scheduler.problem import Problem
from stowage_scheduler.solve import branching
from stowage_scheduler.solve.branching import is_out_of_reach
from stowage_scheduler.solve.patterns import PatternTier, tier_of


def tier_at(problem: Problem) -> PatternTier:
    """The highest priority, nothing placed yet."""
    tier = tier_of(Placement(problem), problem.priorities[0])
    assert tier is not None
    return tier


@settings(max_examples=150)
@given(problems())
def test_only_what_no_plan_places_is_out_of_reach(problem: Problem) -> None:
    best = best_tiers(problem)[0]
    for target in range(1, best + 3):
        found = is_out_of_reach(tier_at(problem), target, limit(), 0.0)
        assert not found or target > best


# nine pods in parts, eight as wholes
CUT = problem_of([(10, 10)] * 3, [(6, 2, 0, 3), (3, 3, 0, 2), (3, 7, 0, 2), (3, 3, 0, 1), (2, 2, 0, 3)])
ROOMY = problem_of([(10, 10)] * 3, [(5, 5, 0, 3), (6, 2, 0, 3), (3, 6, 0, 2)])


def test_what_the_relaxation_allows_in_parts_is_proven_out_of_reach() -> None:
    best = best_tiers(CUT)[0]
    tier = tier_at(CUT)
    assert tier.bound(best + 1, limit(), 0.0) == best + 1
    assert is_out_of_reach(tier_at(CUT), best + 1, limit(), 0.0)
    assert not is_out_of_reach(tier_at(CUT), best, limit(), 0.0)


def test_a_forgotten_half_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the parts of one side alone, plans of the other are missed."""
    best = best_tiers(ROOMY)[0]
    assert not is_out_of_reach(tier_at(ROOMY), best, limit(), 0.0)
    honest = branching._halves
    monkeypatch.setattr(branching, "_halves", lambda *given: honest(*given)[:1])
    assert is_out_of_reach(tier_at(ROOMY), best, limit(), 0.0)


def test_greedy_answers_are_in_reach() -> None:
    start = greedy(CUT)
    tier = tier_of(start, CUT.priorities[0])
    assert tier is not None
    assert not is_out_of_reach(tier, start.placed_by_priority()[0], limit(), 0.0)
