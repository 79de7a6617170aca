"""What decides how many replicas there shall be, in a simulation as in a cluster."""

from __future__ import annotations

from typing import Protocol

from stowage.decide.serving.view import View


class Policy(Protocol):
    """Asked every `interval_seconds`, from the first second on; what it has to remember is its own.

    One object serves one run: `fleet.run` takes a function that makes it.
    """

    name: str
    interval_seconds: float

    def decide(self, view: View) -> int:
        """How many replicas there shall be now; what is out of the bounds is cut to them."""
        ...
