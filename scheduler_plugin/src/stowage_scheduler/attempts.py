"""Going back on choices: another way is tried when the one taken leads nowhere, the last choice first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct, structs

from stowage_scheduler.patience import Patience, work_of
from stowage_scheduler.sequence import Simulation, StuckError

SimulationT = TypeVar("SimulationT", bound=Simulation)


class Attempt(Struct, Generic[SimulationT], frozen=True):
    """A simulation that has stopped; `left` are the indices of the changes that wait, none when it came to its end.

    `tried` counts the simulations that it was chosen from.
    """

    simulation: SimulationT
    left: tuple[int, ...] = ()
    tried: int = 1


def best_attempt(
    simulation: Callable[[Sequence[int]], SimulationT], most: int, patience: Patience
) -> Attempt[SimulationT]:
    """The first simulation that comes to its end, or of those tried the one that leaves the fewest changes.

    Args:
        simulation: a new one, given which option to take at each choice.
        most: how many to try, at least one.
        patience: no second one is tried when it is over.
    """
    picks: list[int] = []
    best: Attempt[SimulationT] | None = None
    number = 0
    for number in range(1, most + 1):
        tried = simulation(picks)
        try:
            tried.run()
        except StuckError as stuck:
            if best is None or len(stuck.left) < len(best.left):
                best = Attempt(tried, stuck.left)
        else:
            return Attempt(tried, tried=number)
        finally:
            patience.spend(work_of(len(tried.parts), len(tried.options)))
        if patience.over:
            break
        picks = picks + [0] * (len(tried.options) - len(picks))
        while picks and picks[-1] + 1 >= tried.options[len(picks) - 1]:
            picks.pop()
        if not picks:
            break
        picks[-1] += 1
    if best is None:
        msg = "at least one attempt is made"
        raise ValueError(msg)
    return structs.replace(best, tried=number)
