"""Equal parts of facts kept once: replicas of one template differ in little but their names.

Without it 50,000 pods take three times the memory. What is shared must never be changed, which frozen facts promise
anyway. What is remembered is bounded; forgetting costs memory, never a wrong answer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from typing import Generic, TypeVar, cast

_V = TypeVar("_V")
_H = TypeVar("_H", bound=Hashable)

REMEMBERED = 8192
"""Most different parts of one sort that are remembered: templates of a large cluster."""


class Memo(Generic[_V]):
    """Results by what they depend on; all are forgotten when there are too many.

    Args:
        most: results to remember.
    """

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._results: dict[Hashable, _V] = {}

    def of(self, key: Hashable, make: Callable[[], _V]) -> _V:
        """The result for `key`; `make` is asked when it is not remembered. What it raises is not remembered."""
        found = self._results.get(key)
        if found is None:
            found = make()
            if len(self._results) >= self._most:
                self._results.clear()
            self._results[key] = found
        return found


@lru_cache(maxsize=REMEMBERED)
def _first(value: Hashable) -> Hashable:
    return value


def shared(value: _H) -> _H:
    """A value equal to `value`, the same object for equal values."""
    return cast("_H", _first(value))


_mappings: Memo[Mapping[str, str]] = Memo()


def shared_mapping(mapping: Mapping[str, str]) -> Mapping[str, str]:
    """A mapping equal to `mapping`, the same object for equal ones."""
    return _mappings.of(tuple(mapping.items()), lambda: mapping)
