"""Order and checks are part of the budget: time is kept for them, and none is spent on what comes too late."""

from __future__ import annotations

import pytest

from harness.facts import OPTIONS, node, pod, snapshot
from stowage_scheduler import pack
from stowage_scheduler.assign import Change
from stowage_scheduler.moves import UnorderableError
from stowage_scheduler.options import Budget

CLUSTER = snapshot(node("a", 100), pod("x-0", 60), pod("y-0", 60))


class Clock:
    """Each look at it takes as long."""

    def __init__(self, step_seconds: float) -> None:
        """Begin at zero."""
        self.step_seconds = step_seconds
        self.now = 0.0

    def __call__(self) -> float:
        self.now += self.step_seconds
        return self.now


@pytest.mark.parametrize(
    ("budget", "look_seconds", "expected"),
    [
        pytest.param(Budget(seconds=10.0), 0.01, 9.97, id="three-times-what-it-took-to-state-the-problem"),
        pytest.param(Budget(seconds=10.0), 1.0, 9.0, id="a-tenth-at-most"),
        pytest.param(Budget(seconds=10.0), 0.0, 10.0, id="nothing-for-what-takes-no-time"),
    ],
)
def test_time_is_kept_for_order_and_checks(
    monkeypatch: pytest.MonkeyPatch, budget: Budget, look_seconds: float, expected: float
) -> None:
    given: list[float] = []
    solve = pack.solve

    def asked(problem: object, budget: Budget, *rest: object) -> object:
        given.append(budget.seconds)
        return solve(problem, Budget(deterministic_units=1.0), *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pack, "solve", asked)
    pack.pack(CLUSTER, OPTIONS, budget, 1, Clock(look_seconds))
    assert given == [pytest.approx(expected)]


@pytest.mark.parametrize(
    ("budget", "salvages"),
    [
        pytest.param(Budget(seconds=0.0, workers=1), 0, id="no-time"),
        pytest.param(Budget(seconds=1_000.0, workers=1), 1, id="time"),
        pytest.param(Budget(seconds=0.0, deterministic_units=1.0, workers=1), 1, id="units-know-no-time"),
    ],
)
def test_nothing_more_is_tried_of_what_has_no_order_when_time_is_up(
    monkeypatch: pytest.MonkeyPatch, budget: Budget, salvages: int
) -> None:
    """No arrival has an order here; what is left is to do nothing."""
    order, tried = pack.order, list[int]()

    def never(built: object, made: tuple[Change, ...], *rest: object, **more: object) -> object:
        if made:
            raise UnorderableError("no safe order", made)
        return order(built, made, *rest, **more)  # type: ignore[arg-type]

    def salvaged(*_: object, **__: object) -> None:
        tried.append(1)

    monkeypatch.setattr(pack, "order", never)
    monkeypatch.setattr(pack, "salvaged", salvaged)
    packing = pack.pack(CLUSTER, OPTIONS, budget, 1, Clock(0.001))
    assert packing.steps == ()
    assert min(len(tried), 1) == salvages
