"""Draws from a seed: the same seed gives the same clusters, on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """A generator of its own for each thing that is drawn, so that a change in one leaves the others alone."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._random = Random(seed)

    def within(self, name: object) -> Draws:
        """Draws for a part; they do not depend on what was drawn before."""
        return Draws(f"{self._seed}/{name}")

    def chance(self, percent: float) -> bool:
        """True in so many of 100 cases."""
        return self._random.random() * 100 < percent

    def one(self, of: Sequence[T]) -> T:
        """One of them, each as likely; name one twice to make it twice as likely."""
        return of[self._random.randrange(len(of))]

    def some(self, of: Sequence[T], *, least: int = 1, most: int | None = None) -> list[T]:
        """Different ones, in the order in which they were drawn."""
        highest = len(of) if most is None else min(most, len(of))
        return self._random.sample(list(of), self.between(min(least, highest), highest))

    def between(self, least: int, most: int) -> int:
        """A number, both ends included."""
        return self._random.randint(least, most)
