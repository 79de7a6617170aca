"""How much work looking for orders may take, for all placements of one plan together.

One simulation is quick, and how many are tried of one placement is limited. But a choice in it looks at all changes
that wait, so two hundred changes in a hundred cycles take a hundred times as long as two hundred without any; and of a
placement without an order up to sixteen simpler ones are tried, each as dear as the first.
"""

from __future__ import annotations

from collections.abc import Callable

_MOST_WORK = 1_000_000  # some five seconds
_MOST_LOOKED_AT = 256  # changes, by one choice; of more it is known who lies on a cycle


def work_of(changes: int, choices: int) -> int:
    """Changes that one simulation looked at, given how many there are and how many choices it made."""
    return changes + choices * min(changes, _MOST_LOOKED_AT)


class Patience:
    """What is left to spend, as changes looked at; each order gets half of it, and makes one attempt in any case.

    Args:
        work: for all orders.
        in_time: whether there is time for more attempts.
    """

    def __init__(self, work: int = _MOST_WORK, in_time: Callable[[], bool] = lambda: True) -> None:
        """Begin with the first order."""
        self.left = work
        self._in_time = in_time
        self._least = 0

    def begin(self) -> None:
        """Begin with the next order."""
        self._least = self.left // 2

    def spend(self, work: int) -> None:
        """Take what a simulation took."""
        self.left -= work

    @property
    def over(self) -> bool:
        """Whether this order shall make no further attempt."""
        return self.left <= self._least or not self._in_time()
